"""The region of each class in maps of classes, image by image: what the metrics of medical segmentation share.

A class called background counts in no mean. Pixels that the truth ignores are in no region, of truth or prediction.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ablate.datasets import IGNORED, Info
from ablate.metrics import Parts

BACKGROUND = "background"


def regions(predictions: list[dict[str, Any]], ground_truth: dict[str, Any]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The truth (H, W) and the prediction (H, W), classes by place, of each image by ascending id; IGNORED elsewhere.

    Raises:
        ValueError: a prediction is not of its image's size.
    """
    found = {prediction["image_id"]: prediction["labels"] for prediction in predictions}
    for image_id in sorted(image["id"] for image in ground_truth["images"]):
        truth = ground_truth["labels"][image_id]
        labels = found.get(image_id, np.full_like(truth, IGNORED))
        if labels.shape != truth.shape:
            raise ValueError(f"image {image_id}: {labels.shape} labels are predicted, the truth has {truth.shape}")
        yield truth, np.where(truth == IGNORED, IGNORED, labels)


def measured(
    predictions: list[dict[str, Any]],
    ground_truth: dict[str, Any],
    info: Info,
    measure: Callable[[np.ndarray, np.ndarray], float],
) -> dict[str, np.ndarray]:
    """What a measure says of the two masks (H, W) bool of each class in each image.

    Returns `image_ids` (I,), `classes` (C,), `value` (I, C), nan where the truth ignores the whole image, and `truth`
    (I, C), the pixels of each class in the truth.
    """
    names = info.need_classes()
    values, pixels = [np.zeros((0, len(names)))], [np.zeros((0, len(names)), np.int64)]
    for truth, labels in regions(predictions, ground_truth):
        known = bool((truth != IGNORED).any())
        masks = ((truth == place, labels == place) for place in range(len(names)))
        values.append(np.array([[measure(*pair) if known else np.nan for pair in masks]]))
        pixels.append(np.array([[(truth == place).sum() for place in range(len(names))]]))
    ids = sorted(image["id"] for image in ground_truth["images"])
    return {
        "image_ids": np.array(ids, dtype=np.int64),
        "classes": np.array(names, dtype=str),
        "value": np.concatenate(values),
        "truth": np.concatenate(pixels),
    }


def averaged(statistics: dict[str, np.ndarray], weights: np.ndarray | None) -> np.ndarray:
    """The mean over images of each class (C,); an image without a value is left out, nan where all are."""
    value = statistics["value"]
    counts = (np.ones(len(value)) if weights is None else weights)[:, None] * np.isfinite(value)
    with np.errstate(invalid="ignore"):
        return np.asarray((np.nan_to_num(value, posinf=0) * counts).sum(axis=0) / counts.sum(axis=0))


def of_foreground(statistics: dict[str, np.ndarray], by_class: np.ndarray) -> float:
    """The mean over the classes (C,) that are not the background, of those that have a value."""
    own = by_class[(statistics["classes"] != BACKGROUND) & np.isfinite(by_class)]
    return float(own.mean()) if len(own) else float("nan")


def parts(statistics: dict[str, np.ndarray], measure: str, trivial: float) -> Parts:
    """The mean over images of each class, for the tables of reports."""
    names, by_class = tuple(statistics["classes"].tolist()), averaged(statistics, None)
    return Parts("class", measure, names, by_class, statistics["truth"].sum(axis=0), np.full(len(names), trivial))
