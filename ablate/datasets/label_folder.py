"""A plain folder of images and, beside them, PNG maps of classes of the same names.

Where the two lie is a pattern each, so that common layouts need no copying: images/train + labels/train (the default),
SegNet's train + trainannot, MMSegmentation's img_dir/train + ann_dir/train, and Pascal VOC's JPEGImages +
SegmentationClass with lists of names. The classes are knobs, for the network's size depends on them and planning
needs no data; a file classes.txt in the folder, a name a line, is held against them.

Small sets without a published split are cross-validated: `folds` parts of the images in the order of their names, and
a trial is evaluated on the part of its seed. A group, such as a patient, is never in two parts.
"""

import re
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Self

import numpy as np

from ablate.datasets import Classes, Info, Split, catalog, check_version, refuse, set_folder, under, visible
from ablate.datasets._label_maps import LabelledFiles, Pair, by_name, check_group, paired, table_of
from ablate.errors import DataError, PartError, nearest
from ablate.registry import dataset

DIGITS = re.compile(r"(\d+)")
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".gif")


@dataset(
    "label_folder",
    meaning=1,
    tasks=("segmentation",),
    training=("train", "version", "group"),
    later=("group", "folds", "fold", "spacing", "flip_pairs"),
)
@dataclass(frozen=True)
class LabelFolder:
    """Images with maps of classes from a plain folder.

    Raises:
        PartError: classes, their numbers, categories or pairs that do not fit each other; patterns that do not tell a
            split's files from the other's, or an image's map from another's.
    """

    set: str = "labelled"  # the name of the set's folder
    classes: tuple[str, ...] = ()  # their names, in the order of their numbers in the maps
    label_ids: tuple[int, ...] | None = None  # their numbers in the maps; none: 0, 1, 2 ...
    ignored: tuple[int, ...] = (255,)  # numbers in the maps that count nowhere; any other is an error
    categories: tuple[str, ...] = ()  # what each class is a kind of; none: of itself
    images: str = "images/{split}"  # the folder of a split's images
    labels: str = "labels/{split}/{name}.png"  # the map of classes of the image `name`
    names: str | None = None  # a file that lists a split's names, one a line; none: all that `images` holds
    train: str = "train"  # what {split} stands for in training
    test: str = "val"  # what {split} stands for in evaluation
    version: str | None = None  # digests "train-val" that the content must have
    group: str | None = None  # a regular expression: what it matches in an image's name is its group, such as a patient
    folds: int = 1  # cross-validation with so many parts of `images`: one is evaluated, the others are trained on
    fold: int | None = None  # which part is evaluated, from 0; none: of each trial the one of its seed
    flip_pairs: tuple[tuple[str, str], ...] = ()  # classes that a mirrored picture swaps: [[left arm, right arm]]
    spacing: tuple[float, float] | None = None  # millimetres between rows and between columns of pixels, for HD95

    def __post_init__(self) -> None:
        _check_classes(self.classes, self.numbers, self.categories or self.classes)
        if self.folds < 1 or not (self.fold is None or 0 <= self.fold < self.folds):
            raise PartError(f"fold: parts are 0 to {max(self.folds, 1) - 1}, not {self.fold} of {self.folds}")
        if self.folds > 1 and (self.names or "{split}" in self.images + self.labels):
            raise PartError("folds: the folds are cut from one folder; leave out {split} and names")
        if self.folds == 1 and (self.train == self.test or "{split}" not in (self.names or self.images)):
            knob = "test" if self.train == self.test else "names" if self.names else "images"
            raise PartError(f"{knob}: training and evaluation would use the same files")
        if "{name}" not in self.labels.rpartition("/")[2]:
            wanted = "wanted a pattern that ends in a file's name with {name} in it"
            raise PartError(f"labels: {wanted}, not {self.labels!r}")
        _check_pairs(self.flip_pairs, self.classes)
        check_version(self.version)
        check_group(self.group)
        _ = self.table  # refuses what no map can hold

    @cached_property
    def info(self) -> Info:
        known = catalog().get(self.set)
        return Info(
            name=self.set,
            version=self.version,
            licence=known.licence if known else "not known",
            source=known.source if known else "not known",
            images=(known.annotated or None) if known and self.folds == 1 else None,
            classes=Classes(
                self.classes,
                categories=self.categories or self.classes,
                label_ids=self.numbers,
                flip_pairs=tuple((self.classes.index(a), self.classes.index(b)) for a, b in self.flip_pairs),
            ),
            spacing=self.spacing,
        )

    def of_seed(self, seed: int) -> Self:
        """The set whose evaluated part is the seed's; see `Folded`."""
        return self if self.fold is not None else replace(self, fold=seed % self.folds)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of the classes in the maps."""
        return tuple(range(len(self.classes))) if self.label_ids is None else self.label_ids

    @cached_property
    def table(self) -> np.ndarray:
        """What class each number in a map stands for, (256,) uint8."""
        return table_of(self.numbers, ignored=self.ignored)

    @property
    def folders(self) -> dict[Split, str]:
        """What {split} stands for in patterns."""
        return {"train": self.train, "val": self.test}

    def open(self, split: Split, root: Path | None) -> LabelledFiles:
        """Look for a split's files.

        Raises:
            DataError: no such folder, classes.txt disagrees, or images and maps of classes without each other.
        """
        name = self.folders[split]
        known = catalog().get(self.set)
        folder = (known and known.folder) or self.set  # in the data folder
        home = set_folder(folder, root, holds=self.images.replace("{split}", name).partition("/")[0])
        _check_list(home / "classes.txt", self.classes)
        images = _images(under(home, self.images.replace("{split}", name)))
        labels = _labels(home, self.labels.replace("{split}", name))
        if self.names:
            self._refuse_overlap(home, self.names)
            listed = _lines(under(home, self.names.replace("{split}", name)))
            absent = [f"{stem} has no image" for stem in listed if stem not in images]
            refuse(home / self.images, absent)
            images = {stem: images[stem] for stem in listed}
        if self.names or "{split}" not in self.labels:  # other splits' maps may lie here too
            labels = {stem: file for stem, file in labels.items() if stem in images}
        pairs = tuple(paired(name, images, labels, root=home, group=self.group))
        if self.folds == 1:
            return LabelledFiles(self.info, split, home, pairs, self.table)
        return self._part(split, LabelledFiles(self.info, split, home, tuple(_by_unit(pairs)), self.table))

    def _part(self, split: Split, whole: LabelledFiles) -> LabelledFiles:
        """The evaluated part of all images, or the others.

        Raises:
            DataError: there are fewer images or groups than parts.
        """
        units, fold = list(dict.fromkeys(map(_unit, whole.pairs))), self.fold or 0
        if len(units) < self.folds:
            raise DataError(f"{whole.folder}: dataset.folds: {self.folds} parts of {len(units)} images or groups")
        own = set(units[len(units) * fold // self.folds : len(units) * (fold + 1) // self.folds])
        inside = [_unit(pair) in own for pair in whole.pairs]
        pairs = tuple(pair for pair, mine in zip(whole.pairs, inside, strict=True) if mine == (split == "val"))
        first = inside.index(True) + 1 if split == "val" else 1
        return replace(whole, pairs=pairs, first=first, whole=whole)

    def _refuse_overlap(self, home: Path, names: str) -> None:
        files = [under(home, names.replace("{split}", folder)) for folder in self.folders.values()]
        if all(file.exists() for file in files):  # without labels for the other split, one list is enough
            both = sorted(set(_lines(files[0])) & set(_lines(files[1])))
            refuse(files[1], [f"{stem} is trained on and evaluated on" for stem in both])


def _unit(pair: Pair) -> str:
    """What stays together: the image's group, else the image."""
    return pair.group or pair.name


def _by_unit(pairs: tuple[Pair, ...]) -> list[Pair]:
    """By groups, and by the numbers in names: 2 before 10, so that neighbours of a volume or video stay neighbours."""
    by_number = sorted(pairs, key=lambda pair: [(part.isdigit(), part.zfill(20)) for part in DIGITS.split(pair.name)])
    place = {unit: number for number, unit in enumerate(dict.fromkeys(map(_unit, by_number)))}
    return sorted(by_number, key=lambda pair: place[_unit(pair)])


def _check_classes(classes: tuple[str, ...], numbers: tuple[int, ...], categories: tuple[str, ...]) -> None:
    if len(classes) < 2:
        raise PartError("classes: name two or more, in the order of their numbers in the maps")
    if repeated := [name for name in classes if classes.count(name) > 1]:
        raise PartError(f"classes: {repeated[0]!r} is named twice")
    for knob, values in (("label_ids", numbers), ("categories", categories)):
        if len(values) != len(classes):
            raise PartError(f"{knob}: one for each of the {len(classes)} classes, not {len(values)}")


def _check_pairs(pairs: tuple[tuple[str, str], ...], classes: tuple[str, ...]) -> None:
    named = [name for pair in pairs for name in pair]
    for name in named:
        if name not in classes:
            raise PartError(f"flip_pairs: no class {name!r}; {nearest(name, classes)}")
        if named.count(name) > 1:
            raise PartError(f"flip_pairs: {name!r} is named twice")


def _check_list(file: Path, classes: tuple[str, ...]) -> None:
    """A swapped pair of names would go unnoticed, so the folder's own list, if it has one, must be the knob's."""
    if file.exists() and (listed := _lines(file)) != list(classes):
        pairs = zip_longest(listed, classes, fillvalue="nothing")
        place, (there, here) = next((place, pair) for place, pair in enumerate(pairs) if pair[0] != pair[1])
        raise DataError(f"{file}: class {place} is {there!r}, in dataset.classes it is {here!r}")


def _images(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        there = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
        raise DataError(f"{folder}: no such folder; {nearest(folder.name, there)}")
    return by_name([(file.stem, file) for file in visible(folder.iterdir()) if file.suffix.lower() in SUFFIXES])


def _labels(home: Path, pattern: str) -> dict[str, Path]:
    folder, _, file_name = pattern.rpartition("/")
    under(home, folder)
    before, _, after = file_name.partition("{name}")
    files = visible((home / folder).iterdir()) if (home / folder).is_dir() else []
    fitting = [file for file in files if file.name.startswith(before) and file.name.endswith(after)]
    return {file.name.removeprefix(before).removesuffix(after): file for file in fitting}


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{file}: is no text") from None
