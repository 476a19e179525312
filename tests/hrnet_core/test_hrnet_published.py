"""Parameters and multiply-adds equal those of the official code, row by row."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from hrnet_core import (
    PRESETS,
    ClassificationHead,
    HeatmapHead,
    HRNet,
    HRNetConfig,
    OCRHead,
    SegmentationHead,
    neck,
)

ROWS = json.loads((Path(__file__).parent / "recounted.json").read_text())["rows"]
JOINTS, CLASSES = 17, 19  # COCO, Cityscapes


def network(row: dict) -> nn.Module:
    """The published network of a row, on the meta device: counting needs no numbers."""
    kind, preset = re.match(r"(pose|seg|cls)_hrnet.*?(w\d+(?:_small_v\d)?)", row["model"]).groups()
    told = re.search(r"\((\d+) (?:joints|cls)", row["model"])
    config = PRESETS[preset]
    with torch.device("meta"):
        if kind == "cls":
            body = HRNet(config)
            return nn.Sequential(body, ClassificationHead(body.channels))
        if kind == "pose":
            body = HRNet(HRNetConfig(width=config.width, multi_scale_output=False))
            return nn.Sequential(body, HeatmapHead(body.channels, joints=int(told[1]) if told else JOINTS))
        body = HRNet(config)
        concat = neck("v2", channels=body.channels, strides=body.strides)
        head = OCRHead if "ocr" in row["model"] else SegmentationHead
        return nn.Sequential(body, concat, head(concat.channels, classes=int(told[1]) if told else CLASSES))


def multiply_adds(model: nn.Module, image: torch.Tensor) -> int:
    """Multiply-adds of convolutions and linear layers: weights x output positions."""
    counted = []

    def count(layer, _, output):
        positions = output.shape[2:].numel() if isinstance(layer, nn.Conv2d) else 1
        counted.append(layer.weight.numel() * positions)

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    model.eval()(image)
    return sum(counted)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['model']}-{row['input_size']}")
def test_network_equals_the_official_one(row):
    model = network(row)
    assert sum(parameter.numel() for parameter in model.parameters()) == row["params"]
    height, width = map(int, row["input_size"].split("x"))
    counted = multiply_adds(model, torch.empty(1, 3, height, width, device="meta"))
    assert counted / 2**30 == pytest.approx(row["gflops"], rel=1e-3)


def test_the_pose_body_lacks_the_78_tensors_of_the_coarser_outputs():
    with torch.device("meta"):
        full, finest = HRNet(HRNetConfig()), HRNet(HRNetConfig(multi_scale_output=False))
    missing = set(full.state_dict()) - set(finest.state_dict())
    counters = {key for key in missing if key.endswith("num_batches_tracked")}
    assert {key[: len("stage4.2.fuse_layers.1")] for key in missing} == {
        f"stage4.2.fuse_layers.{target}" for target in (1, 2, 3)
    }
    assert len(missing - counters) + len(counters) == 78
    assert len(finest.state_dict()) == 1754 - 2  # the published pose network's entries, less its final layer


def test_presets_have_the_released_widths():
    assert {name: config.stream_widths[0] for name, config in PRESETS.items()} == {
        "tiny": 18,
        "small": 24,
        "w18_small_v1": 16,
        "w18_small_v2": 18,
        **{f"w{width}": width for width in (18, 30, 32, 40, 44, 48, 64)},
    }


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_narrow_presets_keep_the_proportions_of_w32(preset):
    """Each stage's share of the multiply-adds is that of W32 within three points; with the published stem it is not."""
    wanted = shares(HRNetConfig(multi_scale_output=False))
    found = shares(replace(PRESETS[preset], multi_scale_output=False))
    assert found == {stage: pytest.approx(share, abs=0.03) for stage, share in wanted.items()}
    assert shares(HRNetConfig(width=8))["stage1"] > wanted["stage1"] + 0.4


def shares(config: HRNetConfig) -> dict[str, float]:
    """Stage -> its part of the multiply-adds; stage 1 ends where the second stream is opened."""
    with torch.device("meta"):
        net = HRNet(config).eval()
    macs: Counter[str] = Counter()

    def count(stage):
        return lambda layer, _, output: macs.update({stage: output.numel() * layer.weight[0].numel()})

    stages = {"conv1": "stem", "conv2": "stem", "layer1": "stage1", "transition1": "stage1", "transition2": "stage3"}
    stages |= {"transition3": "stage4"}
    for name, layer in net.named_modules():
        if isinstance(layer, torch.nn.Conv2d):
            top = name.split(".")[0]
            layer.register_forward_hook(count(stages.get(top, top)))
    net(torch.empty(1, 3, 64, 64, device="meta"))
    return {stage: count / macs.total() for stage, count in macs.items()}
