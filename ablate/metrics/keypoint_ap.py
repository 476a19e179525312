"""COCO's keypoint average precision and recall, as pycocotools has them.

Its loops are sums over arrays here, to the same last bit, also for resampled data sets, in which images are repeated.
"""

from collections.abc import Container
from typing import Any

import numpy as np

from ablate.datasets import Info
from ablate.metrics import _matching, _redrawn, take_blocks
from ablate.registry import metric

PERSON = 1  # the category
MOST = 20  # people who count in an image, best first
RANGES = ((0, 1e10), (32**2, 96**2), (96**2, 1e10))  # any area, medium, large
PAIRS = 2**14  # people compared at once


@metric(
    "keypoint_ap",
    meaning=1,
    scores=("AP", "AP50", "AP75", "APM", "APL", "AR"),
    unless="no labelled person of that size is on these images",
    columns={
        "people": ("int", "people", "annotated people that count: with labelled joints, and no crowds"),
        "matched": ("int", "people", "of these, found with a similarity of at least .5"),
        "false_detections": ("int", "detections", "detections that match no person at .5"),
        "similarity": (
            "float",
            "0 to 1",
            "mean object keypoint similarity of the matched; not in older results",
        ),
        "similarity_floor": (
            "float",
            "0 to 1",
            "the same by the thresholds .50, .55 ... .95 that each match reaches",
        ),
    },
)
def keypoint_ap() -> "KeypointAP":
    """Average precision and recall over object keypoint similarities of .50 to .95 (AP50, AP75: one; M, L: by area)."""
    return KeypointAP()


class KeypointAP:
    """See `Metric`. T = 10 similarity thresholds, A = 3 area ranges (all, medium, large)."""

    def per_image(
        self, predictions: list[dict[str, Any]], ground_truth: dict[str, Any], info: Info
    ) -> dict[str, np.ndarray]:
        """Matches of people with annotations.

        Returns `image_ids` (I,); for the D predictions, at most 20 an image: `image` (D,) by position, ascending,
        `score` (D,) descending within an image, `matched` and `ignored` (D, A, T), `similarity` (D,) to the person
        matched at .5, nan where nobody is; for the G annotations: `truth_image` (G,) and `truth_counted` (G, A).

        Raises:
            ValueError: a prediction is not finite, which pycocotools would take for a perfect match, or is on an image
                that is not there.
        """
        _matching.need_finite(predictions, lambda p: [*p["keypoints"][0::3], *p["keypoints"][1::3], p["score"]])
        sigmas = np.array(info.need_joints().sigmas)
        ids = sorted({int(image["id"]) for image in ground_truth["images"]})
        found = [prediction for prediction in predictions if prediction["category_id"] == PERSON]
        people = [a for a in ground_truth["annotations"] if a["category_id"] == PERSON]
        image, score = _matching.positions(found, ids), np.array([p["score"] for p in found], dtype=float)
        groups = _matching.grouped(image, score, _matching.positions(people, ids), most=MOST)
        found, people = [found[row] for row in groups.found], [people[row] for row in groups.truth]
        points = _points(found, len(sigmas))[..., :2]
        crowd = np.array([bool(a["iscrowd"]) for a in people], dtype=bool)
        left_out = crowd | np.array([a["num_keypoints"] == 0 for a in people], dtype=bool)
        area = np.array([a["area"] for a in people], dtype=float)
        ignored = left_out[:, None] | _matching.outside(area, RANGES)
        similarity = _similarities(groups, points, people, area, (2 * sigmas) ** 2)
        matches = _matching.matches(groups, similarity, ignored, crowd)
        with np.errstate(over="ignore"):
            extent = np.prod(np.ptp(points, axis=1), axis=1) if len(points) else np.zeros(0)
        matched, not_counted = _matching.flags(matches, ignored, _matching.outside(extent, RANGES))
        return {
            "image_ids": np.array(ids, dtype=np.int64),
            "image": groups.group.astype(np.int32),
            "score": score[groups.found],
            "matched": matched,
            "ignored": not_counted,
            "similarity": _matching.with_matched(groups, similarity, matches[:, 0, 0]),
            "truth_image": groups.truth_group.astype(np.int32),
            "truth_counted": ~ignored,
        }

    def aggregate(self, statistics: dict[str, np.ndarray], weights: np.ndarray | None = None) -> dict[str, float]:
        """The scores, between 0 and 1; see `Metric`."""
        if weights is None:
            weights = np.ones(len(statistics["image_ids"]), np.int64)
        rows = take_blocks(statistics["image"], weights)
        rows = rows[np.argsort(-statistics["score"][rows], kind="stable")]
        matched, ignored = (statistics[name][rows] for name in ("matched", "ignored"))  # (D, A, T)
        counted = weights[statistics["truth_image"]] @ statistics["truth_counted"]  # (A,)
        curves = [_curves(matched[:, a], ignored[:, a], counted[a]) for a in range(len(counted))]
        precision, recall = np.stack([c[0] for c in curves]), np.stack([c[1] for c in curves])  # (A, T, R), (A, T)
        return {
            "AP": float(precision[0].mean()),
            "AP50": float(precision[0, 0].mean()),
            "AP75": float(precision[0, 5].mean()),
            "APM": float(precision[1].mean()),
            "APL": float(precision[2].mean()),
            "AR": float(recall[0].mean()),
        }

    def redrawn(
        self, statistics: dict[str, np.ndarray], weights: np.ndarray, wanted: Container[str]
    ) -> dict[str, np.ndarray] | None:
        """See `Redraws`."""
        order = np.argsort(-statistics["score"], kind="stable")
        image, score, matched, ignored = (statistics[name][order] for name in ("image", "score", "matched", "ignored"))
        if not _redrawn.redrawable(image, score, matched, ignored):
            return None
        scores: dict[str, np.ndarray] = {}
        for area, names in enumerate((("AP", "AP50", "AP75", "AR"), ("APM",), ("APL",))):
            if any(name in wanted for name in names):
                each = statistics["truth_counted"][:, area].astype(np.int64)
                counted = weights[:, statistics["truth_image"]] @ each  # (R,)
                precision, recall = _redrawn.curves(image, matched[:, area], ignored[:, area], counted, weights)
                mean = precision.reshape(len(weights), -1).mean(axis=1)
                scores |= {names[0]: mean}
                if area == 0:
                    scores |= {"AP50": precision[:, 0].mean(axis=1), "AP75": precision[:, 5].mean(axis=1)}
                    scores |= {"AR": recall.mean(axis=1)}
        return scores

    def columns(self, statistics: dict[str, Any]) -> dict[str, np.ndarray]:
        """For each image (I,) the columns that the decorator describes; no similarity (nan) where nobody is matched."""
        image, images = statistics["image"], len(statistics["image_ids"])
        matched, ignored = (statistics[name][:, 0] for name in ("matched", "ignored"))  # (D, T), people of any size
        right = matched[:, 0] & ~ignored[:, 0]
        reached = (9 + (matched & ~ignored).sum(axis=1)) / 20  # the highest threshold of each detection
        exact = statistics.get("similarity", np.full(len(image), np.nan))
        count = np.bincount(image[right], minlength=images)

        def mean(values: np.ndarray) -> np.ndarray:
            total = np.bincount(image[right], values[right], minlength=images)
            return np.asarray(np.divide(total, count, out=np.full(images, np.nan), where=count > 0))

        return {
            "people": np.bincount(statistics["truth_image"], statistics["truth_counted"][:, 0], images).astype(int),
            "matched": count,
            "false_detections": np.bincount(image[~matched[:, 0] & ~ignored[:, 0]], minlength=images),
            "similarity": mean(exact),
            "similarity_floor": mean(reached),
        }


def _similarities(
    groups: _matching.Groups, points: np.ndarray, people: list[dict[str, Any]], area: np.ndarray, variances: np.ndarray
) -> np.ndarray:
    """Object keypoint similarity (P,) of each pair, as pycocotools' `computeOks` has it, to the last bit.

    It is the mean over labelled joints of exp(-d^2 / 2 area (2 sigma)^2). A person without any is matched by joints in
    and around their box, enlarged by its size on each side.
    """
    truth, box = _points(people, len(variances)), np.array([a["bbox"] for a in people], dtype=float).reshape(-1, 4)
    similarity = np.empty(len(groups.left))
    for pairs in np.array_split(np.arange(len(similarity)), len(similarity) // PAIRS + 1):
        found, person = points[groups.left[pairs]], groups.right[pairs]
        labelled, size = truth[person, :, 2] > 0, area[person, None] + np.spacing(1)  # (N, K), (N, 1)
        unlabelled = ~labelled.any(axis=1)
        with np.errstate(over="ignore"):
            away = found - truth[person, :, :2]
            away[unlabelled] = _beyond(found[unlabelled], box[person[unlabelled], None])
            exponents = (away[..., 0] ** 2 + away[..., 1] ** 2) / variances / size / 2
        labelled[unlabelled] = True
        count = labelled.sum(axis=1)
        for joints in np.unique(count):  # as many at a time, for a sum with zeros differs in its last bit
            rows = np.flatnonzero(count == joints)
            own = np.exp(-exponents[rows][labelled[rows]].reshape(len(rows), joints))
            similarity[pairs[rows]] = own.sum(axis=1) / joints
    return similarity


def _beyond(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """How far points (N, K, 2) are outside of boxes (N, 1, 4), enlarged by their size on each side; 0 within."""
    low, high = box[..., :2] - box[..., 2:], box[..., :2] + box[..., 2:] * 2
    beyond: np.ndarray = np.maximum(0, low - points) + np.maximum(0, points - high)
    return beyond


def _points(rows: list[dict[str, Any]], joints: int) -> np.ndarray:
    return np.array([row["keypoints"] for row in rows], dtype=float).reshape(len(rows), joints, 3)


def _curves(matched: np.ndarray, ignored: np.ndarray, counted: float) -> tuple[np.ndarray, np.ndarray]:
    """Precision at the R = 101 recalls (T, R) and the highest recall (T,), from rows (D, T), best first."""
    if counted == 0:
        return np.full((matched.shape[1], len(_redrawn.RECALLS)), np.nan), np.full(matched.shape[1], np.nan)
    right = (matched & ~ignored).cumsum(axis=0).T.astype(float)  # (T, D)
    wrong = (~matched & ~ignored).cumsum(axis=0).T.astype(float)
    reached = right / counted
    precision = right / (wrong + right + np.spacing(1))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # at this recall or any higher one
    best = np.pad(best, ((0, 0), (0, 1)))  # recalls never reached have precision 0
    at = np.stack([np.searchsorted(row, _redrawn.RECALLS) for row in reached])  # (T, R)
    highest = reached[:, -1] if reached.shape[1] else np.zeros(len(reached))
    return np.take_along_axis(best, at, axis=1), highest
