"""Intervals over test images of a cross-validated set: each image is drawn once, whichever seeds were scored on it."""

import numpy as np
import pytest

from ablate.analysis import resample
from ablate.errors import StoreError
from ablate.study import Part, Recipe


def recipe(**knobs) -> Recipe:
    plain = {"set": "mine", "classes": ["a", "b"]}
    parts = {"images": "images", "labels": "labels/{name}.png", "folds": 2} if knobs.get("folds", 2) > 1 else {}
    return Recipe(
        task=Part(name="segmentation", knobs={"size": [32, 32]}),
        dataset=Part(name="label_folder", knobs=plain | parts | knobs),
        model=Part(name="hrnet"),
    )


def stored(ids, right) -> dict[str, np.ndarray]:
    """Of each image 100 pixels of class a, of which so many are found."""
    images = np.arange(len(ids))
    cells = {"image": np.repeat(images, 2), "cell": np.tile([0, 1], len(ids))}
    count = np.stack([right, 100 - np.array(right)], axis=1).ravel().astype(np.uint32)
    names = {"classes": np.array(["a", "b"]), "categories": np.array(["a", "b"]), "image_ids": np.array(ids)}
    return {f"mean_iou/{key}": array for key, array in (cells | names | {"count": count}).items()}


ARRAYS = {
    "arm 0": stored(range(1, 7), [80, 90, 70, 60, 90, 80]),
    "arm 1": stored(range(7, 13), [80, 90, 70, 60, 90, 80]),
    "control 0": stored(range(1, 7), [50, 60, 40, 30, 60, 50]),
    "control 1": stored(range(7, 13), [50, 60, 40, 30, 60, 50]),
}
ARMS = [(1.0, ["arm 0", "arm 1"]), (-1.0, ["control 0", "control 1"])]


def test_the_parts_of_all_seeds_are_drawn_together():
    images = resample.TestImages(recipe(), ARRAYS.__getitem__, draws="x", wanted=["pixel_accuracy"])
    low, high = images.interval(ARMS, "pixel_accuracy")
    assert images.count == 12
    assert low == pytest.approx(0.3)  # each image is 30 of 100 pixels better, whichever are drawn
    assert high == pytest.approx(0.3)
    low, high = images.interval([ARMS[0]], "pixel_accuracy")
    assert low < np.mean([80, 90, 70, 60, 90, 80]) / 100 < high


def test_other_sets_are_scored_on_the_same_images():
    with pytest.raises(StoreError, match="trial arm 1: scored on other test images than arm 0"):
        resample.TestImages(recipe(folds=1), ARRAYS.__getitem__, draws="x", wanted=["pixel_accuracy"]).interval(
            ARMS, "pixel_accuracy"
        )
