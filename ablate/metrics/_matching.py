"""Detections matched with annotations by pycocotools' rules (`COCOeval.evaluateImg`), for all images at once.

pycocotools loops in Python over images, areas, thresholds, detections and annotations. Here one loop is left, over
ranks: the best detection of each group chooses first, then the second one. A group is one class in one image.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)
AT_ONCE = 2**21  # numbers in the largest array

Ints = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Row = dict[str, Any]  # a prediction or an annotation
Ranges = tuple[tuple[float, float], ...]  # of areas in square pixels


class Groups(NamedTuple):
    """D detections, best first within their group, G annotations in the order of groups, and P pairs of one group."""

    found: Ints  # (D,) rows of the detections as they were given
    group: Ints  # (D,)
    rank: Ints  # (D,) from 0 within a group
    truth: Ints  # (G,) rows of the annotations as they were given
    truth_group: Ints  # (G,)
    first: Ints  # (D,) place in `truth` of the first annotation of the detection's group
    several: Ints  # (D,) annotations of that group
    left: Ints  # (P,) places in `found`, ascending
    right: Ints  # (P,) places in `truth`, ascending for each detection


def grouped(group: Ints, score: np.ndarray, truth_group: Ints, *, most: int) -> Groups:
    """Who may match whom, from the groups of detections and annotations; at most so many detections of a group."""
    order = np.lexsort([-score, group])  # stable, as pycocotools' sort is
    own = group[order]
    rank = np.arange(len(own)) - np.searchsorted(own, own)
    kept = rank < most
    order, own, rank = order[kept], own[kept], rank[kept]
    truth = np.argsort(truth_group, kind="stable")
    first, end = (np.searchsorted(truth_group[truth], own, side=side) for side in ("left", "right"))
    several = end - first
    left = np.repeat(np.arange(len(own)), several)
    right = np.arange(len(left)) + np.repeat(first - (several.cumsum() - several), several)
    return Groups(order, own, rank, truth, truth_group[truth], first, several, left, right)


def matches(groups: Groups, similarity: np.ndarray, ignored: np.ndarray, crowd: np.ndarray) -> Ints:
    """The annotation that each detection matches at each of T thresholds: its place in `truth` (D, A, T), -1 for none.

    A detection takes the most similar annotation that counts and is free, or else the most similar that is ignored; of
    equal ones the last. Crowds are always free.

    Args:
        similarity: (P,) of each pair, 0 to 1.
        ignored: (G, A) whether an annotation does not count in an area range; crowds never do.
        crowd: (G,) of booleans.
    """
    found = np.full((len(groups.found), ignored.shape[1], len(THRESHOLDS)), -1, dtype=np.int64)
    start = groups.several.cumsum() - groups.several
    for rows in _parts(groups, ignored.shape[1] * len(THRESHOLDS)):
        width = np.arange(groups.several[rows].max())
        there = width < groups.several[rows, None]  # (R, W)
        truths = np.where(there, groups.first[rows, None] + width, 0)
        near = np.where(there, similarity[np.where(there, start[rows, None] + width, 0)], -1.0)
        chosen = _choices(groups.group[rows], groups.rank[rows], near, ignored[truths], crowd[truths])
        found[rows] = np.where(chosen >= 0, groups.first[rows, None, None] + chosen, -1)
    return found


def flags(found: Ints, ignored: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each detection matches and whether it is ignored (D, A, T), as it is with an annotation that is.

    From what it matches (D, A, T), `ignored` annotations (G, A) and detections `outside` (D, A) of the area ranges,
    which are ignored unless they match.
    """
    matched = found >= 0
    with_nobody = np.repeat(outside[..., None], found.shape[2], axis=2)
    if not len(ignored):
        return matched, with_nobody
    return matched, np.where(matched, ignored[found, np.arange(ignored.shape[1])[:, None]], with_nobody)


def with_matched(groups: Groups, similarity: np.ndarray, found: Ints) -> np.ndarray:
    """The similarity (D,) of each detection with the annotation that it matches (D,); nan without one."""
    start = groups.several.cumsum() - groups.several
    own = np.full(len(found), np.nan)
    matched = found >= 0
    own[matched] = similarity[(start + found - groups.first)[matched]]
    return own


def outside(area: np.ndarray, ranges: Ranges) -> np.ndarray:
    """Whether areas (N,) are outside of A ranges, whose ends are in them: (N, A)."""
    low, high = np.array(ranges, dtype=float).T
    beyond: np.ndarray = (area[:, None] < low) | (area[:, None] > high)
    return beyond


def need_finite(predictions: list[Row], numbers: Callable[[Row], list[float]]) -> None:
    """Raises ValueError: numbers of a prediction that are not finite, which would be taken for a perfect match."""
    wrong = sum(not np.isfinite(numbers(prediction)).all() for prediction in predictions)
    if wrong:
        raise ValueError(f"{wrong} of {len(predictions)} predictions are not finite")


def positions(rows: list[Row], ids: list[int]) -> Ints:
    """The place (N,) in `ids` of each row's image. Raises ValueError: an image that is not among them."""
    place = {image_id: position for position, image_id in enumerate(ids)}
    strange = {row["image_id"] for row in rows} - place.keys()
    if strange:
        raise ValueError(f"images that are not there: {sorted(strange)[:3]}")
    return np.array([place[row["image_id"]] for row in rows], dtype=np.int64)


def _parts(groups: Groups, each: int) -> Iterator[Ints]:
    """Rows of detections that have somebody to match: whole groups, with about as many annotations, few enough."""
    rows = np.flatnonzero(groups.several)
    rows = rows[np.lexsort([groups.group[rows], groups.several[rows]])]
    starts = np.flatnonzero(np.diff(groups.group[rows], prepend=-1))  # of groups
    numbers = groups.several[rows][starts] * np.diff(starts, append=len(rows)) * each
    part, width = numbers.cumsum() // AT_ONCE, np.frexp(groups.several[rows][starts])[1]  # widths up to twice as many
    cuts = starts[np.flatnonzero(np.diff(part) | np.diff(width)) + 1]
    yield from (some for some in np.split(rows, cuts) if len(some))


def _choices(group: Ints, rank: Ints, near: np.ndarray, ignored: np.ndarray, crowd: np.ndarray) -> Ints:
    """Which of W annotations each of R detections takes (R, A, T), -1 for none.

    From similarities `near` (R, W), -1 where there are fewer annotations, `ignored` (R, W, A) and `crowd` (R, W).
    """
    _, place = np.unique(group, return_inverse=True)
    shape = ignored.shape[2], len(THRESHOLDS), near.shape[1]
    taken = np.zeros((place.max() + 1, *shape), dtype=bool)
    chosen = np.full((len(near), *shape[:2]), -1, dtype=np.int64)
    for now in np.split(np.argsort(rank, kind="stable"), np.bincount(rank).cumsum()[:-1]):
        own = place[now]
        enough = near[now, None, :] >= THRESHOLDS[:, None]  # (N, T, W)
        free = enough[:, None] & (~taken[own] | crowd[now, None, None])  # (N, A, T, W)
        counting = free & ~ignored[now].transpose(0, 2, 1)[:, :, None]
        open_to = np.where(counting.any(axis=-1, keepdims=True), counting, free)
        last = np.where(open_to, near[now, None, None], -1.0)[..., ::-1].argmax(axis=-1)
        choice = near.shape[1] - 1 - last
        hit = open_to.any(axis=-1)
        chosen[now] = np.where(hit, choice, -1)
        taken[own] |= hit[..., None] & (np.arange(near.shape[1]) == choice[..., None])
    return chosen
