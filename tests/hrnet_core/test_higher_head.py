"""HigherHRNet's head: the layers, names and sizes of the official network (lib/models/pose_higher_hrnet.py)."""

import pytest
import torch
from torch import nn

from hrnet_core import HigherHead, HRNet, HRNetConfig, from_checkpoint

JOINTS = 17


def names(layer: str, *, bias: bool = False) -> list[str]:
    return [f"{layer}.weight", *([f"{layer}.bias"] if bias else [])]


def norm_names(layer: str) -> list[str]:
    values = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return [f"{layer}.{value}" for value in values]


def official_names() -> set[str]:
    """What the official module lists give their tensors: final_layers, then one sequence of deconv_layers."""
    found = [*names("final_layers.0", bias=True), *names("final_layers.1", bias=True)]
    found += [*names("deconv_layers.0.0.0"), *norm_names("deconv_layers.0.0.1")]
    for place in (1, 2, 3, 4):
        block = f"deconv_layers.0.{place}.0"
        for number in (1, 2):
            found += [*names(f"{block}.conv{number}"), *norm_names(f"{block}.bn{number}")]
    return set(found)


def network(width: int) -> nn.Sequential:
    body = HRNet(HRNetConfig(width=width, multi_scale_output=False))
    return nn.Sequential(body, HigherHead(body.channels, joints=JOINTS))


@pytest.mark.parametrize(("width", "millions"), [(32, 28.6), (48, 63.8)])
def test_the_networks_are_as_large_as_published(width, millions):
    with torch.device("meta"):
        net = network(width)
    assert sum(parameter.numel() for parameter in net.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_its_tensors_have_the_official_names_and_shapes():
    with torch.device("meta"):
        state = HigherHead([32, 64], joints=JOINTS).state_dict()
    assert set(state) == official_names()
    wanted = {
        "final_layers.0.weight": (34, 32, 1, 1),
        "final_layers.1.weight": (17, 32, 1, 1),
        "deconv_layers.0.0.0.weight": (32 + 34, 32, 4, 4),
        "deconv_layers.0.4.0.conv2.weight": (32, 32, 3, 3),
    }
    assert {name: tuple(state[name].shape) for name in wanted} == wanted


def test_the_whole_network_has_the_bodys_names_beside_the_heads():
    with torch.device("meta"):
        body, head = network(32)
    assert len(body.state_dict()) == 1752
    assert not set(body.state_dict()) & set(head.state_dict())


def test_heatmaps_and_tags_at_a_quarter_and_heatmaps_at_half():
    coarse, fine = HigherHead([8], joints=3)([torch.randn(2, 8, 16, 24)])
    assert (coarse.shape, fine.shape) == ((2, 6, 16, 24), (2, 3, 32, 48))


def test_finer_heatmaps_are_read_from_the_coarse_outputs_too():
    head, maps = HigherHead([8], joints=3).eval(), [torch.randn(1, 8, 8, 8)]
    with torch.no_grad():
        _, before = head(maps)
        head.final_layers[0].bias[5] += 1  # a tag
        _, after = head(maps)
    assert not torch.equal(before, after)


@pytest.mark.parametrize("layout", ["official", "module", "mmpose 0.x"])
def test_released_checkpoints_give_back_what_their_network_computes(layout, randomised):
    config = HRNetConfig(
        width=4, modules=(1, 1, 1), blocks=1, stage1_blocks=1, stage1_planes=8, stem_width=8, multi_scale_output=False
    )
    body = HRNet(config)
    net = randomised(nn.Sequential(body, HigherHead(body.channels, joints=5)))
    body_prefix, head_prefix = {
        "official": ("", ""),
        "module": ("module.", "module."),
        "mmpose 0.x": ("backbone.", "keypoint_head."),
    }[layout]
    state = {body_prefix + name: value for name, value in net[0].state_dict().items()}
    state |= {head_prefix + name: value for name, value in net[1].state_dict().items()}
    found = from_checkpoint(state)
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(found(image), net(image))
    assert (found.kind, found.family, found.outputs, found.config) == ("bottom_up", "higher", 5, config)
    assert not found.leftover
