"""A COCO file of instances, with boxes and mostly with masks, looked at entry by entry.

As in `_coco_people.py`, what an entry cannot mean is refused with its name and its value; what it may mean is a remark.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.datasets._coco_file import (
    Images,
    blamed,
    category_numbers,
    entry_name,
    listed_images,
    not_finite,
    repeated,
)
from ablate.datasets._files import is_whole, refuse
from ablate.datasets._info import Classes
from ablate.datasets._masks import mask_problem
from ablate.errors import DataError, nearest

NUMBERS = ("id", "image_id", "category_id")


@dataclass(frozen=True)
class Instances:
    """What a file holds."""

    images: Images
    entries: list[dict[str, Any]]  # annotations of the classes: whole ids, `iscrowd` 0 or 1, an area, the rest as is
    place_of: dict[int, int]  # number of a category in the file -> place of its class
    remarks: list[str]


def read_instances(file: Path, classes: Classes, *, group_field: str | None = None) -> Instances:
    """The images, and the annotations of the classes' categories, which are found by name.

    Raises:
        DataError: the file, how many entries are wrong, and what the first of them hold.
    """
    with blamed(file):
        document = json.loads(file.read_bytes())
        listed, categories, entries = (list(document[key]) for key in ("images", "categories", "annotations"))
        images = listed_images(listed, file, group_field)
        numbers = category_numbers(categories, file)
        place_of = _places(categories, classes, file)
        refuse(file, [problem for entry in entries if (problem := _number_problem(entry))])
        own = [entry for entry in entries if entry["category_id"] in place_of]
        refuse(file, [problem for entry in own if (problem := _problem(entry, images))])
    own = [_cleaned(entry) for entry in own]
    refuse(file, [f"the annotation id {number} stands twice" for number in repeated(entry["id"] for entry in own)])
    strange = [entry for entry in entries if entry["category_id"] not in numbers]
    others = len(entries) - len(own) - len(strange)
    remarks = [
        f"{file}: {entry_name(entry)} is of category {entry['category_id']}, which is not listed; it is passed over"
        for entry in strange
    ]
    remarks += [f"{file}: {others} annotations are of categories that are no class here"] if others else []
    remarks += [f"{file}: {remark}" for entry in own if (remark := _remark(entry, images))]
    return Instances(images, own, place_of, remarks)


def is_empty(entry: Mapping[str, Any]) -> bool:
    """Whether a box has no area, so that nothing can be learned from it."""
    return bool(min(entry["bbox"][2:]) <= 0)


def _places(categories: list[dict[str, Any]], classes: Classes, file: Path) -> dict[int, int]:
    by_name = {str(entry["name"]): int(entry["id"]) for entry in categories}
    for name in classes:
        if name not in by_name:
            raise DataError(
                f"{file}: no category is named {name!r}, a class of dataset.classes; {nearest(name, by_name)}"
            )
    return {by_name[name]: place for place, name in enumerate(classes)}


def _number_problem(entry: dict[str, Any]) -> str | None:
    absent = [key for key in NUMBERS if key not in entry]
    if absent:
        return f"{entry_name(entry)} has no {absent[0]!r}"
    wrong = [key for key in NUMBERS if not is_whole(entry[key])]
    return f"{entry_name(entry)} has the {wrong[0]} {entry[wrong[0]]!r}, no whole number" if wrong else None


def _problem(entry: dict[str, Any], images: Images) -> str | None:
    """Why an annotation cannot be meant."""
    name, box = entry_name(entry), entry.get("bbox")
    if entry["id"] < 0:
        return f"{name}: ids of annotations begin at 0"
    if entry["image_id"] not in images:
        return f"{name} is on image {entry['image_id']}, which is not listed"
    if not isinstance(box, list) or len(box) != 4:
        return f"{name} has the bbox {box!r}, not four numbers"
    for key, values in (("bbox", box), ("area", [entry.get("area", 0.0)])):
        if bad := not_finite(values):
            return f"{name}: {key} holds {bad[0]!r}, not a finite number"
    crowd = entry.get("iscrowd")
    if crowd is not None and (isinstance(crowd, str) or crowd not in (0, 1)):
        return f"{name} has iscrowd {crowd!r}, not 0 or 1"
    return mask_problem(entry.get("segmentation"), name, images[entry["image_id"]])


def _cleaned(entry: dict[str, Any]) -> dict[str, Any]:
    width, height = entry["bbox"][2:]
    return (
        entry
        | {key: int(entry[key]) for key in NUMBERS}
        | {
            "iscrowd": int(entry.get("iscrowd") or 0),
            "area": float(entry.get("area", width * height)),
        }
    )


def _remark(entry: dict[str, Any], images: Images) -> str | None:
    """What in an annotation changes scores, and may be meant."""
    (left, top, width, height), image = entry["bbox"], images[entry["image_id"]]
    if is_empty(entry) and not entry["iscrowd"]:
        return f"{entry_name(entry)} on {image.name} has the box {entry['bbox']}: nothing is learned from it"
    if left < -1 or top < -1 or left + width > image.width + 1 or top + height > image.height + 1:
        return f"{entry_name(entry)}: its box {entry['bbox']} leads out of {image.name}"
    return None
