"""Detectors as mmdetection and torchvision save them: every tensor is used, and what is found is what was found there.

The files are written here, by the names and shapes of mmdetection's code, from networks of ours.
"""

import re

import pytest
import torch
from test_detectors import CPU, ON_FIGURES, SET, directly, drawn, recipe, same
from torchvision.models.detection import fasterrcnn_resnet50_fpn, fcos_resnet50_fpn, maskrcnn_resnet50_fpn

from ablate.datasets import things
from ablate.evaluation import checkpoints, evaluate, published
from ablate.evaluation.asked import settings
from ablate.evaluation.evaluate import Question
from ablate.network.build import Network
from ablate.study import Recipe
from ablate.tasks import _detector_files

CLASSES = ("dog", "person", "cat")
THREE = {"name": "coco_instances", "set": "three", "classes": list(CLASSES)}
STAGE = {
    "box_head.fc6.": "bbox_head{}.shared_fcs.0.", "box_head.fc7.": "bbox_head{}.shared_fcs.1.",
    "box_predictor.cls_score.": "bbox_head{}.fc_cls.", "box_predictor.bbox_pred.": "bbox_head{}.fc_reg.",
    "mask_head.": "mask_head{}.convs.", "mask_predictor.conv5_mask.": "mask_head{}.upsample.",
    "mask_predictor.mask_fcn_logits.": "mask_head{}.conv_logits.",
}  # fmt: skip
NEWER = {"cls_logits": "conv_cls", "bbox_reg": "conv_reg", "bbox_ctrness": "conv_centerness"}


def as_mmdetection(net: Network, *, version: int) -> dict[str, torch.Tensor]:
    """The network's tensors by mmdetection's names, in its order of classes."""
    found = {}
    for name, value in net.state_dict().items():
        for theirs, tensor in _renamed(name, value, version):
            assert theirs not in found
            found[theirs] = tensor
    return found


def _renamed(name: str, value: torch.Tensor, version: int):
    layer = re.sub(r"^head\.head\.", "", name)
    if name.startswith("backbone.body."):
        return [(name.replace("backbone.body.", "backbone."), value)]
    if name.startswith("backbone.neck.reduction_conv."):
        middle = "0" if version == 1 else "conv"
        return [(name.replace("backbone.neck.reduction_conv.", f"neck.reduction_conv.{middle}."), value)]
    if found := re.match(r"backbone\.neck\.fpn_conv\.(\d)\.(\w+)", name):
        return [(f"neck.fpn_convs.{found[1]}.conv.{found[2]}", value)]
    for ours, theirs in (("conv.0.0.", "rpn_conv."), ("cls_logits.", "rpn_cls."), ("bbox_pred.", "rpn_reg.")):
        if layer.startswith(f"rpn.head.{ours}"):
            return [(f"rpn_head.{theirs}{layer.split('.')[-1]}", value)]
    if found := re.match(r"(?:roi_heads|cascade\.(\d))\.(.*)", layer):
        return [_of_stage(found[1], found[2], value, version)]
    return _of_fcos(layer, value, version)


def _of_stage(stage: str | None, layer: str, value: torch.Tensor, version: int) -> tuple[str, torch.Tensor]:
    begins = next(ours for ours in STAGE if layer.startswith(ours))
    end = layer.removeprefix(begins)
    end = re.sub(r"^(\d)\.0\.", r"\1.conv.", end) if begins == "mask_head." else end
    name = STAGE[begins].format("" if stage is None else f".{stage}") + end
    if stage == "2" and "fc_reg" in name:  # decoded there as delta x 0.033 and x 0.067, with us as delta / 30 and / 15
        factors = torch.tensor([1 / 0.99, 1 / 0.99, 1 / 1.005, 1 / 1.005])
        value = value * factors.reshape(-1, *[1] * (value.dim() - 1))
    if version == 1:
        return name, value
    if "fc_cls" in name:
        value = torch.cat([value[1:], value[:1]])
    elif "fc_reg" in name and stage is None:
        value = value[4:]
    elif "conv_logits" in name:
        value = value[1:]
    return f"roi_head.{name}", value


def _of_fcos(layer: str, value: torch.Tensor, version: int):
    if layer == "fcos.head.scales":
        return [(f"bbox_head.scales.{level}.scale", scale) for level, scale in enumerate(value)]
    found = re.fullmatch(r"fcos\.head\.(cls|reg)\w+_head\.(.*)\.(\w+)", layer.replace("classification", "cls_"))
    branch, rest, kind = found.groups()
    if rest in NEWER:
        theirs = NEWER[rest] if version > 1 else NEWER[rest].replace("conv_", "fcos_")
        return [(f"bbox_head.{theirs}.{kind}", value)]
    place = int(rest.split(".")[1])
    if place % 3 == 0 and kind == "bias":  # before a norm mmdetection has no bias, and ours is 0
        assert not value.any()
        return []
    return [(f"bbox_head.{branch}_convs.{place // 3}.{('conv', 'gn')[place % 3]}.{kind}", value)]


def official(detector: str, version: int) -> tuple[Recipe, Network]:
    """A small one with HRNetV2p, that was trained with mmdetection's conventions."""
    conventions = "mmdetection1" if version == 1 and detector != "fcos" else "mmdetection"
    chosen = recipe(detector, THREE, conventions=conventions, most=60)
    if detector == "fcos":
        knobs = {**chosen.model.knobs, "pyramid_stride": 2}
        chosen = chosen.model_copy(update={"model": chosen.model.model_copy(update={"knobs": knobs})})
    net = drawn(chosen)
    if detector == "fcos":
        net.head.head.fcos.head.scales.data = torch.tensor([1.0, 0.9, 1.2, 1.1, 0.8])
    for name, value in net.state_dict().items():
        if re.search(r"box_predictor\.bbox_pred|mask_fcn_logits", name) and "cascade" not in name:
            value[: 4 if "bbox" in name else 1] = 0  # of the background, which version 2 does not have
        if re.search(r"cascade.*mask_fcn_logits", name):
            value[:1] = 0
    return chosen, net


RULES = ("task.size=[64, 96]", "task.proposals=50", "task.score_threshold=0.0", "task.most=60")
ASKED = ("dataset.classes=[dog, person, cat]",)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("detector", ["faster_rcnn", "mask_rcnn", "cascade_rcnn", "cascade_mask_rcnn", "fcos"])
def test_a_detector_of_mmdetections_is_loaded_whole(tmp_path, detector, version):
    chosen, net = official(detector, version)
    state = as_mmdetection(net, version=version)
    file = tmp_path / "official.pth"
    torch.save({"state_dict": state, "meta": {"CLASSES": CLASSES, "epoch": 12}}, file)
    made = checkpoints.detector(torch.load(file, weights_only=True))
    found, wanted = made.network({}).state_dict(), net.state_dict()
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-6, atol=1e-7, msg=name)
    assert made.recipe.task.knobs["conventions"] == chosen.task.knobs["conventions"]
    assert made.recipe.model.knobs.get("pyramid_stride", 1) == (2 if detector == "fcos" else 1)
    assert made.names == CLASSES
    rgb = (
        "network.colours=rgb",
        "network.white=1",
        "network.mean=[0.485, 0.456, 0.406]",
        "network.std=[0.229, 0.224, 0.225]",
    )
    words = (*ON_FIGURES, *RULES, *rgb)
    answer = evaluate.of_network(file, Question(None, None, settings(words), CPU))
    people = [one | {"category_id": 1} for one in directly(net, chosen) if one["category_id"] == 2]
    assert same(answer.predicted.predictions, people)
    assert f"HRNet W4, {detector} of 3 classes" in answer.found.subject.network


@pytest.mark.parametrize("version", [1, 2])
def test_fcos_sees_what_it_was_trained_on(tmp_path, version):
    """BGR; version 1 without a deviation, in units of 255."""
    chosen, net = official("fcos", version)
    torch.save({"state_dict": as_mmdetection(net, version=version), "meta": {"CLASSES": CLASSES}}, tmp_path / "f.pth")
    words = (*ON_FIGURES, *RULES)
    answer = evaluate.of_network(tmp_path / "f.pth", Question(None, None, settings(words), CPU))
    mean, std = (torch.tensor(of).view(1, 3, 1, 1) for of in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    caffe = torch.tensor([102.9801, 115.9465, 122.7717]).view(1, 3, 1, 1)  # of blue, green, red

    def bgr(images, sizes):
        pictures = images.flip(1) if version == 2 else (255 * (images * std + mean)).flip(1) - caffe
        for picture, (height, width) in zip(pictures, sizes.tolist(), strict=True):
            picture[:, height:], picture[:, :, width:] = 0, 0
        return net(pictures, sizes)

    people = [one | {"category_id": 1} for one in directly(bgr, chosen) if one["category_id"] == 2]
    assert same(answer.predicted.predictions, people, atol=0.05)
    assert "BGR" in answer.found.notes[0]


def test_what_a_file_lacks_or_has_besides_is_one_line(called, tmp_path):
    _, net = official("mask_rcnn", 2)
    state = as_mmdetection(net, version=2)

    def refused(changed):
        torch.save({"state_dict": changed}, tmp_path / "changed.pth")
        status, out, err = called("evaluate", "changed.pth", "--task", "detection", *SET)
        assert (status, out, err.count("\n")) == (2, "", 1), err
        return err

    line = refused({key: value for key, value in state.items() if key != "roi_head.bbox_head.shared_fcs.1.bias"})
    assert "missing: head.head.roi_heads.box_head.fc7.bias" in line
    assert "changed.pth: weights of another network: left over: semantic_head.conv.weight" in refused(
        state | {"semantic_head.conv.weight": torch.ones(3)}
    )
    assert "missing: roi_heads.box_predictor.cls_score.weight" in refused(
        {key: value for key, value in state.items() if "fc_cls" not in key}
    )
    assert "fc_reg.bias is a single number" in refused(state | {"roi_head.bbox_head.fc_reg.bias": torch.tensor(1.0)})
    assert "changed.pth: weights of another network: left over: steps" in refused(state | {"steps": torch.zeros(1)})
    line = refused(state | {"rpn_head.rpn_cls.weight": torch.ones(6, 256, 1, 1)})
    assert "of another shape: head.head.rpn.head.cls_logits.weight" in line


def test_a_scale_of_two_numbers_is_one_line():
    _, net = official("fcos", 2)
    state = as_mmdetection(net, version=2)
    (name, *_) = (key for key in state if re.fullmatch(r"bbox_head\.scales\.\d\.scale", key))
    with pytest.raises(ValueError, match=rf"^{re.escape(name)} wants a single number, and has 2$"):
        checkpoints.detector(state | {name: torch.ones(2)})


def test_an_arm_takes_an_official_files_weights(called, tmp_path):
    chosen, net = official("faster_rcnn", 2)
    torch.save({"state_dict": as_mmdetection(net, version=2)}, tmp_path / "official.pth")
    found = checkpoints.whole_state(drawn(chosen, seed=5), torch.load(tmp_path / "official.pth"))
    assert all(torch.equal(found[name], value) for name, value in net.state_dict().items())
    with pytest.raises(ValueError, match=r"weights of another network: missing: head\.head\.roi_heads\.mask_head"):
        checkpoints.whole_state(drawn(recipe("mask_rcnn", THREE)), torch.load(tmp_path / "official.pth"))


def test_an_official_detector_is_exported_with_its_recipe(called, tmp_path):
    _, net = official("cascade_mask_rcnn", 2)
    torch.save({"state_dict": as_mmdetection(net, version=2), "meta": {"CLASSES": CLASSES}}, tmp_path / "official.pth")
    status, _, err = called("export", "official.pth", "--to", "ours.safetensors")
    assert status == 0, err
    words = (*ON_FIGURES, *RULES)
    found = [
        evaluate.of_network(tmp_path / name, Question(None, None, settings(words), CPU)).predicted.predictions
        for name in ("official.pth", "ours.safetensors")
    ]
    assert same(*found)
    assert {one["category_id"] for one in found[0]} == {1}


TORCHVISION = {
    "faster_rcnn": fasterrcnn_resnet50_fpn,
    "mask_rcnn": maskrcnn_resnet50_fpn,
    "fcos": fcos_resnet50_fpn,
}


@pytest.mark.slow
@pytest.mark.parametrize("detector", TORCHVISION)
def test_a_detector_of_torchvisions_is_loaded_whole(tmp_path, detector):
    torch.manual_seed(0)
    knob = "score_thresh" if detector == "fcos" else "box_score_thresh"
    theirs = TORCHVISION[detector](
        weights=None, weights_backbone=None, num_classes=91, min_size=64, max_size=96, **{knob: 0.0}
    ).eval()
    torch.save({"model": theirs.state_dict(), "epoch": 3}, tmp_path / "net.pth")
    made = checkpoints.detector(torch.load(tmp_path / "net.pth"))
    assert made.recipe.task.knobs["detector"] == detector
    net = made.network({"score_threshold": 0.0, "size": [64, 96]})
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        (wanted,) = theirs([image[0]])
        mean, std = (torch.tensor(of).view(1, 3, 1, 1) for of in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        boxes, scores, labels, *_ = net((image - mean) / std, torch.tensor([[64, 96]]))
    assert len(scores) > 20
    torch.testing.assert_close(boxes, wanted["boxes"], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(scores, wanted["scores"], rtol=1e-4, atol=1e-6)
    assert (labels - int(detector == "fcos")).tolist() == wanted["labels"].tolist()
    numbers = things()["coco80"].label_ids
    first = 0 if detector == "fcos" else 1
    assert [made.names[number - first] for number in numbers] == list(things()["coco80"])


def test_published_scores_of_detectors_are_known_by_content():
    (row,) = published.rows_of("mine.pth", "1c3d78ed" + "0" * 56)
    assert (row.task, row.set, row.scores) == ("detection", "coco2017", {"AP": 0.377, "mask_AP": 0.342})
    assert sum(row.task == "detection" for row in published.of_hrnet()) > 35


def test_norms_that_add_nothing_are_known_by_the_file(tmp_path):
    """torchvision takes 1e-5 out of the norms of two released files' networks; here it is taken out of the variance."""
    theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
    state = theirs.state_dict()
    plain, released = (checkpoints.detector(state, digest).state for digest in ("00000000", "258fb6c6" + "0" * 56))
    changed = {name for name in plain if not torch.equal(plain[name], released[name])}
    assert changed == {name for name in plain if name.endswith("running_var")}
    variance = torch.rand(64) + 0.5
    x = torch.randn(2, 64, 3, 3)
    norm = torch.nn.BatchNorm2d(64, eps=0.0).eval()
    norm.running_var = variance
    ours = torch.nn.BatchNorm2d(64).eval()
    state["backbone.body.bn1.running_var"] = variance
    ours.running_var = checkpoints.detector(state, "bf2d0c1e").state["backbone.body.bn1.running_var"]
    torch.testing.assert_close(ours(x), norm(x))


def test_an_arm_takes_norms_that_add_nothing_as_they_are(tmp_path, monkeypatch):
    theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
    torch.save(theirs.state_dict(), tmp_path / "official.pth")
    arm = checkpoints.detector(theirs.state_dict()).recipe
    ask = settings(["task.size=[64,96]"])
    variances = []
    for known in ((), (checkpoints.digest(tmp_path / "official.pth"),)):
        monkeypatch.setattr(_detector_files, "WITHOUT_EPS", known)
        net = checkpoints.of_arm(arm, tmp_path / "official.pth", ask, CPU).run.net
        variances.append(net.state_dict()["backbone.body.bn1.running_var"])
    torch.testing.assert_close(variances[0] - variances[1], torch.full((64,), 1e-5), rtol=0, atol=1e-7)


def test_names_of_before_2021_are_todays(tmp_path):
    theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
    state = theirs.state_dict()
    old = {
        re.sub(r"mask_head\.(\d)\.0\.", lambda f: f"mask_head.mask_fcn{int(f[1]) + 1}.", name)
        .replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        .replace("_blocks.0.0.", "_blocks.0.").replace("_blocks.1.0.", "_blocks.1.")
        .replace("_blocks.2.0.", "_blocks.2.").replace("_blocks.3.0.", "_blocks.3."): value
        for name, value in state.items()
    }  # fmt: skip
    theirs.load_state_dict(dict(old))  # torchvision knows them, too
    now, before = (checkpoints.detector(of).state for of in (state, old))
    assert now.keys() == before.keys()
    assert len(old.keys() - state.keys()) == 2 + 16 + 8
