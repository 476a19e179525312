"""Intersection over union of classes and categories and pixel accuracies, as cityscapesscripts 2.3 computes them.

Every image leaves a confusion matrix, so scores of any choice of images are sums. Pixels without a true class count
nowhere; a labelled pixel without a predicted class is missed by its true class. A class that is neither in the ground
truth nor among the predictions has no IoU (nan) and is left out of means. Counting a 1024x2048 map of 19 classes, CPU
time (tests/bench/confusion.py): cv2.calcHist 3 ms; np.bincount of pairs 11, of labelled pixels only 14; torch.bincount
10; runs of equal pixels as one 6; cityscapesscripts 15, reading apart.
"""

from typing import Any

import numpy as np

from ablate.datasets import IGNORED, Info
from ablate.metrics import Parts
from ablate.registry import metric

EXACT = 2**24  # calcHist gives float32, which counts exactly up to here


@metric(
    "mean_iou",
    meaning=1,
    scores=("mIoU", "pixel_accuracy", "mean_accuracy", "category_IoU"),
    of_class="IoU/",
    columns={
        "IoU/NAME": ("float", "0 to 1", "IoU of a class in the image; none where it is neither there nor predicted"),
    },
)
def mean_iou() -> "MeanIoU":
    """Mean IoU over classes and over categories, pixel accuracy, mean accuracy of classes, and each class's IoU."""
    return MeanIoU()


class MeanIoU:
    """See `Metric`. C classes; a prediction has `image_id` and `labels` (H, W) uint8, the ground truth `labels`."""

    def per_image(
        self, predictions: list[dict[str, Any]], ground_truth: dict[str, Any], info: Info
    ) -> dict[str, np.ndarray]:
        """One confusion matrix per image.

        Returns `image_ids` (I,) and the cells of the images' confusion matrices (C, C + 1) that are not 0, N in all:
        `image` (N,) by position, `cell` (N,) by row, the true class, and column, the predicted one or C for none,
        `count` (N,) of pixels; `classes` (C,) and `categories` (C,), or (0,) where the data set has none, names.

        Raises:
            ValueError: a prediction is not of its image's size.
        """
        classes = info.need_classes()
        ids = sorted(image["id"] for image in ground_truth["images"])
        found = {prediction["image_id"]: prediction["labels"] for prediction in predictions}
        rows = []  # image, cell, count
        for position, image_id in enumerate(ids):
            truth = ground_truth["labels"][image_id]
            labels = found.get(image_id, np.full_like(truth, IGNORED))
            if labels.shape != truth.shape:
                raise ValueError(f"image {image_id}: {labels.shape} labels are predicted, the truth has {truth.shape}")
            confusion = count_pairs(truth, labels, classes=len(classes)).ravel()
            cells = np.flatnonzero(confusion)
            rows.append(np.stack([np.full_like(cells, position), cells, confusion[cells]]))
        image, cell, count = np.concatenate([np.zeros((3, 0), np.int64), *rows], axis=1)
        return {
            "image_ids": np.array(ids, dtype=np.int64),
            "image": image.astype(np.int32),
            "cell": cell.astype(np.int32),
            "count": count.astype(np.uint32),
            "classes": np.array(classes, dtype=str),
            "categories": np.array(classes.categories, dtype=str),
        }

    def aggregate(self, statistics: dict[str, np.ndarray], weights: np.ndarray | None = None) -> dict[str, float]:
        """The scores, between 0 and 1, then `IoU/NAME` of every class; see `Metric`.

        Raises:
            ValueError: arrays that `per_image` does not make.
        """
        total = _total(statistics, weights)
        right, truths = np.diagonal(total), total.sum(axis=1)  # (C,)
        ious = _ious(total)
        scores = {
            "mIoU": _mean(ious),
            "pixel_accuracy": float(_ratio(right.sum(), truths.sum())),
            "mean_accuracy": _mean(_ratio(right, truths)),
            "category_IoU": _mean(_ious(_merged(total, statistics["categories"]))),
        }
        names = statistics["classes"].tolist()
        return scores | {f"IoU/{name}": float(value) for name, value in zip(names, ious, strict=True)}

    def parts(self, statistics: dict[str, np.ndarray], info: Info) -> Parts:
        """The IoU of each class (C,), by the names in the statistics."""
        total, names = _total(statistics), tuple(statistics["classes"].tolist())
        truths = total.sum(axis=1)  # (C,)
        commonest = np.arange(len(names)) == truths.argmax()
        return Parts(
            "class", "IoU", names, _ious(total), truths, np.where(commonest, _ratio(truths, truths.sum()), 0.0)
        )

    def columns(self, statistics: dict[str, Any]) -> dict[str, np.ndarray]:
        """For each image (I,) the columns that the decorator describes, `IoU/NAME` of every class."""
        classes, images = len(statistics["classes"]), len(statistics["image_ids"])
        truth, predicted = np.divmod(statistics["cell"], classes + 1)

        def pixels(of: np.ndarray, where: np.ndarray) -> np.ndarray:
            """(I, C): in each image the pixels of each class, which `of` (N,) names, among the cells `where` (N,)."""
            place = statistics["image"][where].astype(np.int64) * classes + of[where]
            counted = np.bincount(place, statistics["count"][where], minlength=images * classes)
            return counted.reshape(images, classes)

        right, truths = pixels(truth, truth == predicted), pixels(truth, truth >= 0)
        ious = _ratio(right, truths + pixels(predicted, predicted < classes) - right)
        return {f"IoU/{name}": ious[:, place] for place, name in enumerate(statistics["classes"].tolist())}


def _total(statistics: dict[str, np.ndarray], weights: np.ndarray | None = None) -> np.ndarray:
    """The confusion matrix (C, C + 1) float64 of all images, whole numbers. Raises ValueError."""
    classes, pixels, cells = len(statistics["classes"]), statistics["count"].astype(float), statistics["cell"]
    if classes > IGNORED or (len(cells) and not 0 <= cells.min() <= cells.max() < classes * (classes + 1)):
        raise ValueError("cells that no confusion matrix has")  # which would take as much memory as they say
    counts = pixels if weights is None else pixels * weights[statistics["image"]]
    return np.bincount(cells, counts, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def count_pairs(truth: np.ndarray, labels: np.ndarray, *, classes: int) -> np.ndarray:
    """The confusion matrix (C, C + 1) of two maps (H, W) uint8: row true class, column predicted class, C: none."""
    import cv2  # here, for a report needs only `aggregate`

    if labels.max(initial=0) >= classes:  # looking is 20 times as fast as writing another map
        labels = np.minimum(labels, classes)
    rows = max(1, EXACT // truth.shape[1])
    bins, ranges = [classes, classes + 1], [0, classes, 0, classes + 1]
    counts = np.zeros(bins, np.int64)
    for top in range(0, len(truth), rows):
        maps = [truth[top : top + rows], labels[top : top + rows]]
        counts += cv2.calcHist(maps, [0, 1], None, bins, ranges).astype(np.int64)  # what is out of range is left out
    return counts


def _merged(total: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """The confusion matrix (G, G + 1) of the G categories, from that of the classes and the category of each."""
    members = (np.unique(categories)[:, None] == categories).astype(float)  # (G, C)
    if not len(members):
        return np.zeros((0, 1))
    return np.column_stack([members @ total[:, :-1] @ members.T, members @ total[:, -1]])


def _ious(total: np.ndarray) -> np.ndarray:
    """Intersection over union (C,) from a confusion matrix (C, C + 1); nan where the union is empty."""
    right = np.diagonal(total)
    return _ratio(right, total.sum(axis=1) + total[:, :-1].sum(axis=0) - right)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.asarray(part / whole)  # 0 of 0 is nan


def _mean(values: np.ndarray) -> float:
    """The mean of what is defined."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
