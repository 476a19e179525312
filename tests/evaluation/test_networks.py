"""Networks from ONNX files: the same network scores the same however its input and outputs lie."""

import json

import numpy as np
import painted
import pytest
import reading_networks as readers
from onnx import TensorProto

UNMIRRORED = ["--set", "evaluation.flip=false"]  # a colour keeps its side in a mirrored picture, a joint does not
CROP = ["--set", "task.size=[96, 64]", *UNMIRRORED]


@pytest.fixture
def evaluate(called):
    def call(file, task, folder, *more):
        status, out, err = called("evaluate", file, "--task", task, "--data", folder, *more, "--json")
        assert status == 0, err
        return json.loads(out)

    return call


@pytest.fixture
def people(tmp_path):
    return painted.people(tmp_path)


@pytest.fixture
def streets(tmp_path):
    return painted.streets(tmp_path)


def refused(called, *words):
    status, out, err = called("evaluate", *words)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    return err


def test_a_network_that_sees_the_joints_is_nearly_right(evaluate, people, tmp_path):
    found = evaluate(readers.of_joints(tmp_path / "n.onnx", stride=2), "pose", people, *CROP)
    assert found["scores"]["AP"] > 0.9
    assert found["scores"]["PCK"] > 0.95
    assert (found["subject"]["kind"], found["samples"]) == ("onnx", 9)


FORMS = {
    "fixed size": ({"size": (96, 64)}, []),
    "fixed batch": ({"batch": 4}, []),
    "channels last": ({"layout": "nhwc"}, []),
    "maps with channels last": ({"ends": "nhwc"}, []),
    "other names": ({"name": "picture:0"}, []),
    "0 to 1": ({"normalised": False}, ["network.mean=0", "network.std=1"]),
    "0 to 255": ({"normalised": False, "white": 255.0}, ["network.mean=0", "network.std=1", "network.white=255"]),
    "bgr": ({"bgr": True}, ["network.colours=bgr"]),
    "bytes": ({"normalised": False, "white": 255.0, "kind": TensorProto.UINT8}, []),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_network_scores_the_same_in_every_form(evaluate, people, tmp_path, form):
    choices, words = FORMS[form]
    settings = [word for setting in words for word in ("--set", setting)]
    plain = evaluate(readers.of_joints(tmp_path / "plain.onnx", stride=2), "pose", people, *CROP)
    crop = UNMIRRORED if "size" in choices else CROP
    found = evaluate(readers.of_joints(tmp_path / "n.onnx", stride=2, **choices), "pose", people, *crop, *settings)
    assert found["scores"] == pytest.approx(plain["scores"], abs=2e-3)
    assert found["task"]["size"] == [96, 64]


@pytest.mark.parametrize("stride", [1, 4])
def test_maps_of_any_stride_are_read_in_pixels_of_the_picture(evaluate, people, tmp_path, stride):
    found = evaluate(readers.of_joints(tmp_path / "n.onnx", stride=stride), "pose", people, *CROP)
    assert found["scores"]["AP50"] > 0.9


@pytest.mark.slow
def test_what_a_protocol_leaves_out_changes_the_score(evaluate, people, tmp_path):
    file = readers.of_joints(tmp_path / "n.onnx", stride=4)
    plain = evaluate(file, "pose", people, *CROP)
    coarse = evaluate(file, "pose", people, *CROP, "--set", "evaluation.refine=none")
    flipped = evaluate(file, "pose", people, *CROP, "--set", "evaluation.flip=true")
    assert (plain["evaluation"]["flip"], flipped["evaluation"]["flip"]) == (False, True)
    assert len({found["scores"]["AP"] for found in (plain, coarse, flipped)}) == 3
    assert len({found["id"] for found in (plain, coarse, flipped)}) == 3


SEGMENTED = {
    "quarter": ({"stride": 4}, []),
    "whole": ({}, []),
    "channels last": ({"ends": "nhwc", "layout": "nhwc"}, []),
    "class numbers": ({"ends": "classes"}, []),
    "another size": ({"size": (48, 64)}, []),
    "its own size": ({"size": (96, 128), "batch": 1}, []),
    "windows": ({"size": (48, 64)}, ["evaluation.window=[48, 64]"]),
    "sides of 40": ({"stride": 4}, ["network.multiple=40"]),
}


@pytest.mark.parametrize("form", SEGMENTED)
def test_classes_are_told_in_every_form(evaluate, streets, tmp_path, form):
    choices, words = SEGMENTED[form]
    settings = [word for setting in words for word in ("--set", setting)]
    found = evaluate(readers.of_classes(tmp_path / "n.onnx", **choices), "segmentation", streets, *settings)
    least = 0.999 if form in ("whole", "channels last", "class numbers", "its own size", "windows") else 0.7
    assert found["scores"]["mIoU"] > least
    assert any("were scaled to 48 x 64" in note for note in found["notes"]) == (form == "another size")


def test_two_classes_may_be_one_map(evaluate, streets, tmp_path):
    """Of a plain folder with two classes, the second's probability is enough."""
    import cv2

    plain = tmp_path / "cells"
    for split in ("train", "val"):
        for file in sorted(streets.glob(f"gtFine/{split}/*/*_labelIds.png")):
            name = file.name.removesuffix("_gtFine_labelIds.png")
            labels = (cv2.imread(str(file), cv2.IMREAD_UNCHANGED) > 17).astype(np.uint8)
            for kind, pixels in (("labels", labels), ("images", painted.COLOURS[labels][..., ::-1])):
                place = plain / kind / split / f"{split}{name}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(place), pixels)
    file = readers.write(tmp_path / "n.onnx", painted.COLOURS[:2], ends="one", relu=False)
    classes = ["--set", "dataset.classes=[membrane, cell]"]
    assert evaluate(file, "segmentation", plain, *classes)["scores"]["mIoU"] > 0.999


def test_the_user_says_which_channel_is_whose(called, evaluate, streets, tmp_path):
    """A network with a channel for the background before those of the classes."""
    colours = np.concatenate([[[0, 0, 0]], painted.COLOURS[: len(painted.CLASSES)]]).astype(np.uint8)
    file = readers.write(tmp_path / "n.onnx", colours, relu=False)
    line = refused(called, file, "--task", "segmentation", "--data", streets)
    assert "wanted maps (B, 19, h, w), one for each class of the set (road, sidewalk, building ...)" in line
    assert "its outputs are lifted (1, 20, 96, 128)" in line
    channels = f"network.channels={list(range(1, 20))}"
    assert evaluate(file, "segmentation", streets, "--set", channels)["scores"]["mIoU"] > 0.999


def test_several_outputs_that_fit_are_not_guessed_among(called, evaluate, streets, tmp_path):
    file = readers.of_classes(tmp_path / "n.onnx", ends="twice")
    assert "several outputs fit: lifted (1, 19, 96, 128), negative" in refused(
        called, file, "--task", "segmentation", "--data", streets
    )
    assert evaluate(file, "segmentation", streets, "--set", "network.output=lifted")["scores"]["mIoU"] > 0.999
    assert evaluate(file, "segmentation", streets, "--set", "network.output=negative")["scores"]["mIoU"] < 0.1
    assert "has no output 'other'; it has lifted, negative" in refused(
        called, file, "--task", "segmentation", "--data", streets, "--set", "network.output=other"
    )


def test_what_does_not_fit_is_one_line(called, people, streets, tmp_path):
    pose = ["--task", "pose", "--data", people]
    file = readers.of_joints(tmp_path / "n.onnx", layout="nhwc", size=(3, 3))
    assert "--set network.layout=nchw or nhwc says so" in refused(called, file, *pose)
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    assert "bad.onnx: no ONNX network" in refused(called, "bad.onnx", *pose)
    assert "absent.onnx: no such file" in refused(called, "absent.onnx", *pose)
    assert "did you mean 'colours'?" in refused(called, "n.onnx", *pose, "--set", "network.colors=bgr")
    assert "network.std" in refused(called, "n.onnx", *pose, "--set", "network.std=0")
    assert "network.mean" in refused(called, "n.onnx", *pose, "--set", "network.mean=[1, 2]")
    odd = readers.of_classes(tmp_path / "odd.onnx", size=(96, 100))
    assert "wanted maps (B, 17" in refused(called, odd, *pose)


@pytest.mark.parametrize("flip", [True, False])
def test_a_real_network_scores_what_it_must(evaluate, ablate_data, flip):
    """As its README says: AP .503, AP50 .785, AP75 .533, PCK .837 with the flip test."""
    file = ablate_data / "weights" / "simplepose_nano.onnx"
    words = ["--set", f"evaluation.flip={str(flip).lower()}"]
    found = evaluate(file, "pose", ablate_data / "coco_mini", *words)["scores"]
    wanted = {"AP": 0.503, "AP50": 0.785, "AP75": 0.533, "PCK": 0.837} if flip else {"AP": 0.500}
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=5e-4)
