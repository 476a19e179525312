"""The data shelf's contract: what a data set says without its files (`Info`) and gives with them (`Samples`).

A part of this shelf is a builder that returns a `Dataset`. Planning reads only its `info`; files are looked
for when a split is opened. Joint sets and the sets that we know are data: `joints.json` and `catalog.json`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ablate.datasets._catalog import JointForm, JointSet, KnownSet, LabelMaps, catalog, joint_sets
from ablate.datasets._files import (
    SPLITS,
    Split,
    check_version,
    picture_problem,
    read_picture,
    refuse,
    set_folder,
    under,
)

__all__ = [
    "IGNORED",
    "SPLITS",
    "Dataset",
    "Info",
    "JointForm",
    "JointSet",
    "KnownSet",
    "LabelMaps",
    "Samples",
    "Split",
    "catalog",
    "check_version",
    "joint_sets",
    "picture_problem",
    "read_picture",
    "refuse",
    "set_folder",
    "under",
]

IGNORED = 255  # in maps of classes: not labelled, counts nowhere


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
