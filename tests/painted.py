"""Sets whose pictures say their truth in colours, so that a network of one layer can read it."""

import json
from pathlib import Path

import cv2
import numpy as np
from cityscapesscripts.helpers.labels import labels as table

from ablate.datasets import joint_sets

COCO = joint_sets()["coco17"].names
COLOURS = np.array([[r, g, b] for r in (0, 120, 240) for g in (0, 120, 240) for b in (0, 120, 240)][1:], np.uint8)
CLASSES = [label for label in table if not label.ignoreInEval]  # the 19 of Cityscapes
HEIGHT, WIDTH = 96, 128


def people(root: Path, *, images: int = 6, joints: tuple[str, ...] = COCO, seed: int = 0) -> Path:
    """The folder `root/painted` in COCO's layout: one or two people an image, each joint a dot of its own colour."""
    folder, rng = root / "painted", np.random.default_rng(seed)
    (folder / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
        listed, annotated = [], []
        for image in range(1, images + 1):
            pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            for person in range(1 + image % 2):
                annotated.append(_person(pixels, image, 64 * person, len(annotated) + 1, joints, rng))
            name = f"{split}{image:03d}.png"
            cv2.imwrite(str(folder / "images" / split / name), pixels[..., ::-1])
            listed.append({"id": image, "file_name": name, "height": HEIGHT, "width": WIDTH, "clip": image // 2})
        category = {"id": 1, "name": "person", "keypoints": list(joints)}
        content = {"images": listed, "annotations": annotated, "categories": [category]}
        (folder / "annotations" / f"person_keypoints_{split}.json").write_text(json.dumps(content))
    return folder


def _person(pixels, image: int, left: int, number: int, joints: tuple[str, ...], rng) -> dict:
    cells = rng.permutation(24)[: len(joints)]  # 4 columns and 6 rows of 12 pixels, one joint in each
    points = [(left + 12 + 12 * int(c % 4), 14 + 12 * int(c // 4)) for c in cells]
    for colour, (x, y) in zip(COLOURS, points, strict=False):
        pixels[y - 3 : y + 4, x - 3 : x + 4] = colour
    keypoints = [value for point in points for value in (*point, 2)]
    box = [left + 4.0, 4.0, 56.0, 84.0]
    return {
        "id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "area": 56.0 * 84, "bbox": box,
        "keypoints": keypoints, "num_keypoints": len(joints),
    }  # fmt: skip


def streets(root: Path, *, images: int = 4, seed: int = 0) -> Path:
    """The folder `root/streets` in the Cityscapes layout: blocks of classes, each in a colour of its own."""
    rng = np.random.default_rng(seed)
    for split in ("train", "val"):
        for image in range(images):
            blocks = rng.integers(0, len(CLASSES), (HEIGHT // 16, WIDTH // 16))
            classes = np.kron(blocks, np.ones((16, 16), int))
            labels = np.array([label.id for label in CLASSES], np.uint8)[classes]
            labels[:8] = 0  # unlabelled
            name = f"town_{split}{image}_000001"
            _write(root / f"streets/leftImg8bit/{split}/town/{name}_leftImg8bit.png", COLOURS[classes][..., ::-1])
            _write(root / f"streets/gtFine/{split}/town/{name}_gtFine_labelIds.png", labels)
    return root / "streets"


def _write(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), pixels)


def truth(folder: Path) -> list[dict]:
    """The annotated people of the evaluation split."""
    return json.loads((folder / "annotations" / "person_keypoints_val.json").read_text())["annotations"]


def results(folder: Path, *, off: float = 0.0, seed: int = 1) -> list[dict]:
    """Predictions of every annotated person in COCO's results format, their joints so many pixels off."""
    rng = np.random.default_rng(seed)
    found = []
    for person in truth(folder):
        points = np.array(person["keypoints"], float).reshape(-1, 3)
        points[:, :2] += off * rng.standard_normal((len(points), 2))
        score = float(rng.uniform(0.3, 1))
        found.append({"image_id": person["image_id"], "category_id": 1, "score": score})
        found[-1]["keypoints"] = points.ravel().tolist()
    return found


def maps(folder: Path, to: Path, *, wrong: float = 0.0, seed: int = 1) -> Path:
    """Predicted maps of label ids for the evaluation split, some blocks of another class."""
    to.mkdir()
    rng, ids = np.random.default_rng(seed), np.array([label.id for label in CLASSES], np.uint8)
    for file in sorted(folder.glob("gtFine/val/*/*_labelIds.png")):
        labels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        labels[:8] = ids[0]
        missed = np.kron(rng.random((HEIGHT // 8, WIDTH // 8)) < wrong, np.ones((8, 8), int)).astype(bool)
        labels[missed] = rng.choice(ids)
        _write(to / f"{file.name.removesuffix('_gtFine_labelIds.png')}.png", labels)
    return to
