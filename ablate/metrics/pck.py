"""Percentage of correct keypoints: how many labelled joints were found within a fraction of the torso.

The torso of a person is the distance from the left shoulder to the right hip, or from the right to the left where
that is not labelled (Sapp & Taskar, MODEC, CVPR 2013; the measure of the Leeds Sports evaluations). People without
either are not counted. Joint sets without shoulders and hips take the longer side of the annotated box instead
(Yang & Ramanan, PAMI 2013).
"""

from collections.abc import Container
from typing import Any

import numpy as np

from ablate.datasets import Info
from ablate.errors import PartError
from ablate.metrics import Parts
from ablate.metrics._whose import matched
from ablate.registry import metric

DIAGONALS = (("left_shoulder", "right_hip"), ("right_shoulder", "left_hip"))


@metric(
    "pck",
    meaning=1,
    scores=("PCK",),
    unless="nobody on these images has a torso whose ends are labelled",
    columns={
        "joints": ("int", "joints", "labelled joints of the people who have a size"),
        "joints_found": ("int", "joints", "of these, found within the fraction of the torso that PCK takes"),
    },
)
def pck(
    *,
    fraction: float = 0.2,  # of the torso: how far off a joint may be
) -> "PCK":
    """PCK@0.2: the share of labelled joints found within 0.2 torsos.

    Raises:
        PartError: a fraction that is not positive.
    """
    if fraction <= 0:
        raise PartError(f"fraction: must be positive, not {fraction}")
    return PCK(fraction)


class PCK:
    """See `Metric`."""

    def __init__(self, fraction: float) -> None:
        self.fraction = fraction

    def per_image(
        self, predictions: list[dict[str, Any]], ground_truth: dict[str, Any], info: Info
    ) -> dict[str, np.ndarray]:
        """One row for each labelled joint of each person with a size.

        Returns `image_ids` (I,) and for N rows: `image` (N,) by position, `annotation_id` (N,), `joint` (N,), and
        `distance` (N,) from the prediction in units of the person's size, infinite where nobody was found.
        """
        ids = sorted(image["id"] for image in ground_truth["images"])
        place = {image_id: position for position, image_id in enumerate(ids)}
        rows = [
            (place[whose.annotation["image_id"]], whose.annotation["id"], joint, distance)
            for whose in matched(predictions, ground_truth, ids, size=lambda annotation: _size(annotation, info))
            for joint, distance in enumerate(whose.errors / whose.size)
            if whose.annotation["keypoints"][3 * joint + 2] > 0
        ]
        image, annotation_id, joint, distance = np.array(rows, dtype=float).reshape(-1, 4).T
        return {
            "image_ids": np.array(ids, dtype=np.int64),
            "image": image.astype(np.int32),
            "annotation_id": annotation_id.astype(np.int64),
            "joint": joint.astype(np.int16),
            "distance": distance,
        }

    def aggregate(self, statistics: dict[str, np.ndarray], weights: np.ndarray | None = None) -> dict[str, float]:
        """The share of joints within the fraction, between 0 and 1; see `Metric`."""
        image, correct = statistics["image"], statistics["distance"] <= self.fraction
        counts = np.ones(len(image)) if weights is None else weights[image]
        return {"PCK": float(counts @ correct / counts.sum()) if counts.sum() else np.nan}

    def redrawn(
        self, statistics: dict[str, np.ndarray], weights: np.ndarray, wanted: Container[str]
    ) -> dict[str, np.ndarray]:
        """See `Redraws`."""
        image, images = statistics["image"], weights.shape[1]
        if len(image) and not 0 <= image.min() <= image.max() < images:
            raise ValueError("rows of images that are not there")
        found, labelled = (
            weights @ np.bincount(rows, minlength=images)  # (R,)
            for rows in (image[statistics["distance"] <= self.fraction], image)
        )
        with np.errstate(invalid="ignore"):
            return {"PCK": found / labelled}  # 0 of 0 is nan

    def parts(self, statistics: dict[str, np.ndarray], info: Info) -> Parts:
        """PCK of each joint (K,). Places drawn at random within people's boxes have one of .02, on Leeds Sports and on
        drawn figures.

        Raises:
            ValueError: joints that the data set does not have.
        """
        joint, names = statistics["joint"], info.need_joints()
        if len(joint) and not 0 <= joint.min() <= joint.max() < len(names):
            raise ValueError("joints that the data set does not have")
        correct = joint[statistics["distance"] <= self.fraction]
        found, labelled = (np.bincount(of, minlength=len(names)) for of in (correct, joint))
        with np.errstate(invalid="ignore"):
            scores = found / labelled  # 0 of 0 is nan
        return Parts("joint", f"PCK@{self.fraction:g}", tuple(names), scores, labelled, np.zeros(len(names)))

    def columns(self, statistics: dict[str, Any]) -> dict[str, np.ndarray]:
        """For each image (I,) the columns that the decorator describes."""
        images, image = len(statistics["image_ids"]), statistics["image"]
        found = image[statistics["distance"] <= self.fraction]
        return {
            "joints": np.bincount(image, minlength=images),
            "joints_found": np.bincount(found, minlength=images),
        }


def _size(annotation: dict[str, Any], info: Info) -> float:
    """The length in pixels that errors are measured by; 0 where the person has none."""
    points, names = np.array(annotation["keypoints"], dtype=float).reshape(-1, 3), info.need_joints()
    present = [pair for pair in DIAGONALS if set(pair) <= set(names)]
    if not present:
        return float(max(annotation["bbox"][2:]))
    ends = [points[[names.index(name) for name in pair]] for pair in present]
    return next((float(np.linalg.norm(a[:2] - b[:2])) for a, b in ends if min(a[2], b[2]) > 0), 0.0)
