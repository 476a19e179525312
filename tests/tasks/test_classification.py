"""Classification beside torchvision and timm: pictures, scores and networks; files of predictions; what cannot be."""

import json

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from timm.utils import accuracy
from torchvision.transforms import CenterCrop, InterpolationMode, RandomResizedCrop, Resize
from torchvision.transforms import functional as theirs

from ablate import registry
from ablate.datasets import Classes, Info
from ablate.errors import DataError, PartError
from ablate.models import build_model
from ablate.network.build import Network
from ablate.study import Part
from ablate.tasks.classification import middle, resized, some_part

IMAGENET = Info("made", None, "none", "made", image_classes=Classes(str(number) for number in range(1000)))


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(375, 500), (500, 333), (64, 64), (257, 1023), (100, 90)])
def test_the_middle_is_that_of_torchvision(size):
    image = picture(*size)
    wanted = CenterCrop(224)(Resize(256, InterpolationMode.BILINEAR)(Image.fromarray(image)))
    assert (middle(image, (224, 224), 0.875) == np.asarray(wanted)).all()


def test_the_middle_of_an_oblong_fills_it():
    image = picture(90, 300)
    assert middle(image, (64, 96), 0.8).shape == (64, 96, 3)
    assert middle(image, (96, 64), 1.0).shape == (96, 64, 3)


def test_a_part_is_resized_as_torchvision_does():
    image, (top, left, height, width) = picture(375, 500), (17, 40, 200, 311)
    wanted = theirs.resized_crop(Image.fromarray(image), top, left, height, width, [224, 192])
    assert (resized(image[top : top + height, left : left + width], (224, 192)) == np.asarray(wanted)).all()


@pytest.mark.parametrize("size", [(10, 100), (100, 10), (60, 61)])
def test_where_no_part_fits_it_is_torchvisions(size):
    """All of an image's area in a ratio that it does not have."""
    scale, ratio = (1.0, 1.0), ((0.75, 1.3) if max(size) == 100 else (1.5, 1.6))
    wanted = RandomResizedCrop.get_params(torch.zeros(3, *size), list(scale), list(ratio))
    assert some_part(size, scale, ratio, np.random.default_rng(0)) == tuple(wanted)


def test_parts_are_distributed_as_torchvisions():
    scale, ratio, size, count = (0.08, 1.0), (3 / 4, 4 / 3), (375, 500), 4000
    rng = np.random.default_rng(0)
    ours = np.array([some_part(size, scale, ratio, rng) for _ in range(count)])
    torch.manual_seed(0)
    image = torch.zeros(3, *size)
    drawn = np.array([RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(count)])
    deviation = np.hypot(ours.std(axis=0), drawn.std(axis=0)) / count**0.5
    assert (abs(ours.mean(axis=0) - drawn.mean(axis=0)) < 4 * deviation).all()
    assert ours.std(axis=0) == pytest.approx(drawn.std(axis=0), rel=0.08)


def test_a_part_stays_within_the_image_and_is_mirrored_half_of_the_time(build_task):
    task = build_task("classification", size=[32, 32], scale=[1.0, 1.0], ratio=[1.0, 1.0])
    image = picture(32, 32)
    sample = {"image": image, "label": 3, "image_id": 7}
    seen = [task.encode(sample, IMAGENET, np.random.default_rng(seed))["image"] for seed in range(100)]
    upright = [bool((one == image.transpose(2, 0, 1)).all()) for one in seen]
    mirrored = [bool((one == image[:, ::-1].transpose(2, 0, 1)).all()) for one in seen]
    assert all(a != b for a, b in zip(upright, mirrored, strict=True))
    assert 35 < sum(mirrored) < 65


def test_the_loss_is_cross_entropy_with_a_share_for_all_classes(build_task):
    logits, label = torch.randn(6, 10), torch.tensor([0, 3, 9, 1, 1, 5])
    logs = logits - logits.exp().sum(dim=1, keepdim=True).log()
    right = -logs[torch.arange(6), label]
    for smoothing in (0.0, 0.1):
        wanted = ((1 - smoothing) * right + smoothing * -logs.mean(dim=1)).mean()
        loss = build_task("classification", smoothing=smoothing).loss(logits, {"label": label})
        torch.testing.assert_close(loss, wanted)


def test_scores_are_those_that_timm_counts(build_task, build_protocol):
    torch.manual_seed(0)
    logits, label = torch.randn(500, 20), torch.randint(20, (500,))
    logits[torch.arange(500), label] += 1.5
    task, protocol = build_task("classification"), build_protocol("classification")
    batch = {"image": torch.zeros(500, 3, 2, 2), "image_id": torch.arange(500), "label": label}
    predictions = task.predict(lambda _: logits, batch, protocol)
    info = Info("made", None, "none", "made", image_classes=Classes(str(number) for number in range(20)))
    metric = registry.build("metric", "accuracy", {})
    truth = {"images": [{"id": i} for i in range(500)], "classes": dict(enumerate(label.tolist()))}
    statistics = metric.per_image(predictions, truth, info)
    found = metric.aggregate(statistics)
    wanted = [float(value) / 100 for value in accuracy(logits, label, topk=(1, 5))]
    assert list(found.values()) == pytest.approx(wanted, abs=1e-6)
    assert 0.3 < found["top1"] < found["top5"] < 1
    right = logits.argmax(dim=1) == label
    by_class = [float(right[label == place].float().mean()) for place in range(20)]
    assert metric.parts(statistics, info).scores.tolist() == pytest.approx(by_class)


def test_five_classes_have_no_top_5():
    info = Info("made", None, "none", "made", image_classes=Classes("abcde"))
    metric = registry.build("metric", "accuracy", {})
    found = metric.per_image([{"image_id": 1, "classes": [1, 0]}], {"images": [{"id": 1}], "classes": {1: 0}}, info)
    assert metric.aggregate(found)["top1"] == 0
    assert np.isnan(metric.aggregate(found)["top5"])


def test_the_mirrored_image_has_half_a_say(build_task, build_protocol):
    def model(images):
        return images[:, 0, 0, :2] * 10  # the two pixels at the left are the logits

    batch = {"image": torch.tensor([[[[0, 1, 2, 9]]] * 3], dtype=torch.uint8), "image_id": torch.tensor([4])}
    task = build_task("classification")
    images = task.prepare(batch)
    shares = [model(x).softmax(dim=1) for x in (images, images.flip(3))]
    (found,) = task.predict(model, batch, build_protocol("classification", flip=True))
    wanted = (shares[0] + shares[1])[0] / 2
    assert found["probabilities"] == pytest.approx(sorted(wanted.tolist(), reverse=True))
    assert found["classes"] == wanted.argsort(descending=True).tolist()


def network(head, model, **knobs):
    """A classifier of 1,000 classes without memory for its weights."""
    task = registry.build("task", "classification", registry.check_knobs("task", "classification", {"head": head}))
    with torch.device("meta"):
        backbone = build_model(Part(name=model, knobs=knobs).filled("model"))
        return Network(backbone, task.head(IMAGENET, backbone.channels, backbone.strides))


def parameters(net):
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("width", "millions"), [(18, 21.3), (30, 37.7), (32, 41.2), (40, 57.6), (44, 67.1), (48, 77.5), (64, 128.1)]
)
def test_hrnets_have_the_published_numbers_of_parameters(width, millions):
    """HRNet/HRNet-Image-Classification, README.md."""
    assert round(parameters(network("gather", "hrnet", width=width, output="streams")) / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("head", "model", "knobs", "name"),
    [
        ("linear", "resnet", {"depth": 50}, "resnet50"),
        ("gather", "hrnet", {"width": 18, "output": "streams"}, "hrnet_w18"),
        ("normed", "timm_encoder", {"encoder": "convnext_tiny"}, "convnext_tiny"),
        ("normed", "timm_encoder", {"encoder": "swin_tiny_patch4_window7_224"}, "swin_tiny_patch4_window7_224"),
        ("normed", "timm_encoder", {"encoder": "vit_small_patch16_224"}, "vit_small_patch16_224"),
        ("linear", "timm_encoder", {"encoder": "mobilenetv2_100"}, None),
    ],
)
def test_classifiers_have_the_parameters_of_timms(head, model, knobs, name):
    net = network(head, model, **knobs)
    with torch.device("meta"):
        if name:
            assert parameters(net) == parameters(timm.create_model(name))
        else:  # timm widens MobileNetV2's last map from 320 to 1280 channels before it pools; here the map is pooled
            widening = 320 * 1280 + 2 * 1280 + (1280 - 320) * 1000
            assert parameters(net) == parameters(timm.create_model(knobs["encoder"])) - widening


def test_a_resnet_gives_torchvisions_logits():
    torch.manual_seed(0)
    wanted, net = torchvision.models.resnet18().eval(), network("linear", "resnet", depth=18).to_empty(device="cpu")
    state = {
        name.replace("head.classifier", "fc").replace("backbone.body.", ""): value
        for name, value in net.state_dict().items()
    }
    for name, value in wanted.state_dict().items():
        state[name].copy_(value)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(images), wanted(images))


def test_a_head_that_gathers_needs_streams():
    with pytest.raises(PartError, match="gather takes the maps of several streams: output streams of hrnet"):
        network("gather", "hrnet", width=18)


def test_what_is_there_for_supervision_is_not_read():
    task = registry.build("task", "classification", registry.check_knobs("task", "classification", {}))
    head = task.head(IMAGENET, (8, 4, 4), (4, 4, 4), intermediate=(1, 2))
    assert head.classifier.in_features == 8


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"size": [0, 5]}, "size: must be positive"),
        ({"scale": [0.5, 0.1]}, "the smaller number comes first"),
        ({"scale": [0.5, 1.5]}, "no part of an image is larger"),
        ({"ratio": [0.0, 1.0]}, "ratio: must be positive"),
        ({"smoothing": 1.0}, "smoothing: from 0 to below 1"),
    ],
)
def test_knobs_that_cannot_be(build_task, knobs, said):
    with pytest.raises(PartError, match=said):
        build_task("classification", **knobs)


def test_a_crop_is_a_part(build_protocol):
    with pytest.raises(PartError, match="crop: above 0 and at most 1"):
        build_protocol("classification", crop=1.2)


def test_predictions_are_read_as_they_were_written(figures, build_task, build_protocol, truthful, tmp_path):
    info, _, val = figures
    task, protocol = build_task("classification", size=[32, 32]), build_protocol("classification")
    predictions = truthful("classification", task, task.samples_for_evaluation(val, protocol), info, protocol)
    task.write_predictions(predictions, val, tmp_path)
    found, notes = task.read_predictions(tmp_path, val)
    assert not notes
    assert found == [{key: one[key] for key in ("image_id", "classes")} for one in predictions]
    file = tmp_path / "theirs.json"
    file.write_text(json.dumps([{"name": name, "classes": ["akimbo"]} for name in (val.name(2), "other")]))
    assert task.read_predictions(file, val) == (
        [{"image_id": 2, "classes": [2]}],
        ["1 predictions are on images that the split does not have (other): not scored"],
    )
    for content, said in (
        ([{"name": "x"}], "entry 0: has no list of classes"),
        ([{"classes": ["akimbo"]}], "names no image"),
        ([{"image_id": 1, "classes": ["flying"]}], "the set has no class 'flying'"),
        ([{"image_id": 999, "classes": ["akimbo"]}], "no entry on the split's images, but on 999"),
        ([{"image_id": 1, "classes": ["akimbo"]}] * 2, "1 images are there more than once"),
        ({}, "wanted a list"),
    ):
        file.write_text(json.dumps(content))
        with pytest.raises(DataError, match=said):
            task.read_predictions(file, val)
