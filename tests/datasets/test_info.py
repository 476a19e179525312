"""What a data set says of itself: joints and classes or None, and the same read and written as it was before."""

import dataclasses
import json
import pickle

import pytest

from ablate.datasets import Classes, Info, Joints
from ablate.errors import PartError

JOINTS = Joints(("nose", "left_eye", "right_eye"), flip_pairs=((1, 2),), sigmas=(0.1, 0.2, 0.2), upper_body=(0,))
CLASSES = Classes(("road", "car"), categories=("flat", "vehicle"), label_ids=(7, 26), class_weights=(0.8, 1.2))
WHOLE = Info("made", "1", "none", "made", joints=JOINTS, classes=CLASSES)
FLAT = Info(
    "made", "1", "none", "made",
    joints=("nose", "left_eye", "right_eye"), flip_pairs=((1, 2),), sigmas=(0.1, 0.2, 0.2), upper_body=(0,),
    classes=("road", "car"), categories=("flat", "vehicle"), label_ids=(7, 26), class_weights=(0.8, 1.2),
)  # fmt: skip


@pytest.mark.parametrize("info", [WHOLE, FLAT, pickle.loads(pickle.dumps(FLAT)), dataclasses.replace(FLAT, name="b")])
def test_facts_are_read_as_they_are_and_as_they_were(info):
    assert info.need_joints() is info.joints
    assert info.need_classes() is info.classes
    assert (info.joints.flip_pairs, info.joints.sigmas, info.joints.upper_body, info.joints.mirror) == (
        ((1, 2),), (0.1, 0.2, 0.2), (0,), (0, 2, 1),
    )  # fmt: skip
    for value in ("flip_pairs", "sigmas", "upper_body", "mirror"):
        assert getattr(info, value) == getattr(info.joints, value)
    for value in ("categories", "label_ids", "class_weights"):
        assert getattr(info, value) == getattr(info.classes, value) == getattr(CLASSES, value)
    assert info.joints == ("nose", "left_eye", "right_eye")
    assert info.joints.index("left_eye") == 1
    assert json.dumps([*info.joints[:1], info.classes]) == '["nose", ["road", "car"]]'


def test_a_fact_is_replaced_by_its_old_name():
    changed = dataclasses.replace(FLAT, class_weights=(1.0, 2.0), sigmas=(0.3, 0.3, 0.3))
    assert changed.need_classes().class_weights == (1.0, 2.0)
    assert changed.need_classes().label_ids == (7, 26)
    assert changed.need_joints().sigmas == (0.3, 0.3, 0.3)


def test_what_is_not_there_is_none():
    info = Info("bare", None, "none", "made", joints=(), classes=())
    assert info == Info("bare", None, "none", "made")
    assert info.joints is info.classes is None
    assert info.sigmas == info.mirror == info.categories == info.class_weights == ()
    with pytest.raises(PartError, match="dataset: bare names no joints, which the task needs"):
        info.need_joints()
    with pytest.raises(PartError, match="dataset: bare names no classes, which the task needs"):
        info.need_classes()


def test_it_stays_as_it_is():
    with pytest.raises(dataclasses.FrozenInstanceError):
        WHOLE.name = "other"
