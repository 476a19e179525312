"""What is seen of a disturbed study from outside: the networks' own trace, and each result from its first moment on."""

import hashlib
import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Line:
    """A process began an epoch of a trial, or in `finished` came to its end; epoch 0 is the evaluation."""

    trial: str
    epoch: int
    pid: int
    time: float


@dataclass(frozen=True)
class Stored:
    """A result as it was when it was first seen."""

    time: float
    status: str
    digest: str


def read_trace(file: Path) -> list[Line]:
    """All lines so far, in order of time."""
    text = file.read_text() if file.exists() else ""
    return sorted((Line(**json.loads(line)) for line in text.splitlines()), key=lambda line: line.time)


def finished(trace: list[Line]) -> list[Line]:
    """Epochs that were trained to their end: the same process went on with the same trial."""
    found, open_lines = [], {}
    for line in trace:
        before = open_lines.get(line.pid)
        if before and before.trial == line.trial and before.epoch:
            found.append(Line(before.trial, before.epoch, before.pid, line.time))
        open_lines[line.pid] = line
    return found


class Ledger:
    """Looks at a results folder ten times a second and keeps every result's first moment and content."""

    def __init__(self, results: Path) -> None:
        self.results, self.first, self.changed = results, {}, set()
        self._stamps: dict[str, tuple] = {}
        self._looking, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look a last time and end."""
        self._over.set()
        self._thread.join()
        self.look()

    def forget(self, trial: str) -> None:
        """The campaign damaged this result: what comes next counts as its first."""
        with self._looking:
            self.first.pop(trial, None)
            self._stamps[trial] = _stamp(self.results / "trials" / trial)

    def look(self) -> None:
        """Note what is new; a finished result that changed or went is kept in `changed`."""
        with self._looking:
            for trial in {path.parent.name for path in self.results.glob("trials/*/result.json")} | set(self.first):
                self._look_at(trial)

    def _look_at(self, trial: str) -> None:
        folder = self.results / "trials" / trial
        if (stamp := _stamp(folder)) == self._stamps.get(trial):
            return
        self._stamps[trial] = stamp
        stored, before = read_result(folder), self.first.get(trial)
        if before and before.status != "failed":
            self.changed |= {trial} if not stored or stored.digest != before.digest else set()
        elif stored:
            self.first[trial] = stored

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            self.look()


def read_result(folder: Path) -> Stored | None:
    """A trial's result with a digest over its bytes and its arrays'; None when there is none, or it is damaged."""
    try:
        content = (folder / "result.json").read_bytes()
        status = json.loads(content)["result"]["status"]
        arrays = (folder / "per_image.npz").read_bytes()
    except (OSError, ValueError, KeyError):
        return None
    return Stored(time.time(), status, hashlib.blake2b(content + arrays).hexdigest())


def _stamp(folder: Path) -> tuple:
    files = (folder / "result.json", folder / "per_image.npz")
    return tuple((s.st_mtime_ns, s.st_size) if (s := _stat(file)) else None for file in files)


def _stat(file: Path):
    try:
        return file.stat()
    except OSError:
        return None
