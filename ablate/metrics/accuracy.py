"""Top-1 and top-5 accuracy: how often the right class is the most probable one, or among the five most probable.

Where a set has no more than five classes top-5 is no number, for it could not be wrong.
"""

from typing import Any

import numpy as np

from ablate.datasets import Info
from ablate.metrics import Parts
from ablate.registry import metric

BEST = 5  # classes that count; what is further behind is as wrong as what is not there


@metric(
    "accuracy",
    meaning=1,
    scores=("top1", "top5"),
    columns={"rank": ("int", "classes", "that were given before the right one; 5: it is not among the first five")},
)
def accuracy() -> "Accuracy":
    """Top-1 and top-5 accuracy of images' classes, and top-1 of each class."""
    return Accuracy()


class Accuracy:
    """See `Metric`. C classes; predictions have `image_id` and `classes`, best first, the truth `classes` by id."""

    def per_image(
        self, predictions: list[dict[str, Any]], ground_truth: dict[str, Any], info: Info
    ) -> dict[str, np.ndarray]:
        """How good a place each image's right class got.

        Returns `image_ids` (I,), `truth` (I,) places of the right classes, -1 where an image has none, `rank` (I,)
        places of these among the predicted, 0 the best, 5 where it is not among the first five; `classes` (C,) names.
        """
        ids = sorted(image["id"] for image in ground_truth["images"])
        found = {prediction["image_id"]: list(prediction["classes"])[:BEST] for prediction in predictions}
        truth = [ground_truth["classes"].get(image_id, -1) for image_id in ids]
        ranks = [_rank(right, found.get(image_id, [])) for image_id, right in zip(ids, truth, strict=True)]
        return {
            "image_ids": np.array(ids, dtype=np.int64),
            "truth": np.array(truth, dtype=np.int32),
            "rank": np.array(ranks, dtype=np.int32),
            "classes": np.array(info.need_image_classes(), dtype=str),
        }

    def aggregate(self, statistics: dict[str, np.ndarray], weights: np.ndarray | None = None) -> dict[str, float]:
        """Fractions of the images that have a class; see `Metric`."""
        labelled = statistics["truth"] >= 0
        counts = labelled * (1.0 if weights is None else weights)
        top1, top5 = (_share(statistics["rank"] < most, counts) for most in (1, BEST))
        return {"top1": top1, "top5": top5 if len(statistics["classes"]) > BEST else float("nan")}

    def parts(self, statistics: dict[str, np.ndarray], info: Info) -> Parts:
        """Top-1 of the images of each class (C,). Who predicts one class everywhere has all of it: no trivial score."""
        names = tuple(statistics["classes"].tolist())
        labelled = statistics["truth"] >= 0
        places, right = statistics["truth"][labelled], statistics["rank"][labelled] == 0
        images = np.bincount(places, minlength=len(names)).astype(float)  # (C,)
        with np.errstate(invalid="ignore"):
            scores = np.bincount(places, right, minlength=len(names)) / images  # 0 of 0 is nan
        return Parts("class", "top-1 accuracy", names, scores, images, np.zeros(len(names)))

    def columns(self, statistics: dict[str, Any]) -> dict[str, np.ndarray]:
        """For each image (I,) the column that the decorator describes."""
        return {"rank": np.asarray(statistics["rank"])}


def _rank(right: int, predicted: list[int]) -> int:
    return predicted.index(right) if right in predicted else BEST


def _share(right: np.ndarray, counts: np.ndarray) -> float:
    total = counts.sum()
    return float((right * counts).sum() / total) if total else float("nan")
