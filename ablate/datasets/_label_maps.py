"""Images with maps of classes beside them, as PNG files that hold a number a pixel: what sets of such files share.

What a map may be is in `_label_numbers.py`. Every number must be that of a class or one to be ignored; any other is an
error that names the file, as is a map of another size than its image.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ablate.datasets import IGNORED, Info, LabelledImage, Split, read_header, read_picture, refuse
from ablate.datasets._kept import picture
from ablate.datasets._label_numbers import UNKNOWN, read_numbers
from ablate.errors import DataError, PartError

MOST = 254  # classes: places 0 to 253


@dataclass(frozen=True)
class Pair:
    """An image and its map of classes."""

    folder: str  # the one of the split's folders that they are from
    name: str  # of files of predictions; no other pair of the split has it
    image: Path
    labels: Path
    group: str | None = None  # of images that belong together, where the set declares them


def check_group(pattern: str | None) -> None:
    """Whether a knob `group` can be one: a regular expression.

    Raises:
        PartError: it cannot.
    """
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise PartError(f"group: {pattern!r} is no regular expression: {error}") from None


def group_of(name: str, pattern: str | None) -> str | None:
    """The group of an image: what the pattern, or its first pair of brackets, matches in the image's name.

    Raises:
        DataError: nothing.
    """
    if pattern is None:
        return None
    found = re.search(pattern, name)
    if found is None:
        raise DataError(f"dataset.group: {pattern!r} matches nothing in the name {name!r}")
    return found[1] if found.re.groups else found[0]


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


def paired(
    folder: str, images: dict[str, Path], labels: dict[str, Path], *, root: Path, group: str | None
) -> list[Pair]:
    """The pairs of one of the split's folders in the order of their names, from its files by name.

    Raises:
        DataError: there are none, or some lack their counterpart or a group.
    """
    if not images:
        raise DataError(f"{root}: no images of {folder!r}")
    lacking = [f"{images[name].name} has no map of classes" for name in sorted(images.keys() - labels.keys())]
    lacking += [f"{labels[name].name} has no image" for name in sorted(labels.keys() - images.keys())]
    refuse(root, lacking)
    return [Pair(folder, name, images[name], labels[name], group_of(name, group)) for name in sorted(images)]


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
    """The images of one split, one sample each, numbered in their order; see `Samples`."""

    info: Info
    split: Split
    folder: Path
    pairs: tuple[Pair, ...]
    table: np.ndarray  # (256,) uint8, see `table_of`
    skipped: dict[str, int] = field(default_factory=dict)
    first: int = 1  # the number of the first image
    whole: "LabelledFiles | None" = None  # all images of a cross-validated set, of which these are a part

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> LabelledImage:
        if not 0 <= index < len(self):
            raise IndexError(index)
        image, labels = self.labelled_image(index + self.first)
        return {"image": image, "labels": labels, "image_id": index + self.first}

    def image(self, image_id: int) -> np.ndarray:
        return picture(self._pair(image_id).image)

    def labels(self, image_id: int) -> np.ndarray:
        return self._classes(self._pair(image_id))[1]

    def labelled_image(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        image, labels = self.image(image_id), self.labels(image_id)
        if image.shape[:2] != labels.shape:
            raise DataError(_sizes_differ(self._pair(image_id), image.shape[:2], labels.shape))
        return image, labels

    def name(self, image_id: int) -> str:
        return self._pair(image_id).name

    def image_ids(self) -> list[int]:
        return list(range(self.first, self.first + len(self)))

    def _pair(self, image_id: int) -> Pair:
        return self.pairs[image_id - self.first]

    def ground_truth(self) -> dict[str, Any]:
        images = [{"id": number, "file_name": pair.image.name} for number, pair in enumerate(self.pairs, self.first)]
        return {"images": images, "annotations": [], "categories": []}

    def group(self, image_id: int) -> str | None:
        return self._pair(image_id).group

    def digest(self) -> str:
        """Of the maps' numbers, however they are compressed, and of the images' names and sizes in bytes.

        Parts of a cross-validated set have the whole set's, for each trial has other parts.
        """
        if self.whole:
            return self.whole.digest()
        refuse(self.folder, list(self._looked.problems.values()))
        return self._looked.digest

    def check(self, *, thorough: bool = False) -> list[str]:
        found = dict(self._looked.problems)
        for image_id in self.image_ids() if thorough else ():
            try:
                read_picture(self._pair(image_id).image)
            except DataError as error:
                found.setdefault(image_id, str(error))
        return [*self._uncounted(), *self._empty(), *(found[image_id] for image_id in sorted(found))]

    def remarks(self) -> list[str]:
        """See `Remarks`: pictures that viewers turn, maps without a class, classes without a pixel."""
        pixels = zip(self.info.need_classes(), self._looked.pixels, strict=True)
        unseen = [name for name, count in pixels if not count]
        nowhere = [f"{self.folder}: {self.split} has no pixel of {', '.join(unseen)}"] if unseen else []
        return [*self._looked.remarks, *nowhere]

    def verify(self) -> str:
        declared = self.info.declared(self.split)
        if uncounted := self._uncounted():
            raise DataError(uncounted[0])
        found = self.digest()
        refuse(self.folder, self._empty())
        if declared and found != declared:
            raise DataError(
                f"{self.folder}: the {self.split} split's content is {found}, declared is {declared}; "
                f"a set of your own needs its own dataset.version or folder name"
            )
        return found

    def _uncounted(self) -> list[str]:
        """What is wrong where a known set has another number of images; a declared digest says more."""
        wanted = (self.info.images or {}).get(self.split)
        if not wanted or wanted == len(self) or self.info.declared(self.split):
            return []
        own = "a set of your own needs its own folder name"
        return [f"{self.folder}: {self.split} has {len(self):,} images, {self.info.name} has {wanted:,}; {own}"]

    def _empty(self) -> list[str]:
        looked = self._looked
        if looked.pixels.any() or looked.problems:
            return []
        return [f"{self.pairs[0].labels.parent}: no pixel of {self.split} is of a class, all are to be ignored"]

    @cached_property
    def _looked(self) -> "Looked":
        """What one look at all maps and all images' headers found; images themselves are not decoded."""
        looked, digests = Looked(np.zeros(len(self.info.need_classes()), np.int64)), []
        for _, pairs in groupby(enumerate(self.pairs, self.first), key=lambda entry: entry[1].folder):
            content = hashlib.blake2b(digest_size=8)
            for image_id, pair in pairs:
                try:
                    numbers = self._look(pair, looked)
                except DataError as error:
                    looked.problems[image_id] = str(error)
                else:
                    entry = f"{pair.image.name}:{pair.image.stat().st_size}:{numbers.shape}\n"
                    content.update(entry.encode() + numbers.tobytes())
            digests.append(content.hexdigest())
        looked.digest = combined(digests)
        return looked

    def _look(self, pair: Pair, looked: "Looked") -> np.ndarray:
        """The numbers (H, W) in a pair's map; the image is read by its ends and header.

        Raises:
            DataError: a file is missing or damaged, their sizes differ, or a number stands for no class.
        """
        header = read_header(pair.image)
        numbers, classes = self._classes(pair)
        if (header.height, header.width) != numbers.shape:
            turned = f"; {pair.image.name} {header.turned}" if header.orientation != 1 else ""
            raise DataError(_sizes_differ(pair, (header.height, header.width), numbers.shape) + turned)
        pixels = cv2.calcHist([classes], [0], None, [256], [0, 256]).ravel()[: len(looked.pixels)]  # (C,)
        looked.pixels += pixels.astype(np.int64)
        if header.orientation != 1:
            looked.remarks.append(f"{pair.image}: {header.turned}")
        if not pixels.any():
            looked.remarks.append(f"{pair.labels}: no pixel is of a class, all are to be ignored")
        return numbers

    def _classes(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        """The numbers in a pair's map, and the classes that they stand for, (H, W) uint8 both."""
        numbers = read_numbers(pair.labels, self.table)
        classes = np.asarray(cv2.LUT(numbers, self.table))
        unknown = classes == UNKNOWN
        if unknown.any():
            listed = ", ".join(map(str, np.unique(numbers[unknown])[:5]))
            raise DataError(f"{pair.labels}: {unknown.sum()} pixels have numbers that no class has: {listed}")
        return numbers, classes


@dataclass
class Looked:
    """What a look at all files of a split found."""

    pixels: np.ndarray  # (C,) of each class, in all maps
    digest: str = ""
    problems: dict[int, str] = field(default_factory=dict)  # by image id
    remarks: list[str] = field(default_factory=list)


def _sizes_differ(pair: Pair, image: Sequence[int], labels: Sequence[int]) -> str:
    sizes = f"{labels[0]} x {labels[1]} pixels (height x width), its image {image[0]} x {image[1]}"
    return f"{pair.labels}: has {sizes}"
