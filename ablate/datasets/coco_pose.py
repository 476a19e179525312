"""People in any folder with COCO's layout: COCO 2017, pose_lspet, coco_mini or the user's own.

Who becomes a sample follows the official loader (leoxiaobin/deep-high-resolution-net.pytorch@6f69e4676ad8,
lib/dataset/coco.py): crowds, people without labelled joints and boxes outside the image are skipped, and
counted; the ground truth keeps them all. Of the annotations only arrays stay, which loader processes share.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ablate.datasets import (
    Info,
    Person,
    Split,
    catalog,
    check_version,
    joint_sets,
    picture_problem,
    read_picture,
    refuse,
    set_folder,
    under,
)
from ablate.errors import DataError, nearest
from ablate.registry import dataset

Images = dict[int, tuple[str, int, int]]  # image id -> file name, height, width


@dataset("coco_pose", meaning=1, tasks=("pose",))
@dataclass(frozen=True)
class CocoPose:
    """People with keypoints from a folder in COCO's layout.

    Raises:
        DataError: the catalog knows the set, and it has no annotations in this joint set.
        PartError: a version that is none.
    """

    set: str = "coco2017"  # the name of the set's folder; `ablate data` lists those we know
    joints: Literal["coco17", "lsp14"] = "coco17"  # the joint set of its annotations
    version: str | None = None  # digests "train-val" that the content must have; none: those of the catalog

    def __post_init__(self) -> None:
        known = catalog().get(self.set)
        if known and self.joints not in known.forms:
            fitting = nearest(self.joints, known.forms)
            raise DataError(f"dataset.joints: {self.set} has no {self.joints} annotations; {fitting}")
        check_version(self.version)

    @cached_property
    def info(self) -> Info:
        known = catalog().get(self.set)
        return Info(
            name=self.set,
            version=self.version or (known.forms[self.joints].version if known else None),
            joints=joint_sets()[self.joints].joints,
            licence=known.licence if known else "not known",
            source=known.source if known else "not known",
            sizes=known.forms[self.joints].sizes if known else None,
        )

    @property
    def pattern(self) -> str:
        """Of the annotation file under the set's folder."""
        known = catalog().get(self.set)
        return known.forms[self.joints].annotations if known else "annotations/person_keypoints_{split}*.json"

    def open(self, split: Split, root: Path | None) -> "People":
        """Read a split's annotations.

        Raises:
            DataError: no such folder, or annotations that are missing or damaged (named and counted).
        """
        folder = set_folder(self.info.name, root, holds="annotations")
        file = _annotation_file(folder, self.pattern.format(split=split))
        images, people = _read(file, self.info.need_joints())
        verdicts = [_why_skipped(person, images) for person in people]
        kept = [person for person, why in zip(people, verdicts, strict=True) if why is None]
        place = {image_id: position for position, image_id in enumerate(images)}
        kept.sort(key=lambda person: place[person["image_id"]])  # the official order: image by image
        return People(
            info=self.info,
            split=split,
            folder=folder,
            annotations=file,
            image_folder=_image_folder(folder, file, images),
            images=images,
            image_of=np.array([person["image_id"] for person in kept], dtype=np.int64),
            ids=np.array([person["id"] for person in kept], dtype=np.int64),
            boxes=np.array([_clipped(person, images) for person in kept], dtype=float).reshape(-1, 4),
            areas=np.array([person["area"] for person in kept], dtype=float),
            joints=np.array([p["keypoints"] for p in kept], float).reshape(-1, len(self.info.need_joints()), 3),
            skipped=dict(Counter(why for why in verdicts if why)),
        )


@dataclass(frozen=True)
class People:
    """The people of one split who are trained on or evaluated, one sample each; see `Samples`."""

    info: Info
    split: Split
    folder: Path
    annotations: Path
    image_folder: Path
    images: Images
    image_of: np.ndarray  # (N,) image ids
    ids: np.ndarray  # (N,) annotation ids
    boxes: np.ndarray  # (N, 4) x y w h, clipped to the image
    areas: np.ndarray  # (N,)
    joints: np.ndarray  # (N, K, 3)
    skipped: dict[str, int]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Person:
        return {
            "image": self.image(int(self.image_of[index])),
            "box": self.boxes[index],
            "joints": self.joints[index],
            "image_id": int(self.image_of[index]),
            "annotation_id": int(self.ids[index]),
            "area": float(self.areas[index]),
            "score": 1.0,
        }

    def image(self, image_id: int) -> np.ndarray:
        name, height, width = self.images[image_id]
        file = self.image_folder / name
        pixels = read_picture(file)
        if pixels.shape[:2] != (height, width):
            found = f"{pixels.shape[0]} x {pixels.shape[1]}"
            raise DataError(f"{file}: {found} pixels (height x width), annotated as {height} x {width}")
        return pixels

    def name(self, image_id: int) -> str:
        return Path(self.images[image_id][0]).stem

    def image_ids(self) -> list[int]:
        return list(self.images)

    def ground_truth(self) -> dict[str, Any]:
        _, people = _read(self.annotations, self.info.need_joints())  # again: nothing of it is kept during training
        annotations = [{key: person[key] for key in ("id", "image_id", *COPIED)} for person in people]
        for annotation, person in zip(annotations, people, strict=True):
            labelled = sum(value > 0 for value in person["keypoints"][2::3])
            annotation |= {"category_id": 1, "iscrowd": person.get("iscrowd", 0), "num_keypoints": labelled}
        images = [{"id": key, "height": height, "width": width} for key, (_, height, width) in self.images.items()]
        category = {"id": 1, "name": "person", "keypoints": list(self.info.need_joints())}
        return {"images": images, "annotations": annotations, "categories": [category]}

    def digest(self) -> str:
        """Of the annotations' bytes and the images' names and sizes: quick, as not every image is read."""
        content, missing = hashlib.blake2b(self.annotations.read_bytes(), digest_size=8), []
        for name in sorted(name for name, _, _ in self.images.values()):
            try:
                content.update(f"{name}:{(self.image_folder / name).stat().st_size}\n".encode())
            except OSError:
                missing.append(f"{name} is missing")
        refuse(self.image_folder, missing)
        return content.hexdigest()

    def check(self, *, thorough: bool = False) -> list[str]:
        if not thorough:
            problems = [picture_problem(self.image_folder / name) for name, _, _ in self.images.values()]
            return [problem for problem in problems if problem]
        found = []
        for image_id in self.images:
            try:
                self.image(image_id)
            except DataError as error:
                found.append(str(error))
        return found

    def verify(self) -> str:
        """Files are looked at one by one only where the digest does not vouch for them."""
        found = self.digest()
        declared = self.info.declared(self.split)
        if found == declared:
            return found
        refuse(self.folder, self.check())
        if declared:
            raise DataError(
                f"{self.folder}: the {self.split} split's content is {found}, declared is {declared}; "
                f"a set of your own needs its own dataset.version or folder name"
            )
        return found


COPIED = ("bbox", "area", "keypoints")


def _annotation_file(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        there = [str(path.relative_to(folder)) for path in folder.glob("annotations/*.json")]
        hint = f"several fit: {', '.join(path.name for path in found)}" if found else nearest(pattern, there)
        raise DataError(f"{folder}: wanted one file {pattern}; {hint}")
    return found[0]


def _image_folder(folder: Path, annotations: Path, images: Images) -> Path:
    """Where the images lie: COCO's own places first, then simpler ones."""
    split = annotations.stem.rpartition("_")[2]
    places = [folder / place for place in (f"images/{split}", split, "images", ".")]
    some = [name for name, _, _ in list(images.values())[:50]]
    holding = [place for place in places if any((place / name).is_file() for name in some)]
    if not holding:
        raise DataError(f"{folder}: no image of {annotations.name} in images/, images/{split}/ or {split}/")
    return holding[0]


def _read(file: Path, joints: tuple[str, ...]) -> tuple[Images, list[dict[str, Any]]]:
    """The images and the annotations of people, each annotation looked at.

    Raises:
        DataError: the file, and how many entries are damaged in which way.
    """
    try:
        document = json.loads(file.read_bytes())
        listed = document["images"]
        images = {int(i["id"]): (str(i["file_name"]), int(i["height"]), int(i["width"])) for i in listed}
        category = _person_category(document["categories"], joints, file)
        people = [entry for entry in document["annotations"] if entry["category_id"] == category]
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"{file}: damaged annotations: {error}") from None
    except KeyError as error:
        raise DataError(f"{file}: damaged annotations: an entry has no {error}") from None
    problems = [_annotation_problem(person, images, len(joints)) for person in people]
    refuse(file, [problem for problem in problems if problem])
    repeats = len(listed) - len(images) + len(people) - len({person["id"] for person in people})
    for name, _, _ in images.values():
        under(file.parent, name)
    refuse(file, [f"{repeats} images or annotations repeat an id"] if repeats else [])
    return images, people


def _person_category(categories: list[dict[str, Any]], joints: tuple[str, ...], file: Path) -> int:
    found = [category for category in categories if category["name"] == "person"]
    if len(found) != 1:
        raise DataError(f"{file}: wanted one category named 'person', found {len(found)}")
    named = tuple(found[0].get("keypoints", joints))
    if named != joints:
        raise DataError(f"{file}: its {len(named)} joints are not those of dataset.joints ({len(joints)})")
    return int(found[0]["id"])


def _annotation_problem(person: dict[str, Any], images: Images, joints: int) -> str | None:
    name = f"annotation {person.get('id')}"
    absent = [key for key in ("id", "image_id", *COPIED) if key not in person]
    if absent:
        return f"{name} has no {absent[0]!r}"
    if not all(type(person[key]) is int and abs(person[key]) < 2**63 for key in ("id", "image_id")):
        return f"{name} has ids that are no numbers"
    if person["image_id"] not in images:
        return f"{name} is on image {person['image_id']}, which is not listed"
    try:
        if len(person["keypoints"]) != 3 * joints or len(person["bbox"]) != 4:
            lengths = f"{len(person['keypoints'])} keypoint and {len(person['bbox'])} box numbers"
            return f"{name} has {lengths}, not {3 * joints} and 4"
        sound = all(map(isfinite, (*person["bbox"], *person["keypoints"], person["area"])))
    except (TypeError, OverflowError):
        sound = False
    return None if sound else f"{name} holds what is not a finite number"


def _clipped(person: dict[str, Any], images: Images) -> list[float]:
    """The box within the image, x y w h, cleaned as officially: one pixel narrower than annotated."""
    x, y, width, height = person["bbox"]
    _, image_height, image_width = images[person["image_id"]]
    left, top = max(0, x), max(0, y)
    right = min(image_width - 1, left + max(0, width - 1))
    bottom = min(image_height - 1, top + max(0, height - 1))
    return [left, top, right - left, bottom - top]


def _why_skipped(person: dict[str, Any], images: Images) -> str | None:
    if person.get("iscrowd", 0):
        return "crowd"
    _, _, width, height = _clipped(person, images)
    if person["area"] <= 0 or min(width, height) < 0 or max(width, height) == 0:  # a point cannot be cropped
        return "empty box"
    return "no labelled joint" if max(person["keypoints"]) == 0 else None
