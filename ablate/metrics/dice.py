"""The Dice coefficient of each class, averaged over images and then over classes (Dice 1945; MONAI's DiceMetric).

Of two masks it is twice what they share over what both have; two empty masks agree and have 1.
"""

from typing import Any

import numpy as np

from ablate.datasets import Info
from ablate.metrics import Parts, _regions
from ablate.registry import metric


@metric(
    "dice",
    meaning=1,
    scores=("Dice",),
    of_class="Dice/",
    only_asked=True,
    columns={"Dice/NAME": ("float", "0 to 1", "Dice coefficient of a class in the image; 1 where neither has it")},
)
def dice() -> "Dice":
    """Mean Dice coefficient over images and classes but the one called background, and that of each class."""
    return Dice()


class Dice:
    """See `Metric`. C classes; a prediction has `image_id` and `labels` (H, W) uint8, the ground truth `labels`."""

    def per_image(
        self, predictions: list[dict[str, Any]], ground_truth: dict[str, Any], info: Info
    ) -> dict[str, np.ndarray]:
        """See `measured`; `value` (I, C) is 0 to 1."""
        return _regions.measured(predictions, ground_truth, info, coefficient)

    def aggregate(self, statistics: dict[str, np.ndarray], weights: np.ndarray | None = None) -> dict[str, float]:
        """The scores, between 0 and 1; see `Metric`."""
        by_class = _regions.averaged(statistics, weights)
        names = statistics["classes"].tolist()
        return {"Dice": _regions.of_foreground(statistics, by_class)} | {
            f"Dice/{name}": float(value) for name, value in zip(names, by_class, strict=True)
        }

    def parts(self, statistics: dict[str, np.ndarray], info: Info) -> Parts:
        """The mean Dice coefficient of each class."""
        return _regions.parts(statistics, "Dice", 0.0)

    def columns(self, statistics: dict[str, Any]) -> dict[str, np.ndarray]:
        """For each image (I,) the columns that the decorator describes."""
        names = statistics["classes"].tolist()
        return {f"Dice/{name}": statistics["value"][:, place] for place, name in enumerate(names)}


def coefficient(truth: np.ndarray, found: np.ndarray) -> float:
    """Of two masks (H, W) bool, 0 to 1."""
    both = int(truth.sum()) + int(found.sum())
    return 2 * int((truth & found).sum()) / both if both else 1.0
