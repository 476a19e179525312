"""Distances of joints in pixels, and in a length of the person that the data set names.

NME is the mean over people of their mean distance (Sun et al. 2020, PAMI, sec. VIII; the outer corners of the eyes of
WFLW, 300W and COFW), PCKh the share of joints within half of the head's size (Andriluka et al., CVPR 2014): which
length it is, the data set says (`Joints.norm`, or `norm` of an annotation). Without one these scores are nan.

RMSE is the root of the mean square, in pixels of the image. What DeepLabCut prints as rmse is the mean distance, here
`pixel_error`; its cut leaves out joints whose confidence is below 0.6 (pcutoff). People whom nobody predicted count as
failures in FR10 and PCKh, and are left out of means of distances.
"""

from typing import Any

import numpy as np

from ablate.datasets import Info
from ablate.metrics._whose import matched
from ablate.registry import metric

CUT = 0.6  # DeepLabCut's pcutoff
FAILED = 0.1  # NME beyond which a face counts as failed


@metric(
    "joint_distance",
    meaning=1,
    scores=("NME", "FR10", "PCKh", "PCKh01", "RMSE", "RMSE_cut", "pixel_error", "pixel_error_cut"),
    unless="the set names no length of a person to measure in (norm)",
    errors={
        "NME": "of the length that the set names",
        "FR10": "",
        "RMSE": "pixels",
        "RMSE_cut": "pixels",
        "pixel_error": "pixels",
        "pixel_error_cut": "pixels",
    },
    columns={
        "joints_measured": ("int", "joints", "labelled joints of the people whom somebody predicted"),
        "pixel_error": ("float", "pixels", "mean distance of these joints from where they are; none without any"),
        "NME": ("float", "the set's norm", "the same in the length that the set names; none where it names none"),
    },
)
def joint_distance() -> "JointDistance":
    """Normalised mean error, PCKh and root mean square errors in pixels; smaller is better but for PCKh."""
    return JointDistance()


class JointDistance:
    """See `Metric`."""

    def per_image(
        self, predictions: list[dict[str, Any]], ground_truth: dict[str, Any], info: Info
    ) -> dict[str, np.ndarray]:
        """One row for each labelled joint of each person.

        Returns `image_ids` (I,) and for N rows: `image` (N,) by position, ascending, `annotation_id` (N,), `joint`
        (N,), `distance` (N,) in pixels, infinite where nobody was found, `confidence` (N,) and `norm` (N,) in pixels,
        nan where the person has none.
        """
        ids = sorted(image["id"] for image in ground_truth["images"])
        place = {image_id: position for position, image_id in enumerate(ids)}
        rows = [
            (place[whose.annotation["image_id"]], whose.annotation["id"], joint, *measured, norm)
            for whose in matched(predictions, ground_truth, ids, size=_labelled)
            for norm in [_norm(whose.annotation, info)]
            for joint, measured in enumerate(zip(whose.errors, whose.confidence, strict=True))
            if whose.annotation["keypoints"][3 * joint + 2] > 0
        ]
        image, annotation_id, joint, distance, confidence, norm = np.array(rows, dtype=float).reshape(-1, 6).T
        return {
            "image_ids": np.array(ids, dtype=np.int64),
            "image": image.astype(np.int32),
            "annotation_id": annotation_id.astype(np.int64),
            "joint": joint.astype(np.int16),
            "distance": distance,
            "confidence": confidence,
            "norm": norm,
        }

    def aggregate(self, statistics: dict[str, np.ndarray], weights: np.ndarray | None = None) -> dict[str, float]:
        """The scores; see `Metric`."""
        image, distance = statistics["image"], statistics["distance"]
        counts = np.ones(len(image)) if weights is None else weights[image].astype(float)
        there, sure = np.isfinite(distance), statistics["confidence"] >= CUT
        with np.errstate(invalid="ignore"):
            share = distance / statistics["norm"]
        measured = ~np.isnan(share)
        nme, of = _by_person(statistics, share)
        weight = np.ones(len(of)) if weights is None else weights[of].astype(float)
        found = np.isfinite(nme)
        return {
            "NME": _mean(nme, weight, found),
            "FR10": _mean((nme > FAILED).astype(float), weight, ~np.isnan(nme)),
            "PCKh": _mean((share <= 0.5).astype(float), counts, measured),
            "PCKh01": _mean((share <= 0.1).astype(float), counts, measured),
            "RMSE": float(np.sqrt(_mean(distance**2, counts, there))),
            "RMSE_cut": float(np.sqrt(_mean(distance**2, counts, there & sure))),
            "pixel_error": _mean(distance, counts, there),
            "pixel_error_cut": _mean(distance, counts, there & sure),
        }

    def columns(self, statistics: dict[str, Any]) -> dict[str, np.ndarray]:
        """For each image (I,) the columns that the decorator describes."""
        images, distance = len(statistics["image_ids"]), statistics["distance"]
        with np.errstate(invalid="ignore"):
            share = distance / statistics["norm"]
        return {
            "joints_measured": np.bincount(statistics["image"][np.isfinite(distance)], minlength=images),
            "pixel_error": _means(distance, statistics["image"], images),
            "NME": _means(share, statistics["image"], images),
        }


def _labelled(annotation: dict[str, Any]) -> float:
    """1 pixel where a joint is labelled, else 0."""
    return float(any(value > 0 for value in annotation["keypoints"][2::3]))


def _norm(annotation: dict[str, Any], info: Info) -> float:
    """The length in pixels that a person's errors are measured in; nan where there is none."""
    if "norm" in annotation:
        return float(annotation["norm"]) or np.nan
    if (pair := info.need_joints().norm) is None:
        return np.nan
    first, second = (annotation["keypoints"][3 * place : 3 * place + 3] for place in pair)
    length = float(np.hypot(first[0] - second[0], first[1] - second[1]))
    return length if min(first[2], second[2]) > 0 and length else np.nan


def _by_person(statistics: dict[str, np.ndarray], share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each person's joints (P,), infinite where nobody was found, and the image (P,) of each."""
    _, first, person = np.unique(statistics["annotation_id"], return_index=True, return_inverse=True)
    with np.errstate(invalid="ignore"):
        means = np.bincount(person, share, len(first)) / np.bincount(person, minlength=len(first))
    return means, statistics["image"][first]


def _mean(values: np.ndarray, weights: np.ndarray, where: np.ndarray) -> float:
    total = weights[where].sum()
    return float(values[where] @ weights[where] / total) if total else float("nan")


def _means(values: np.ndarray, image: np.ndarray, images: int) -> np.ndarray:
    """The mean in each image (I,) of what is finite; nan without any."""
    there = np.isfinite(values)
    total, count = (np.bincount(image[there], of, images) for of in (values[there], np.ones(there.sum())))
    return np.asarray(np.divide(total, count, out=np.full(images, np.nan), where=count > 0))
