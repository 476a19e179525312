"""COCO's twelve numbers for instances, as pycocotools has them; boxes and masks differ in what overlaps alone.

Its loops are sums over arrays here, to the same last bit, also for resampled data sets, in which images are repeated.
Most cells (class, image) are empty; only the others are stored.
"""

import itertools
from collections.abc import Container, Iterator, Mapping
from typing import Any, Literal

import numpy as np
from pycocotools import mask as runs

from ablate.datasets import Info, as_runs
from ablate.metrics import Parts, _matching, _redrawn, take_blocks

STATS = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10", "AR100", "ARS", "ARM", "ARL")  # COCOeval.stats
RANGES = ((0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10))  # of areas: any, small, medium, large
AREAS = {"S": 1, "M": 2, "L": 3}  # places of these; 0 is any
PAIRS = 2**18  # boxes compared at once
LIMITS = (1, 10, 100)  # detections that count, of a class in an image
ALL = slice(None)
# What is read from the curves of an area range and a limit: precision (0) or recall (1), at which overlaps.
READ: dict[tuple[int, int], dict[str, tuple[int, int | slice]]] = {
    (0, 100): {"AP": (0, ALL), "AP50": (0, 0), "AP75": (0, 5), "AR100": (1, ALL)},
    (0, 1): {"AR1": (1, ALL)},
    (0, 10): {"AR10": (1, ALL)},
    **{(area, 100): {f"AP{size}": (0, ALL), f"AR{size}": (1, ALL)} for size, area in AREAS.items()},
}
AT_ONCE = 40  # redrawn data sets whose curves are kept
Kind = Literal["bbox", "segm"]
SHAPES: dict[Kind, str] = {"bbox": "bbox", "segm": "segmentation"}  # what a prediction has to have


class InstanceAP:
    """See `Metric`. C classes, T = 10 overlaps, A = 4 area ranges (any, small, medium, large)."""

    def __init__(self, kind: Kind) -> None:
        self.kind, self.prefix = kind, "mask_" if kind == "segm" else ""

    def per_image(
        self, predictions: list[dict[str, Any]], ground_truth: dict[str, Any], info: Info
    ) -> dict[str, np.ndarray]:
        """Matches of detections with annotations.

        Returns `image_ids` (I,) and `classes` (C,), names; for the D predictions, at most 100 of a class in an image:
        `image` (D,) by position, ascending, `place` (D,) of the class, `rank` (D,) within class and image from 0,
        `score` (D,), `matched` and `ignored` (D, A, T); for the G annotations `truth_image` and `truth_place` (G,)
        and `truth_counted` (G, A); `predicted`, whether any prediction has such a shape at all.

        Raises:
            ValueError: a prediction is not finite, which pycocotools would take for a perfect match, or is on an image
                that is not there.
        """
        names, shape = info.need_things(), SHAPES[self.kind]
        _matching.need_finite(predictions, lambda p: [*p["bbox"], p["score"]])
        predicted = not predictions or any(prediction.get(shape) for prediction in predictions)
        sizes = {int(image["id"]): image for image in ground_truth["images"]}
        ids, known = sorted(sizes), range(1, len(names) + 1)
        found = [p for p in predictions if p["category_id"] in known] if predicted else []
        truth = [a for a in ground_truth["annotations"] if a["category_id"] in known]
        if self.kind == "segm":
            truth = [annotation for annotation in truth if annotation.get("segmentation")]
        score = np.array([p["score"] for p in found], dtype=float)
        cells = [
            _matching.positions(rows, ids) * len(names) + [row["category_id"] - 1 for row in rows]
            for rows in (found, truth)
        ]
        groups = _matching.grouped(cells[0].astype(int), score, cells[1].astype(int), most=LIMITS[-1])
        found, truth = [found[row] for row in groups.found], [truth[row] for row in groups.truth]
        crowd = np.array([a["iscrowd"] for a in truth], dtype=bool)
        ignored = crowd[:, None] | _matching.outside(np.array([a["area"] for a in truth], dtype=float), RANGES)
        overlaps, area = (_of_masks if self.kind == "segm" else _of_boxes)(groups, found, truth, crowd, sizes)
        matches = _matching.matches(groups, overlaps, ignored, crowd)
        matched, not_counted = _matching.flags(matches, ignored, _matching.outside(area, RANGES))
        (image, place), (truth_image, truth_place) = (
            np.divmod(group.astype(np.int32), len(names)) for group in (groups.group, groups.truth_group)
        )
        return {
            "image_ids": np.array(ids, dtype=np.int64),
            "classes": np.array(names, dtype=str),
            "image": image,
            "place": place,
            "rank": groups.rank.astype(np.int16),
            "score": score[groups.found],
            "matched": matched,
            "ignored": not_counted,
            "truth_image": truth_image,
            "truth_place": truth_place,
            "truth_counted": ~ignored,
            "predicted": np.array(predicted),
        }

    def aggregate(self, statistics: dict[str, np.ndarray], weights: np.ndarray | None = None) -> dict[str, float]:
        """The scores, between 0 and 1, nan where nothing is annotated; see `Metric`."""
        if not statistics["predicted"]:
            stats = [np.nan] * len(STATS)
        else:
            once = np.ones(len(statistics["image_ids"]), np.int64)
            stats = _summarised(statistics, once if weights is None else weights)
        return {self.prefix + name: float(value) for name, value in zip(STATS, stats, strict=True)}

    def redrawn(
        self, statistics: dict[str, np.ndarray], weights: np.ndarray, wanted: Container[str]
    ) -> dict[str, np.ndarray] | None:
        """See `Redraws`."""
        rows = np.lexsort([-statistics["score"], statistics["place"]])
        place, image, score = (statistics[name][rows] for name in ("place", "image", "score"))
        matched, ignored = (statistics[name][rows] for name in ("matched", "ignored"))
        own = [slice(*ends) for ends in _bounds(place, len(statistics["classes"]))]
        alternating = any(not _redrawn.redrawable(image[c], score[c], matched[c], ignored[c]) for c in own)
        if alternating or not statistics["predicted"]:
            return None
        scores: dict[str, np.ndarray] = {}
        for (area, limit), read in READ.items():
            asked = {self.prefix + name: how for name, how in read.items() if self.prefix + name in wanted}
            scores |= _redrawn_scores(statistics, rows, weights, asked, area=area, limit=limit) if asked else {}
        return scores

    def parts(self, statistics: dict[str, np.ndarray], info: Info) -> Parts:
        """The AP of each class (C,), nan where nothing that was predicted has such a shape."""
        names = tuple(statistics["classes"].tolist())
        precision, _ = _curves_of(statistics, np.ones(len(statistics["image_ids"]), np.int64), area=0, limit=LIMITS[-1])
        counted = statistics["truth_place"][statistics["truth_counted"][:, 0]]
        scores = _mean_of_each(precision) if statistics["predicted"] else np.full(len(names), np.nan)
        return Parts(
            "class", f"{self.prefix}AP", names, scores,
            np.bincount(counted, minlength=len(names)), np.zeros(len(names)),
        )  # fmt: skip

    def columns(self, statistics: dict[str, Any]) -> dict[str, np.ndarray]:
        """For each image (I,) the columns that the decorator describes."""
        images, image = len(statistics["image_ids"]), statistics["image"]
        matched, ignored = (statistics[name][:, 0, 0] for name in ("matched", "ignored"))  # (D,), any size, .5
        prefix = self.prefix
        return {
            f"{prefix}instances": np.bincount(
                statistics["truth_image"], statistics["truth_counted"][:, 0], images
            ).astype(int),
            f"{prefix}matched": np.bincount(image[matched & ~ignored], minlength=images),
            f"{prefix}false_detections": np.bincount(image[~matched & ~ignored], minlength=images),
        }


def _of_boxes(
    groups: _matching.Groups, found: list[Any], truth: list[Any], crowd: np.ndarray, sizes: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Overlaps of the pairs (P,) as pycocotools' `bbIou` has them, and the areas (D,) of the detections.

    An overlap is the intersection over the union, or over the detection where the annotation is a crowd.
    """
    boxes, others = (np.array([row["bbox"] for row in rows], dtype=float).reshape(-1, 4) for rows in (found, truth))
    with np.errstate(over="ignore", invalid="ignore"):
        area, other_area = boxes[:, 2] * boxes[:, 3], others[:, 2] * others[:, 3]
        overlaps = np.zeros(len(groups.left))
        for pairs in np.array_split(np.arange(len(overlaps)), len(overlaps) // PAIRS + 1):
            own, other = groups.left[pairs], groups.right[pairs]
            near, far = boxes[own], others[other]
            sides = np.minimum(near[:, :2] + near[:, 2:], far[:, :2] + far[:, 2:]) - np.maximum(near[:, :2], far[:, :2])
            common = sides[:, 0] * sides[:, 1]
            union = np.where(crowd[other], area[own], area[own] + other_area[other] - common)
            np.divide(common, union, out=common, where=(sides > 0).all(axis=1))
            overlaps[pairs] = np.where((sides > 0).all(axis=1), common, 0)
    return overlaps, area


def _of_masks(
    groups: _matching.Groups, found: list[Any], truth: list[Any], crowd: np.ndarray, sizes: Mapping[int, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """The same of masks, whose overlaps pycocotools counts from their runs; `sizes` are of images, by id."""
    masks, others = (
        [as_runs(row["segmentation"], *map(sizes[row["image_id"]].get, ("height", "width"))) for row in rows]
        for rows in (found, truth)
    )
    overlaps, start = np.zeros(len(groups.left)), groups.several.cumsum() - groups.several
    for place in np.flatnonzero((groups.rank == 0) & (groups.several > 0)):
        end = place + int(np.searchsorted(groups.group[place:], groups.group[place], side="right"))
        own, other = slice(place, end), slice(groups.first[place], groups.first[place] + groups.several[place])
        whole = runs.iou(masks[own], others[other], crowd[other].astype(np.uint8))
        overlaps[start[place] : start[place] + whole.size] = whole.ravel()
    return overlaps, np.array([runs.area(mask) for mask in masks], dtype=float)


def _summarised(statistics: dict[str, np.ndarray], weights: np.ndarray) -> list[float]:
    """The twelve numbers of a data set in which each image stands as often as its weight (I,) says."""
    precision, recall = _curves_of(statistics, weights, area=0, limit=100)  # (C, T, R), (C, T)
    by_area = {name: _curves_of(statistics, weights, area=area, limit=100) for name, area in AREAS.items()}
    fewer = [_curves_of(statistics, weights, area=0, limit=limit)[1] for limit in LIMITS[:2]]
    return [
        _mean(precision), _mean(precision[:, 0]), _mean(precision[:, 5]), *(_mean(p) for p, _ in by_area.values()),
        *map(_mean, fewer), _mean(recall), *(_mean(r) for _, r in by_area.values()),
    ]  # fmt: skip


def _curves_of(
    statistics: dict[str, np.ndarray], weights: np.ndarray, *, area: int, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Precision at R = 101 recalls (C, T, R) and the highest recall (C, T) of classes; nan where none is annotated."""
    rows = take_blocks(statistics["image"], weights)
    rows = rows[statistics["rank"][rows] < limit]
    place, classes = statistics["place"], len(statistics["classes"])
    rows = rows[np.lexsort([-statistics["score"][rows], place[rows]])]  # stable, so ties keep the order of images
    bounds = np.searchsorted(place[rows], np.arange(classes + 1))
    each = weights[statistics["truth_image"]] * statistics["truth_counted"][:, area]
    counted = np.bincount(statistics["truth_place"], each, classes)  # (C,)
    overlaps = statistics["matched"].shape[2]
    precision, recall = (
        np.full((classes, overlaps, len(_redrawn.RECALLS)), np.nan),
        np.full((classes, overlaps), np.nan),
    )
    for c in np.flatnonzero(counted):
        own = rows[bounds[c] : bounds[c + 1]]
        matched, ignored = (statistics[name][own, area].T for name in ("matched", "ignored"))  # (T, D)
        right = (matched & ~ignored).cumsum(axis=1, dtype=float)
        wrong = (~matched & ~ignored).cumsum(axis=1, dtype=float)
        reached, exact = right / counted[c], right / (wrong + right + np.spacing(1))
        best = np.maximum.accumulate(exact[:, ::-1], axis=1)[:, ::-1]  # at this recall or any higher one
        best = np.pad(best, ((0, 0), (0, 1)))  # recalls never reached have precision 0
        at = np.stack([np.searchsorted(row, _redrawn.RECALLS) for row in reached])  # (T, R)
        precision[c] = np.take_along_axis(best, at, axis=1)
        recall[c] = reached[:, -1] if len(own) else 0
    return precision, recall


def _redrawn_scores(
    statistics: dict[str, np.ndarray],
    rows: np.ndarray,
    weights: np.ndarray,
    asked: Mapping[str, tuple[int, int | slice]],
    *,
    area: int,
    limit: int,
) -> dict[str, np.ndarray]:
    """Scores (R,) of R redrawn sets `weights` (R, I), from rows sorted by class and then by score."""
    rows = rows[statistics["rank"][rows] < limit]
    image, matched, ignored = (
        statistics["image"][rows],
        *(statistics[name][rows, area] for name in ("matched", "ignored")),
    )
    own = [slice(*ends) for ends in _bounds(statistics["place"][rows], len(statistics["classes"]))]
    truths = [np.flatnonzero(statistics["truth_place"] == c) for c in range(len(own))]
    scores = {name: np.empty(len(weights)) for name in asked}
    for some in np.array_split(np.arange(len(weights)), max(1, -(-len(weights) // AT_ONCE))):
        drawn = weights[some]
        each = drawn[:, statistics["truth_image"]] * statistics["truth_counted"][:, area]
        found = [
            _redrawn.curves(image[c], matched[c], ignored[c], each[:, truth].sum(axis=1), drawn)
            for c, truth in zip(own, truths, strict=True)
        ]
        curves = [np.stack(of) for of in zip(*found, strict=True)]  # (C, B, T, 101), (C, B, T)
        for name, (which, overlaps) in asked.items():
            scores[name][some] = [_mean(curves[which][:, draw, overlaps]) for draw in range(len(some))]
    return scores


def _bounds(place: np.ndarray, classes: int) -> Iterator[tuple[int, int]]:
    """Where the rows of each class begin and end, by the classes (D,) of sorted rows."""
    return itertools.pairwise(np.searchsorted(place, np.arange(classes + 1)).tolist())


def _mean(values: np.ndarray) -> float:
    """The mean over classes (first axis) and all else of what is defined, in pycocotools' order; nan of nothing."""
    inner = np.moveaxis(values, 0, -1)
    defined = inner[np.isfinite(inner)]
    return float(np.mean(defined)) if len(defined) else float("nan")


def _mean_of_each(values: np.ndarray) -> np.ndarray:
    """The mean of what is defined of each class (C,), nan where nothing is."""
    return np.array([_mean(of_class[None]) for of_class in values])
