"""A small set in COCO's layout, written anew for every test that asks for it."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from ablate import registry
from ablate.datasets import SPLITS, joint_sets

HEIGHT, WIDTH = 60, 80


def person(number: int, image: int, **changes) -> dict:
    """A person of 20 x 30 pixels whose 17 joints are labelled."""
    rng = np.random.default_rng(number)
    xy = rng.uniform((20, 15), (40, 45), (17, 2)).round(1)
    keypoints = np.column_stack([xy, np.full(17, 2)]).ravel().tolist()
    plain = {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "area": 318.0}
    return plain | {"bbox": [20.0, 15.0, 20.0, 30.0], "keypoints": keypoints, "num_keypoints": 17} | changes


def document() -> dict:
    """Three images: two people on the first, a crowd and a person on the second, nobody labelled on the third."""
    nobody = {"keypoints": [0] * 51, "num_keypoints": 0}
    return {
        "images": [
            {"id": image, "file_name": f"{image:012d}.jpg", "height": HEIGHT, "width": WIDTH} for image in (7, 3, 5)
        ],
        "annotations": [
            person(1, 3),
            person(2, 7),
            person(3, 7, bbox=[-5.0, 50.0, 30.0, 40.0]),
            person(4, 3, iscrowd=1),
            person(5, 5, **nobody),
            person(6, 5, area=0.0),
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(joint_sets()["coco17"].names)}],
    }


class MadeSet:
    """The folder `root/made` with both splits; `rewrite` changes one split's annotations."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "made"
        (self.folder / "annotations").mkdir(parents=True)
        for split in SPLITS:
            (self.folder / "images" / split).mkdir(parents=True)
            self.rewrite(document(), split=split)
            for image in document()["images"]:
                rng = np.random.default_rng([image["id"], SPLITS.index(split)])
                pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
                cv2.imwrite(str(self.folder / "images" / split / image["file_name"]), pixels)

    document = staticmethod(document)
    person = staticmethod(person)

    def annotations(self, split: str) -> Path:
        return self.folder / "annotations" / f"person_keypoints_{split}.json"

    def rewrite(self, content: dict, *, split: str = "val") -> None:
        self.annotations(split).write_text(json.dumps(content))

    def image(self, number: int, *, split: str = "val") -> Path:
        return self.folder / "images" / split / f"{number:012d}.jpg"


@pytest.fixture
def made(tmp_path) -> MadeSet:
    return MadeSet(tmp_path)


@pytest.fixture(params=["figures", "coco_pose"])
def any_dataset(request, made):
    """Every data set of the shelf, small: (data set, data folder)."""
    knobs = {"figures": {"train": 9, "val": 6}, "coco_pose": {"set": "made"}}[request.param]
    return registry.build("dataset", request.param, knobs), made.root
