"""PCK by hand, and whose prediction is whose."""

import numpy as np
import pytest
import scenes
from scenes import info

from ablate import registry
from ablate.datasets import Info
from ablate.errors import PartError

PCK = registry.build("metric", "pck", {"fraction": 0.2})
NAMES = info().joints


def person(number, at, *, without=(), **changes):
    """A person whose left shoulder and right hip are 50 pixels apart (30 across, 40 down)."""
    places = {name: (at + 2.0 * i, 100.0) for i, name in enumerate(NAMES)}
    places |= {"left_shoulder": (at + 30.0, 10.0), "right_hip": (at, 50.0)}
    places |= {"right_shoulder": (at, 10.0), "left_hip": (at + 24.0, 28.0)}  # the other way: 30 pixels
    keypoints = [v for name in NAMES for v in ((0, 0, 0) if name in without else (*places[name], 2))]
    plain = {"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 60, 80], "area": 900.0}
    return plain | {"keypoints": keypoints, "num_keypoints": 17 - len(without)} | changes


def found(annotation, shift=0.0, *, number=-1, score=0.5):
    points = np.array(annotation["keypoints"], float).reshape(-1, 3)
    points[:, 0] += shift
    return {
        "image_id": 1,
        "category_id": 1,
        "keypoints": points.ravel().tolist(),
        "score": score,
        "annotation_id": number,
    }


def score(predictions, annotations, data=None):
    truth = {"images": [{"id": 1}, {"id": 2}], "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    statistics = PCK.per_image(predictions, truth, data or info())
    return PCK.aggregate(statistics)["PCK"], statistics


def test_a_fifth_of_the_torso():
    annotation = person(1, 0)
    assert score([found(annotation, 9.99, number=1)], [annotation])[0] == 1
    assert score([found(annotation, 10.01, number=1)], [annotation])[0] == 0
    prediction = found(annotation, number=1)
    prediction["keypoints"][:3] = 300, 300, 1
    assert score([prediction], [annotation])[0] == pytest.approx(16 / 17)


def test_the_other_diagonal_where_the_first_is_not_labelled():
    annotation = person(1, 0, without=("left_shoulder",))
    value, statistics = score([found(annotation, 5.9, number=1)], [annotation])
    assert value == 1
    assert len(statistics["distance"]) == 16
    assert statistics["distance"] == pytest.approx(5.9 / 30)
    assert score([found(annotation, 6.1, number=1)], [annotation])[0] == 0


def test_people_without_a_torso_and_crowds_are_not_counted():
    without = person(1, 0, without=("left_shoulder", "left_hip"))
    crowd = person(2, 0, iscrowd=1)
    value, statistics = score([], [without, crowd])
    assert np.isnan(value)
    assert len(statistics["distance"]) == 0


def test_joint_sets_without_a_torso_are_measured_by_the_box():
    head = Info("head", None, "none", "made", joints=("nose", "chin"), sigmas=(0.1, 0.1))
    annotation = person(1, 0, keypoints=[10, 10, 2, 10, 30, 2], num_keypoints=2)  # its box is 60 x 80
    assert score([found(annotation, 15.9, number=1)], [annotation], head)[0] == 1
    assert score([found(annotation, 16.1, number=1)], [annotation], head)[0] == 0


def test_a_prediction_goes_to_the_annotation_it_names():
    left, right = person(1, 0), person(2, 60)
    swapped = [found(right, number=1), found(left, number=2)]
    assert score(swapped, [left, right])[0] == 0
    assert score([found(left, number=1)], [left, right])[0] == 0.5  # nobody was found for the other


def test_others_go_to_the_nearest_best_first():
    left, right = person(1, 0), person(2, 60)
    good, worse = found(left, 1.0, score=0.9), found(left, 2.0, score=0.8)
    assert score([worse, good, found(right, score=0.1)], [left, right])[0] == 0.5  # `worse` was left with the right one
    value, statistics = score([good, found(right, score=0.8), worse], [left, right])
    assert value == 1
    assert np.unique(statistics["distance"].round(6)).tolist() == [0, 0.02]


def test_a_fraction_is_positive():
    with pytest.raises(PartError, match="must be positive"):
        registry.build("metric", "pck", {"fraction": 0.0})


def test_the_columns_of_an_image_count_its_joints():
    predictions, truth = scenes.scene(2)
    metric = registry.build("metric", "pck", {})
    statistics = metric.per_image(predictions, truth, scenes.info())
    columns = metric.columns(statistics)
    assert columns["joints"].sum() == len(statistics["distance"])
    assert columns["joints_found"].sum() / columns["joints"].sum() == pytest.approx(metric.aggregate(statistics)["PCK"])
    place = int(np.argmax(columns["joints"] - columns["joints_found"]))
    alone = np.arange(len(columns["joints"])) == place
    expected = metric.aggregate(statistics, alone.astype(int))["PCK"]
    assert columns["joints_found"][place] / columns["joints"][place] == pytest.approx(expected)
