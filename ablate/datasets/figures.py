"""People-like figures in cluttered scenes, drawn by the project: no files, no licence, the same on every run.

A picture is decided by (version, split, its number, the picture's size). Figures are jointed, clothed and lit;
they lean, turn their backs, overlap, are cut off by the border and hidden behind things; around them lie strokes
in the colours of limbs. How hard this is was set once, on HRNet of width 8 at 64 x 64 pixels, before any ablation
was compared; changing it means raising VERSION.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, pi, radians, sin
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ablate.datasets import SPLITS, Info, Split, joint_sets
from ablate.errors import PartError
from ablate.registry import dataset

VERSION = 1
# Five samples to four pictures: the last picture of each four shows two people who are both annotated.
PICTURE_OF = (0, 1, 2, 3, 3)
# Degrees, low and high: upper arms from hanging down, outwards; elbows; thighs likewise; knees, inwards.
ACTIVITIES = {
    "standing": ((3, 25), (0, 35), (2, 12), (0, 12)),
    "reaching": ((105, 175), (-30, 40), (2, 20), (0, 20)),
    "akimbo": ((25, 60), (-135, -75), (5, 20), (0, 15)),
    "striding": ((15, 60), (10, 90), (18, 45), (5, 50)),
    "crouching": ((20, 85), (0, 90), (50, 85), (70, 115)),
}
# Lengths and half widths, the body's height being 1.
UPPER_ARM, FOREARM, THIGH, SHIN, TORSO, NECK, HEAD = 0.17, 0.16, 0.24, 0.24, 0.29, 0.12, 0.075
SHOULDERS, HIPS = 0.115, 0.07


@dataset("figures", meaning=1, tasks=("pose",))
def figures(
    *,
    train: int = 500,  # people in the training split
    val: int = 200,  # people in the evaluation split
    size: tuple[int, int] = (112, 112),  # height and width of a picture, pixels
) -> "Figures":
    """Drawn people in cluttered scenes, with joints, masks, boxes and activities; needs no files.

    Raises:
        PartError: a split without people, or pictures too small to show them.
    """
    for knob, value, least in (("train", train, 1), ("val", val, 1), ("size", min(size), 48)):
        if value < least:
            raise PartError(f"{knob}: must be at least {least}, not {value}")
    form = joint_sets()["coco17"]
    info = Info(
        name="figures",
        version=f"drawn {VERSION}",
        classes=tuple(ACTIVITIES),
        joints=form.names,
        flip_pairs=form.flip_pairs,
        sigmas=form.sigmas,
        upper_body=form.upper_body,
        licence="the project's own",
        source="drawn by ablate/datasets/figures.py",
        sizes={"train": train, "val": val},
    )
    return Figures(info, size)


@dataclass(frozen=True)
class Figures:
    """Both splits, not drawn yet."""

    info: Info
    size: tuple[int, int]

    def open(self, split: Split, root: Path | None = None) -> "Drawn":
        return Drawn(self.info, split, self.size)


@dataclass(frozen=True)
class Drawn:
    """One split, drawn anew whenever it is asked for; see `Samples`. Samples also have `mask` and `activity`."""

    info: Info
    split: Split
    size: tuple[int, int]
    folder: None = None

    @property
    def skipped(self) -> dict[str, int]:
        return {}

    def __len__(self) -> int:
        return (self.info.sizes or {})[self.split]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """`mask` (H, W) bool of what can be seen of the person; `activity` int, a place in `info.classes`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        number, place = self._find(index)
        picture, people = draw(self.split, number, self.size)
        annotation = {"image_id": number + 1, "annotation_id": index + 1, "score": 1.0}
        return {"image": picture, **annotation, **people[place]}

    def image(self, image_id: int) -> np.ndarray:
        return draw(self.split, image_id - 1, self.size)[0]

    def image_ids(self) -> list[int]:
        return [number + 1 for number in range(self._find(len(self) - 1)[0] + 1)]

    def ground_truth(self) -> dict[str, Any]:
        height, width = self.size
        images = [{"id": image_id, "height": height, "width": width} for image_id in self.image_ids()]
        category = {"id": 1, "name": "person", "keypoints": list(self.info.joints)}
        return {"images": images, "annotations": list(self._annotations()), "categories": [category]}

    def digest(self) -> str:
        """Of the first pictures: another drawing library may round differently, and is seen here."""
        content = hashlib.blake2b(f"{self.info.version} {self.split} {len(self)}".encode(), digest_size=8)
        for number in range(8):
            content.update(draw(self.split, number, self.size)[0].tobytes())
        return content.hexdigest()

    def check(self, *, thorough: bool = False) -> list[str]:
        return []

    def verify(self) -> str:
        return self.digest()

    def _find(self, index: int) -> tuple[int, int]:
        """The number of the sample's picture, and which of its people it is."""
        group, place = divmod(index, len(PICTURE_OF))
        return group * 4 + PICTURE_OF[place], int(place == 4)

    def _annotations(self) -> Iterator[dict[str, Any]]:
        for index in range(len(self)):
            sample = self[index]
            yield {
                "id": sample["annotation_id"],
                "image_id": sample["image_id"],
                "category_id": 1,
                "iscrowd": 0,
                "bbox": sample["box"].tolist(),
                "area": sample["area"],
                "keypoints": sample["joints"].ravel().tolist(),
                "num_keypoints": int((sample["joints"][:, 2] > 0).sum()),
            }


def draw(split: Split, number: int, size: tuple[int, int]) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """A picture (H, W, 3) uint8 RGB and its people, the annotated ones of `Drawn`."""
    rng = np.random.default_rng([VERSION, SPLITS.index(split), number])
    canvas = _scene(rng, size)
    people = [_Person.drawn(rng, canvas, crowded=number % 4 == 3, place=place) for place in range(1 + (number % 4 == 3))]
    cover = _occlude(rng, canvas, people)
    return _photograph(rng, canvas), [_annotated(person, others, cover, size) for ...]
