"""Made-up instances and detections in COCO's format, boxes and masks of all sizes, at most one of a class an image."""

import numpy as np
from pycocotools import mask as runs

from ablate.datasets import Classes, Info

CLASSES = Classes(("cat", "dog", "emu"))
SIDE = 240


def info() -> Info:
    return Info("made", None, "none", "made", things=CLASSES)


def scene(seed, *, images=30, ties=False):
    """(predictions, ground truth); with `ties` scores repeat, within an image and across them."""
    rng = np.random.default_rng(seed)
    ids = [int(image) for image in rng.permutation(np.arange(10, 10 + images))]
    annotations, predictions = [], []
    for image in ids:
        for category in np.flatnonzero(rng.random(len(CLASSES)) < 0.6) + 1:
            box = random_box(rng)
            annotations.append(instance(image, box, int(category), len(annotations), crowd=rng.random() < 0.05))
            for _ in range(rng.integers(0, 3)):
                moved = np.abs(box + rng.normal(0, rng.choice([1, 5, 40]), 4)) + 1
                score = rng.random()
                predictions.append(detection(image, moved, int(category), round(score, 1) if ties else score))
    categories = [{"id": place, "name": name} for place, name in enumerate(CLASSES, start=1)]
    sizes = [{"id": image, "height": SIDE, "width": SIDE} for image in ids]
    return predictions, {"images": sizes, "annotations": annotations, "categories": categories}


def perfect(truth):
    """A prediction for every instance that counts, where it is."""
    return [a | {"score": 0.9 - 1e-4 * i} for i, a in enumerate(truth["annotations"]) if not a["iscrowd"]]


def hopeless(truth):
    """A prediction for every instance, far away."""
    far = np.array([2.0 * SIDE, 2.0 * SIDE, 9, 9])
    return [detection(a["image_id"], far, a["category_id"], 0.5) for a in truth["annotations"]]


def reordered(truth, predictions, seed):
    """The same with images, annotations and predictions in another order."""
    rng = np.random.default_rng(seed)
    images, annotations, found = (
        [rows[i] for i in rng.permutation(len(rows))] for rows in (truth["images"], truth["annotations"], predictions)
    )
    return truth | {"images": images, "annotations": annotations}, found


def repeated(truth, predictions, counts):
    """The data set in which image i, by ascending id, is there counts[i] times, with ids in the same order."""
    images, annotations, found = [], [], []
    for image, count in zip(sorted(truth["images"], key=lambda i: i["id"]), counts, strict=True):
        for copy in range(count):
            name = {"image_id": image["id"] * 100 + copy}
            images.append(image | {"id": name["image_id"]})
            own = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
            annotations += [a | name | {"id": len(annotations) + i} for i, a in enumerate(own, start=1)]
            found += [p | name for p in predictions if p["image_id"] == image["id"]]
    return truth | {"images": images, "annotations": annotations}, found


def emptied(truth):
    """The data set without an instance."""
    return truth | {"annotations": []}


def random_box(rng) -> np.ndarray:
    side = rng.choice([10, 60, 150]) * rng.uniform(0.7, 1.3, 2)
    return np.concatenate([rng.uniform(0, SIDE - side), side])


def shape_of(box) -> dict:
    x, y, w, h = (float(value) for value in box)
    return runs.frPyObjects([[x, y, x + w, y, x + w, y + h, x, y + 0.7 * h]], SIDE, SIDE)[0]


def instance(image, box, category, number, *, crowd=False) -> dict:
    shape = shape_of(box)
    return {
        "id": number, "image_id": image, "category_id": category, "bbox": box.tolist(), "iscrowd": int(crowd),
        "area": float(runs.area(shape)), "segmentation": shape,
    }  # fmt: skip


def detection(image, box, category, score) -> dict:
    own = {"image_id": image, "category_id": category, "bbox": box.tolist(), "score": float(score)}
    return own | {"segmentation": shape_of(box)}
