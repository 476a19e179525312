"""What a table of final scores cannot show: whether arms were still learning, changed places, or lost seeds.

All of it is read off learning curves and counts; nothing is worded here.
"""

import math
from collections.abc import Mapping
from statistics import fmean

from ablate.analysis.evidence import Cautions, Comparison, Crossing, Row

LAST = 0.75  # of the training: from here on a score tells whether scores still rise

Curve = dict[int, float]  # epoch -> mean score over seeds


def cautions(rows: list[Row], comparisons: list[Comparison], metric: str, *, lost: Mapping[str, int]) -> Cautions:
    """From the rows, the control first, and the comparisons in the primary metric.

    Two arms are taken together where a comparison of the two was planned.
    `lost` is, by an arm's label, how many of its trials ended without a score.
    """
    means, epochs = {row.label: mean_curve(row, metric) for row in rows}, {row.label: row.epochs for row in rows}
    slopes = {label: _slope(curve, epochs[label]) for label, curve in means.items()}
    pairs = [(one.arm, one.control) for one in comparisons if {one.arm, one.control} <= means.keys()]
    return Cautions(
        slopes=slopes,
        rises={label: slope * (1 - LAST) * epochs[label] for label, slope in slopes.items()},
        crossings=[
            found
            for arm, control in pairs
            if (found := _crossing(arm, means[arm], control, means[control], epochs[arm] / 2))
        ],
        lost={
            row.label: (lost[row.label], lost[row.label] + len(row.scores[metric]))
            for row in rows
            if lost.get(row.label)
        },
        reversed=_reversed(rows, comparisons),
    )


def together(apart: list[Cautions]) -> Cautions:
    """Those of several data sets, whose arms have labels of their own."""
    return Cautions(
        slopes={label: slope for one in apart for label, slope in one.slopes.items()},
        rises={label: rise for one in apart for label, rise in one.rises.items()},
        crossings=[crossing for one in apart for crossing in one.crossings],
        lost={label: lost for one in apart for label, lost in one.lost.items()},
        reversed=[label for one in apart for label in one.reversed],
    )


def mean_curve(row: Row, metric: str) -> Curve:
    """The mean score over finished seeds at the epochs that all of them were evaluated at, the final score the last."""
    curves = [score_curve(row, seed, metric) for seed in row.scores[metric]]
    shared = set.intersection(*(set(curve) for curve in curves)) if curves else set()
    return {epoch: fmean(curve[epoch] for curve in curves) for epoch in sorted(shared)}


def score_curve(row: Row, seed: int, metric: str) -> Curve:
    """A seed's scores by epoch: those of its learning curve, and its final score at the last epoch."""
    found = {epoch.epoch: epoch.scores.get(metric, math.nan) for epoch in row.curves.get(seed, ())}
    found |= {row.epochs: row.scores[metric][seed]} if seed in row.scores[metric] else {}
    return {epoch: score for epoch, score in found.items() if math.isfinite(score)}


def _slope(curve: Curve, last: int) -> float:
    """Of the least-squares line through the scores of the last quarter."""
    points = [(epoch, score) for epoch, score in curve.items() if epoch >= LAST * last]
    if len(points) < 2:
        return math.nan
    at, level = (fmean(values) for values in zip(*points, strict=True))
    spread = math.fsum((epoch - at) ** 2 for epoch, _ in points)
    return math.fsum((epoch - at) * (score - level) for epoch, score in points) / spread


def _crossing(label: str, own: Curve, control: str, theirs: Curve, since: float) -> Crossing | None:
    shared = sorted(own.keys() & theirs.keys())
    if not shared or max(own) != max(theirs):  # of other lengths: the end of the one is the middle of the other
        return None
    end = own[shared[-1]] - theirs[shared[-1]]
    other = [epoch for epoch in shared if epoch >= since and (own[epoch] - theirs[epoch]) * end < 0]
    return Crossing(label, control, other[-1], ahead=end < 0) if other else None


def _reversed(rows: list[Row], comparisons: list[Comparison]) -> list[str]:
    printed = {row.label: _number(row.published) for row in rows}
    return [
        found.arm
        for found in comparisons
        if found.effect.n
        and {found.arm, found.control} <= printed.keys()
        and (printed[found.arm] - printed[found.control]) * found.effect.diff < 0  # nan is not
    ]


def _number(printed: str | None) -> float:
    try:
        return float(printed or "nan")
    except ValueError:
        return math.nan
