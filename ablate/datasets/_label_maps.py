"""Images with maps of classes beside them, as PNG files that hold a number a pixel: what sets of such files share.

A map is 8-bit grey or has a palette, whose numbers (not colours) count. Every number must be that of a class or
one to be ignored; any other is an error that names the file, as is a map of another size than its image.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ablate.datasets import IGNORED, Info, LabelledImage, Split, picture_problem, read_picture, refuse
from ablate.errors import DataError, PartError

UNKNOWN = 254  # in a table and its results: no class has this number and it is not to be ignored
FORMATS = ("PNG", "JPEG")  # of Pillow's readers, these alone
MOST = 254  # classes: places 0 to 253


@dataclass(frozen=True)
class Pair:
    """An image and its map of classes."""

    folder: str  # the one of the split's folders that they are from
    name: str  # of files of predictions; no other pair of the split has it
    image: Path
    labels: Path


def table_of(label_ids: Sequence[int], *, ignored: Sequence[int]) -> np.ndarray:
    """What each number in a file stands for, (256,) uint8: the class's place, IGNORED or UNKNOWN.

    Raises:
        PartError: too many classes, or a number that is beyond 8 bits or stands twice.
    """
    numbers = [*label_ids, *ignored]
    if len(label_ids) > MOST:
        raise PartError(f"classes: at most {MOST}, not {len(label_ids)}")
    wrong = [number for number in numbers if not 0 <= number <= 255 or numbers.count(number) > 1]
    if wrong:
        raise PartError(f"label_ids: numbers of classes and ignored ones differ and are 0 to 255; see {wrong[0]}")
    table = np.full(256, UNKNOWN, np.uint8)
    table[list(ignored)] = IGNORED
    table[list(label_ids)] = np.arange(len(label_ids))
    return table


def combined(digests: Sequence[str]) -> str:
    """One digest for the folders of a split: the folder's own where there is one."""
    if len(digests) == 1:
        return digests[0]
    return hashlib.blake2b("-".join(digests).encode(), digest_size=8).hexdigest()


def paired(folder: str, images: dict[str, Path], labels: dict[str, Path], *, root: Path) -> list[Pair]:
    """The pairs of one of the split's folders in the order of their names, from its files by name.

    Raises:
        DataError: there are none, or some lack their counterpart.
    """
    if not images:
        raise DataError(f"{root}: no images of {folder!r}")
    lacking = [f"{images[name].name} has no map of classes" for name in sorted(images.keys() - labels.keys())]
    lacking += [f"{labels[name].name} has no image" for name in sorted(labels.keys() - images.keys())]
    refuse(root, lacking)
    return [Pair(folder, name, images[name], labels[name]) for name in sorted(images)]


def by_name(files: list[tuple[str, Path]]) -> dict[str, Path]:
    """Files by name.

    Raises:
        DataError: two have the same name, so that nobody knows which is meant.
    """
    found: dict[str, Path] = {}
    for name, file in files:
        if found.setdefault(name, file) != file:
            raise DataError(f"{file}: {found[name].name} has the same name {name!r}")
    return found


@dataclass(frozen=True)
class LabelledFiles:
    """The images of one split, one sample each, numbered from 1; see `Samples`."""

    info: Info
    split: Split
    folder: Path
    pairs: tuple[Pair, ...]
    table: np.ndarray  # (256,) uint8, see `table_of`
    skipped: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> LabelledImage:
        if not 0 <= index < len(self):
            raise IndexError(index)
        image, labels = self.labelled_image(index + 1)
        return {"image": image, "labels": labels, "image_id": index + 1}

    def image(self, image_id: int) -> np.ndarray:
        return read_picture(self.pairs[image_id - 1].image)

    def labels(self, image_id: int) -> np.ndarray:
        return self._classes(self.pairs[image_id - 1])[1]

    def labelled_image(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        image, labels = self.image(image_id), self.labels(image_id)
        if image.shape[:2] != labels.shape:
            raise DataError(_sizes_differ(self.pairs[image_id - 1], image.shape[:2], labels.shape))
        return image, labels

    def name(self, image_id: int) -> str:
        return self.pairs[image_id - 1].name

    def image_ids(self) -> list[int]:
        return list(range(1, len(self) + 1))

    def ground_truth(self) -> dict[str, Any]:
        images = [{"id": number, "file_name": pair.image.name} for number, pair in enumerate(self.pairs, start=1)]
        return {"images": images, "annotations": [], "categories": []}

    def digest(self) -> str:
        """Of the maps' numbers, however they are compressed, and of the images' names and sizes in bytes."""
        digests, problems = [], []
        for _, pairs in groupby(self.pairs, key=lambda pair: pair.folder):
            content = hashlib.blake2b(digest_size=8)
            for pair in pairs:
                try:
                    numbers = self._sound(pair)
                except DataError as error:
                    problems.append(str(error))
                else:
                    entry = f"{pair.image.name}:{pair.image.stat().st_size}:{numbers.shape}\n"
                    content.update(entry.encode() + numbers.tobytes())
            digests.append(content.hexdigest())
        refuse(self.folder, problems)
        return combined(digests)

    def check(self, *, thorough: bool = False) -> list[str]:
        problems = []
        for pair in self.pairs:
            try:
                self._sound(pair, thorough=thorough)
            except DataError as error:
                problems.append(str(error))
        return problems

    def verify(self) -> str:
        wanted, declared = (self.info.images or {}).get(self.split), self.info.declared(self.split)
        if wanted and wanted != len(self) and not declared:  # a digest says more
            raise DataError(f"{self.folder}: {self.split} has {len(self)} images, {self.info.name} has {wanted}")
        found = self.digest()
        if declared and found != declared:
            raise DataError(
                f"{self.folder}: the {self.split} split's content is {found}, declared is {declared}; "
                f"a set of your own needs its own dataset.version or folder name"
            )
        return found

    def _sound(self, pair: Pair, *, thorough: bool = False) -> np.ndarray:
        """The numbers (H, W) in a pair's map; the image is read by its ends and header, `thorough` decodes it.

        Raises:
            DataError: a file is missing or damaged, their sizes differ, or a number stands for no class.
        """
        if not thorough and (problem := picture_problem(pair.image)):
            raise DataError(problem)
        size = read_picture(pair.image).shape[:2] if thorough else _size(pair.image)
        numbers = self._classes(pair)[0]
        if size != numbers.shape:
            raise DataError(_sizes_differ(pair, size, numbers.shape))
        return numbers

    def _classes(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        """The numbers in a pair's map, and the classes that they stand for, (H, W) uint8 both."""
        numbers = _read_numbers(pair.labels)
        classes = np.asarray(cv2.LUT(numbers, self.table))
        unknown = classes == UNKNOWN
        if unknown.any():
            listed = ", ".join(map(str, np.unique(numbers[unknown])[:5]))
            raise DataError(f"{pair.labels}: {unknown.sum()} pixels have numbers that no class has: {listed}")
        return numbers, classes


def _read_numbers(file: Path) -> np.ndarray:
    """The numbers in a map of classes, (H, W) uint8. OpenCV would turn a palette's numbers into colours."""
    if problem := picture_problem(file):
        raise DataError(problem)
    try:
        with Image.open(file, formats=FORMATS) as picture:
            if picture.format != "PNG" or picture.mode not in ("L", "P"):
                kind = f"is {picture.format} with pixels {picture.mode}"
                raise DataError(f"{file}: {kind}; numbers of classes are kept in PNG, 8-bit grey or with a palette")
            return np.array(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow answers to damage
        raise DataError(f"{file}: cannot be decoded: {error}") from None


def _size(file: Path) -> tuple[int, int]:
    """Height and width that the picture's header tells."""
    try:
        with Image.open(file, formats=FORMATS) as picture:
            return picture.height, picture.width
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{file}: cannot be decoded: {error}") from None


def _sizes_differ(pair: Pair, image: Sequence[int], labels: Sequence[int]) -> str:
    sizes = f"{labels[0]} x {labels[1]} pixels (height x width), its image {image[0]} x {image[1]}"
    return f"{pair.labels}: has {sizes}"
