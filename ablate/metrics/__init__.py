"""The metric shelf's contract: statistics per image first, numbers late, so that one bootstrap serves every metric."""

from collections.abc import Container
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from ablate import registry
from ablate.datasets import Array, Info

Statistics = dict[str, Array]  # `image_ids` (I,) and rows that say by position which image they are of


Counts = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Document = dict[str, object]  # a prediction of the task's, or its ground truth: the task's metrics know what is in it


class Metric(Protocol):
    """What a builder of this shelf returns.

    It may also have `columns(statistics) -> {name: (I,) array}`: what a table with a row for each image says of it. The
    decorator then describes them, `columns={name: (type, unit, meaning)}`, one for each class ending in `/NAME`.
    """

    def per_image(self, predictions: list[Document], ground_truth: Document, info: Info) -> Statistics:
        """All that `aggregate` needs, from the task's predictions and the data set's annotations.

        `image_ids` (I,) are the ids of all images of the ground truth, ascending, whatever was predicted.
        """

    def aggregate(self, statistics: Statistics, weights: Array | None = None) -> dict[str, float]:
        """The scores, nan where undefined. `weights` (I,) says how often each image counts; by default once."""


@runtime_checkable
class Redraws(Protocol):
    """Optional: a metric that is quicker for many redrawn data sets at once."""

    def redrawn(self, statistics: Statistics, weights: Counts, wanted: Container[str]) -> dict[str, Array] | None:
        """The wanted scores (R,), and others perhaps, for `weights` (R, I): to the last bit those of `aggregate`.

        None where only `aggregate` has them.
        """


def redrawn(metric: Metric, statistics: Statistics, weights: Counts, wanted: Container[str]) -> dict[str, Array]:
    """The wanted scores, and others perhaps, of R redrawn data sets (R,), nan where undefined; `weights` (R, I)."""
    quick = metric.redrawn(statistics, weights, wanted) if isinstance(metric, Redraws) else None
    if quick is not None:
        return quick
    rows = [metric.aggregate(statistics, own) for own in weights]
    return {name: np.array([row[name] for row in rows], dtype=float) for name in rows[0]}


class Parts(NamedTuple):
    """Scores of the P classes or joints that a score is made of."""

    kind: str  # class or joint
    measure: str  # what the scores are, as a caption says it
    names: tuple[str, ...]  # (P,)
    scores: Array  # (P,), 0 to 1, nan where undefined
    truth: Array  # (P,), how much of the truth is of it: pixels or labelled joints
    trivial: Array  # (P,), the score of whoever predicts the commonest everywhere; 0 where nobody can


@runtime_checkable
class ByPart(Protocol):
    """Optional: a metric that scores each class or joint by itself, for the tables of reports."""

    def parts(self, statistics: Statistics, info: Info) -> Parts:
        """From what `per_image` made, also in older versions."""


def build_metric(name: str) -> Metric:
    """The metric of that name. Raises PartError."""
    made: Metric = registry.build("metric", name, {})
    return made


def take_blocks(image: Array, weights: Counts) -> Array:
    """Which rows a resampled data set has: each image's block of rows as often as its weight, in image order.

    `image` (N,) is each row's image by position, ascending; `weights` (I,) are counts.

    Raises:
        ValueError: a row of an image that is not among the I.
    """
    if len(image) and not 0 <= image.min() <= image.max() < len(weights):
        raise ValueError("rows of images that are not there")  # counting them would ask for as much memory as they say
    lengths = np.bincount(image, minlength=len(weights))
    drawn = np.repeat(np.arange(len(weights)), weights)  # images, repeated
    ends = lengths[drawn].cumsum()
    starts = lengths.cumsum() - lengths
    shift = starts[drawn] - (ends - lengths[drawn])
    rows: Array = np.arange(ends[-1] if len(ends) else 0) + np.repeat(shift, lengths[drawn])
    return rows
