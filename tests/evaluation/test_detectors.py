"""Detectors from files: what they find is what their networks find; scored, drawn, compared and exported."""

import json

import cv2
import numpy as np
import pytest
import torch

from ablate.datasets import build_dataset
from ablate.evaluation import evaluate
from ablate.evaluation.asked import settings
from ablate.evaluation.evaluate import Question
from ablate.network.build import Network, build, initialise
from ablate.study import Part, Recipe
from ablate.study.presets import presets
from ablate.tasks import build_protocol, build_task
from ablate.training.weights import packed

CPU = torch.device("cpu")
FIGURES = {"name": "figures", "train": 4, "val": 5, "size": [64, 80]}
ON_FIGURES = [f"dataset.{key}={json.dumps(value)}" for key, value in FIGURES.items()]
SET = [word for setting in ON_FIGURES for word in ("--set", setting)]


def recipe(detector: str, dataset: dict | None = None, **task: object) -> Recipe:
    own = {"name": "detection", "detector": detector, "size": [64, 96], "proposals": 50, "box_width": 16}
    return Recipe.model_validate(
        {
            "task": own | {"mask_width": 8, "score_threshold": 0.0, "most": 20} | task,
            "dataset": dataset or FIGURES,
            "model": {
                "name": "hrnet",
                "width": 4,
                "modules": [1, 1, 1],
                "blocks": 1,
                "stage1_blocks": 1,
                "output": "v2p",
            },
            "train": presets()["detection"]["train"],
        }
    ).settled(on_gpu=False)


def drawn(chosen: Recipe, seed: int = 0) -> Network:
    """A network whose outputs differ from place to place."""
    net = build(chosen)
    initialise(net, "kaiming", seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for name, value in net.head.named_parameters():
        if any(word in name for word in ("cls", "bbox_pred", "bbox_reg", "ctrness", "logits")):
            value.data += torch.randn(value.shape, generator=generator) * (0.3 if value.dim() > 1 else 0.1)
    return net.eval()


def written(tmp_path, chosen: Recipe, name: str = "net", seed: int = 0) -> Network:
    net = drawn(chosen, seed)
    (tmp_path / f"{name}.safetensors").write_bytes(packed(net, trial_id="0" * 16, recipe=chosen))
    return net


def directly(net: Network, chosen: Recipe) -> list[dict]:
    """What the network finds on the drawn pictures, without any file."""
    data, task = build_dataset(Part.model_validate(FIGURES).filled("dataset")), build_task(chosen.task)
    opened, protocol = data.open("val", None), build_protocol(chosen.task, {})
    samples = task.samples_for_evaluation(opened, protocol)
    batches = [task.collate([task.encode(samples[i], data.info, None)]) for i in range(len(samples))]
    return [one for batch in batches for one in task.predict(net, batch, protocol)]


def same(found: list[dict], wanted: list[dict], atol: float = 1e-3) -> bool:
    assert len(found) == len(wanted) > 0
    for key in ("image_id", "category_id", "bbox", "score"):
        values = [np.array([one[key] for one in side]) for side in (found, wanted)]
        np.testing.assert_allclose(*values, atol=atol if key == "bbox" else 1e-5, err_msg=key)
    return [one.get("segmentation") for one in found] == [one.get("segmentation") for one in wanted]


DETECTORS = ("faster_rcnn", "mask_rcnn", "cascade_rcnn", "cascade_mask_rcnn", "fcos")


@pytest.mark.parametrize("detector", DETECTORS)
def test_an_exported_detector_finds_what_its_network_finds(called, tmp_path, detector):
    chosen = recipe(detector)
    net = written(tmp_path, chosen)
    answer = evaluate.of_network(tmp_path / "net.safetensors", Question(None, None, settings(ON_FIGURES), CPU))
    assert same(answer.predicted.predictions, directly(net, chosen))
    assert answer.found.task.knobs["detector"] == detector
    low, high = answer.found.intervals["AP"]
    assert low <= answer.found.scores["AP"] <= high
    assert np.isnan(answer.found.intervals["mask_AP"]).all() == ("mask" not in detector)


def test_rules_of_finding_may_be_set(tmp_path):
    """They are in the network itself, not in the protocol."""
    net = written(tmp_path, recipe("fcos"))
    question = Question(None, None, settings([*ON_FIGURES, "task.most=3"]), CPU)
    found = evaluate.of_network(tmp_path / "net.safetensors", question).predicted.predictions
    all_found = directly(net, recipe("fcos"))
    of_first = [one["score"] for one in all_found if one["image_id"] == 1]
    assert [one["score"] for one in found if one["image_id"] == 1] == pytest.approx(of_first[:3])


def test_a_detector_is_not_read_as_maps(called, tmp_path):
    written(tmp_path, recipe("faster_rcnn"))
    for knob, words in (
        ("size=[64, 64]", "a detector sees what task.size says"),
        ("channels=[3]", "one of 0 to 0 for each"),
    ):
        status, _, err = called("evaluate", "net.safetensors", *SET, "--set", f"network.{knob}")
        assert (status, err.count("\n"), words in err) == (2, 1, True), err


@pytest.mark.slow
def test_an_evaluation_is_kept_and_two_are_compared(called, tmp_path):
    for name, seed in (("one", 0), ("two", 1)):
        written(tmp_path, recipe("mask_rcnn"), name, seed)
    status, out, err = called("evaluate", "one.safetensors", *SET, "--results", "kept", "--json")
    assert status == 0, err
    found = json.loads(out)
    assert found["scores"].keys() >= {"AP", "AP50", "AR100", "mask_AP", "mask_AP75"}
    words = (found["id"], "two.safetensors", "--task", "detection", *SET, "--results", "kept", "--json")
    status, out, err = called("compare", *words)
    assert status == 0, err
    row = next(row for row in json.loads(out)["differences"] if row["score"] == "mask_AP")
    assert row["scores"][0] == pytest.approx(found["scores"]["mask_AP"])
    assert row["low"] <= row["difference"] <= row["high"]


def test_a_studys_arm_with_weights(called, tmp_path):
    chosen = recipe("faster_rcnn")
    net = drawn(chosen)
    torch.save(net.state_dict(), tmp_path / "own.pth")
    document = {
        "name": "boxes",
        "question": "Which head?",
        "recipe": chosen.model_dump(mode="json", include={"task", "dataset", "model", "train"}),
        "factors": {"detector": {"at": "task.detector", "levels": ["faster_rcnn", "fcos"]}},
        "metrics": ["AP"],
        "seeds": 1,
    }
    (tmp_path / "boxes.yaml").write_text(json.dumps(document))
    status, out, err = called("evaluate", "boxes.yaml", "--weights", "own.pth", "--json")
    assert status == 0, err
    written(tmp_path, chosen)
    status, other, err = called("evaluate", "net.safetensors", *SET, "--json")
    assert status == 0, err
    assert json.loads(out)["scores"] == pytest.approx(json.loads(other)["scores"], nan_ok=True)
    status, _, err = called("evaluate", "boxes.yaml", "--arm", "detector=fcos", "--weights", "own.pth")
    assert (status, "own.pth: weights of another network: missing" in err) == (2, True)


@pytest.mark.parametrize("detector", ["mask_rcnn", "fcos"])
def test_what_is_found_is_drawn_and_written(called, tmp_path, detector):
    net = written(tmp_path, recipe(detector))
    data = build_dataset(Part.model_validate(FIGURES).filled("dataset")).open("val", None)
    (tmp_path / "pictures").mkdir()
    for number in data.image_ids():
        cv2.imwrite(str(tmp_path / f"pictures/{number}.png"), data.image(number)[..., ::-1])
    status, out, err = called("predict", "net.safetensors", "pictures", "--to", "found", "--json")
    assert status == 0, err
    assert json.loads(out)["notes"] == []
    results = json.loads((tmp_path / "found/instances_results.json").read_text())
    assert same(results, json.loads(json.dumps(directly(net, recipe(detector)))))
    assert json.loads((tmp_path / "found/images.json").read_text())["parts"] == ["person"]
    sure = {one["image_id"] for one in results if one["score"] >= 0.3}
    assert sure
    for number in data.image_ids():
        shown = cv2.imread(str(tmp_path / f"found/drawn/{number}.png"))[..., ::-1]
        assert (shown != data.image(number)).any() == (number in sure)
    scores = []
    for words in (["net.safetensors"], ["--predictions", "found", "--task", "detection"]):
        status, out, err = called("evaluate", *words, *SET, "--json")
        assert status == 0, err
        scores.append(json.loads(out)["scores"])
    assert scores[0] == pytest.approx(scores[1], nan_ok=True)


def test_a_box_and_its_mask_are_drawn_where_they_are():
    from ablate.evaluation.pictures import drawn as picture_of

    info = build_dataset(Part.model_validate(FIGURES).filled("dataset")).info
    grey = np.full((200, 300, 3), 90, np.uint8)
    mask = np.zeros((200, 300), np.uint8)
    mask[100:120, 150:180] = 1
    from pycocotools import mask as runs

    found = {"image_id": 1, "category_id": 1, "bbox": [140.0, 90.0, 60.0, 50.0], "score": 0.9}
    changed = (picture_of(grey, [found | {"segmentation": runs.encode(np.asfortranarray(mask))}], info) != grey).any(-1)
    assert changed[100:120, 150:180].all()
    assert changed[90, 140:201].all()
    assert changed[140, 140:201].all()
    assert changed[90:141, 140].all()
    assert not changed[122:138, 145:195].any()
    assert not changed[:, :130].any()
    assert (picture_of(grey, [found | {"score": 0.1}], info) == grey).all()


@pytest.mark.slow
def test_detectors_as_graphs(called, tmp_path):
    """FCOS' outputs at every place; of two stages one line says why there is no graph."""
    net = written(tmp_path, recipe("fcos"), "fcos")
    written(tmp_path, recipe("faster_rcnn"), "faster")
    for suffix in ("onnx", "pt2"):
        words = ("export", "fcos.safetensors", "--to", f"fcos.{suffix}", "--size", "128", "160", "--json")
        status, out, err = called(*words)
        assert status == 0, err
        assert [one["size"] for one in json.loads(out)["compared"]] == [[128, 160], [192, 224]]
        status, _, err = called("export", "faster.safetensors", "--to", f"faster.{suffix}", "--size", "64", "96")
        assert (status, err.count("\n"), "a detector of two stages is no graph" in err) == (2, 1, True)
        assert "its weights can be written to a file that ends in .safetensors" in err
        assert not (tmp_path / f"faster.{suffix}").exists()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = net.backbone(images)
        plain, wanted = net.head.plain(maps), torch.cat(net.head.head.counted(maps), dim=-1)  # torchvision's outputs
    assert plain.shape == (1, 1 + 5, sum((64 >> level) * (96 >> level) for level in range(2, 7)))
    torch.testing.assert_close(plain.transpose(1, 2), wanted)
    status, _, err = called("evaluate", "fcos.onnx", "--task", "detection", *SET)
    assert (status, err.count("\n"), "of detectors checkpoints are read" in err) == (2, 1, True)


def test_another_sets_classes_are_known_by_name(tmp_path):
    """A network of three classes on a set of one of them: what it finds of the others is no mistake there."""
    three = {"name": "coco_instances", "set": "three", "classes": ["dog", "person", "cat"]}
    chosen = recipe("faster_rcnn", three, most=60)
    net = written(tmp_path, chosen)
    answer = evaluate.of_network(tmp_path / "net.safetensors", Question(None, None, settings(ON_FIGURES), CPU))
    people = [one | {"category_id": 1} for one in directly(net, chosen) if one["category_id"] == 2]
    assert same(answer.predicted.predictions, people)


@pytest.mark.slow
def test_photographs_with_boxes_are_scored_as_pycocotools_does(called, tmp_path, ablate_data):
    """natural5: of a detector with masks its boxes alone can be scored."""
    fruit = {
        "name": "coco_instances",
        "set": "natural5",
        "classes": ["apple", "banana", "orange", "raccoon", "kangaroo"],
    }
    written(tmp_path, recipe("mask_rcnn", fruit, most=10))
    words = ("evaluate", "net.safetensors", "--data", ablate_data / "natural5", "--check", "official", "--json")
    status, out, err = called(*words)
    assert status == 0, err
    found = json.loads(out)
    assert found["images"] == 137
    assert found["parts"] == fruit["classes"]
    assert [row["score"] for row in found["check"]] == [name for name in found["scores"] if "mask" not in name]
    assert found["scores"]["AR10"] > 0
    three = ("--set", "dataset.classes=[orange, apple]")
    status, out, err = called(*words[:-1], *three, "--json")
    assert status == 0, err
    assert json.loads(out)["parts"] == ["orange", "apple"]
    assert json.loads(out)["scores"]["AR10"] > 0


@pytest.mark.slow
def test_masks_of_any_system_are_checked_by_pycocotools(called, tmp_path, ablate_data):
    """COCO's own annotations, some of them moved, on some of its photographs."""
    annotated = json.loads((ablate_data / "coco_mini/annotations/instances_val2017.json").read_bytes())["annotations"]
    found = [
        {key: one[key] for key in ("image_id", "category_id", "segmentation")}
        | {"bbox": [one["bbox"][0] + place % 7, *one["bbox"][1:]], "score": 1 / (place + 1)}
        for place, one in enumerate(annotated)
        if not one["iscrowd"]
    ]
    (tmp_path / "theirs.json").write_text(json.dumps(found))
    words = ("--predictions", "theirs.json", "--task", "detection", "--data", ablate_data / "coco_mini")
    words = (*words, "--set", "dataset.classes=[dog, person]")
    status, out, err = called("evaluate", *words, "--check", "official", "--json")
    assert status == 0, err
    rows = {row["score"]: row for row in json.loads(out)["check"]}
    assert len(rows) == 24
    assert rows["mask_AP"]["official"] == pytest.approx(1)
    assert 0.5 < rows["AP"]["official"] < 0.95
    (tmp_path / "none.json").write_text("[]")
    status, _, err = called("evaluate", "--predictions", "none.json", *words[2:], "--check", "official")
    assert (status, err.count("\n"), "nothing was found that could be scored" in err) == (2, 1, True)
