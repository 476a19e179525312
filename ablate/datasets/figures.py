"""People-like figures in cluttered scenes, drawn by the project: no files, no licence, the same on every run.

A picture is decided by (version, split, its number, the picture's size). Figures are jointed, clothed and lit;
they lean, turn their backs, overlap, are cut off by the border and hidden behind things; around them lie strokes
in the colours of limbs. How hard this is was set once, on HRNet of width 8 at 64 x 64 pixels and before any ablation
was compared: ten epochs of 500 people in batches of 16 (sigma 1.5, rotation 15, scale 0.15, no half bodies) reach
an AP of 0.29, perfect heatmaps of that size 0.7. The drawing itself is in `_drawing.py`.
"""

import copy
import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ablate.datasets import SPLITS, Classes, Info, InstancesOfImage, PeopleOfImage, Person, Split, joint_sets
from ablate.datasets._drawing import ACTIVITIES, PARTS, VERSION, Picture, draw
from ablate.errors import PartError, nearest
from ablate.registry import dataset

MOST = 8  # people in a picture
GROUP = 4  # pictures, of which the last one shows two people
JOINTS = joint_sets()["coco17"]
ROOM = 2**27  # bytes of drawn pictures that a split keeps in each process: by default 500 people take 26 MB


@dataset(
    "figures",
    meaning=1,
    tasks=("pose", "segmentation", "detection", "bottom_up_pose", "classification"),
    training=("train",),
    later=("people", "norm"),
)
@dataclass(frozen=True)
class Figures:
    """Drawn people in cluttered scenes, with joints, masks, parts, boxes and activities; needs no files.

    Raises:
        PartError: a split without people, pictures too small to show them, too many people in each, or no such joint.
    """

    train: int = 500  # people in the training split, not images: usually five people are in four images
    val: int = 200  # people in the evaluation split, not images
    size: tuple[int, int] = (112, 112)  # height and width of a picture, pixels
    people: int = 0  # in each picture, side by side; 0: one, and in every fourth picture two
    norm: tuple[str, str] | None = None  # two joints in whose distance NME and PCKh measure errors; none: no such score

    def __post_init__(self) -> None:
        for knob, value, least in (("train", self.train, 1), ("val", self.val, 1), ("size", min(self.size), 48)):
            if value < least:
                raise PartError(f"{knob}: must be at least {least}, not {value}")
        if not 0 <= self.people <= MOST:
            raise PartError(f"people: at most {MOST} in a picture, or 0, not {self.people}")
        for name in self.norm or ():
            if name not in JOINTS.names:
                raise PartError(f"norm: no joint {name!r}; {nearest(name, JOINTS.names)}")

    @cached_property
    def info(self) -> Info:
        categories = ("scene", *["person"] * (len(PARTS) - 1))
        places = tuple(map(JOINTS.names.index, self.norm)) if self.norm else None
        return Info(
            name="figures",
            version=f"drawn {VERSION}",
            joints=JOINTS.model_copy(update={"norm": places}).joints,
            licence="the project's own",
            source="drawn by ablate/datasets/figures.py",
            sizes={"train": self.train, "val": self.val},
            images={
                split: _find(count - 1, self.people)[0] + 1
                for split, count in zip(SPLITS, (self.train, self.val), strict=True)
            },
            size=self.size,
            classes=Classes(PARTS, categories=categories, label_ids=tuple(range(len(PARTS)))),
            things=Classes(("person",), categories=("person",), label_ids=(1,)),
            image_classes=Classes(ACTIVITIES),
            classified={"train": _alone(self.train, self.people), "val": _alone(self.val, self.people)},
            pictures=True,
        )

    def open(self, split: Split, root: Path | None = None) -> "Drawn":
        return Drawn(self.info, split, self.size, self.people)


class DrawnPerson(Person):
    """A sample that knows more of its person."""

    mask: np.ndarray  # (H, W) bool, what can be seen of them
    activity: int  # a place in `_drawing.ACTIVITIES`


@dataclass(frozen=True)
class Drawn:
    """One split, each picture drawn when it is first asked for; see `Samples`."""

    info: Info
    split: Split
    size: tuple[int, int]
    people: int  # in each picture; 0: one, and in every fourth two
    folder: None = None
    skipped: dict[str, int] = field(default_factory=dict)
    _kept: dict[int, Picture] = field(default_factory=dict, compare=False, repr=False)  # drawn, by image id

    def __len__(self) -> int:
        return (self.info.sizes or {})[self.split]

    def __getitem__(self, index: int) -> DrawnPerson:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number, place = _find(index, self.people)
        picture = self._picture(number + 1)
        return {
            "image": picture.pixels,
            "image_id": number + 1,
            "annotation_id": index + 1,
            "score": 1.0,
            "category_id": 1,
            **picture.people[place],
        }

    @property
    def image_of(self) -> list[int]:
        """The image of each sample."""
        return [_find(index, self.people)[0] + 1 for index in range(len(self))]

    def image(self, image_id: int) -> np.ndarray:
        return self._picture(image_id).pixels

    def labels(self, image_id: int) -> np.ndarray:
        return self._picture(image_id).parts

    def labelled_image(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        picture = self._picture(image_id)
        return picture.pixels, picture.parts

    def classified_ids(self) -> list[int]:
        """Pictures of one person: their class is what the person does. Two may do different things."""
        if self.people:
            return self.image_ids() if self.people == 1 else []
        return [image_id for image_id in self.image_ids() if image_id % GROUP]

    def image_class(self, image_id: int) -> int:
        return self.classified_image(image_id)[1]

    def classified_image(self, image_id: int) -> tuple[np.ndarray, int]:
        picture = self._picture(image_id)
        return picture.pixels, picture.people[0]["activity"]

    category_numbers = (1,)

    def instances(self, image_id: int) -> InstancesOfImage:
        people = self._people(image_id)
        return {
            "boxes": np.array([person["box"] for _, person in people], dtype=float).reshape(-1, 4),
            "places": np.zeros(len(people), np.int64),
            "crowd": np.zeros(len(people), bool),
            "masks": [_runs(person["mask"]) for _, person in people],
        }

    def instance_truth(self) -> dict[str, Any]:
        height, width = self.size
        images = [{"id": image_id, "height": height, "width": width} for image_id in self.image_ids()]
        annotations = [
            {"id": index + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0}
            | {
                "bbox": person["box"].tolist(),
                "area": float(person["mask"].sum()),
                "segmentation": _runs(person["mask"]),
            }
            for image_id in self.image_ids()
            for index, person in self._people(image_id)
        ]
        return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}

    def _people(self, image_id: int) -> list[tuple[int, Any]]:
        """The people of a picture who are of the split, each with the index of their sample."""
        first = _first(image_id - 1, self.people)
        people = self._picture(image_id).people
        return [(first + place, person) for place, person in enumerate(people) if first + place < len(self)]

    def by_image(self) -> dict[int, PeopleOfImage]:
        """See `PeopleByImage`; whoever is drawn beyond the last sample is not learned."""
        found: dict[int, PeopleOfImage] = {}
        for image_id in self.image_ids():
            first, people = _first(image_id - 1, self.people), self._picture(image_id).people
            own = people[: len(self) - first]
            found[image_id] = {
                "joints": np.array([person["joints"] for person in own]),
                "ignored": [_runs(person["mask"]) for person in people[len(own) :]],
            }
        return found

    def _picture(self, image_id: int) -> Picture:
        """A copy, which may be written to: it takes a thirtieth of the time that drawing does."""
        if image_id not in self._kept:
            picture = draw(self.split, image_id - 1, self.size, self.people)
            if (len(self._kept) + 1) * _bytes(picture) > ROOM:
                return picture
            self._kept[image_id] = picture
        return copy.deepcopy(self._kept[image_id])

    def name(self, image_id: int) -> str:
        return f"{self.split}_{image_id:06d}"

    def image_ids(self) -> list[int]:
        return list(range(1, (self.info.images or {})[self.split] + 1))

    def ground_truth(self) -> dict[str, Any]:
        height, width = self.size
        images = [{"id": image_id, "height": height, "width": width} for image_id in self.image_ids()]
        annotations = [
            {"category_id": 1, "iscrowd": 0}
            | {
                "id": sample["annotation_id"],
                "image_id": sample["image_id"],
                "bbox": sample["box"].tolist(),
                "area": sample["area"],
                "keypoints": sample["joints"].ravel().tolist(),
                "num_keypoints": int((sample["joints"][:, 2] > 0).sum()),
            }
            for sample in map(self.__getitem__, range(len(self)))
        ]
        category = {"id": 1, "name": "person", "keypoints": list(self.info.need_joints())}
        return {"images": images, "annotations": annotations, "categories": [category]}

    def digest(self) -> str:
        """Of the first pictures: another drawing library may round differently, and is seen here."""
        content = hashlib.blake2b(f"{self.info.version} {self.split} {len(self)}".encode(), digest_size=8)
        for number in range(8):
            content.update(self._picture(number + 1).pixels.tobytes())
        return content.hexdigest()

    def check(self, *, thorough: bool = False) -> list[str]:
        return []

    def verify(self) -> str:
        return self.digest()


def _bytes(picture: Picture) -> int:
    return picture.pixels.nbytes + picture.parts.nbytes * (1 + len(picture.people))  # and a mask for each


def _runs(mask: np.ndarray) -> dict[str, Any]:
    """A mask (H, W) as COCO's uncompressed runs: down each column, those without it first."""
    flat = mask.ravel(order="F")
    ends = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *ends, len(flat)]).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def _find(index: int, people: int) -> tuple[int, int]:
    """The number of a sample's picture, and which of its people it is."""
    if people:
        return divmod(index, people)
    group, place = divmod(index, 5)
    return group * GROUP + min(place, GROUP - 1), int(place == GROUP)


def _first(number: int, people: int) -> int:
    """The index of a picture's first sample."""
    return number * people if people else 5 * (number // GROUP) + number % GROUP


def _alone(count: int, people: int) -> int:
    """How many pictures of a split of so many people show one person."""
    if people:
        return count if people == 1 else 0
    groups, rest = divmod(count, 5)
    return groups * (GROUP - 1) + min(rest, GROUP - 1)
