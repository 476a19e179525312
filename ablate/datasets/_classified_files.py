"""Image files of which each has a class: one opened split of them; see `ClassifiedSamples`."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ablate.datasets._files import Split, read_header, read_picture, refuse, under, visible
from ablate.datasets._info import Info
from ablate.datasets._kept import picture
from ablate.datasets._label_maps import group_of
from ablate.datasets._photographs import Headers
from ablate.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".gif")


@dataclass(frozen=True)
class ClassifiedFiles:
    """The images of one split, one sample each, numbered from 1."""

    info: Info
    split: Split
    folder: Path  # of the set
    images: Path  # of the split
    files: tuple[str, ...]  # (I,), their names within it
    places: np.ndarray  # (I,) int64, of their classes
    trained: Path  # the folder of the images that are trained on
    group_pattern: str | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        image, label = self.classified_image(index + 1)
        return {"image": image, "label": label, "image_id": index + 1}

    def image(self, image_id: int) -> np.ndarray:
        return picture(self.images / self.files[image_id - 1])

    def image_class(self, image_id: int) -> int:
        return int(self.places[image_id - 1])

    def classified_image(self, image_id: int) -> tuple[np.ndarray, int]:
        return self.image(image_id), self.image_class(image_id)

    def classified_ids(self) -> list[int]:
        return self.image_ids()

    def image_ids(self) -> list[int]:
        return list(range(1, len(self) + 1))

    def name(self, image_id: int) -> str:
        return self._names[image_id - 1]

    @cached_property
    def _names(self) -> list[str]:
        """With the folders' names, which may share files'; where two differ in their ending alone, with this too."""
        plain = ["_".join(Path(file).with_suffix("").parts) for file in self.files]
        count = Counter(plain)
        return [
            f"{name}_{file.rpartition('.')[2]}" if count[name] > 1 else name
            for name, file in zip(plain, self.files, strict=True)
        ]

    def group(self, image_id: int) -> str | None:
        return group_of(self.name(image_id), self.group_pattern)

    def ground_truth(self) -> dict[str, Any]:
        images = [{"id": number, "file_name": file} for number, file in enumerate(self.files, start=1)]
        return {"images": images, "annotations": [], "categories": []}

    def digest(self) -> str:
        """Of the images' names, classes and sizes in bytes: quick, as none is read. Raises DataError."""
        content, missing = hashlib.blake2b(digest_size=8), []
        for file, place in zip(self.files, self.places, strict=True):
            try:
                size = os.stat(self.images / file).st_size  # noqa: PTH116  a million of them
            except OSError as error:
                missing.append(f"{file}: {error.strerror}")
                continue
            content.update(f"{file}:{self._classes[place]}:{size}\n".encode("utf-8", "surrogateescape"))
        refuse(self.images, missing)
        return content.hexdigest()

    def check(self, *, thorough: bool = False) -> list[str]:
        found = dict(self._headers.problems)
        for image_id in self.image_ids() if thorough else ():
            try:
                read_picture(self.images / self.files[image_id - 1])
            except DataError as error:
                found.setdefault(image_id, str(error))
        return [*self._unlearned(), *(found[image_id] for image_id in sorted(found))]

    def remarks(self) -> list[str]:
        """See `Remarks`: classes without an image, files that are not read, pictures that viewers turn."""
        unseen = [self._classes[place] for place in sorted(set(range(len(self._classes))) - set(self.places.tolist()))]
        nowhere = [f"{self.images}: no image is a {', '.join(unseen)}"] if unseen else []
        files = visible(path for path in self.images.rglob("*") if path.is_file())
        other = Counter(path.suffix for path in files if not _is_image(path.name))
        unread = [f"{self.images}: {count} files *{suffix} are not read" for suffix, count in sorted(other.items())]
        return [*nowhere, *unread, *self._headers.remarks]

    def verify(self) -> str:
        """As the contract says, but `check` alone finds damaged images, for there may be a million."""
        found, declared = self.digest(), self.info.declared(self.split)
        refuse(self.images, self._unlearned())
        if declared and found != declared:
            raise DataError(f"{self.images}: the {self.split} split's content is {found}, declared is {declared}")
        return found

    @property
    def _classes(self) -> tuple[str, ...]:
        return self.info.need_image_classes()

    def _unlearned(self) -> list[str]:
        """Classes that are evaluated and not trained on; nothing is said where there is no folder to train on."""
        if self.split == "train" or not self.trained.is_dir():
            return []
        counts = Counter(self.places.tolist())
        return [
            f"{self.images}: {counts[place]} images are a {name}, of which {self.trained} has none"
            for place, name in enumerate(self._classes)
            if counts[place] and not _holds_image(under(self.trained, name))
        ]

    @cached_property
    def _headers(self) -> Headers:
        looked = Headers({}, [])
        for image_id, file in enumerate(self.files, start=1):
            try:
                header = read_header(self.images / file)
            except DataError as error:
                looked.problems[image_id] = str(error)
                continue
            if header.orientation != 1:
                looked.remarks.append(f"{self.images / file}: {header.turned}")
        return looked


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _holds_image(folder: Path) -> bool:
    return any(_is_image(name) for _, _, files in os.walk(folder) for name in files)
