"""Distances by hand: root mean squares, DeepLabCut's means and its cut, errors in a length of the set's."""

import numpy as np
import pytest

from ablate.datasets import Info, Joints
from ablate.metrics import build_metric

METRIC = build_metric("joint_distance")
INFO = Info("made", None, "none", "made", joints=Joints(("a", "b", "c"), sigmas=(0.1,) * 3, norm=(0, 1)))


def annotation(number, points, image=1):
    keypoints = [value for point in points for value in point]
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [0, 0, 9, 9],
        "keypoints": keypoints,
    }


def scores(predictions, annotations, info=INFO):
    truth = {"images": [{"id": 1}, {"id": 2}], "annotations": annotations, "categories": []}
    return METRIC.aggregate(METRIC.per_image(predictions, truth, info))


ANN = annotation(1, [(0, 0, 2), (30, 40, 2), (9, 9, 0)])  # 50 pixels between a and b; c is not labelled
BEA = annotation(2, [(0, 0, 2), (0, 10, 1), (0, 5, 2)], image=2)  # 10 pixels


def found(of, *points):
    """A prediction with these joints and confidences."""
    keypoints = [value for point in points for value in point]
    own = {"image_id": of["image_id"], "category_id": 1, "annotation_id": of["id"]}
    return own | {"keypoints": keypoints, "score": 0.5}


def test_by_hand():
    ours = [
        found(ANN, (3, 4, 0.9), (30, 40, 0.5), (0, 0, 0.9)),  # 5 pixels and none
        found(BEA, (0, 0, 0.6), (0, 10, 0.7), (12, 5, 0.3)),  # none, none and 12 pixels
    ]
    result = scores(ours, [ANN, BEA])
    assert result["RMSE"] == pytest.approx(np.sqrt((25 + 144) / 5))
    assert result["RMSE_cut"] == pytest.approx(np.sqrt(25 / 3))  # confidences of .9, .6 and .7
    assert result["pixel_error"] == pytest.approx(17 / 5)
    assert result["pixel_error_cut"] == pytest.approx(5 / 3)
    assert result["NME"] == pytest.approx(np.mean([5 / 50 / 2, 12 / 10 / 3]))
    assert result["FR10"] == 0.5
    assert result["PCKh"] == 4 / 5
    assert result["PCKh01"] == 4 / 5  # 5 of 50 pixels is a tenth


def test_who_was_not_found_has_failed_and_has_no_distance():
    result = scores([found(ANN, (0, 0, 1), (30, 40, 1), (0, 0, 1))], [ANN, BEA])
    assert result["RMSE"] == result["NME"] == 0
    assert result["FR10"] == 0.5
    assert result["PCKh"] == 2 / 5


def test_a_set_without_a_norm_has_pixels_alone():
    plain = Info("made", None, "none", "made", joints=Joints(("a", "b", "c"), sigmas=(0.1,) * 3))
    result = scores([found(ANN, (3, 4, 1), (30, 40, 1), (0, 0, 1))], [ANN], plain)
    assert result["RMSE"] == pytest.approx(np.sqrt(12.5))
    assert all(np.isnan(result[name]) for name in ("NME", "FR10", "PCKh", "PCKh01"))


def test_an_annotation_may_have_its_own_norm():
    result = scores([found(ANN, (3, 4, 1), (30, 40, 1), (0, 0, 1))], [ANN | {"norm": 10.0}])
    assert result["NME"] == pytest.approx(5 / 10 / 2)


def test_each_image_has_its_own_columns():
    truth = {"images": [{"id": 1}, {"id": 2}], "annotations": [ANN, BEA], "categories": []}
    statistics = METRIC.per_image([found(ANN, (3, 4, 1), (30, 40, 1), (0, 0, 1))], truth, INFO)
    columns = METRIC.columns(statistics)
    assert columns["joints_measured"].tolist() == [2, 0]
    assert columns["pixel_error"][0] == 2.5
    assert np.isnan(columns["pixel_error"][1])
    assert columns["NME"][0] == pytest.approx(0.05)
