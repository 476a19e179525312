"""COCO's keypoint average precision and recall, as pycocotools has them.

Matching people with annotations is pycocotools' `evaluate`. The matches are added up here, to the last bit as its
`accumulate` and `summarize` do, also for resampled data sets, in which images are repeated.
"""

import contextlib
import io
from collections.abc import Container, Iterator
from copy import deepcopy
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ablate.datasets import Info
from ablate.metrics import _redrawn, take_blocks
from ablate.registry import metric

RESULT = ("image_id", "category_id", "keypoints", "score")  # what pycocotools may see of a prediction


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
            ValueError: a prediction is not finite, which pycocotools would take for a perfect match.
        """
        evaluation = _evaluated(predictions, ground_truth, info)
        ids = [int(image_id) for image_id in evaluation.params.imgIds]
        areas = np.reshape(np.array(evaluation.evalImgs, dtype=object), (-1, len(ids)))  # (A, I)
        of_image = [(position, column) for position, column in enumerate(areas.T) if column[0] is not None]
        shape = (0, len(areas), len(evaluation.params.iouThrs))  # (0, A, T)

        def rows(key: str) -> np.ndarray:
            blocks = [np.stack([entry[key].T for entry in column], axis=1) for _, column in of_image]
            return np.concatenate([np.zeros(shape), *blocks]).astype(bool)  # (D, A, T)

        near = [_similarities(evaluation, column[0]) for _, column in of_image]
        counted = [np.stack([entry["gtIgnore"] == 0 for entry in column], axis=1) for _, column in of_image]
        found, truths = ([len(column[0][key]) for _, column in of_image] for key in ("dtIds", "gtIds"))
        positions = np.array([position for position, _ in of_image], dtype=np.int32)
        return {
            "image_ids": np.array(ids, dtype=np.int64),
            "image": np.repeat(positions, found),
            "score": np.array([score for _, column in of_image for score in column[0]["dtScores"]], dtype=float),
            "matched": rows("dtMatches"),
            "ignored": rows("dtIgnore"),
            "similarity": np.concatenate([np.zeros(0), *near]),
            "truth_image": np.repeat(positions, truths),
            "truth_counted": np.concatenate([np.zeros(shape[:2], dtype=bool), *counted]),  # (G, A)
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


def _similarities(evaluation: Any, entry: dict[str, Any]) -> np.ndarray:
    """For each detection (D,) of an image its similarity with the annotation matched at .5; nan without a match."""
    pair = entry["image_id"], entry["category_id"]
    place = {annotation["id"]: column for column, annotation in enumerate(evaluation._gts[pair])}
    similarities, matches = evaluation.ious[pair], entry["dtMatches"][0]  # (D, G), (D,)
    found = [similarities[row, place[int(match)]] if match else np.nan for row, match in enumerate(matches)]
    return np.array(found, dtype=float)


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


def _evaluated(predictions: list[dict[str, Any]], ground_truth: dict[str, Any], info: Info) -> Any:
    """A COCOeval that has matched predictions with annotations."""
    bad = sum(not np.isfinite([*p["keypoints"][0::3], *p["keypoints"][1::3], p["score"]]).all() for p in predictions)
    if bad:
        raise ValueError(f"{bad} of {len(predictions)} predictions are not finite")
    with _quiet():
        truth, found = COCO(), COCO()
        # Ids from 1: pycocotools takes a match with id 0 for none.
        annotations = [{**a, "id": i} for i, a in enumerate(ground_truth["annotations"], start=1)]
        truth.dataset = deepcopy({**ground_truth, "annotations": annotations})  # pycocotools writes into it
        truth.createIndex()
        if predictions:
            found = truth.loadRes([{key: prediction[key] for key in RESULT} for prediction in predictions])
        evaluation = COCOeval(truth, found, "keypoints")
        evaluation.params.catIds = [1]
        evaluation.params.kpt_oks_sigmas = np.array(info.need_joints().sigmas)
        evaluation.evaluate()
    return evaluation


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()):
        yield
