"""A place of results: one folder per trial, written whole or not at all, every document with its checksum.

    results/                      a folder, or a URL as s3://bucket/prefix (place.py)
      store.json                  the format's version
      matched.json                what was solved for levels of matched cost
      asked/<study>/<digest>.json what a study planned at its first run (kept_plans.py)
      mlflow.db, mlflow/          the tracker's, when it is local
      trials/<id>/result.json     the result, with a checksum over it and over the arrays
                  per_image.npz   per-image statistics, arrays only
                  state           the training state at the last checkpoint, while unfinished, or ended by the machine
                  state.previous  the one before
                  *.damaged       what could not be trusted, set aside until the trial is finished
                  weights.safetensors  the trained network, where the budget keeps it
                  predictions.npz      of the test images, likewise
                  lock, lease.*   held by the process that trains
      second/<kind>/<id>/         the same of a trial that has a result of another kind of device already: cpu or cuda

The process that trains writes its own trial's folder, so a result exists before a driver hears of it. Whatever is
damaged is named and counted as missing, never trusted.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from pathlib import Path
from socket import gethostname
from typing import Any, Self

import numpy as np
from pydantic import ValidationError

from ablate.errors import DamagedError, LinkError, PartError, StoreError, UnreadableError, invalid
from ablate.machine import fingerprint
from ablate.storage.arrays import Arrays, Row, packed, unpacked, unpacked_rows
from ablate.storage.checking import refuse_untrue
from ablate.storage.lease import Hold
from ablate.storage.place import Folder, opened
from ablate.storage.result import KINDS, NEWEST, VERSION, Imported, Result, kind_named
from ablate.storage.shelf import Shelf
from ablate.study import Trial

RESULT, ARRAYS, WEIGHTS, PREDICTIONS, STATES, DAMAGED = (
    "result.json", "per_image.npz", "weights.safetensors", "predictions.npz", ("state", "state.previous"), ".damaged",
)  # fmt: skip
FIRST = "trials"
BRANCHES = (FIRST, *(f"second/{kind}" for kind in KINDS))
HEXADECIMAL = set("0123456789abcdef")
REMEDY = "delete it: it contains only the format's version, and the next run writes it again"
LEAST_ROOM = 200 * 2**20  # bytes: a few training states of a middle-sized network


class Store:
    """A results folder or URL; made on first write. Of one `kind` of device (cpu or cuda) it knows that kind's results
    alone; otherwise a trial's result is the one that was there first."""

    def __init__(self, where: Path | str, kind: str | None = None) -> None:
        self.place, self.kind, self.branch = opened(where), kind, ""
        self._branches: dict[str, str] = {}  # where trials lie of which that is settled
        try:
            marker = self._json("store.json", self.place.read("store.json"))
        except DamagedError as error:
            raise DamagedError(f"{error}; {REMEDY}") from None
        if marker is not None:
            version = marker.get("version")
            if not isinstance(version, int):
                raise StoreError(f"{self.place.name}/store.json: no version; if this is a results folder, {REMEDY}")
            if version > VERSION:
                newer = f"written by a newer ablate (format {version}, this one reads {VERSION})"
                raise StoreError(f"{self.place.name}: {newer}")

    def of(self, kind: str | None) -> Self:
        """The same place, its results of that kind of device alone."""
        other = copy(self)
        other.kind, other._branches = kind, {}
        return other

    def views(self) -> list[Self]:
        """The parts of the place that hold trials, each as a store of its own."""
        parts = [self.of(None) for _ in BRANCHES]
        for part, branch in zip(parts, BRANCHES, strict=True):
            part.branch = branch
        return parts

    @property
    def root(self) -> Path:
        """Where lies what only a disk can hold, MLflow's SQLite file and reports: the results folder itself, and for
        a URL a folder named after it, results-of/s3/bucket/prefix, in the current one."""
        if isinstance(self.place, Folder):
            return self.place.root
        scheme, _, rest = self.place.name.partition("://")
        return Path("results-of", scheme, *rest.split("/"))

    def create(self) -> None:
        """Make the place.

        Raises:
            StoreError: it cannot be made or written.
        """
        if self.place.read("store.json") is None:
            self.place.write("store.json", json.dumps({"version": VERSION}).encode())

    def refuse_missing(self) -> None:
        """Raise StoreError unless this process sees the place that a driver made: a disk may be missing here."""
        if self.place.read("store.json") is None:
            raise StoreError(f"{self.place.name}/store.json: missing here; are the results mounted on {gethostname()}?")

    def refuse_full(self) -> None:
        """Raise StoreError unless there is room for some training states, as far as that can be known."""
        room = self.place.free()
        if room is not None and room < LEAST_ROOM:
            raise StoreError(f"{self.place.name}: no room left on the disk (less than {LEAST_ROOM // 2**20} MiB free)")

    def folder(self, trial_id: str) -> Path:
        """Where a trial lives in a results folder on a disk."""
        return self.root / self.name(trial_id)

    def name(self, trial_id: str, document: str = "") -> str:
        """What the place calls a trial's folder or a document in it. Ids are hexadecimal, so none leads elsewhere."""
        if not trial_id or set(trial_id) - HEXADECIMAL:
            raise StoreError(f"{trial_id!r} is not a trial's id: ids are hexadecimal digits")
        return f"{self._branch(trial_id)}/{trial_id}/{document}".rstrip("/")

    def _branch(self, trial_id: str) -> str:
        """Where a trial of this kind lies: with the others, unless a result of another kind was there before it."""
        if self.branch or not self.kind:
            return self.branch or FIRST
        if trial_id in self._branches:
            return self._branches[trial_id]
        branch = FIRST
        with suppress(DamagedError, KeyError, TypeError, AttributeError):
            document: Any = self._json(RESULT, self.place.read(f"{FIRST}/{trial_id}/{RESULT}"))
            if document and kind_named(document["result"]["env"]) != self.kind:
                branch = f"second/{self.kind}"
            if document:
                self._branches[trial_id] = branch
        return branch

    def read(self) -> Shelf:
        """All results by the key that they have today; those of parts that are not on today's shelves are left out.

        Raises:
            StoreError: a result of a newer version, which training again would overwrite.
        """
        shelf = Shelf()
        for _, result in self.each():
            if isinstance(result, StoreError):
                shelf.damaged.append(str(result))
                continue
            with suppress(PartError):  # another study's, with plugins that this one does not name
                shelf.add(result)
        return shelf.of(self.kind) if self.kind else shelf

    def each(self) -> Iterator[tuple[str, Result | StoreError]]:
        """Every result, whatever parts it is of, by the name of its folder; the error of what cannot be trusted.

        Raises:
            StoreError: a result of a newer version.
        """
        names = [
            f"{branch}/{folder}/{document}"
            for branch in BRANCHES
            for folder in self.place.children(branch)
            for document in (RESULT, ARRAYS)
        ]
        documents = self.place.read_many(names)
        for (name, content), (_, arrays) in zip(documents, documents, strict=True):
            try:
                result = self._result(name, content, arrays)
            except (DamagedError, LinkError, UnreadableError) as error:
                yield name, error
                continue
            if result:
                yield name.removesuffix(f"/{RESULT}"), result

    def find(self, prefix: str) -> Result:
        """The one result whose id begins so, as its folder is called or as reports call it today.

        Raises:
            StoreError: none, or several.
        """
        self.name(prefix)
        begun = {folder for branch in BRANCHES for folder in self.place.children(branch) if folder.startswith(prefix)}
        matches = [result for result in map(self.get, sorted(begun)) if result]
        if not matches:
            results = self.read().results.by_prefix(prefix)
            matches = list({result.id: result for result in results}.values())
        if len(matches) != 1:
            how = "no trial" if not matches else f"{len(matches)} trials"
            how += f" of {self.kind}" if self.kind else ""
            raise StoreError(f"{self.place.name}: {how} with an id that begins {prefix!r}; see `ablate status`")
        return matches[0]

    def get(self, trial_id: str) -> Result | None:
        """The result of one trial, None when it has none.

        Raises:
            StoreError: the document is damaged.
        """
        name = self.name(trial_id, RESULT)
        content = self.place.read(name)
        return (
            self._result(name, content, self.place.read(self.name(trial_id, ARRAYS))) if content is not None else None
        )

    def statistics(self, trial_id: str) -> Arrays:
        """Per-image statistics of one finished trial, `metric/array` -> array.

        Raises:
            StoreError: missing or damaged.
        """
        name = self.name(trial_id, ARRAYS)
        return unpacked(self.place.read(name) or b"", at=f"{self.place.name}/{name}")

    def checked(self, trial_id: str) -> Arrays:
        """The statistics of a trial whose id and scores were computed again, for they may be somebody else's word.

        Raises:
            PartError: its parts are on no shelf here, so that nothing can be computed.
            DamagedError: it is damaged, or is not what its recipe, seed and statistics say.
        """
        name, arrays = self.name(trial_id, RESULT), self.statistics(trial_id)
        result, document = self.get(trial_id), self._json(name, self.place.read(name))
        if result and document and isinstance(body := document["result"], dict):
            refuse_untrue(result, body, arrays, at=f"{self.place.name}/{self.name(trial_id)}")
        return arrays

    def put(
        self, result: Result, statistics: Mapping[str, np.ndarray], *, hold: Hold | None = None, keep: bool = False
    ) -> None:
        """Write a result with its arrays, under the trial's hold where others may be at it.

        Training states are dropped then, unless they are to be kept: tried again, the trial goes on from there.

        Raises:
            StoreError: the disk is full or not writable; nothing half-written stays.
            LostError: the trial is no longer held; nothing is written.
        """
        write, arrays = hold.write if hold else self.place.write, packed(statistics)
        write(self.name(result.id, ARRAYS), arrays)
        write(self.name(result.id, RESULT), _sealed(result, _digest(arrays)))
        spare = (DAMAGED,) if keep else (*STATES, DAMAGED)
        for name in self.place.sizes(self.name(result.id)):
            if name.endswith(spare):
                self.place.remove(name)

    def states(self, trial_id: str) -> Iterator[tuple[str, bytes]]:
        """The saved training states of a trial, the newest first; empty where there is one that cannot be read."""
        for state in STATES:
            try:
                content = self.place.read(self.name(trial_id, state))
            except DamagedError:
                content = b""
            if content is not None:
                yield state, content

    def save(self, trial_id: str, state: bytes, *, hold: Hold) -> None:
        """Keep a training state, and the one before it.

        Raises:
            StoreError: the disk is full or not writable; the state before stays.
            LostError: the trial is no longer held; nothing is written.
        """
        hold.check()
        newest, previous = (self.name(trial_id, name) for name in STATES)
        self.place.move(newest, previous)
        hold.write(newest, state)

    def set_aside(self, trial_id: str, document: str) -> None:
        """Put a damaged document where nothing takes it for a good one, until the trial is finished."""
        self.place.move(self.name(trial_id, document), self.name(trial_id, document + DAMAGED))

    def was_damaged(self, trial_id: str) -> list[str]:
        """The documents of a trial that were set aside."""
        names = (name.rpartition("/")[2] for name in self.place.sizes(self.name(trial_id)))
        return sorted(name.removesuffix(DAMAGED) for name in names if name.endswith(DAMAGED))

    def weights(self, trial_id: str) -> bytes | None:
        """A trial's trained network, if the budget kept it."""
        return self.place.read(self.name(trial_id, WEIGHTS))

    def predictions(self, trial_id: str) -> list[Row] | None:
        """What a trial predicted of the test images, if the budget kept it. Raises StoreError."""
        name = self.name(trial_id, PREDICTIONS)
        content = self.place.read(name)
        return None if content is None else unpacked_rows(content, at=f"{self.place.name}/{name}")

    def missing(self, trials: Iterable[Trial], *, shelf: Shelf | None = None) -> list[Trial]:
        """The trials without a trusted result."""
        have = (shelf or self.read()).results
        return [trial for trial in trials if trial.id not in have]

    def forget_failed(self, trials: Iterable[Trial]) -> int:
        """Drop the results of those trials that failed or diverged, so that they count as missing.

        Skips trials that another process holds; returns how many.
        """
        shelf, held = self.read(), 0
        for trial in trials:
            result = shelf.results.get(trial.id)
            if not result or result.status == "done":
                continue
            with self.lock(result.id, wait=False) as hold, suppress(DamagedError):
                held += hold is None
                now = self.get(result.id) if hold else None  # another driver may have tried it again meanwhile
                if now and now.status != "done":
                    self.place.remove(self.name(result.id, RESULT))
        return held

    @contextmanager
    def lock(self, trial_id: str, *, owner: str = "", wait: bool = True) -> Iterator[Hold | None]:
        """Hold a trial for this process; yields None when another holds it. Freed if the holder dies, see `Place`."""
        while True:
            name = self.name(trial_id)
            with self.place.hold(name, owner=owner, wait=wait) as hold:
                if hold and self.name(trial_id) != name:
                    continue  # while we waited, a result of another kind took this place
                if hold and self.kind:
                    self._branches[trial_id] = name.rpartition("/")[0]
                yield hold
                return

    def holder(self, trial_id: str) -> str:
        """Which process holds a trial, in words; meaningless where none does."""
        return self.place.holder(self.name(trial_id))

    def _json(self, name: str, content: bytes | None) -> dict[str, object] | None:
        if content is None:
            return None
        try:
            document = json.loads(content)
            json.dumps(document, ensure_ascii=False).encode()  # halves of characters can be read, but never be written
        except (ValueError, RecursionError) as error:
            raise DamagedError(f"{self.place.name}/{name}: damaged ({type(error).__name__})") from None
        if not isinstance(document, dict):
            raise DamagedError(f"{self.place.name}/{name}: damaged (not a mapping)")
        return document

    def _result(
        self, name: str, content: bytes | StoreError | None, arrays: bytes | StoreError | None
    ) -> Result | None:
        if isinstance(content, StoreError):
            raise content
        if isinstance(arrays, StoreError):
            raise arrays
        document, at = self._json(name, content), f"{self.place.name}/{name}"
        if document is None:
            return None
        body = document.get("result")
        if not isinstance(body, dict) or document.get("checksum") != fingerprint(body):
            raise DamagedError(f"{at}: the checksum does not match; the file is damaged")
        if isinstance(body.get("version"), int) and VERSION < body["version"] <= NEWEST:
            raise StoreError(f"{at}: written by a newer ablate (format {body['version']}, this one reads {VERSION})")
        try:
            mark = _mark(document, at=at)
            result = Result.model_validate(body | {"imported": mark})
        except (ValidationError, RecursionError) as error:
            why = "nested too deeply" if isinstance(error, RecursionError) else ": ".join(invalid(error))
            raise DamagedError(f"{at}: not a result ({why})") from None
        if name.split("/")[-2] != result.id or set(result.id) - HEXADECIMAL:
            raise DamagedError(f"{at}: holds the result of {result.id!r}")
        if arrays is None or _digest(arrays) != document.get("arrays"):
            raise DamagedError(f"{at.removesuffix(RESULT)}{ARRAYS}: missing or damaged")
        if mark and not mark.checked:
            with suppress(PartError):  # still of parts that are on no shelf here, and so counted nowhere
                refuse_untrue(result, body, unpacked(arrays, at=f"{at.removesuffix(RESULT)}{ARRAYS}"), at=at)
        return result


def _sealed(result: Result, arrays: str) -> bytes:
    body = json.loads(result.model_dump_json())
    document: dict[str, Any] = {"checksum": fingerprint(body), "arrays": arrays, "result": body}
    if result.imported:
        document["imported"] = mark = result.imported.model_dump()
        document["seal"] = _seal(document["checksum"], mark)
    return json.dumps(document, indent=1).encode()


def _mark(document: dict[str, object], *, at: str) -> Imported | None:
    """The mark of import, which has a seal of its own: the body and its checksum are as the source wrote them."""
    mark = document.get("imported")
    if mark is None and "seal" not in document:
        return None
    if not isinstance(mark, dict) or document.get("seal") != _seal(document.get("checksum"), mark):
        raise DamagedError(f"{at}: the mark of its import is damaged")
    return Imported.model_validate(mark)


def _seal(checksum: object, mark: dict[str, object]) -> str:
    return fingerprint({"checksum": checksum, "imported": mark})


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
