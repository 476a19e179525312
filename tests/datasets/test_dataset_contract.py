"""What every data set of the shelf keeps to; a new one is added to conftest.py's `any_dataset`."""

import pickle
import subprocess
import sys

import numpy as np
import pycocotools.mask
import pytest

from ablate import registry
from ablate.datasets import IGNORED, SPLITS, as_runs


def test_the_contract_covers_the_shelf():
    known = ["cityscapes", "coco_instances", "coco_pose", "deeplabcut", "face_landmarks", "figures", "image_folder"]
    known += ["label_folder", "mpii"]
    assert registry.names("dataset") == known, "add the new part to `any_dataset`"


@pytest.mark.parametrize("name", registry.names("dataset"))
def test_every_knob_is_documented_and_has_a_default(name):
    for knob in registry.describe("dataset", name).knobs:
        assert knob.doc, f"{knob.name} has no comment on its line"
        assert knob.default is not registry.REQUIRED


def test_info_tells_what_the_tasks_need(any_dataset, served):
    info = any_dataset[0].info
    assert info.licence
    assert info.source
    assert served
    assert bool(info.joints) == ("pose" in served)
    assert bool(info.classes) == ("segmentation" in served)
    assert bool(info.things) == ("detection" in served)
    assert bool(info.image_classes) == ("classification" in served)


def test_joints_agree_with_each_other(any_dataset):
    joints = any_dataset[0].info.joints
    if joints is None:
        return
    count = len(joints)
    assert len(joints.sigmas) == count
    assert len(set(joints)) == count
    assert all(0 < sigma < 0.2 for sigma in joints.sigmas)
    assert set(joints.upper_body or ()) <= set(range(count))
    mirror = np.array(joints.mirror)
    assert (mirror[mirror] == np.arange(count)).all()
    for joint, other in zip(joints, mirror, strict=True):
        swapped = joint.replace("left_", "#").replace("right_", "left_").replace("#", "right_")
        assert joints[other] == swapped or joint.startswith("point_")  # landmarks of faces have numbers for names
        assert joints.sigmas[joints.index(joint)] == joints.sigmas[other]


def test_classes_agree_with_each_other(any_dataset):
    classes = any_dataset[0].info.classes
    if classes is None:
        return
    count = len(classes)
    assert len(set(classes)) == len(classes.categories) == count
    assert len(set(classes.label_ids)) == count < IGNORED
    assert all(0 <= number < 256 for number in classes.label_ids)
    assert len(classes.class_weights) in (0, count)


@pytest.mark.parametrize("split", SPLITS)
def test_samples_carry_what_info_promises(any_dataset, split):
    data, root = any_dataset
    samples = data.open(split, root)
    assert len(samples) == (data.info.sizes or {}).get(split, len(samples)) > 0
    for index in range(len(samples)):
        sample = samples[index]
        height, width = sample["image"].shape[:2]
        assert sample["image"].shape == (height, width, 3)
        assert sample["image"].dtype == np.uint8
        assert sample["image_id"] in samples.image_ids()
        assert (samples.image(sample["image_id"]) == sample["image"]).all()
        if data.info.joints:
            check_person(sample, joints=len(data.info.joints))
        elif data.info.classes:
            assert (sample["labels"] == samples.labels(sample["image_id"])).all()
        elif data.info.image_classes:
            assert sample["label"] == samples.image_class(sample["image_id"])
    with pytest.raises(IndexError):
        samples[len(samples)]


def check_person(sample, *, joints):
    height, width = sample["image"].shape[:2]
    assert sample["joints"].shape == (joints, 3)
    x, y, w, h = sample["box"]
    assert 0 <= x < x + w <= width
    assert 0 <= y < y + h <= height
    labelled = sample["joints"][sample["joints"][:, 2] > 0]
    assert len(labelled)
    assert set(labelled[:, 2]) <= {1, 2}
    assert (labelled[:, :2] >= -0.5).all()
    assert (labelled[:, :2] <= (width - 0.5, height - 0.5)).all()
    assert sample["area"] > 0


@pytest.mark.parametrize("split", SPLITS)
def test_labelled_images_carry_what_info_promises(any_dataset, served, split):
    if "segmentation" not in served:
        pytest.skip("no maps of classes")
    data, root = any_dataset
    samples = data.open(split, root)
    ids = samples.image_ids()
    assert len(ids) == (data.info.images or {}).get(split, len(ids)) > 0
    seen = set()
    for image_id in ids:
        image, labels = samples.labelled_image(image_id)
        assert image.dtype == labels.dtype == np.uint8
        assert image.shape == (*labels.shape, 3)
        assert labels.shape == (data.info.size or labels.shape)
        assert (image == samples.image(image_id)).all()
        assert (labels == samples.labels(image_id)).all()
        seen |= set(np.unique(labels))
    assert len(seen) > 2
    assert seen <= {*range(len(data.info.classes)), IGNORED}


@pytest.mark.parametrize("split", SPLITS)
def test_instances_are_within_their_images_and_in_the_truth(any_dataset, served, split):
    if "detection" not in served:
        pytest.skip("no instances")
    data, root = any_dataset
    samples, classes = data.open(split, root), data.info.need_things()
    truth = samples.instance_truth()
    assert [category["name"] for category in truth["categories"]] == list(classes)
    assert len(samples.category_numbers) == len(classes)
    count = 0
    for image_id in samples.image_ids():
        found, (height, width) = samples.instances(image_id), samples.image(image_id).shape[:2]
        own = [a for a in truth["annotations"] if a["image_id"] == image_id]
        assert found["boxes"].tolist() == [a["bbox"] for a in own]
        assert (found["places"] + 1).tolist() == [a["category_id"] for a in own]
        assert found["crowd"].tolist() == [bool(a["iscrowd"]) for a in own]
        assert (found["boxes"][:, :2] >= 0).all()
        assert (found["boxes"][:, :2] + found["boxes"][:, 2:] <= (width, height)).all()
        for mask, annotation in zip(found["masks"], own, strict=True):
            if mask is not None:
                runs = as_runs(mask, height, width)
                assert pycocotools.mask.area(runs) == pytest.approx(annotation["area"], rel=0.15)
        count += len(own)
    assert count == len(truth["annotations"]) > 2


@pytest.mark.parametrize("split", SPLITS)
def test_images_with_classes_carry_what_info_promises(any_dataset, served, split):
    if "classification" not in served:
        pytest.skip("no classes of images")
    data, root = any_dataset
    samples, classes = data.open(split, root), data.info.need_image_classes()
    ids = samples.classified_ids()
    assert len(ids) == (data.info.classified or {}).get(split, len(ids)) > 1
    assert len(set(classes)) == len(classes) > 1
    assert set(ids) <= set(samples.image_ids())
    places = set()
    for image_id in ids:
        image, place = samples.classified_image(image_id)
        assert (image == samples.image(image_id)).all()
        assert place == samples.image_class(image_id)
        places.add(place)
    assert len(places) > 1
    assert places <= set(range(len(classes)))


@pytest.mark.parametrize("split", SPLITS)
def test_every_image_has_a_name_of_its_own(any_dataset, split):
    samples = any_dataset[0].open(split, any_dataset[1])
    names = [samples.name(image_id) for image_id in samples.image_ids()]
    assert len(set(names)) == len(names)
    assert all(name and "/" not in name and "." not in name for name in names)


@pytest.mark.parametrize("split", SPLITS)
def test_the_same_index_gives_the_same_sample(any_dataset, split):
    data, root = any_dataset
    first, second = data.open(split, root), data.open(split, root)
    for index in reversed(range(len(first))):  # in another order: nothing depends on what was asked before
        assert pickle.dumps(first[index]) == pickle.dumps(second[index])
    assert first.digest() == second.digest() == first.verify()


def test_splits_differ(any_dataset):
    data, root = any_dataset
    train, val = (data.open(split, root) for split in SPLITS)
    assert train.digest() != val.digest()
    assert not np.array_equal(train[0]["image"], val[0]["image"])


def test_ground_truth_holds_every_sample(any_dataset, served):
    data, root = any_dataset
    samples = data.open("val", root)
    truth = samples.ground_truth()
    assert [image["id"] for image in truth["images"]] == samples.image_ids()
    if "detection" in served and not data.info.joints:
        assert len(truth["annotations"]) == 4
        return
    if not data.info.joints:
        assert truth["annotations"] == truth["categories"] == []
        return
    assert [category["id"] for category in truth["categories"]] == [1]
    annotations = {annotation["id"]: annotation for annotation in truth["annotations"]}
    assert len(annotations) == len(truth["annotations"]) >= len(samples)
    for index in range(len(samples)):
        sample = samples[index]
        annotation = annotations[sample["annotation_id"]]
        assert annotation["keypoints"] == sample["joints"].ravel().tolist()
        assert annotation["num_keypoints"] == (sample["joints"][:, 2] > 0).sum()
        assert annotation["image_id"] == sample["image_id"]
        assert annotation["area"] == sample["area"]


def test_nothing_is_wrong_with_sound_files(any_dataset):
    data, root = any_dataset
    assert data.open("train", root).check() == []
    assert data.open("train", root).check(thorough=True) == []


def test_the_shelf_imports_no_torch():
    modules = ", ".join(f"ablate.datasets.{name}" for name in registry.names("dataset"))
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
