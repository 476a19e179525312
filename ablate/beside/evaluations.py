"""Evaluations: what single networks and files of predictions scored, kept beside the trials.

    results/evaluations/<id>/evaluation.json   the document, with a checksum over it and over the arrays
                             per_image.npz     per-image statistics, and the images' ids, names and groups

The id is a hash of what decides the numbers: the content of what was scored, how it was read, the protocol, the data.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from ablate import registry
from ablate.beside import _sealed
from ablate.errors import DamagedError, PartError, StoreError
from ablate.machine import fingerprint
from ablate.storage import Arrays, Place, packed, unpacked
from ablate.study import FROZEN, Part, Recipe

Count = Annotated[int, Field(ge=0, lt=2**63)]
FOLDER, DOCUMENT, ARRAYS, KEY = "evaluations", "evaluation.json", "per_image.npz", "evaluation"
HEXADECIMAL = set("0123456789abcdef")


class Subject(BaseModel):
    """What was scored."""

    model_config = FROZEN
    kind: Literal["predictions", "checkpoint", "onnx", "arm"]
    file: str  # its name, without its folder
    sha256: str  # of its content; of a folder, of all files that were read
    network: str = ""  # what the file was taken for, in words
    read: dict[str, Any] = {}  # how it was read: knobs of `network.`


class Reported(BaseModel):
    """What is published of the same weights."""

    model_config = FROZEN
    row: str  # as printed there
    set: str  # that it was scored on
    source: str
    protocol: str  # under which it was scored there
    scores: dict[str, float]  # between 0 and 1, by the names that our metrics have


class Evaluated(BaseModel):
    """What one network, or one file of predictions, scored on one data set."""

    model_config = FROZEN
    version: int = Field(default=1, ge=1, le=1000)
    id: str
    label: str  # what people call it
    subject: Subject
    task: Part
    dataset: Part
    evaluation: dict[str, Any] = {}  # the protocol's knobs; of predictions those that were used are not known
    meanings: dict[str, int] = {}
    data_version: str | None = None  # declared by the data set
    data_digest: str = ""  # found on disk
    parts: list[str] = []  # names of joints or classes, in their order
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]] = {}  # 95 % over redrawn test images
    images: Count
    groups: Count = 0  # that images are redrawn by; 0: none are declared
    samples: Count = 0  # predicted people or images
    reported: list[Reported] = []
    notes: list[str] = []
    env: dict[str, str] = {}
    seconds: float = 0.0  # that predicting took
    finished: str = ""  # UTC, ISO 8601


def identity(subject: Subject, *decisive: Any) -> str:
    """16 hexadecimal digits: equal for equal content, read in the same way, by the same protocol on the same data."""
    return fingerprint([subject.sha256, subject.read, *decisive], digits=16)


def put(place: Place, found: Evaluated, statistics: Mapping[str, np.ndarray]) -> None:
    """Write an evaluation; one of the same id is replaced.

    Raises:
        StoreError: the disk is full or not writable; nothing half-written stays.
    """
    arrays, body = packed(statistics), json.loads(found.model_dump_json())
    document = {"checksum": fingerprint(body), "arrays": _digest(arrays), KEY: body}
    place.write(_name(found.id, ARRAYS), arrays)
    place.write(_name(found.id, DOCUMENT), json.dumps(document, indent=1).encode())


def get(place: Place, evaluation_id: str) -> tuple[Evaluated, Arrays] | None:
    """One evaluation with its per-image statistics; None where there is none of that id.

    Raises:
        DamagedError: it cannot be trusted.
    """
    content, arrays = (place.read(_name(evaluation_id, document)) for document in (DOCUMENT, ARRAYS))
    if content is None:
        return None
    at = f"{place.name}/{_name(evaluation_id, DOCUMENT)}"
    found, document = _sealed.opened(content, Evaluated, KEY, at=at)
    if arrays is None or document.get("arrays") != _digest(arrays):
        raise DamagedError(f"{at}: the checksum does not match; its per-image statistics are damaged")
    return found, unpacked(arrays, at=f"{place.name}/{_name(evaluation_id, ARRAYS)}")


def begin_so(place: Place, prefix: str) -> list[str]:
    """The ids of stored evaluations that begin so."""
    return sorted(name for name in place.children(FOLDER) if name.startswith(prefix))


def every(place: Place) -> Iterator[Evaluated | StoreError]:
    """All stored evaluations; the error of what cannot be trusted. Their statistics are not read."""
    names = (f"{FOLDER}/{name}/{DOCUMENT}" for name in begin_so(place, ""))
    return _sealed.every(place, names, Evaluated, KEY)


def of_study(place: Place, recipe: Recipe, digests: Collection[str]) -> tuple[list[Evaluated], list[str]]:
    """The stored evaluations of a recipe's task on its data set, by label, and what of all could not be trusted.

    The sets' files are the same: the digest is one of those that trials found, where any was found.
    """
    found, damaged = list[Evaluated](), list[str]()
    for one in every(place):
        if isinstance(one, StoreError):
            damaged.append(str(one))
        elif asks_alike(one, recipe) and (not digests or one.data_digest in digests):
            found.append(one)
    return sorted(found, key=lambda one: (one.label, one.id)), damaged


def asks_alike(one: Evaluated, recipe: Recipe) -> bool:
    """Whether it is of the same task on the same data set, whatever the latter trains on."""
    own, other = one.dataset, recipe.dataset
    if (one.task.name, own.name) != (recipe.task.name, other.name):
        return False
    training = registry.describe("dataset", own.name).facts.get("training", ())
    try:
        own, other = own.filled("dataset"), other.filled("dataset")
    except PartError:  # of a knob that there is no more
        return False
    return all(own.knobs.get(knob) == other.knobs.get(knob) for knob in {*own.knobs, *other.knobs} - set(training))


def _name(evaluation_id: str, document: str) -> str:
    if not evaluation_id or set(evaluation_id) - HEXADECIMAL:
        raise StoreError(f"{evaluation_id!r} is not an evaluation's id: ids are hexadecimal digits")
    return f"{FOLDER}/{evaluation_id}/{document}"


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
