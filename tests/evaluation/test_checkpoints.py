"""Checkpoints: the network that the file holds predicts, head included; what is published stands beside it."""

import json
from pathlib import Path

import painted
import pytest
import torch
from small_studies import write_study

from ablate.beside import Subject
from ablate.errors import DataError
from ablate.evaluation import evaluate, published
from ablate.evaluation.asked import asked, settings
from ablate.evaluation.evaluate import Question
from ablate.evaluation.networks import Adapted, Loaded
from ablate.evaluation.reading import Reading
from ablate.tasks import build_protocol
from hrnet_core import (
    HeatmapHead,
    HigherHead,
    HRNet,
    HRNetConfig,
    OCRHead,
    SegmentationHead,
    SimpleBaseline,
    SimpleBaselineConfig,
)
from hrnet_core.necks import V2

SMALL = HRNetConfig(
    width=4, modules=(1, 1, 1), blocks=1, stage1_blocks=1, stage1_planes=8, stem_width=8, multi_scale_output=False
)
WIDE = HRNetConfig(
    width=4, modules=(1, 1, 1), blocks=1, stage1_blocks=1, stage1_planes=8, stem_width=8, upsample="bilinear"
)
CPU = torch.device("cpu")
SIZE = "task.size=[96, 64]"


@pytest.fixture
def people(tmp_path):
    return painted.people(tmp_path, images=3)


def drawn(*parts: torch.nn.Module) -> dict[str, torch.Tensor]:
    """One state dict of all parts, whose values do something."""
    torch.manual_seed(0)
    state = {}
    for part in parts:
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        state |= part.state_dict()
    return state


def pose(joints=17):
    body = HRNet(SMALL)
    head = HeatmapHead(body.channels, joints=joints)
    return body, head, drawn(body, head)


def asking(folder, *words, task=None):
    return Question(task, folder, settings(words), CPU)


def directly(folder, network, *words, task="pose"):
    """What the task predicts with a network, without any file."""
    opened = asked(task, folder, settings(words))
    protocol = build_protocol(opened.task_part, opened.evaluation)
    samples = opened.task.samples_for_evaluation(opened.samples, protocol)
    found = []
    with torch.inference_mode():
        for place in range(len(samples)):
            batch = opened.task.collate([opened.task.encode(samples[place], opened.info)])
            found += opened.task.predict(network, batch, protocol)
    return opened.task.finish(found, protocol, opened.info)


def same(found, wanted) -> bool:
    assert len(found) == len(wanted) > 0
    return all(
        one["image_id"] == other["image_id"] and one["keypoints"] == pytest.approx(other["keypoints"], abs=1e-3)
        for one, other in zip(found, wanted, strict=True)
    )


RENAMED = {
    "official": {},
    "module": {"": "module."},
    "mmpose 0.x": {"": "backbone.", "final_layer.": "keypoint_head.final_layer."},
    "mmpose 1.x": {"": "backbone.", "final_layer.": "head.final_layer."},
}


@pytest.mark.parametrize("names", RENAMED)
def test_a_released_checkpoint_predicts_what_its_network_predicts(people, tmp_path, names):
    body, head, state = pose()
    rules = RENAMED[names]
    for name in list(state):
        beginning = next((b for b in sorted(rules, key=len, reverse=True) if name.startswith(b)), None)
        if beginning is not None:
            state[rules[beginning] + name.removeprefix(beginning)] = state.pop(name)
    torch.save({"state_dict": state} if names.startswith("mmpose") else state, tmp_path / "net_96x64.pth")
    answer = evaluate.of_network(tmp_path / "net_96x64.pth", asking(people))
    wanted = directly(people, lambda images: head.eval()(body.eval()(images)), SIZE)
    assert same(answer.predicted.predictions, wanted)
    assert answer.found.task.knobs["size"] == [96, 64]
    assert "as the file's name says" in answer.found.notes[0]
    assert "HRNet W4 with a heatmap head of 17 outputs" in answer.found.subject.network


def test_the_official_simple_baseline_sees_bgr(people, tmp_path):
    body = SimpleBaseline(SimpleBaselineConfig(depth=18, width=8, deconv_widths=(8, 8, 8)))
    head = HeatmapHead(body.channels, joints=17)
    torch.save(drawn(body, head), tmp_path / "net.pth")
    net = lambda images: head.eval()(body.eval()(images))  # noqa: E731
    mean, std = (torch.tensor(of).view(1, 3, 1, 1) for of in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))

    def of_bgr(images):
        return net(((images * std + mean).flip(1) - mean) / std)

    answer = evaluate.of_network(tmp_path / "net.pth", asking(people, SIZE))
    assert same(answer.predicted.predictions, directly(people, of_bgr, SIZE))
    assert "BGR" in answer.found.notes[0]
    answer = evaluate.of_network(tmp_path / "net.pth", asking(people, SIZE, "network.colours=rgb"))
    assert same(answer.predicted.predictions, directly(people, net, SIZE))


@pytest.mark.parametrize("head", ["segmentation", "ocr"])
def test_a_segmentation_checkpoint_tells_its_head_and_how_it_is_enlarged(tmp_path, head):
    streets = painted.streets(tmp_path, images=2)
    body = HRNet(HRNetConfig(**{**vars(WIDE), "align_corners": head == "ocr"}))
    neck = V2(body.channels, body.strides, align_corners=head == "ocr")
    made = {"segmentation": SegmentationHead, "ocr": OCRHead}[head](neck.channels, classes=19)
    state = drawn(body, made)
    torch.save({f"model.{name}": value for name, value in state.items()}, tmp_path / "net.pth")
    answer = evaluate.of_network(tmp_path / "net.pth", asking(streets))
    knobs = ["task.align_corners=true"] if head == "ocr" else []
    net = lambda images: made.eval()(neck(body.eval()(images)))  # noqa: E731
    wanted = directly(streets, net, *knobs, task="segmentation")
    for one, other in zip(answer.predicted.predictions, wanted, strict=True):
        assert (one["labels"] == other["labels"]).mean() > 0.999
    assert answer.found.task.knobs["align_corners"] is (head == "ocr")


def refused(called, *words):
    status, out, err = called("evaluate", *words)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    return err


class Trap:
    def __reduce__(self):
        return Path.touch, (Path("sprung"),)


def test_what_cannot_be_scored_is_one_line(called, people, tmp_path):
    *_, state = pose(joints=14)
    torch.save(state, tmp_path / "few.pth")
    line = refused(called, "few.pth", "--data", people)
    assert "has 14 joints, the set painted has 17" in line
    assert "is for pose, not for segmentation" in refused(called, "few.pth", "--task", "segmentation", "--data", people)
    torch.save({"state_dict": state, "args": Trap()}, tmp_path / "trap.pth")
    line = refused(called, "trap.pth", "--data", people)
    assert "trap.pth holds code (" in line
    assert "touch" in line or "getattr" in line or "Path" in line
    assert not (tmp_path / "sprung").exists()
    body = {name: value for name, value in state.items() if not name.startswith("final")}
    torch.save(body, tmp_path / "body.pth")
    assert "has no head that is known" in refused(called, "body.pth", "--data", people)
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pth")
    assert "no HRNet in it" in refused(called, "other.pth", "--data", people)
    torch.save(state, tmp_path / "n.pth")
    assert "--data" in refused(called, "n.pth", "--task", "pose")
    assert "a study needs --weights FILE" in refused(called, "fusion_count")
    assert "one of CHECKPOINT, STUDY" in refused(called)


def test_channels_may_be_chosen_of_a_checkpoint_of_other_joints(called, people, tmp_path):
    body, head, state = pose(joints=20)
    torch.save(state, tmp_path / "more.pth")
    chosen = list(range(19, 2, -1))
    answer = evaluate.of_network(tmp_path / "more.pth", asking(people, SIZE, f"network.channels={chosen}"))
    wanted = directly(people, lambda images: head.eval()(body.eval()(images))[:, chosen], SIZE)
    assert same(answer.predicted.predictions, wanted)


def test_weights_of_a_studys_arm(called, people, tmp_path):
    """An official file fits the arm that has its network, and no other."""
    model = {"name": "hrnet", "width": 4, "modules": [1, 1, 1], "blocks": 1, "stage1_blocks": 1, "stage1_planes": 8}
    recipe = {
        "task": {"name": "pose", "size": [96, 64]},
        "dataset": {"name": "coco_pose", "set": "painted"},
        "model": model,
        "train": {"epochs": 1, "batch": 4},
        "evaluation": {"flip": False},
    }
    factors = {"width": {"at": "model.width", "levels": [4, 6]}}
    study = write_study(tmp_path, recipe=recipe, factors=factors, metrics=["AP"])
    torch.manual_seed(0)
    from ablate.network.build import build
    from ablate.study import Design, load

    net = build(Design(load(study)).control.recipe)
    torch.save(net.state_dict(), tmp_path / "own.pth")
    status, out, err = called("evaluate", study, "--weights", "own.pth", "--data", tmp_path, "--json")
    assert status == 0, err
    found = json.loads(out)
    assert (found["subject"]["kind"], found["evaluation"]["flip"]) == ("arm", False)
    line = refused(called, study, "--arm", "width=6", "--weights", "own.pth", "--data", tmp_path)
    assert "own.pth: weights of another network: of another shape" in line


def test_an_official_file_fills_the_arm_of_its_network():
    from ablate.evaluation.checkpoints import whole_state
    from ablate.models.hrnet import hrnet
    from ablate.network.build import Network

    backbone = hrnet(width=4, modules=(1, 1, 1), blocks=1, stage1_blocks=1, stage1_planes=8)
    net = Network(backbone, HeatmapHead(backbone.channels, joints=17))
    wanted = net.state_dict()
    official = {name.removeprefix("backbone.body.").removeprefix("head."): value for name, value in wanted.items()}
    found = whole_state(net, official)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    with pytest.raises(ValueError, match=r"missing: head\.final_layer\.bias"):
        whole_state(net, {name: value for name, value in official.items() if name != "final_layer.bias"})
    with pytest.raises(ValueError, match="left over: more"):
        whole_state(net, official | {"more": torch.zeros(1)})


def test_published_rows_are_known_by_content_or_by_name_alone():
    (row,) = {row.file: row for row in published.rows_of("mine.pth", "81c58e40" + "0" * 56)}.values()
    assert (row.file[:20], row.scores["AP"]) == ("td-hm_hrnet-w32_8xb6", 0.749)
    (row,) = published.rows_of("pose_hrnet_w48_384x288.pth", "0" * 64)
    assert (row.scores["AP"], row.scores["AR"], row.sha256) == (0.763, 0.812, "")
    assert published.rows_of("mine.pth", "0" * 64) == []
    for row in published.released():
        assert row.url.startswith("https://")
        assert row.source
        assert all(0 < value < 1 for value in row.scores.values())


def test_the_published_number_stands_beside_ours(called, people, tmp_path):
    *_, state = pose()
    torch.save(state, tmp_path / "pose_hrnet_w32_256x192.pth")
    command = ["evaluate", "pose_hrnet_w32_256x192.pth", "--data", people]
    status, out, err = called(*command)
    assert status == 0, err
    assert "AP 0.744" in out
    assert "another set than painted: no comparison" in out
    assert "it is taken for the published file by its name" in out
    from ablate.beside import Reported

    row = Reported(row="W32", set="painted", source="a table", protocol="theirs", scores={"AP": 0.7})
    assert "AP 0.700 (ours -0.2000)" in published.lines([row], {"AP": 0.5}, "painted")[0]


def bottom_up():
    body = HRNet(SMALL)
    head = HigherHead(body.channels, joints=17)
    return body, head, drawn(body, head)


def test_a_bottom_up_checkpoint_predicts_what_its_network_predicts(people, tmp_path):
    body, head, state = bottom_up()
    torch.save(state, tmp_path / "higher.pth")
    words = ("task.size=[64, 64]", "evaluation.most=4", "evaluation.complete=false")
    answer = evaluate.of_network(tmp_path / "higher.pth", asking(people, *words, task="bottom_up_pose"))
    network = lambda images: head.eval()(body.eval()(images))  # noqa: E731
    wanted = directly(people, network, *words, task="bottom_up_pose")
    assert same(answer.predicted.predictions, wanted)
    assert "HRNet W4 with a bottom_up head of 17 outputs" in answer.found.subject.network


def test_networks_whose_maps_are_not_of_people_with_tags_are_refused(people, tmp_path):
    _, _, state = bottom_up()
    torch.save(state, tmp_path / "higher.pth")
    with pytest.raises(DataError, match="is for bottom_up_pose, not for pose"):
        evaluate.of_network(tmp_path / "higher.pth", asking(people, task="pose"))
    subject = Subject(kind="onnx", file="net.onnx", sha256="0" * 64, network="of one map", read={})
    net = Loaded(subject, lambda pictures: {"a": pictures}, Reading())
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(Adapted(net, "brightness", [])(images), images)  # of a plug-in, whose parts have no names
    adapted = Adapted(net, "bottom_up_pose", ["left", "right"])
    with pytest.raises(DataError, match=r"net.onnx: wanted maps \(4, h, w\) of heatmaps and tags"):
        adapted(torch.zeros(1, 3, 8, 8))


def test_the_joints_of_a_bottom_up_network_may_be_some_of_its_channels_with_their_tags(people, tmp_path):
    subject = Subject(kind="onnx", file="net.onnx", sha256="0" * 64, network="of three joints", read={})
    coarse, fine = torch.arange(6.0).view(1, 6, 1, 1).expand(1, 6, 2, 2), torch.arange(3.0).view(1, 3, 1, 1)
    maps = {"heatmaps_and_tags": coarse, "heatmaps": fine.expand(1, 3, 4, 4)}

    def called(*channels):
        net = Loaded(subject, lambda pictures: maps, Reading(channels=channels))
        return Adapted(net, "bottom_up_pose", ["left", "right"])(torch.zeros(1, 3, 8, 8))

    found = called(2, 0)
    assert [one[0, :, 0, 0].tolist() for one in found] == [[2, 0, 5, 3], [2, 0]]
    with pytest.raises(DataError, match=r"one of 0 to 2 for each of left, right, not \[0, 3\]"):
        called(0, 3)
    with pytest.raises(DataError, match="one of 0 to 2 for each of left, right"):
        called(0, 1, 2)
    _, _, state = bottom_up()
    torch.save(state, tmp_path / "higher.pth")
    for knob in ("output=heatmaps", "multiple=32"):
        with pytest.raises(DataError, match="bottom_up_pose reads all outputs"):
            evaluate.of_network(tmp_path / "higher.pth", asking(people, f"network.{knob}", task=None))
