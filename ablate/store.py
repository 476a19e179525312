"""A folder of results: one folder per trial, written whole or not at all, every document with its checksum.

    results/
      store.json                  the format's version
      mlflow.db, mlflow/          the tracker's, when it is local
      trials/<id>/result.json     the result, with a checksum over it and over the arrays
                  per_image.npz   per-image statistics, arrays only
                  state           the training state at the last checkpoint, while unfinished
                  weights.safetensors  the trained backbone, where the budget keeps it
                  lock            held by the process that trains

The process that trains writes its own trial's folder, so a result exists before a driver hears of it. Whatever is
damaged is named and counted as missing, never trusted.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from pydantic import ValidationError

from ablate import confined
from ablate.arrays import MOST as MOST_ARRAYS
from ablate.arrays import Arrays, packed, unpacked
from ablate.errors import DamagedError, LinkError, PartError, StoreError
from ablate.result import VERSION, Result
from ablate.trial import Trial

MOST = 16 * 2**20  # bytes of a document; the longest curves take a tenth
HEXADECIMAL = set("0123456789abcdef")


@dataclass(frozen=True)
class Shelf:
    """What a look into the folder found: results by today's key, and what could not be trusted."""

    results: dict[str, Result] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)  # one line each


class Store:
    """A results folder; made on first write."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        marker = self.root / "store.json"
        if os.path.lexists(marker):
            version = _json(marker).get("version")
            if not isinstance(version, int):
                raise StoreError(f"{marker}: no version; is this a results folder?")
            if version > VERSION:
                raise StoreError(f"{self.root}: written by a newer ablate (format {version}, this one reads {VERSION})")

    def create(self) -> None:
        """Make the folder.

        Raises:
            StoreError: it cannot be made or written.
        """
        marker = self.root / "store.json"
        if not marker.exists():
            write_atomically(marker, json.dumps({"version": VERSION}).encode())

    def folder(self, trial_id: str) -> Path:
        """Where a trial lives. Ids are hexadecimal, so no id leads out of the results folder."""
        if not trial_id or set(trial_id) - HEXADECIMAL:
            raise StoreError(f"{trial_id!r} is not a trial's id: ids are hexadecimal digits")
        return confined.refuse_outside(self.root / "trials" / trial_id, self.root)

    def read(self) -> Shelf:
        """All results by the key that they have today; those of parts that are not on today's shelves are left out.

        Raises:
            StoreError: a result of a newer version, which training again would overwrite.
        """
        shelf = Shelf()
        for path in sorted((self.root / "trials").glob("*/result.json")):
            try:
                result = self._read(path)
            except (DamagedError, LinkError) as error:
                shelf.damaged.append(str(error))
                continue
            with suppress(PartError):  # another study's, with plugins that this one does not name
                shelf.results[result.today()] = result
                shelf.folders[result.today()] = path.parent
        return shelf

    def find(self, prefix: str) -> Result:
        """The one result whose id begins so.

        Raises:
            StoreError: none, or several.
        """
        self.folder(prefix)
        matches = [folder for folder in (self.root / "trials").glob(f"{prefix}*") if (folder / "result.json").exists()]
        if len(matches) != 1:
            how = "no trial" if not matches else f"{len(matches)} trials"
            raise StoreError(f"{self.root}: {how} with an id that begins {prefix!r}; see `ablate status`")
        return self._read(matches[0] / "result.json")

    def get(self, trial_id: str) -> Result | None:
        """The result of one trial, None when it has none.

        Raises:
            StoreError: the document is damaged.
        """
        path = self.folder(trial_id) / "result.json"
        return self._read(path) if os.path.lexists(path) else None

    def statistics(self, trial_id: str) -> Arrays:
        """Per-image statistics of one finished trial, `metric/array` -> array.

        Raises:
            StoreError: missing or damaged.
        """
        return read_arrays(self.folder(trial_id) / "per_image.npz")

    def put(self, result: Result, statistics: Mapping[str, np.ndarray]) -> None:
        """Write a result with its arrays; the training state is dropped afterwards.

        Raises:
            StoreError: the disk is full or not writable; nothing half-written stays.
        """
        folder = self.folder(result.id)
        arrays = packed(statistics)
        write_atomically(folder / "per_image.npz", arrays)
        write_atomically(folder / "result.json", _sealed(result, _digest(arrays)))
        (folder / "state").unlink(missing_ok=True)

    def weights(self, trial_id: str) -> Path:
        """Where a trial's trained backbone lies, if the budget kept it."""
        return self.folder(trial_id) / "weights.safetensors"

    def _read(self, path: Path) -> Result:
        return _read(confined.refuse_outside(path.parent, self.root) / path.name)

    def missing(self, trials: Iterable[Trial], *, shelf: Shelf | None = None, retry: bool = False) -> list[Trial]:
        """The trials without a trusted result; with `retry` also those that failed or diverged."""
        have = (shelf or self.read()).results
        return [t for t in trials if t.id not in have or (retry and have[t.id].status != "done")]

    def forget_failed(self, trials: Iterable[Trial]) -> None:
        """Drop the results of those trials that failed or diverged, so that they count as missing."""
        shelf = self.read()
        for trial in trials:
            result = shelf.results.get(trial.id)
            if result and result.status != "done":
                (shelf.folders[trial.id] / "result.json").unlink(missing_ok=True)

    @contextmanager
    def lock(self, trial_id: str) -> Iterator[bool]:
        """Hold a trial for this process; yields False when another process holds it. Freed if the holder dies."""
        folder = self.folder(trial_id)
        _make(folder)
        lock = FileLock(folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        except OSError as error:  # a link or a folder lies there, or no file may
            raise StoreError(f"{folder / 'lock'}: {error.strerror}") from None
        try:
            yield True
        finally:
            lock.release()


def write_atomically(path: Path, content: bytes) -> None:
    """Temporary file, fsync, rename: readers see the old file or the new one.

    Raises:
        StoreError: no room, or no right to write.
    """
    _make(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:  # never through a link that lies there
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        why = "no room left on the disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error.strerror)
        raise StoreError(f"{path}: {why}") from None


def read_arrays(path: Path) -> Arrays:
    """An .npz of plain arrays; objects (pickles) are refused.

    Raises:
        DamagedError: missing, damaged, or larger than it may be.
    """
    try:
        return unpacked(confined.read(path, most=MOST_ARRAYS))
    except ValueError as error:
        raise DamagedError(f"{path}: damaged ({error})") from None


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror}") from None


def _json(path: Path) -> dict[str, object]:
    try:
        document = json.loads(confined.read(path, most=MOST).decode())
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path}: damaged ({type(error).__name__})") from None
    if not isinstance(document, dict):
        raise DamagedError(f"{path}: damaged (not a mapping)")
    return document


def _read(path: Path) -> Result:
    document = _json(path)
    body = document.get("result")
    if not isinstance(body, dict) or document.get("checksum") != _digest(_canonical(body)):
        raise DamagedError(f"{path}: the checksum does not match; the file is damaged")
    if isinstance(body.get("version"), int) and body["version"] > VERSION:
        raise StoreError(f"{path}: written by a newer ablate (format {body['version']}, this one reads {VERSION})")
    try:
        result = Result.model_validate(body)
    except (ValidationError, RecursionError) as error:
        raise DamagedError(f"{path}: not a result ({_first(error)})") from None
    if path.parent.name != result.id or set(result.id) - HEXADECIMAL:
        raise DamagedError(f"{path}: holds the result of {result.id!r}")
    arrays = path.with_name("per_image.npz")
    if _digest(confined.read(arrays, most=MOST_ARRAYS)) != document.get("arrays"):
        raise DamagedError(f"{arrays}: damaged (the checksum does not match)")
    return result


def _sealed(result: Result, arrays: str) -> bytes:
    body = json.loads(result.model_dump_json())
    document = {"checksum": _digest(_canonical(body)), "arrays": arrays, "result": body}
    return json.dumps(document, indent=1).encode()


def _canonical(body: dict[str, object]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _first(error: Exception) -> str:
    return str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else "nested too deeply"
