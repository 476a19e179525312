"""The baselines of the pose tables cost what was published, and compute what torchvision or the released code does.

"Row" is a row of CVPR Table 1 (arXiv 1902.09212), all at 256x192 with 17 joints; its GFLOPs are MACs / 2**30.
"""

from functools import cache

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ablate import registry
from ablate.errors import PartError
from hrnet_core import HeatmapHead, SimpleBaselineConfig

JOINTS = 17


def build(name: str, **knobs: object) -> nn.Module:
    return registry.build("model", name, registry.check_knobs("model", name, knobs))


@cache
def cost(name: str, size: tuple[int, int] = (256, 192), **knobs: object) -> tuple[int, int]:
    """Parameters and multiply-adds of a network with its heatmap heads, in evaluation."""
    with torch.device("meta"):
        backbone = build(name, **knobs)
        head = HeatmapHead(backbone.channels, joints=JOINTS, intermediate=getattr(backbone, "intermediate", ()))
        net = nn.Sequential(backbone, head).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(torch.empty(1, 3, *size))
    return sum(parameter.numel() for parameter in net.parameters()), counter.get_total_flops() // 2


# --- SimpleBaseline (the network itself: tests/hrnet_core/test_simple_baseline.py)


@pytest.mark.parametrize(("depth", "millions"), [(50, 34.0), (101, 53.0), (152, 68.6)])
def test_simple_baseline_has_the_rows_parameters(depth, millions):
    parameters, _ = cost("simple_baseline", depth=depth)
    assert round(parameters / 1e6, 1) == millions


def test_simple_baselines_knobs_are_the_networks():
    assert build("simple_baseline").config == SimpleBaselineConfig()
    small = build("simple_baseline", depth=18, width=8, deconv_widths=(16, 8), deconv_kernel=2)
    assert small.config == SimpleBaselineConfig(depth=18, width=8, deconv_widths=(16, 8), deconv_kernels=(2, 2))
    assert (small.channels, small.strides) == ((8,), (8,))


# --- stacked hourglass


def released_hourglass(stages: int) -> tuple[int, int]:
    """Parameters and multiply-adds of hg.lua's layers, worked out by hand (nFeats 256, nModules 1, 17 joints)."""

    def layer(source, target, kernel=1):
        return source * target * kernel**2

    def residual(source, target):
        half = target // 2
        weights = layer(source, half) + layer(half, half, 3) + layer(half, target)
        weights += layer(source, target) if source != target else 0
        others = 2 * half + target + (target if source != target else 0)  # biases
        return weights, weights + others + 2 * (source + half + half)  # and the normalisations'

    quarter, half = 64 * 48, 128 * 96  # positions at strides 4 and 2, for 256x192
    parameters, macs = layer(3, 64, 7) + 64 + 128, layer(3, 64, 7) * half
    for source, target, positions in ((64, 128, half), (128, 128, quarter), (128, 256, quarter)):
        parameters, macs = parameters + residual(source, target)[1], macs + residual(source, target)[0] * positions
    # An hourglass: at each of four scales one module stays and two work at half the size, and one more at the bottom.
    positions = sum(quarter // 4**scale + 2 * quarter // 4 ** (scale + 1) for scale in range(4)) + quarter // 4**4
    weights, everything = residual(256, 256)
    joints = layer(256, JOINTS)
    stage_macs = weights * (positions + quarter) + (layer(256, 256) + joints) * quarter
    stage_parameters = everything * 14 + layer(256, 256) + 256 + 512 + joints + JOINTS
    between_macs = (layer(256, 256) + joints) * quarter
    between_parameters = layer(256, 256) + 256 + joints + 256
    parameters += stages * stage_parameters + (stages - 1) * between_parameters
    return parameters, macs + stages * stage_macs + (stages - 1) * between_macs


@pytest.mark.parametrize("stages", [1, 2, 8])
def test_hourglass_is_as_large_as_the_released_one(stages):
    parameters, macs = cost("hourglass", stages=stages)
    expected = released_hourglass(stages)
    # Beside their heads, all stages but the last have a hidden prediction: a 1x1 convolution each.
    assert parameters == expected[0] + (stages - 1) * (256 * JOINTS + JOINTS)
    assert macs == expected[1]


def test_hourglass_costs_what_others_counted_but_not_what_the_row_says():
    # The row's 14.3 is 3/4 of Table 4's 19.1 (for 256x256), which is what the released network costs at 256x192.
    parameters, macs = cost("hourglass")
    assert parameters / 1e6 == pytest.approx(25.1, rel=0.015)  # the row, to 1.5 %
    assert macs / 2**30 == pytest.approx(19.1, rel=0.01)
    assert cost("hourglass", size=(128, 96))[1] / 2**30 == pytest.approx(4.9, rel=0.025)  # DarkPose, README.md


def test_an_hourglass_halves_and_doubles_as_the_released_one():
    torch.manual_seed(0)
    hourglass = build("hourglass", stages=1, width=8).eval().stages[0][0]
    x = torch.randn(2, 8, 32, 48)

    def unrolled(part, x):
        low = part.down(nn.MaxPool2d(2, 2)(x))
        low = unrolled(part.inner, low) if hasattr(part.inner, "stay") else part.inner(low)
        return part.stay(x) + nn.Upsample(scale_factor=2, mode="nearest")(part.up(low))

    with torch.no_grad():
        torch.testing.assert_close(hourglass(x), unrolled(hourglass, x))
    parts = [module for module in hourglass.modules() if hasattr(module, "stay")]
    assert len(parts) == 4


def test_stages_follow_each_other_and_the_last_predicts():
    net = build("hourglass", stages=3, width=8, predictions=5)
    assert net.intermediate == (1, 2)
    assert [feedback.predictions[0].out_channels for feedback in net.feedbacks] == [5, 5]
    for place, reached in ((0, {0, 1, 2}), (1, {0, 1}), (2, {0})):
        net.zero_grad(set_to_none=True)
        net(torch.rand(2, 3, 64, 64))[place].square().sum().backward()
        touched = [any(p.grad is not None for p in stage.parameters()) for stage in net.stages]
        assert {stage for stage, yes in enumerate(touched) if yes} == reached


def test_an_hourglass_takes_sizes_that_are_no_multiples_of_64():
    net = build("hourglass", stages=2, width=8).eval()
    assert [tuple(tensor.shape) for tensor in net(torch.zeros(1, 3, 68, 44))] == [(1, 8, 17, 11)] * 2


@pytest.mark.parametrize(("knob", "value"), [("width", 6), ("width", 0), ("blocks", 0), ("predictions", 0)])
def test_an_hourglass_that_cannot_be_built_is_refused(knob, value):
    with pytest.raises(PartError, match=f"^{knob}: "):
        build("hourglass", **{knob: value})


# --- CPN


def test_cpn_costs_what_the_row_says():
    parameters, macs = cost("cpn")
    assert parameters / 1e6 == pytest.approx(27.0, rel=0.01)
    assert macs / 2**30 == pytest.approx(6.20, rel=0.01)


def test_cpns_supervised_maps_are_there_in_training_only():
    net = build("cpn", width=4)
    images = torch.rand(2, 3, 64, 96)
    assert [tuple(tensor.shape) for tensor in net.train()(images)] == [(2, 16, 16, 24)] * 5
    assert [tuple(tensor.shape) for tensor in net.eval()(images)] == [(2, 16, 16, 24)]
    assert net.intermediate == (1, 2, 3, 4)


def test_cpns_pyramid_passes_from_coarse_to_fine():
    """The refined map depends on every level; the supervised ones on their own level and the coarser ones."""
    net = build("cpn", width=4)
    for place, lateral in ((0, {0, 1, 2, 3}), (1, {0, 1, 2, 3}), (2, {1, 2, 3}), (4, {3})):
        net.zero_grad(set_to_none=True)
        net(torch.rand(2, 3, 64, 64))[place].square().sum().backward()
        touched = [any(p.grad is not None for p in layer.parameters()) for layer in net.pyramid.lateral]
        assert {level for level, yes in enumerate(touched) if yes} == lateral
    assert [len(bottlenecks) for bottlenecks in net.refinement.deepen] == [0, 1, 2, 3]


def test_cpns_encoder_has_torchvisions_names():
    with torch.device("meta"):
        theirs, ours = torchvision.models.resnet50(weights=None), build("cpn").encoder
    shapes = {key: value.shape for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
    assert {key: value.shape for key, value in ours.state_dict().items()} == shapes


# --- plain encoders


@pytest.mark.parametrize(("depth", "output_stride"), [(18, 32), (50, 16), (50, 8)])
def test_resnets_maps_are_torchvisions(depth, output_stride):
    torch.manual_seed(0)
    net = build("resnet", depth=depth, output_stride=output_stride, pyramid=True).eval()
    dilated = [output_stride < 16, output_stride < 32]
    theirs = torchvision.models.get_model(
        f"resnet{depth}", weights=None, replace_stride_with_dilation=[False, *dilated]
    ).eval()
    missing = theirs.load_state_dict(net.body.state_dict(), strict=False)
    assert missing == (["fc.weight", "fc.bias"], [])
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        maps = net(images)
        x = theirs.maxpool(F.relu(theirs.bn1(theirs.conv1(images))))
        for stage, tensor in enumerate(maps, 1):
            x = getattr(theirs, f"layer{stage}")(x)
            assert torch.equal(tensor, x)
        assert net.strides == tuple(min(stride, output_stride) for stride in (4, 8, 16, 32))
        net.stages = 1
        assert torch.equal(net(images)[0], x)


def test_torchvision_cannot_dilate_basic_blocks():
    with pytest.raises(PartError, match=r"^output_stride: 16 needs a depth of 50 or more, not 34"):
        build("resnet", depth=34, output_stride=16)


@pytest.mark.parametrize(("depth", "batch_norm"), [(11, False), (16, True)])
def test_vggs_maps_are_torchvisions(depth, batch_norm):
    torch.manual_seed(0)
    net = build("vgg", depth=depth, batch_norm=batch_norm, pyramid=True).eval()
    with torch.device("meta"):
        theirs = torchvision.models.get_model(f"vgg{depth}{'_bn' if batch_norm else ''}", weights=None).features
    assert str(theirs) == str(net.features)
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        maps = net(images)
        assert torch.equal(maps[-1], net.features(images))
    assert torch.equal(F.max_pool2d(maps[2], 2), maps[3])  # the last map is the last pooling's
    assert [tensor.shape[1] for tensor in maps] == [256, 512, 512, 512]


@pytest.mark.parametrize(("name", "channels"), [("resnet", 512), ("vgg", 512)])
def test_a_plain_encoder_gives_its_last_map(name, channels):
    net = build(name, depth={"resnet": 18, "vgg": 11}[name]).eval()
    (tensor,) = net(torch.zeros(1, 3, 64, 96))
    assert tensor.shape == (1, channels, 2, 3)
    assert (net.channels, net.strides) == ((channels,), (32,))
