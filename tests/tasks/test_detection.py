"""Detectors: equal to torchvision's on the same weights, of the official code's sizes; what they take and give."""

import json
import re

import numpy as np
import pytest
import torch
import torchvision
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.models.detection import fasterrcnn_resnet50_fpn, fcos_resnet50_fpn, maskrcnn_resnet50_fpn
from trained import finish, site

from ablate import registry
from ablate.datasets import Classes, Info, build_dataset
from ablate.errors import DataError
from ablate.models import build_model
from ablate.network.build import Network, build, initialise
from ablate.network.cost import price
from ablate.study import Design, Recipe, load
from ablate.study.presets import presets
from ablate.study.recipe import Part
from ablate.tasks import DrawsOwn, build_protocol, build_task
from ablate.tasks._detectors import loss_names
from ablate.tracking.values import curve

TORCHVISION = {
    "faster_rcnn": fasterrcnn_resnet50_fpn,
    "mask_rcnn": maskrcnn_resnet50_fpn,
    "fcos": fcos_resnet50_fpn,
}
EIGHTY = Info("coco", None, "none", "none", things=Classes(str(n) for n in range(80)))
LIKE_TORCHVISION = {"box_beta": 1 / 9}


def part(kind: str, name: str, **knobs: object) -> Part:
    return Part.model_validate({"name": name, **knobs}).filled(kind)


def task_of(detector: str, **knobs: object):
    return build_task(part("task", "detection", detector=detector, **knobs))


def network(detector: str, model: Part, info: Info = EIGHTY, **knobs: object) -> Network:
    backbone = build_model(model)
    return Network(backbone, task_of(detector, **knobs).head(info, backbone.channels, backbone.strides))


def ours(name: str) -> str:
    """A tensor of torchvision's detector under our name."""
    begins = {"backbone.fpn.": "head.head.pyramid.fpn.", "backbone.": "backbone.", "head.": "head.head.fcos.head."}
    found = next((begin for begin in begins if name.startswith(begin)), "")
    return begins.get(found, "head.head.") + name.removeprefix(found)


def images_and_targets(seed: int, *, masks: bool) -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    generator = torch.Generator().manual_seed(seed)
    images, targets = torch.rand(2, 3, 128, 160, generator=generator), []
    for count in (3, 1):
        corner = torch.rand(count, 2, generator=generator) * torch.tensor([100.0, 70.0])
        side = 12 + torch.rand(count, 2, generator=generator) * 40
        target = {"boxes": torch.cat([corner, corner + side], dim=1)}
        target["labels"] = torch.randint(1, 81, (count,), generator=generator)
        if masks:
            target["masks"] = (torch.rand(count, 128, 160, generator=generator) > 0.5).to(torch.uint8)
        targets.append(target)
    return images, targets


@pytest.fixture(scope="module", params=TORCHVISION)
def pair(request):
    """torchvision's detector and ours, with the same weights."""
    torch.manual_seed(0)
    classes = 80 if request.param == "fcos" else 81
    theirs = TORCHVISION[request.param](
        weights=None, weights_backbone=None, num_classes=classes, min_size=128, max_size=160,
        image_mean=[0.0] * 3, image_std=[1.0] * 3,
        **({} if request.param == "fcos" else {"box_score_thresh": 0.0}),
        **({"score_thresh": 0.0} if request.param == "fcos" else {}),
    )  # fmt: skip
    nms = 0.6 if request.param == "fcos" else 0.5
    mine = network(
        request.param, part("model", "resnet", pyramid=True), score_threshold=0.0, nms=nms, **LIKE_TORCHVISION
    )
    state = {ours(name): value for name, value in theirs.state_dict().items()}
    mine.load_state_dict(state)
    return request.param, theirs, mine


def given(targets: list[dict[str, torch.Tensor]]) -> list[torch.Tensor]:
    keys = [key for key in ("boxes", "labels", "masks") if key in targets[0]]
    counts = torch.tensor([len(target["labels"]) for target in targets])
    return [torch.tensor([[128, 160]] * 2), counts, *(torch.cat([t[key] for t in targets]) for key in keys)]


def test_losses_are_torchvisions(pair):
    detector, theirs, mine = pair
    images, targets = images_and_targets(1, masks=detector == "mask_rcnn")
    theirs.train()
    mine.train()
    torch.manual_seed(3)  # of the boxes that are sampled
    less = int(detector == "fcos")  # torchvision's FCOS counts classes from 0
    expected = theirs(list(images), [target | {"labels": target["labels"] - less} for target in targets])
    torch.manual_seed(3)
    for _ in images:
        torch.empty(1).uniform_()  # torchvision draws each image's size
    losses = mine(images, *given(targets))
    found = dict(zip(loss_names(detector, masks=detector == "mask_rcnn"), losses, strict=True))
    names = {
        "classification": "class", "bbox_regression": "box", "bbox_ctrness": "centre", "loss_classifier": "class",
        "loss_box_reg": "box", "loss_objectness": "proposals", "loss_rpn_box_reg": "proposed boxes",
        "loss_mask": "mask",
    }  # fmt: skip
    assert {names[name]: value.item() for name, value in expected.items()} == pytest.approx(
        {name: value.item() for name, value in found.items()}, rel=1e-5
    )


def test_detections_are_torchvisions(pair):
    detector, theirs, mine = pair
    images, _ = images_and_targets(2, masks=False)
    for net in (theirs, mine):
        net.eval()
    with torch.no_grad():
        expected = theirs(list(images))
        boxes, scores, labels, counts, *masks = mine(images, torch.tensor([[128, 160]] * 2))
    assert counts.tolist() == [len(one["scores"]) for one in expected]
    assert counts.sum() > 20
    more = int(detector == "fcos")  # torchvision's FCOS counts classes from 0
    for name, value in (("boxes", boxes), ("scores", scores), ("labels", labels)):
        of_all = torch.cat([one[name] for one in expected]) + (more if name == "labels" else 0)
        torch.testing.assert_close(value, of_all, rtol=1e-5, atol=1e-4 if name == "boxes" else 1e-6)
    if detector == "mask_rcnn":
        height, width = images.shape[2:]
        own = torchvision.models.detection.roi_heads.paste_masks_in_image(masks[0], boxes, (height, width))
        torch.testing.assert_close(own, torch.cat([one["masks"] for one in expected]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("detector", "width", "millions"),
    [
        ("faster_rcnn", 18, 27.49), ("faster_rcnn", 32, 47.28), ("faster_rcnn", 48, 83.36),
        ("cascade_rcnn", 18, 55.13), ("cascade_rcnn", 32, 74.92), ("cascade_rcnn", 48, 111.00),
    ],
)  # fmt: skip
def test_parameters_are_those_of_the_official_code(detector, width, millions):
    with torch.device("meta"):
        net = network(detector, part("model", "hrnet", width=width, output="v2p"))
    assert sum(parameter.numel() for parameter in net.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)


def recipe(detector: str, **train: object) -> Recipe:
    return Recipe.model_validate(
        {
            "task": {"name": "detection", "detector": detector, "size": [64, 64]},
            "dataset": {"name": "figures", "train": 8, "val": 4, "size": [64, 64]},
            "model": {"name": "hrnet", "width": 8, "blocks": 1, "stage1_blocks": 1, "output": "v2p"},
            "train": {**presets()["detection"]["train"], "epochs": 1, "batch": 2, **train},
        }
    ).settled(on_gpu=False)


DETECTORS = ("faster_rcnn", "mask_rcnn", "cascade_rcnn", "cascade_mask_rcnn", "fcos")


@pytest.mark.parametrize("detector", DETECTORS)
def test_cost_is_counted_with_a_stated_number_of_boxes(detector):
    found = price(recipe(detector))
    assert found.used_parameters == found.parameters > 1e6
    few = recipe(detector)
    few = few.model_copy(update={"task": part("task", "detection", detector=detector, size=[64, 64], proposals=100)})
    stages = {"fcos": 0, "faster_rcnn": 1, "mask_rcnn": 1}.get(detector, 3)
    of_a_box = 256 * 49 * 1024 + 1024 * 1024 + 1024 * 2 + 1024 * (4 if stages == 3 else 8)
    assert found.macs - price(few).macs == stages * 900 * of_a_box


@pytest.mark.parametrize(
    "detector", [pytest.param(name, marks=pytest.mark.slow) if "cascade" in name else name for name in DETECTORS]
)
def test_every_loss_reaches_the_image_and_every_layer_is_drawn_by_seed(detector):
    net, other = (build(recipe(detector)) for _ in range(2))
    for one in (net, other):
        initialise(one, "kaiming", seed=4)
    assert all((a == b).all() for a, b in zip(net.parameters(), other.parameters(), strict=True))
    assert isinstance(net.head, DrawsOwn)
    logits = [layer for name, layer in net.named_modules() if name.endswith("cls_logits")][-1]
    assert logits.weight.std().item() == pytest.approx(0.01, rel=0.1)
    data = build_dataset(part("dataset", "figures", train=8, val=4, size=[64, 64]))
    task = task_of(detector, size=[64, 64])
    samples = task.samples(data.open("train", None))
    rng = np.random.default_rng(0)
    batch = task.collate([task.encode(samples[i], data.info, rng) for i in range(3)])
    assert batch["image"].shape == (3, 3, 64, 64)
    assert batch["count"].sum() == len(batch["boxes"]) == len(batch["labels"]) >= 3
    assert (batch["boxes"][:, 2:] > batch["boxes"][:, :2]).all()
    net.train()
    outputs = net(task.prepare(batch), *task.given(batch))
    loss = task.loss(outputs, batch)
    assert loss.item() == pytest.approx(sum(x.item() for x in outputs))
    parts = task.loss_parts(outputs, batch)
    assert len(parts) == len(outputs)
    assert ("mask" in detector) == any(name.startswith("mask") for name in parts)
    for x in parts.values():
        net.zero_grad()
        x.backward(retain_graph=True)
        assert net.backbone.body.conv1.weight.grad is not None


def test_masks_are_drawn_where_their_boxes_are():
    data = build_dataset(part("dataset", "figures", train=12, val=4))
    task = task_of("mask_rcnn", size=[160, 200], flip=0.5)
    samples = task.samples(data.open("train", None))
    flipped = set()
    for index in range(len(samples)):
        plain = task.encode(samples[index], data.info, None)["image"]
        found = task.encode(samples[index], data.info, np.random.default_rng(index))
        flipped.add(bool((plain != found["image"]).any()))
        for box, mask in zip(found["boxes"], found["masks"], strict=True):
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            edges = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            assert edges == pytest.approx(box.tolist(), abs=2)
    assert flipped == {True, False}


def test_predictions_are_in_pixels_of_the_original():
    """A network that gives back the truth, whatever the size of what it sees, is scored 1 for boxes and masks."""
    data = build_dataset(part("dataset", "figures", train=4, val=10, size=[112, 80]))
    task = task_of("mask_rcnn", size=[160, 300])
    opened, protocol = data.open("val", None), build_protocol(part("task", "detection"), {})
    samples, predictions = task.samples_for_evaluation(opened, protocol), []
    for index in range(len(samples)):
        encoded = task.encode(samples[index], data.info, None)
        own = samples[index]["instances"]
        corners = np.column_stack([own["boxes"][:, :2], own["boxes"][:, :2] + own["boxes"][:, 2:]]) * 2
        boxes = torch.tensor(corners, dtype=torch.float32)

        def truth(images, sizes, boxes=boxes, own=own):
            from pycocotools import mask as runs

            from ablate.datasets import as_runs

            shapes = []
            for box, mask in zip(boxes / 2, own["masks"], strict=True):
                whole = torch.from_numpy(runs.decode(as_runs(mask, 112, 80))).float()[None, None]
                rows = torch.cat([torch.zeros(1), box])[None]
                shapes.append(torchvision.ops.roi_align(whole, rows, (28, 28), aligned=True)[0])
            count = len(boxes)
            return [
                boxes,
                torch.ones(count),
                torch.ones(count, dtype=torch.long),
                torch.tensor([count]),
                torch.stack(shapes),
            ]

        predictions += task.predict(truth, task.collate([encoded]), protocol)
    scores = {}
    for name in ("box_ap", "mask_ap"):
        metric = registry.build("metric", name, {})
        scores |= metric.aggregate(metric.per_image(predictions, task.ground_truth(opened), data.info))
    assert scores["AP"] == pytest.approx(1)
    assert scores["mask_AP75"] == pytest.approx(1)
    assert scores["mask_AP"] > 0.8  # a grid of 28 x 28 is coarse


def test_one_map_makes_no_pyramid():
    backbone = build_model(part("model", "hrnet", width=8, output="v1"))
    with pytest.raises(registry.PartError, match="detection needs maps of several strides"):
        task_of("fcos").head(EIGHTY, backbone.channels, backbone.strides)


def test_padding_is_zero_after_normalisation():
    task = task_of("faster_rcnn", size=[64, 96])
    sample = {"image": np.full((50, 60, 3), 7, np.uint8), "image_id": 1, "instances": None}
    batch = task.collate([task.encode(sample, EIGHTY, None)])
    images = task.prepare(batch)
    height, width = batch["size"][0].tolist()
    assert (height, width) == (64, 77)
    assert images.shape == (1, 3, 64, 96)
    assert (images[0, :, :, width:] == 0).all()
    assert (images[0, :, :, :width] != 0).all()


@pytest.mark.slow
def test_a_few_images_are_overfitted():
    """FCOS, which samples nothing, finds what it was shown."""
    data = build_dataset(part("dataset", "figures", train=4, val=4, size=[64, 64]))
    task, opened = task_of("fcos", size=[64, 64]), data.open("train", None)
    net = build(recipe("fcos"))
    initialise(net, "kaiming", seed=0)
    samples = task.samples(opened)
    rng = np.random.default_rng(0)
    batch = task.collate([task.encode(samples[index], data.info, rng) for index in range(len(samples))])
    optimizer, losses = torch.optim.Adam(net.parameters(), lr=1e-3), []
    for _ in range(40):
        loss = task.loss(net(task.prepare(batch), *task.given(batch)), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("detector", ["mask_rcnn", "fcos"])
def test_predictions_are_written_with_the_sets_numbers(detector, tmp_path):
    data = build_dataset(part("dataset", "figures", train=4, val=4, size=[64, 64]))
    task, opened, net = (
        task_of(detector, size=[64, 64], score_threshold=0.0),
        data.open("val", None),
        build(recipe(detector)),
    )
    initialise(net, "kaiming", seed=0)
    net.eval()
    samples = task.samples_for_evaluation(opened, None)
    protocol = build_protocol(part("task", "detection"), {})
    batches = [task.collate([task.encode(samples[i], data.info, None)]) for i in range(len(samples))]
    found = [one for batch in batches for one in task.predict(net, batch, protocol)]
    assert found
    task.write_predictions(found, opened, tmp_path)
    written = json.loads((tmp_path / "instances_results.json").read_text())
    assert {one["category_id"] for one in written} == {1}
    read, remarks = task.read_predictions(tmp_path, opened)
    assert (read, remarks) == (json.loads(json.dumps(found)), [])
    assert all(("segmentation" in one) == (detector == "mask_rcnn") for one in written)


def test_results_of_other_systems_score_as_pycocotools_says(ablate_data, tmp_path, capsys):
    """COCO's own annotations, moved a little, on real images; those of other images and categories are passed over."""
    file = ablate_data / "coco_mini" / "annotations" / "instances_val2017.json"
    rng, truth = np.random.default_rng(0), COCO(file)
    found = [
        {
            "image_id": a["image_id"], "category_id": a["category_id"], "score": round(float(rng.random()), 2),
            "bbox": (np.array(a["bbox"]) + rng.normal(0, 4, 4)).tolist(), "segmentation": a["segmentation"],
        }
        for a in truth.dataset["annotations"]
        if not a["iscrowd"]
    ]  # fmt: skip
    place = tmp_path / "found.json"
    place.write_text(json.dumps([*found, found[0] | {"image_id": 1}, found[0] | {"category_id": 12}]))
    data = build_dataset(part("dataset", "coco_instances", set="coco_mini"))
    opened, task = data.open("val", ablate_data), task_of("mask_rcnn")
    read, remarks = task.read_predictions(place, opened)
    assert [remark.split(":")[0] for remark in remarks] == [
        "1 predictions are on images that the split does not have (1)",
        "1 predictions are of other categories than the set's",
    ]
    for name, kind in (("box_ap", "bbox"), ("mask_ap", "segm")):
        metric = registry.build("metric", name, {})
        scores = metric.aggregate(metric.per_image(read, task.ground_truth(opened), data.info))
        shape = "bbox" if kind == "bbox" else "segmentation"
        own = [{key: one[key] for key in ("image_id", "category_id", "score", shape)} for one in found]
        own = [o | {shape: truth.annToRLE(o) if kind == "segm" else o[shape]} for o in own]  # it reads runs alone
        evaluation = COCOeval(truth, truth.loadRes(own), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert list(scores.values()) == pytest.approx(evaluation.stats.tolist(), abs=1e-12)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bbox": [1, 2, 3]}, "entry 0 has the bbox [1, 2, 3], not four numbers"),
        ({"score": "high"}, "entry 0 has a box or a score that is no finite number"),
        ({"image_id": "1"}, "entry 0 has the image_id '1', no whole number"),
        ({"bbox": None}, "entry 0 has neither a 'bbox' nor a 'segmentation'"),
        ({"segmentation": {"size": [3, 4], "counts": [12]}}, "a mask of [3, 4] on an image of [64, 64]"),
        ({"category_id": 9}, "no entry of the set's categories, among 1 predictions"),
    ],
)
def test_what_cannot_be_a_detection_is_one_line(change, words, tmp_path):
    opened = build_dataset(part("dataset", "figures", train=4, val=4, size=[64, 64])).open("val", None)
    file = tmp_path / "found.json"
    file.write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5} | change]))
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        task_of("fcos").read_predictions(file, opened)
    assert "\n" not in str(caught.value)


def test_the_curve_has_the_parts_of_the_loss(tmp_path):
    document = {
        "name": "boxes",
        "question": "Do they add up?",
        "recipe": {
            "task": {"name": "detection", "size": [64, 64], "proposals": 20, "sampled": 16, "box_width": 16},
            "dataset": {"name": "figures", "train": 12, "val": 4, "size": [64, 64]},
            "model": {"name": "resnet", "depth": 18, "pyramid": True},
            "train": {"preset": "detection", "epochs": 2, "batch": 5, "lr": 0.01},
        },
        "factors": {"flip": {"at": "task.flip", "levels": [0.5, 0.0]}},
        "metrics": ["AP"],
        "seeds": 1,
    }
    file = tmp_path / "boxes.yaml"
    file.write_text(json.dumps(document))
    epochs, result, _ = finish(Design(load(file)).trials[0], site(tmp_path))
    for epoch in epochs:
        assert list(epoch.loss_parts) == ["proposals", "proposed boxes", "class", "box"]
        assert sum(epoch.loss_parts.values()) == pytest.approx(epoch.loss, rel=1e-5)
    assert result.curve == epochs
    assert ("loss/class", epochs[0].loss_parts["class"], 7, 1) in curve([(epochs[0], 7)])
