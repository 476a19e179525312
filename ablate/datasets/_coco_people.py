"""A COCO file of people, or of other things with keypoints, looked at entry by entry.

What an entry cannot mean is refused, with its name and its value: numbers that are texts, visibilities other than 0, 1
and 2, ids that stand twice, joints of other names. What it may mean is a remark. Other categories are passed over.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
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
from ablate.datasets._info import Joints
from ablate.errors import DataError, nearest

Chosen = str | int | tuple[str | int, ...] | None  # categories by name or number; None: people

PERSON = "person"
ALL = "all"  # categories that have the same joints


@dataclass(frozen=True)
class Annotated:
    """What a file holds."""

    images: Images
    people: list[dict[str, Any]]  # annotations: whole ids, `iscrowd` 0 or 1, the rest as annotated
    categories: tuple[int, ...]  # of people
    remarks: list[str]


def read_people(file: Path, joints: Joints, *, category: Chosen = None, group_field: str | None = None) -> Annotated:
    """The images, and the annotations of the chosen categories, of a file.

    Raises:
        DataError: the file, how many entries are wrong, and what the first of them hold.
    """
    with blamed(file):
        return annotated(json.loads(file.read_bytes()), file, joints, category=category, group_field=group_field)


def read_joints(file: Path, *, category: Chosen = None) -> tuple[str, ...]:
    """The names of the joints that a file gives its chosen categories.

    Raises:
        DataError: it is missing or damaged, names none, or the categories have different ones.
    """
    with blamed(file):
        categories = list(json.loads(file.read_bytes())["categories"])
        skeletons = [entry for entry in categories if entry.get("keypoints")]
        if category is None and sum(entry["name"] == PERSON for entry in skeletons) != 1 and len(skeletons) == 1:
            chosen = skeletons
        else:
            chosen = skeletons if category == ALL else _named(categories, category, file)
        names = list(dict.fromkeys(tuple(map(str, entry.get("keypoints") or ())) for entry in chosen))
    if len(names) > 1:
        first, other = (next(e["name"] for e in chosen if tuple(e.get("keypoints") or ()) == n) for n in names[:2])
        raise DataError(
            f"{file}: {first} and {other} have different joints; name categories that share theirs, or the joints"
        )
    if not names or not names[0]:
        raise DataError(f"{file}: its categories name no keypoints; name them in dataset.joints")
    return names[0]


def annotated(
    document: dict[str, Any], file: Path, joints: Joints, *, category: Chosen = None, group_field: str | None = None
) -> Annotated:
    """The same of a document in COCO's form, which `file` holds or was turned into.

    Raises:
        DataError: as above.
    """
    with blamed(file):
        listed, categories, entries = (list(document[key]) for key in ("images", "categories", "annotations"))
        images = listed_images(listed, file, group_field)
        numbers = category_numbers(categories, file)
        chosen = _chosen(categories, category, joints, file)
        refuse(file, [problem for entry in entries if (problem := _category_problem(entry))])
        people = [entry for entry in entries if entry["category_id"] in chosen]
        refuse(file, [problem for person in people if (problem := _problem(person, images, joints))])
    people = [person | {key: int(person[key]) for key in ("id", "image_id", "category_id")} for person in people]
    people = [person | {"iscrowd": int(person.get("iscrowd") or 0)} for person in people]
    refuse(file, [f"the annotation id {number} stands twice" for number in repeated(p["id"] for p in people)])
    strange = [entry for entry in entries if entry["category_id"] not in numbers]
    remarks = [
        f"{file}: {entry_name(entry)} is of category {entry['category_id']}, which is not listed; it is passed over"
        for entry in strange
    ]
    remarks += [f"{file}: {remark}" for person in people for remark in _remarks(person, images, joints)]
    return Annotated(images, people, chosen, remarks)


def why_skipped(person: Mapping[str, Any], images: Images, *, labelled: bool = True) -> str | None:
    """Why an annotation is no sample, as officially; None where it is one."""
    if person["iscrowd"]:
        return "crowd"
    _, _, width, height = clipped(person, images)
    if person["area"] <= 0 or min(width, height) < 0 or max(width, height) == 0:  # a point cannot be cropped
        return "empty box"
    return "no labelled joint" if labelled and max(person["keypoints"]) == 0 else None


def clipped(person: Mapping[str, Any], images: Images) -> list[float]:
    """The box within the image, x y w h, cleaned as officially: one pixel narrower than annotated."""
    x, y, width, height = person["bbox"]
    image = images[person["image_id"]]
    left, top = max(0, x), max(0, y)
    right = min(image.width - 1, left + max(0, width - 1))
    bottom = min(image.height - 1, top + max(0, height - 1))
    return [left, top, right - left, bottom - top]


def _chosen(categories: list[dict[str, Any]], category: Chosen, joints: Joints, file: Path) -> tuple[int, ...]:
    """The numbers of the categories that samples are of; all have these joints, or name none."""
    if category == ALL:
        found = [entry for entry in categories if tuple(entry.get("keypoints") or ()) == tuple(joints)]
        if not found:
            raise DataError(f"{file}: dataset.category: no category has the joints {', '.join(joints)}")
    else:
        found = _named(categories, category, file)
    for entry in found:
        named = entry.get("keypoints") or joints  # mmpose writes none for faces
        for place, (there, here) in enumerate(zip_longest(named, joints)):
            if there != here:
                counts = "" if len(named) == len(joints) else f"; it has {len(named)} joints, not {len(joints)}"
                raise DataError(f"{file}: joint {place} is {there!r}, in dataset.joints it is {here!r}{counts}")
    return tuple(int(entry["id"]) for entry in found)


def _named(categories: list[dict[str, Any]], category: Chosen, file: Path) -> list[dict[str, Any]]:
    """The categories of these names or numbers."""
    wanted = (PERSON,) if category is None else category if isinstance(category, tuple) else (category,)
    found = []
    for name in wanted:
        fitting = [entry for entry in categories if entry["id" if isinstance(name, int) else "name"] == name]
        if len(fitting) != 1:
            there = [str(entry["id" if isinstance(name, int) else "name"]) for entry in categories]
            hint = "" if fitting else f"; {nearest(name, there)}"
            if category is None and not any(entry.get("keypoints") for entry in categories):
                hint = "; no category has keypoints: boxes and masks are read by coco_instances"
            raise DataError(f"{file}: wanted one category named {name!r}, found {len(fitting)}{hint}")
        found += fitting
    return found


def _category_problem(entry: dict[str, Any]) -> str | None:
    found = entry["category_id"]
    return None if is_whole(found) else f"{entry_name(entry)} has the category_id {found!r}, no whole number"


def _problem(person: dict[str, Any], images: Images, joints: Joints) -> str | None:
    """Why an annotation of a person cannot be meant."""
    name = entry_name(person)
    absent = [key for key in ("id", "image_id", "bbox", "area", "keypoints") if key not in person]
    if absent:
        return f"{name} has no {absent[0]!r}"
    wrong = [key for key in ("id", "image_id") if not is_whole(person[key])]
    if wrong:
        return f"{name} has the {wrong[0]} {person[wrong[0]]!r}, no whole number"
    if person["id"] < 0:
        return f"{name}: ids of annotations begin at 0"
    if person["image_id"] not in images:
        return f"{name} is on image {person['image_id']}, which is not listed"
    crowd = person.get("iscrowd")
    if crowd is not None and (isinstance(crowd, str) or crowd not in (0, 1)):
        return f"{name} has iscrowd {crowd!r}, not 0 or 1"
    return _values_problem(person, name, joints)


def _values_problem(person: dict[str, Any], name: str, joints: Joints) -> str | None:
    for key in ("bbox", "keypoints", "area"):
        values = person[key] if key != "area" and isinstance(person[key], list) else [person[key]]
        if bad := not_finite(values):
            return f"{name}: {key} holds {bad[0]!r}, not a finite number"
    keypoints, box = person["keypoints"], person["bbox"]
    if len(keypoints) != 3 * len(joints) or len(box) != 4:
        return f"{name} has {len(keypoints)} keypoint and {len(box)} box numbers, not {3 * len(joints)} and 4"
    if set(keypoints[2::3]) <= {0, 1, 2}:
        return None
    joint, seen = next((joint, v) for joint, v in zip(joints, keypoints[2::3], strict=True) if v not in (0, 1, 2))
    return f"{name}: the visibility of its {joint} is {seen!r}, not 0, 1 or 2"


def _remarks(person: dict[str, Any], images: Images, joints: Joints) -> list[str]:
    """What in an annotation changes scores, and may be meant."""
    name, image, found = entry_name(person), images[person["image_id"]], []
    points = person["keypoints"]
    labelled = [(j, x, y) for j, x, y, v in zip(joints, points[::3], points[1::3], points[2::3], strict=True) if v > 0]
    if labelled and why_skipped(person, images) == "empty box":
        size = f"area {person['area']} and the box {person['bbox']}"
        found.append(f"{name} on {image.name} has {size}: it is no sample, and counts as missed")
    for joint, x, y in labelled:
        if not (-1 <= x <= image.width and -1 <= y <= image.height) or x == y == 0:
            found.append(f"{name} on {image.name}: its {joint} is labelled at {x}, {y}")
            break
    return found
