"""Images in a folder for each class, train/CLASS/*.jpg and val/CLASS/*.jpg: what torchvision's ImageFolder reads.

ImageNet is laid out so; its validation images may also lie in one folder, as they are published, beside a list that
says which class each is of. The classes are a knob, for the network's size depends on them and planning needs no data.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from ablate.datasets import FROM_FILE, Classes, Info, Split, catalog, check_version, image_classes, set_folder, under
from ablate.datasets._classified_files import SUFFIXES, ClassifiedFiles
from ablate.datasets._files import refuse
from ablate.datasets._label_maps import check_group
from ablate.errors import DataError, PartError, nearest
from ablate.registry import dataset


@dataset("image_folder", meaning=1, tasks=("classification",), training=("train", "version", "group"))
@dataclass(frozen=True)
class ImageFolder:
    """Images with a class each, from a folder for each class.

    Raises:
        PartError: fewer than two classes, or one that is named twice; training and evaluation on the same files; a
            version or a group that can be none.
    """

    set: str = "imagenet"  # the name of the set's folder
    classes: Literal["imagenet1000", "file"] | tuple[str, ...] = "imagenet1000"  # of folders; file: those of train
    labels: str | None = None  # a list of evaluation images in one folder, NAME CLASS a line; none: a folder a class
    train: str = "train"  # the folder that is trained on
    test: str = "val"  # the folder that is evaluated on
    version: str | None = None  # digests "train-val" that the content must have
    group: str | None = None  # a regular expression: what it matches in an image's name is its group, such as a patient

    def __post_init__(self) -> None:
        if not isinstance(self.classes, str):
            if len(self.classes) < 2:
                raise PartError("classes: name two or more, or file: the folders of train")
            if repeated := [name for name, count in Counter(self.classes).items() if count > 1]:
                raise PartError(f"classes: {repeated[0]!r} is named twice")
        if self.train == self.test:
            raise PartError("test: training and evaluation would use the same files")
        check_version(self.version)
        check_group(self.group)

    @cached_property
    def info(self) -> Info:
        known = catalog().get(self.set)
        return Info(
            name=self.set,
            version=self.version,
            licence=known.licence if known else "not known",
            source=known.source if known else "not known",
            images=(known.annotated or None) if known else None,
            image_classes=self._classes,
            classified=(known.annotated or None) if known else None,
        )

    @property
    def _classes(self) -> Classes:
        if self.classes == FROM_FILE:
            raise PartError("classes: file: the folders are read when a study is opened with its data (--data)")
        return image_classes()[self.classes] if isinstance(self.classes, str) else Classes(self.classes)

    def classes_of_folders(self, root: Path | None) -> tuple[str, ...]:
        """The names of the folders of train in alphabetical order, as torchvision numbers them. Raises DataError."""
        folder = under(set_folder(self.set, root, holds=self.train), self.train)
        found = tuple(_folders(folder))
        if len(found) < 2:
            raise DataError(f"{folder}: holds {len(found)} folders; wanted one for each of two classes or more")
        return found

    def open(self, split: Split, root: Path | None) -> ClassifiedFiles:
        """Look for a split's files.

        Raises:
            DataError: no such folder, no image, a folder that is no class, or a list that does not fit the files.
        """
        name = self.train if split == "train" else self.test
        home = set_folder(self.set, root, holds=name)
        folder, classes = under(home, name), self._classes
        flat = self.labels is not None and split == "val"
        found = _listed(under(home, self.labels or ""), folder, classes) if flat else _in_folders(folder, classes)
        if not found:
            raise DataError(f"{folder}: no images ({', '.join(SUFFIXES)})")
        return ClassifiedFiles(
            info=self.info,
            split=split,
            folder=home,
            images=folder,
            files=tuple(file for file, _ in found),
            places=np.array([place for _, place in found], np.int64),
            trained=under(home, self.train),
            group_pattern=self.group,
        )


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        there = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
        raise DataError(f"{folder}: no such folder; {nearest(folder.name, there)}")
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())


def _in_folders(folder: Path, classes: Classes) -> list[tuple[str, int]]:
    """Names of files within the folder, and places of their classes, in torchvision's order."""
    there, place_of = _folders(folder), {name: place for place, name in enumerate(classes)}
    strange = [f"{name!r} is none of the {len(classes)} classes" for name in there if name not in place_of]
    if len(strange) == len(there) > 0:
        raise DataError(f"{folder}: no folder is of a class, such as {classes[0]!r}; classes: file takes the folders'")
    refuse(folder, strange)
    found = []
    for name in sorted(there, key=place_of.__getitem__):
        for inside, _, files in sorted(os.walk(folder / name)):
            kept = sorted(file for file in files if file.lower().endswith(SUFFIXES))
            found += [(os.path.relpath(Path(inside, file), folder), place_of[name]) for file in kept]
    return found


def _listed(file: Path, folder: Path, classes: Classes) -> list[tuple[str, int]]:
    """The same of a list: an image's name and its class, a name or a number from 0 on, in each line."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{file}: is no text") from None
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    place_of = {str(place): place for place in range(len(classes))} | {name: n for n, name in enumerate(classes)}
    found, problems = dict[str, int](), list[str]()
    for number, line in enumerate(lines, start=1):
        words = line.split(maxsplit=1)
        if not words:
            continue
        problem = _line_problem(words, there, place_of, found)
        if problem:
            problems.append(f"line {number}: {problem}")
        else:
            found[words[0]] = place_of[words[1].strip()]
    refuse(file, problems)
    return list(found.items())


def _line_problem(words: Sequence[str], there: set[str], place_of: dict[str, int], found: dict[str, int]) -> str | None:
    if len(words) < 2:
        return f"{words[0]!r} has no class"
    if words[1].strip() not in place_of:
        return f"{words[1].strip()!r} is no class; {nearest(words[1].strip(), place_of)}"
    if words[0] not in there:
        return f"there is no image {words[0]!r}"
    return f"{words[0]!r} stands twice" if words[0] in found else None
