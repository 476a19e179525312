"""The 95 % Hausdorff distance between the borders of two masks (Huttenlocher et al. 1993), by MONAI's rule.

Of each border's distances to the other border the 95th percentile is taken, and the larger of the two counts. MedPy
pools the distances of both directions before it takes the percentile, and gives less where one mask has a remote part.
A border is what a mask loses when it is eroded by a cross of 3 x 3 pixels; beyond the image there is nothing.

Two empty masks have distance 0. Where one is empty there is no distance: such images are left out of means, and
HD95_undefined says how many of them there were.
"""

from typing import Any

import numpy as np

from ablate.datasets import Info
from ablate.metrics import _regions
from ablate.registry import metric

SHARE = 95  # per cent of the distances


@metric(
    "hausdorff",
    meaning=1,
    scores=("HD95", "HD95_undefined"),
    of_class="HD95/",
    only_asked=True,
    errors={"HD95": "pixels, or millimetres where the set gives its spacing", "HD95_undefined": ""},
    columns={
        "HD95/NAME": (
            "float",
            "pixels or millimetres",
            "95 % Hausdorff distance of a class in the image; none where one mask is empty",
        )
    },
)
def hausdorff() -> "Hausdorff":
    """Mean 95 % Hausdorff distance, and of images and classes the share that has none; smaller is better."""
    return Hausdorff()


class Hausdorff:
    """See `Metric`. C classes; a prediction has `image_id` and `labels` (H, W) uint8, the ground truth `labels`."""

    def per_image(
        self, predictions: list[dict[str, Any]], ground_truth: dict[str, Any], info: Info
    ) -> dict[str, np.ndarray]:
        """See `measured`; `value` (I, C) is in pixels or millimetres, nan where one mask is empty."""
        spacing = info.spacing or (1.0, 1.0)
        return _regions.measured(
            predictions, ground_truth, info, lambda truth, found: distance(truth, found, spacing=spacing)
        )

    def aggregate(self, statistics: dict[str, np.ndarray], weights: np.ndarray | None = None) -> dict[str, float]:
        """The scores; see `Metric`."""
        by_class = _regions.averaged(statistics, weights)
        labelled = np.asarray(statistics["truth"].any(axis=1))[:, None]
        without = np.where(labelled, np.isnan(statistics["value"]), np.nan)
        names = statistics["classes"].tolist()
        return {
            "HD95": _regions.of_foreground(statistics, by_class),
            "HD95_undefined": _regions.of_foreground(
                statistics, _regions.averaged(statistics | {"value": without}, weights)
            ),
        } | {f"HD95/{name}": float(value) for name, value in zip(names, by_class, strict=True)}

    def columns(self, statistics: dict[str, Any]) -> dict[str, np.ndarray]:
        """For each image (I,) the columns that the decorator describes."""
        names = statistics["classes"].tolist()
        return {f"HD95/{name}": statistics["value"][:, place] for place, name in enumerate(names)}


def distance(truth: np.ndarray, found: np.ndarray, *, spacing: tuple[float, float] = (1.0, 1.0)) -> float:
    """Of two masks (H, W) bool, in the unit of `spacing`, the distances between rows and between columns."""
    if not truth.any() or not found.any():
        return 0.0 if truth.any() == found.any() else float("nan")
    truth, found = _cropped(truth, found)
    there, here = _border(truth), _border(found)
    return max(_reach(there, here, spacing), _reach(here, there, spacing))


def _cropped(truth: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both within the box that holds both: what is left out is empty and costs time."""
    rows, columns = (np.flatnonzero((truth | found).any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return truth[box], found[box]


def _border(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_erosion  # here, for a report needs only `aggregate`

    return np.asarray(mask & ~binary_erosion(mask))


def _reach(one: np.ndarray, other: np.ndarray, spacing: tuple[float, float]) -> float:
    """The percentile of the distances of a border's pixels to the nearest of the other."""
    from scipy.ndimage import distance_transform_edt

    return float(np.percentile(distance_transform_edt(~other, sampling=spacing)[one], SHARE))
