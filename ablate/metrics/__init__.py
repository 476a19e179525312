"""The metric shelf's contract: statistics per image first, numbers late, so that one bootstrap serves every metric."""

from typing import Any, Protocol

import numpy as np

from ablate.datasets import Info

Statistics = dict[str, np.ndarray]  # `image_ids` (I,) and rows that say by position which image they are of


class Metric(Protocol):
    """What a builder of this shelf returns.

    It may also have `columns(statistics) -> {name: (I,) array}`: what a table with a row for each image says of it. The
    decorator then describes them, `columns={name: (type, unit, meaning)}`, one for each class ending in `/NAME`.
    """

    def per_image(self, predictions: list[dict[str, Any]], ground_truth: dict[str, Any], info: Info) -> Statistics:
        """All that `aggregate` needs, from the task's predictions and the data set's annotations.

        `image_ids` (I,) are the ids of all images of the ground truth, ascending, whatever was predicted.
        """

    def aggregate(self, statistics: Statistics, weights: np.ndarray | None = None) -> dict[str, float]:
        """The scores, nan where undefined. `weights` (I,) says how often each image counts; by default once."""


def take_blocks(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Which rows a resampled data set has: each image's block of rows as often as its weight, in image order.

    `image` (N,) is each row's image by position, ascending; `weights` (I,) are counts.
    """
    lengths = np.bincount(image, minlength=len(weights))
    drawn = np.repeat(np.arange(len(weights)), weights)  # images, repeated
    ends = lengths[drawn].cumsum()
    starts = lengths.cumsum() - lengths
    shift = starts[drawn] - (ends - lengths[drawn])
    rows: np.ndarray = np.arange(ends[-1] if len(ends) else 0) + np.repeat(shift, lengths[drawn])
    return rows
