"""Instances with boxes and masks in any folder with COCO's layout: COCO 2017, coco_mini or the user's own.

The file itself is read by `_coco_instances.py`. All images of a split are evaluated on; trained on are those with an
instance, as in the official code (mmdetection's `filter_empty_gt`).
"""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ablate.datasets import Classes, Info, InstancesOfImage, Split, catalog, check_version, refuse, set_folder, things
from ablate.datasets._coco_file import annotation_file
from ablate.datasets._coco_instances import is_empty, read_instances
from ablate.datasets._photographs import Photographs
from ablate.errors import DataError, PartError
from ablate.registry import dataset


@dataset("coco_instances", meaning=1, tasks=("detection",), training=("version", "group_field"))
@dataclass(frozen=True)
class CocoInstances:
    """Instances with boxes, and with masks where they are annotated, from a folder in COCO's layout.

    Raises:
        PartError: a version or a file's name that can be none, or classes that are named twice.
    """

    set: str = "coco2017"  # the name of the set's folder
    classes: Literal["coco80"] | tuple[str, ...] = "coco80"  # COCO's, or the names of categories in the annotations
    version: str | None = None  # digests "train-val" that the content must have
    group_field: str | None = None  # of an image's entry: the video, person or patient that it is of
    annotations: str | None = None  # their file, such as lists/{split}.json; none: annotations/instances_{split}*.json

    def __post_init__(self) -> None:
        if not self.classes or len(set(self._classes)) < len(self._classes):
            raise PartError(f"classes: names, each once, not {list(self.classes)}")
        if self.annotations is not None and "{split}" not in self.annotations:
            raise PartError(f"annotations: wanted a file's name with {{split}} in it, not {self.annotations!r}")
        check_version(self.version)

    @cached_property
    def _classes(self) -> Classes:
        return things()[self.classes] if isinstance(self.classes, str) else Classes(self.classes)

    @cached_property
    def info(self) -> Info:
        known = catalog().get(self.set)
        return Info(
            name=self.set,
            version=self.version,
            licence=known.licence if known else "not known",
            source=known.source if known else "not known",
            images=(known.annotated or None) if known else None,
            things=self._classes,
        )

    def open(self, split: Split, root: Path | None) -> "AnnotatedImages":
        """Read a split's annotations.

        Raises:
            DataError: no such folder, or annotations that are missing or damaged (named and counted).
        """
        patterns = [self.annotations] if self.annotations else ["annotations/instances_{split}*.json"]
        holds = self.annotations.partition("/")[0] if self.annotations and "/" in self.annotations else "annotations"
        folder = set_folder(self.set, root, holds=holds)
        file = annotation_file(folder, [pattern.replace("{split}", split) for pattern in patterns])
        found = read_instances(file, self._classes, group_field=self.group_field)
        of_image: dict[int, list[dict[str, Any]]] = {image_id: [] for image_id in found.images}
        for entry in found.entries:
            of_image[entry["image_id"]].append(entry)
        return AnnotatedImages(
            info=self.info,
            split=split,
            folder=folder,
            file=file,
            photographs=Photographs.of(folder, file, found.images),
            of_image=of_image,
            place_of=found.place_of,
            odd_annotations=tuple(found.remarks),
            skipped=dict(Counter("empty box" for entry in found.entries if is_empty(entry) and not entry["iscrowd"])),
        )


@dataclass(frozen=True)
class AnnotatedImages:
    """The images of one split with their instances; see `InstanceSamples`."""

    info: Info
    split: Split
    folder: Path
    file: Path
    photographs: Photographs
    of_image: dict[int, list[dict[str, Any]]]  # annotations by image id
    place_of: dict[int, int]  # number of a category in the file -> place of its class
    odd_annotations: tuple[str, ...]  # remarks
    skipped: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.of_image)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image_id = self.image_ids()[index]
        return {"image": self.image(image_id), "image_id": image_id, "instances": self.instances(image_id)}

    def image(self, image_id: int) -> np.ndarray:
        return self.photographs.image(image_id)

    def name(self, image_id: int) -> str:
        return self.photographs.name(image_id)

    def image_ids(self) -> list[int]:
        return list(self.of_image)

    def group(self, image_id: int) -> str | None:
        return self.photographs.images[image_id].group

    def instances(self, image_id: int) -> InstancesOfImage:
        entries = self.of_image[image_id]
        return {
            "boxes": np.array([entry["bbox"] for entry in entries], dtype=float).reshape(-1, 4),
            "places": np.array([self.place_of[entry["category_id"]] for entry in entries], dtype=np.int64),
            "crowd": np.array([entry["iscrowd"] for entry in entries], dtype=bool),
            "masks": [entry.get("segmentation") or None for entry in entries],
        }

    @property
    def category_numbers(self) -> tuple[int, ...]:
        """What the annotations call each class (C,)."""
        return tuple(sorted(self.place_of, key=self.place_of.__getitem__))

    def ground_truth(self) -> dict[str, Any]:
        return self.instance_truth()

    def instance_truth(self) -> dict[str, Any]:
        images = [
            {"id": key, "height": image.height, "width": image.width} for key, image in self.photographs.images.items()
        ]
        kept = ("id", "image_id", "bbox", "area", "iscrowd", "segmentation")
        annotations = [
            {key: entry[key] for key in kept if key in entry} | {"category_id": self.place_of[entry["category_id"]] + 1}
            for entries in self.of_image.values()
            for entry in entries
        ]
        categories = [{"id": place + 1, "name": name} for place, name in enumerate(self.info.need_things())]
        return {"images": images, "annotations": annotations, "categories": categories}

    def digest(self) -> str:
        return self.photographs.digest((self.file,))

    def check(self, *, thorough: bool = False) -> list[str]:
        empty = [] if any(self.of_image.values()) else [f"{self.file}: nothing to train on or to score: no instance"]
        return [*empty, *self.photographs.check(thorough=thorough)]

    def remarks(self) -> list[str]:
        """See `Remarks`: odd annotations, pictures that viewers turn, classes that nothing is of."""
        seen = {self.place_of[entry["category_id"]] for entries in self.of_image.values() for entry in entries}
        unseen = [name for place, name in enumerate(self.info.need_things()) if place not in seen]
        nowhere = [f"{self.file}: nothing is a {', '.join(unseen)}"] if unseen and seen else []
        return [*self.odd_annotations, *self.photographs.headers.remarks, *nowhere]

    def verify(self) -> str:
        found, declared = self.digest(), self.info.declared(self.split)
        refuse(self.folder, self.check())
        if declared and found != declared:
            raise DataError(f"{self.folder}: the {self.split} split's content is {found}, declared is {declared}")
        return found
