"""The data shelf's contract: what a data set says without its files (`Info`) and gives with them (`Samples`).

A part of this shelf is a builder that returns a `Dataset`. Planning reads only its `info`; files are looked
for when a split is opened. Joint sets and the sets that we know are data: `joints.json` and `catalog.json`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, Protocol, TypedDict, TypeVar, runtime_checkable

from ablate import registry
from ablate.datasets._arrays import Array, Numbers, Pixels
from ablate.datasets._catalog import (
    JointForm,
    JointSet,
    KnownSet,
    LabelMaps,
    as_published,
    catalog,
    image_classes,
    joint_sets,
    things,
)
from ablate.datasets._files import (
    SPLITS,
    Header,
    Split,
    check_version,
    is_whole,
    picture_problem,
    read_header,
    read_picture,
    refuse,
    set_folder,
    under,
    visible,
)
from ablate.datasets._held_out import held_out
from ablate.datasets._info import Classes, Info, Joints
from ablate.datasets._kept import keep_pictures, picture, pictures_kept
from ablate.datasets._masks import as_runs
from ablate.registry import Chosen

__all__ = [
    "FROM_FILE",
    "IGNORED",
    "SPLITS",
    "Array",
    "Assumes",
    "Classes",
    "ClassifiedImage",
    "ClassifiedSamples",
    "Dataset",
    "Folded",
    "Grouped",
    "Header",
    "Info",
    "InstanceSamples",
    "InstancesOfImage",
    "JointForm",
    "JointSet",
    "Joints",
    "KnownSet",
    "LabelMaps",
    "LabelledImage",
    "LabelledSamples",
    "NamesClasses",
    "NamesJoints",
    "Numbers",
    "NumbersPeople",
    "PeopleByImage",
    "PeopleOfImage",
    "PeopleSamples",
    "Person",
    "Pixels",
    "Remarks",
    "Samples",
    "Split",
    "WritesPeople",
    "as_published",
    "as_runs",
    "build_dataset",
    "catalog",
    "check_version",
    "held_out",
    "image_classes",
    "is_whole",
    "joint_sets",
    "keep_pictures",
    "parts_named",
    "picture",
    "picture_problem",
    "pictures_kept",
    "read_header",
    "read_picture",
    "refuse",
    "set_folder",
    "things",
    "under",
    "unnamed",
    "visible",
]

FROM_FILE = "file"  # the knob `joints` or `classes` of a data set whose files or folders name them
IGNORED = 255  # in maps of classes: not labelled, counts nowhere


class Person(TypedDict):
    """A sample of a set of people: one of them. All coordinates are pixels of the image."""

    image: Pixels  # (H, W, 3) uint8 RGB
    box: Numbers  # (4,) float64, x y w h
    joints: Numbers  # (K, 3) float64, x, y and COCO's visibility (0 not labelled, 1 hidden, 2 visible)
    image_id: int
    annotation_id: int  # -1: not annotated
    area: float
    score: float  # of the box
    category_id: NotRequired[int]  # the number of its category in the set's files, where it has several


class PeopleOfImage(TypedDict):
    """The P people of an image who have a labelled joint, and what is not learned from."""

    joints: Numbers  # (P, K, 3) float64, as of a `Person`
    ignored: list[object]  # masks of crowds and of people without labelled joints, as COCO's files write them


class LabelledImage(TypedDict):
    """A sample of a set with maps of classes: one image with its own."""

    image: Pixels  # (H, W, 3) uint8 RGB
    labels: Pixels  # (H, W) uint8, places of classes, IGNORED where none
    image_id: int


class ClassifiedImage(TypedDict):
    """A sample of a set whose images have classes: one image with its own."""

    image: Pixels  # (H, W, 3) uint8 RGB
    label: int  # the place of its class
    image_id: int


class InstancesOfImage(TypedDict):
    """The N annotated instances of an image. Boxes are x y w h in pixels of it."""

    boxes: Numbers  # (N, 4) float64
    places: Array  # (N,) int64, of their classes
    crowd: Array  # (N,) bool: a group that was not told apart; it is not learned, and finding it is no mistake
    masks: list[object]  # N masks as COCO's files write them, polygons or runs; None where none is annotated


class Samples(Protocol):
    """One opened split: what is asked of every one. What its samples are, and what else it has, the next two say."""

    @property
    def info(self) -> Info: ...

    @property
    def folder(self) -> Path | None:
        """Where the set lies; None when it has no files."""

    @property
    def skipped(self) -> Mapping[str, int]:
        """Annotations that are no samples: reason -> count."""

    def __len__(self) -> int: ...

    def image(self, image_id: int) -> Pixels:
        """(H, W, 3) uint8 RGB: any image of the split, also one without samples. Raises DataError."""

    def name(self, image_id: int) -> str:
        """What a file of predictions for this image is called, without its ending; no other image's name."""

    def image_ids(self) -> list[int]:
        """The ids of all images of the split, those without samples included."""

    def ground_truth(self) -> dict[str, object]:
        """All annotations of the split, crowds and unlabelled people included, as pycocotools wants them.

        Of a set without people only `images`: their `id` and `file_name`.
        """

    def digest(self) -> str:
        """16 hexadecimal digits of the split's content. Raises DataError when images are missing."""

    def check(self, *, thorough: bool = False) -> list[str]:
        """One line per problem, each naming its file: all that would change or empty a score.

        Headers and annotations are looked at; thorough decodes every image.
        """

    def verify(self) -> str:
        """The digest, if the files pass `check` and it is the declared one. Raises DataError otherwise."""


class PeopleSamples(Samples, Protocol):
    """A split of a set whose `info` has joints: a sample is a person."""

    def __getitem__(self, index: int) -> Person:
        """The sample. Raises DataError when its image is missing, damaged or not of the annotated size."""


class PeopleByImage(PeopleSamples, Protocol):
    """A split that can be asked for whole images with all their people."""

    def by_image(self) -> Mapping[int, PeopleOfImage]:
        """Those of each image that somebody is annotated on, by its id; files are read again. Raises DataError."""


class LabelledSamples(Samples, Protocol):
    """A split of a set whose `info` has classes. One without people has an image for a sample, a `LabelledImage`."""

    def labelled_image(self, image_id: int) -> tuple[Pixels, Pixels]:
        """An image and its classes (H, W) uint8, IGNORED where none. Raises DataError."""

    def labels(self, image_id: int) -> Pixels:
        """The classes of `labelled_image` alone, for which the image need not be read. Raises DataError."""


class ClassifiedSamples(Samples, Protocol):
    """A split of a set whose `info` has classes of images. A set without others has a `ClassifiedImage` for a sample.

    Images may lack a class, such as a drawn picture of two people who do different things.
    """

    def classified_ids(self) -> Sequence[int]:
        """The ids of the images that have a class."""

    def image_class(self, image_id: int) -> int:
        """The place of the class of one of them; the image need not be read. Raises DataError."""

    def classified_image(self, image_id: int) -> tuple[Pixels, int]:
        """One of them with the place of its class. Raises DataError."""


class InstanceSamples(Samples, Protocol):
    """A split of a set whose `info` has things: an image with its instances. `ground_truth` holds their masks too."""

    @property
    def category_numbers(self) -> Sequence[int]:
        """What the set's files call each class, by its place (C,); in its ground truth they are numbered from 1 on."""

    def instances(self, image_id: int) -> InstancesOfImage:
        """Those of an image, crowds included."""

    def instance_truth(self) -> dict[str, object]:
        """All annotations of the split as pycocotools wants them."""


@runtime_checkable
class Remarks(Protocol):
    """Optional: a split that knows of what may be meant and may be a mistake; nobody but its owner can tell."""

    def remarks(self) -> list[str]:
        """One line for each, naming the file, the entry and the value."""


@runtime_checkable
class Grouped(Protocol):
    """Optional: a split whose images belong to groups, such as a person, a video or a patient."""

    def group(self, image_id: int) -> str | None:
        """The group of an image; None where the set declares none."""


def groups_of(samples: Samples) -> list[str] | None:
    """The group of each image of a split, by ascending id, one without a group in its own; None where it has none."""
    if not isinstance(samples, Grouped):
        return None
    ids = sorted(samples.image_ids())
    found = [samples.group(image_id) for image_id in ids]
    if all(group is None for group in found):
        return None
    return [f"image {i}" if group is None else group for i, group in zip(ids, found, strict=True)]


@runtime_checkable
class NumbersPeople(Protocol):
    """Optional: a split whose files have numbers of their own for the categories of samples, where others have 1."""

    @property
    def person_categories(self) -> tuple[int, ...]:
        """As in its annotations, in a detector's boxes and in predictions that are written."""


@runtime_checkable
class WritesPeople(Protocol):
    """Optional: a split whose evaluation server takes a file of its own form."""

    def write_people(self, predictions: list[dict[str, object]], folder: Path) -> None:
        """Predictions in COCO's form, with `annotation_id`, as that file. Raises OSError."""


@runtime_checkable
class Folded(Protocol):
    """Optional: a data set of which each seed evaluates another part, and trains on the others (cross-validation)."""

    @property
    def folds(self) -> int:
        """How many parts; 1 where the splits are the same for all seeds."""

    def of_seed(self, seed: int) -> "Dataset[Samples]":
        """The set with the splits of that seed."""


@runtime_checkable
class NamesJoints(Protocol):
    """Optional: a data set whose files name the joints that its knob `joints: file` stands for."""

    def joints_of_file(self, root: Path | None) -> tuple[str, ...]:
        """Their names, in order. Raises DataError."""


@runtime_checkable
class NamesClasses(Protocol):
    """Optional: a data set whose folders name the classes that its knob `classes: file` stands for."""

    def classes_of_folders(self, root: Path | None) -> tuple[str, ...]:
        """Their names, in order. Raises DataError."""


@runtime_checkable
class Assumes(Protocol):
    """Optional: a data set of which a report must say what nobody gave."""

    @property
    def assumed(self) -> str:
        """In sentences; empty where there is nothing to say."""


Opened_co = TypeVar("Opened_co", bound=Samples, covariant=True)


class Dataset(Protocol[Opened_co]):
    """What a builder of this shelf makes; nothing is looked for on a disk before a split is opened.

    Those that serve tasks about joints open `PeopleSamples`, those that serve tasks about classes `LabelledSamples`,
    those whose images have classes `ClassifiedSamples`.
    """

    @property
    def info(self) -> Info: ...

    def open(self, split: Split, root: Path | None) -> Opened_co:
        """One split; `root` is the data folder, which holds the set's folder or is it. Raises DataError."""


def unnamed(knobs: Mapping[str, object]) -> str | None:
    """The knob, `joints` or `classes`, whose names are in the data set's files; None where the knobs name all."""
    return next((knob for knob in ("joints", "classes") if knobs.get(knob) == FROM_FILE), None)


def parts_named(part: Chosen, root: Path | None) -> dict[str, object]:
    """The knobs of a data set, `joints: file` or `classes: file` replaced by the names that its files or folders have.

    Raises:
        DataError: they are missing, damaged or name none.
        PartError: an unknown data set or knob.
    """
    knob = unnamed(registry.check_knobs("dataset", part.name, part.knobs))
    if knob is None:
        return dict(part.knobs)
    made = build_dataset(part)
    if isinstance(made, NamesClasses):
        return part.knobs | {knob: list(made.classes_of_folders(root))}
    assert isinstance(made, NamesJoints)  # who takes the word has the method
    return part.knobs | {knob: list(made.joints_of_file(root))}


def build_dataset(part: Chosen) -> Dataset[Samples]:
    """The data set that a recipe names, with the knobs it gives. Raises PartError, DataError."""
    made: Dataset[Samples] = registry.build("dataset", part.name, part.knobs)
    return made
