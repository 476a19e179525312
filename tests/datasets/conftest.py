"""Small sets in COCO's and in the Cityscapes layout and a plain one, written anew for every test that asks."""

import json
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
import pytest
from scipy.io import savemat

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


class LabelledSet:
    """Pairs of files in one of two layouts, `root/streets` or `root/plain`; label ids 0 (ignored) to 33 or 0 to 2."""

    def __init__(self, root: Path, *, images: str, labels: str, numbers: tuple[int, ...]) -> None:
        self.root, self.images, self.labels = root, images, labels
        for number, split in enumerate(SPLITS):
            for place in range(3 - number):
                rng = np.random.default_rng([number, place])
                self.write(self.image(place, split=split), rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
                self.write(self.map(place, split=split), rng.choice(numbers, (HEIGHT, WIDTH)).astype(np.uint8))

    @staticmethod
    def write(file: Path, pixels: np.ndarray) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(file), pixels)

    def image(self, place: int, *, split: str = "val") -> Path:
        return self.root / self.images.format(split=split, place=place)

    def map(self, place: int, *, split: str = "val") -> Path:
        return self.root / self.labels.format(split=split, place=place)


@pytest.fixture
def streets(tmp_path) -> LabelledSet:
    """Three images to train on and two for evaluation in the Cityscapes layout, of two cities."""
    name = "{split}/{split}{place}/{split}{place}_000000_00001{place}"
    return LabelledSet(
        tmp_path,
        images=f"streets/leftImg8bit/{name}_leftImg8bit.png",
        labels=f"streets/gtFine/{name}_gtFine_labelIds.png",
        numbers=(0, 3, 7, 8, 9, 21, 24, 33),
    )


@pytest.fixture
def plain(tmp_path) -> LabelledSet:
    """The same in a plain folder with the numbers 0, 1, 2 and 255."""
    places = "plain/images/{split}/{split}{place}.jpg", "plain/labels/{split}/{split}{place}.png"
    return LabelledSet(tmp_path, images=places[0], labels=places[1], numbers=(0, 1, 2, 255))


class InstancesSet:
    """The folder `root/things`: three images in COCO's layout with polygons, runs, a crowd and a box without a mask."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "things"
        (self.folder / "annotations").mkdir(parents=True)
        for number, split in enumerate(SPLITS):
            (self.folder / "images" / split).mkdir(parents=True)
            self.rewrite(self.document() | {"info": split}, split=split)
            for image in self.document()["images"]:
                rng = np.random.default_rng([image["id"], number])
                pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
                cv2.imwrite(str(self.folder / "images" / split / image["file_name"]), pixels)

    @staticmethod
    def instance(number: int, image: int, **changes) -> dict:
        """A triangle of category 4 in the box (10, 5), 20 x 30."""
        plain = {"id": number, "image_id": image, "category_id": 4, "iscrowd": 0, "bbox": [10.0, 5.0, 20.0, 30.0]}
        return plain | {"area": 300.0, "segmentation": [[10.0, 5.0, 30.0, 5.0, 10.0, 35.0]]} | changes

    @classmethod
    def document(cls) -> dict:
        runs = {"size": [HEIGHT, WIDTH], "counts": [120, 30, HEIGHT * WIDTH - 150]}
        return {
            "images": [
                {"id": image, "file_name": f"{image:03d}.png", "height": HEIGHT, "width": WIDTH} for image in (7, 3, 5)
            ],
            "annotations": [
                cls.instance(1, 3),
                cls.instance(2, 7, category_id=9, segmentation=runs, bbox=[2.0, 0.0, 1.0, 30.0], area=30.0),
                cls.instance(3, 7, iscrowd=1, segmentation=runs, area=30.0),
                cls.instance(4, 7, segmentation=[]),
            ],
            "categories": [{"id": 9, "name": "cup"}, {"id": 4, "name": "kite"}, {"id": 5, "name": "other"}],
        }

    def annotations(self, split: str) -> Path:
        return self.folder / "annotations" / f"instances_{split}.json"

    def rewrite(self, content: dict, *, split: str = "val") -> None:
        self.annotations(split).write_text(json.dumps(content))


@pytest.fixture
def things(tmp_path) -> InstancesSet:
    return InstancesSet(tmp_path)


def write_pictures(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(crc32(f"{folder.name}/{name}".encode())).integers(
            0, 256, (HEIGHT, WIDTH, 3), np.uint8
        )
        assert cv2.imwrite(str(folder / name), pixels)


PARTS = ("snout", "left_ear", "right_ear")


@pytest.fixture
def project(tmp_path) -> Path:
    """A DeepLabCut project of two videos with a frame of which a part is hidden; (folder of data) / project."""
    folder = tmp_path / "project"
    for video in ("ann", "bea"):
        names = [f"labeled-data/{video}/img{number:03d}.png" for number in range(5)]
        write_pictures(folder, names)
        head = [["scorer", *["me"] * 6], ["bodyparts", *(part for part in PARTS for _ in "xy")], ["coords", *"xyxyxy"]]
        rows = [[name, 10 + n, 20, 30, 40.5, *((50, 12) if n else ("", ""))] for n, name in enumerate(names)]
        text = "\n".join(",".join(map(str, row)) for row in [*head, *rows])
        (folder / "labeled-data" / video / "CollectedData_me.csv").write_text(text + "\n")
    return folder


@pytest.fixture
def faces(tmp_path) -> Path:
    """Faces of 29 landmarks as the official code keeps them; centre 40, 30 and scale .2: a square of 40 pixels."""
    folder = tmp_path / "faces"
    for split in SPLITS:
        names = [f"{split}_{number}.png" for number in range(3)]
        write_pictures(folder / "images" / split, names)
        rows = [["image_name", "scale", "center_w", "center_h", *(f"p{n}" for n in range(58))]]
        for number, name in enumerate(names):
            points = np.random.default_rng([3, number]).uniform((25, 15), (55, 45), (29, 2)).round(1)
            rows.append([f"{split}/{name}", 0.2, 40, 30, *points.ravel()])
        (folder / f"{split}.csv").write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    return folder


@pytest.fixture
def mpii(tmp_path) -> Path:
    """Two splits in the official code's layout, with head boxes of 6 x 8 pixels; pelvis and thorax are not labelled."""
    folder = tmp_path / "poses"
    for split in ("train", "valid"):
        names = [f"{split}{number}.jpg" for number in range(3)]
        write_pictures(folder / "images", names)
        rng = np.random.default_rng(len(split))
        people = [
            {
                "image": name,
                "center": [41.0, 28.0],
                "scale": 0.2,
                "joints": rng.uniform((22, 12), (58, 48), (16, 2)).round(1).tolist(),
                "joints_vis": [1] * 6 + [0, 0] + [1] * 8,
            }
            for name in names
        ]
        (folder / "annot").mkdir(exist_ok=True)
        (folder / "annot" / f"{split}.json").write_text(json.dumps(people))
    boxes = np.array([[10.0, 10.0], [16.0, 18.0]])[..., None].repeat(3, axis=2)
    savemat(folder / "annot" / "gt_valid.mat", {"headboxes_src": boxes})
    return folder


@pytest.fixture
def animals(tmp_path) -> Path:
    """Three images to train on of each of three classes, and of two classes two images for evaluation."""
    folder = tmp_path / "animals"
    for number, split in enumerate(SPLITS):
        for place, name in enumerate(("bee", "cat", "dog")[: 3 - number]):
            rng = np.random.default_rng([number, place])
            for image in range(3 - number):
                pixels = rng.integers(0, 256, (HEIGHT + 10 * image, WIDTH, 3), np.uint8)
                LabelledSet.write(folder / split / name / f"{split}_{image}.jpg", pixels)
    return folder


KNOBS = {
    "coco_instances": {"set": "things", "classes": ["kite", "cup"]},
    "deeplabcut": {"set": "project", "joints": list(PARTS), "test": ["bea"]},
    "face_landmarks": {"set": "faces", "joints": "cofw29", "train": "train.csv", "test": "val.csv"},
    "mpii": {"set": "poses"},
    "figures": {"train": 9, "val": 6},
    "coco_pose": {"set": "made"},
    "cityscapes": {"set": "streets"},
    "label_folder": {"set": "plain", "classes": ["sky", "ground", "thing"]},
    "image_folder": {"set": "animals", "classes": ["bee", "cat", "dog"]},
}


@pytest.fixture(params=KNOBS)
def any_dataset(request, made, streets, plain, things, project, faces, mpii, animals):
    """Every data set of the shelf, small: (data set, data folder)."""
    knobs = registry.check_knobs("dataset", request.param, KNOBS[request.param])
    return registry.build("dataset", request.param, knobs), made.root


@pytest.fixture
def served(request) -> tuple[str, ...]:
    """The tasks that the data set of `any_dataset` has labels for."""
    return registry.describe("dataset", request.node.callspec.params["any_dataset"]).facts["tasks"]
