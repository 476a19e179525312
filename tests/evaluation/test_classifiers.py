"""Classifiers from files: a checkpoint with the official names, the same as ONNX, and predictions; scored and drawn."""

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from ablate.network.export import export
from hrnet_core import ClassificationHead, HRNet, HRNetConfig, from_checkpoint

SMALL = HRNetConfig(width=4, modules=(1, 1, 1), blocks=1, stage1_blocks=1, stage1_planes=8, stem_width=8)
COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}
ASKED = ("--set", "dataset.classes=file", "--set", "task.size=[32, 32]")


@pytest.fixture
def colours(tmp_path):
    """Noise about a colour, in ImageNet's layout; a few pictures of each of three colours."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name, colour in COLOURS.items():
            folder = tmp_path / "colours" / split / name
            folder.mkdir(parents=True)
            for number in range(3):
                pixels = np.clip(rng.normal(colour, 90, (40 + number, 50, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{split}{number}.png")
    return tmp_path / "colours"


@pytest.fixture
def checkpoint(tmp_path):
    """A file with the names of the official code's networks, whose weights do something."""
    torch.manual_seed(3)
    body = HRNet(SMALL)
    head = ClassificationHead(body.channels, classes=3)
    for parameter in [*body.parameters(), *head.parameters()]:
        torch.nn.init.normal_(parameter, std=0.2)
    file = tmp_path / "small_cls.pth"
    torch.save(body.state_dict() | head.state_dict(), file)
    return file


def wanted(checkpoint, colours):
    """The probabilities (9, 3) that torchvision's own loading and pictures lead to, and the right classes (9,)."""
    steps = [Resize(36), CenterCrop(32), ToTensor(), Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    data = ImageFolder(colours / "val", Compose(steps))
    net = from_checkpoint(checkpoint)
    with torch.inference_mode():
        logits = torch.cat([net(image[None]) for image, _ in data])
    return logits.softmax(dim=1).numpy(), np.array(data.targets)


@pytest.mark.parametrize("form", ["checkpoint", pytest.param("onnx", marks=pytest.mark.slow)])
def test_a_network_scores_what_torchvision_says(called, checkpoint, colours, tmp_path, form):
    probabilities, right = wanted(checkpoint, colours)
    file, words = checkpoint, ()
    if form == "onnx":
        file, words = tmp_path / "net.onnx", ("--task", "classification")
        export(from_checkpoint(checkpoint), file, [(32, 32), (64, 64)])
    status, out, err = called("evaluate", file, "--data", colours, *words, *ASKED, "--json")
    assert status == 0, err
    assert json.loads(out)["scores"]["top1"] == pytest.approx((probabilities.argmax(axis=1) == right).mean())
    status, out, err = called("predict", file, "--data", colours, *words, *ASKED, "--to", "found", "--json")
    assert status == 0, err
    rows = json.loads((tmp_path / "found/classifications.json").read_text())
    assert [row["name"] for row in rows] == [f"{name}_val{number}" for name in COLOURS for number in range(3)]
    for row, of_image in zip(rows, probabilities, strict=True):
        found = dict(zip(row["classes"], row["probabilities"], strict=True))
        assert [found[name] for name in COLOURS] == pytest.approx(of_image.tolist(), abs=2e-3)
    before = cv2.imread(str(colours / "val/blue/val0.png")).astype(int)
    after = cv2.imread(str(tmp_path / "found/drawn/blue_val0.png")).astype(int)
    assert (before != after).any()
    status, out, err = called("evaluate", "--predictions", "found", "--task", "classification", "--data", colours,
                              *ASKED[:2], "--json")  # fmt: skip
    assert status == 0, err
    assert json.loads(out)["scores"]["top1"] == pytest.approx((probabilities.argmax(axis=1) == right).mean())


def test_pictures_of_no_set_have_numbered_classes(called, checkpoint, colours, tmp_path):
    words = ("predict", checkpoint, colours / "val" / "red", "--set", "task.size=[32, 32]", "--to", "found", "--json")
    status, _, err = called(*words)
    assert status == 0, err
    rows = json.loads((tmp_path / "found/classifications.json").read_text())
    assert {name for row in rows for name in row["classes"]} == {"class0", "class1", "class2"}


def test_another_number_of_classes_is_one_line(called, checkpoint, colours):
    chosen = ("--set", "dataset.classes=[blue, green, red, white]", "--set", "task.size=[32, 32]")
    status, _, err = called("evaluate", checkpoint, "--data", colours, *chosen)
    assert status == 2
    assert "small_cls.pth: has 3 classes, the set colours has 4" in err
