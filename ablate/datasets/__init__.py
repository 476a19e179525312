"""The data shelf's contract: what a data set says without its files (`Info`) and gives with them (`Samples`).

A part of this shelf is a builder that returns a `Dataset`. Planning reads only its `info`; files are looked
for when a split is opened. Joint sets and the sets that we know are data: `joints.json` and `catalog.json`.
"""

import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict

from ablate.errors import DataError, PartError, nearest

# OpenCV takes a picture of up to 3 GiB for what a few bytes of its header say; it reads this when it is imported.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**27))

Split = Literal["train", "val"]  # what is trained on, and what is evaluated on
SPLITS: tuple[Split, Split] = ("train", "val")
IGNORED = 255  # in maps of classes: not labelled, counts nowhere
SHOWN = 3  # problems that an error message names before it only counts
# A picture cut short still has its beginning, so both ends are looked at: marker at the start -> at the end.
PICTURES = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG\r\n\x1a\n": b"IEND"}
TAIL = 4096  # bytes searched for the end marker: some cameras append data of their own


@dataclass(frozen=True)
class Info:
    """What is known of a data set before any of its files is seen."""

    name: str  # of the set, as a report shows it
    version: str | None  # declared content digests, "train-val"; None where nobody has declared them
    licence: str
    source: str
    sizes: dict[Split, int] | None = None  # declared numbers of samples
    images: dict[Split, int] | None = None  # declared numbers of images
    size: tuple[int, int] | None = None  # height and width of every image, where they are alike
    # What the task pose needs.
    joints: tuple[str, ...] = ()  # K names
    flip_pairs: tuple[tuple[int, int], ...] = ()  # joints that a mirrored picture swaps
    sigmas: tuple[float, ...] = ()  # K falloffs of the object keypoint similarity, pycocotools' kpt_oks_sigmas
    upper_body: tuple[int, ...] = ()  # joints that a half-body crop keeps together; the others are the lower body
    # What the task segmentation needs.
    classes: tuple[str, ...] = ()  # C names; a class is known by its place here
    categories: tuple[str, ...] = ()  # C names: what each class is a kind of
    label_ids: tuple[int, ...] = ()  # C numbers that stand for the classes in files of labels and of predictions
    class_weights: tuple[float, ...] = ()  # C weights in the loss, as published; empty: all 1

    @property
    def mirror(self) -> tuple[int, ...]:
        """For each of the K joints the index of its counterpart on the other side; itself on the midline."""
        order = list(range(len(self.joints)))
        for left, right in self.flip_pairs:
            order[left], order[right] = right, left
        return tuple(order)

    def declared(self, split: Split) -> str | None:
        """The declared content digest of one split."""
        digests = dict(zip(SPLITS, self.version.split("-"), strict=True)) if self.version else {}
        return digests.get(split)


class Samples(Protocol):
    """One opened split. A set without people has one sample per image: `image`, `image_id` and what it is labelled
    with, `labels` (H, W) uint8 as `labelled_image` gives them. With people a sample is one person, a dict:

    `image` (H, W, 3) uint8 RGB; `box` (4,) float64, x y w h; `joints` (K, 3) float64, x y and COCO's
    visibility (0 not labelled, 1 hidden, 2 visible); `image_id`, `annotation_id` int; `area` and `score` (of
    the box) float. All coordinates are pixels of the image.
    """

    info: Info
    folder: Path | None  # where the set lies; None when it has no files
    skipped: dict[str, int]  # annotations that are no samples: reason -> count

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The sample. Raises DataError when its image is missing, damaged or not of the annotated size."""

    def image(self, image_id: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB: any image of the split, also one without samples. Raises DataError."""

    def labelled_image(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """For segmentation: the image and its classes (H, W) uint8, IGNORED where none. Raises DataError."""

    def labels(self, image_id: int) -> np.ndarray:
        """The classes of `labelled_image` alone, for which the image need not be read. Raises DataError."""

    def name(self, image_id: int) -> str:
        """What a file of predictions for this image is called, without its ending; no other image's name."""

    def image_ids(self) -> list[int]:
        """The ids of all images of the split, those without samples included."""

    def ground_truth(self) -> dict[str, Any]:
        """All annotations of the split, crowds and unlabelled people included, as pycocotools wants them.

        Of a set without people only `images`: their `id` and `file_name`.
        """

    def digest(self) -> str:
        """16 hexadecimal digits of the split's content. Raises DataError when images are missing."""

    def check(self, *, thorough: bool = False) -> list[str]:
        """One line per problem of the files, each naming its file; thorough decodes every image."""

    def verify(self) -> str:
        """The digest, if it is the declared one or the files pass `check`. Raises DataError otherwise."""


class Dataset(Protocol):
    """What a builder of this shelf returns."""

    info: Info

    def open(self, split: Split, root: Path | None) -> Samples:
        """One split; `root` is the data folder, which holds the set's folder or is it. Raises DataError."""


class JointSet(BaseModel):
    """A convention for annotating a body: which joints, in which order."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    names: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    upper_body: tuple[int, ...]
    source: str  # of names and sigmas


class JointForm(BaseModel):
    """A known set's annotations in one joint set."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    annotations: str  # file under the set's folder; {split} stands for train or val
    digests: dict[Split, str | None]  # of the content, as `Samples.digest` gives it; None where not yet seen
    sizes: dict[Split, int]  # numbers of people with labelled joints

    @property
    def version(self) -> str | None:
        """The declared version of the whole set: both splits' digests, or None when one is not declared."""
        train, val = self.digests["train"], self.digests["val"]
        return f"{train}-{val}" if train and val else None


class LabelMaps(BaseModel):
    """A known set's maps of classes in the Cityscapes layout; counts and digests by folder: train, val, test."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    size: tuple[int, int]  # height and width of every image
    sizes: dict[str, int]  # numbers of images
    digests: dict[str, str | None]  # of the content; None where not yet seen
    classes: dict[str, str] = {}  # name -> the label of Cityscapes' table that stands for it; none: its 19 classes
    class_weights: tuple[float, ...] = ()  # in the loss, as published


class KnownSet(BaseModel):
    """One entry of the catalog: where a set comes from, under which licence, and how to get it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    title: str
    part: str  # the data set of this shelf that reads it
    source: str
    licence: str
    get: str  # how to obtain it
    folder: str = ""  # in the data folder, where it is not the set's name
    forms: dict[str, JointForm] = {}  # people with joints, by the name of the joint set
    labels: LabelMaps | None = None
    note: str = ""


@cache
def joint_sets() -> dict[str, JointSet]:
    """The joint sets by name."""
    return {name: JointSet(**entry) for name, entry in _load("joints.json").items()}


@cache
def catalog() -> dict[str, KnownSet]:
    """The known sets by name: what `ablate data` lists."""
    return {name: KnownSet(**entry) for name, entry in _load("catalog.json").items()}


def check_version(version: str | None) -> None:
    """Whether a knob `version` can be one: two digests, "train-val".

    Raises:
        PartError: it cannot.
    """
    if version is not None and not re.fullmatch("[0-9a-f]{16}-[0-9a-f]{16}", version):
        raise PartError(f"version: two digests of 16 hexadecimal digits, TRAIN-VAL, not {version!r}")


def set_folder(name: str, root: Path | None, *, holds: str) -> Path:
    """The folder `name` of the data folder, or the data folder itself if that `holds` what such a set has.

    Raises:
        DataError: no data folder was given, or neither is there.
    """
    if root is None:
        raise DataError(f"the set {name} needs a data folder: give --data or set ABLATE_DATA")
    if not name or name == ".":
        raise DataError(f"{root}: a set has a name")
    if under(root, name).is_dir():
        return root / name
    if (root / holds).is_dir():
        return root
    there = [path.name for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    raise DataError(f"{root}: holds no folder {name!r} and no {holds}/; {nearest(name, there)}")


def under(folder: Path, name: str) -> Path:
    """The file or folder `name` of a folder. Links in a data folder are its owner's, names are whose knows.

    Raises:
        DataError: the name is absolute, or leads out by `..`.
    """
    if ".." in Path(name).parts or Path(name).is_absolute() or "\0" in name:
        raise DataError(f"{folder}: {name!r} would lead out of it")
    return folder / name


def refuse(where: Path | str, problems: list[str]) -> None:
    """Raise one DataError that counts the problems and names the first few; nothing when there are none."""
    if problems:
        rest = "" if len(problems) <= SHOWN else f"; and {len(problems) - SHOWN} more"
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise DataError(f"{where}: {count}: {'; '.join(problems[:SHOWN])}{rest}")


def read_picture(file: Path) -> np.ndarray:
    """A JPEG or PNG as (H, W, 3) uint8 RGB, in the orientation it is stored in, which annotations speak of.

    Raises:
        DataError: the file is missing, empty, cut short, or no picture.
    """
    import cv2

    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
    problem = _content_problem(content[:16], content[-TAIL:])  # some decoders fill what is cut off with grey
    problem = problem or _chunk_problem(content)
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = None if problem else cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:  # more pixels than a picture may have
        pixels = None
    if pixels is None:
        raise DataError(f"{file}: {problem or 'cannot be decoded'}")
    return np.asarray(pixels)


def _chunk_problem(content: bytes) -> str | None:
    """A PNG's chunk that is longer than the file: OpenCV makes room for it three times before it reads."""
    at = 8 if content.startswith(b"\x89PNG") else len(content)
    while at + 12 <= len(content) and content[at + 4 : at + 8] != b"IEND":  # data may be appended
        at += 12 + int.from_bytes(content[at : at + 4])
    return "has a chunk that is longer than the file" if at > len(content) else None


def picture_problem(file: Path) -> str | None:
    """What the two ends of a picture's file show to be wrong with it, or None; nothing is decoded."""
    try:
        with file.open("rb") as stream:
            head = stream.read(16)
            stream.seek(max(0, file.stat().st_size - TAIL))
            problem = _content_problem(head, stream.read())
    except OSError as error:
        problem = error.strerror
    return problem and f"{file}: {problem}"


def _content_problem(head: bytes, tail: bytes) -> str | None:
    if not head:
        return "is empty"
    end = next((end for start, end in PICTURES.items() if head.startswith(start)), None)
    if end is None:
        return "is neither JPEG nor PNG"
    return None if end in tail else "is cut short"


def _load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((Path(__file__).parent / name).read_text(encoding="utf-8"))
    return document
