"""SimpleBaseline equals torchvision's ResNet with transposed convolutions, in numbers, costs and checkpoints.

Costs are those of microsoft/human-pose-estimation.pytorch's network: with 17 joints, recounted from its layers once as
its tool counts them (which takes a transposed convolution's output positions for its input's) and once truly.
"""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from hrnet_core import HeatmapHead, ResNet, SimpleBaseline, SimpleBaselineConfig, from_checkpoint
from hrnet_core.infer import infer_baseline
from hrnet_core.simple_baseline import BLOCKS, STAGES

IMAGE = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
LIMITS = {"rtol": 1e-5, "atol": 1e-5}


def torchvision_resnet(depth: int) -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.get_model(f"resnet{depth}", weights=None)


def trunk_state(net: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value for key, value in net.state_dict().items() if not key.startswith("fc.")}


def torchvision_maps(net: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    x, maps = net.maxpool(net.relu(net.bn1(net.conv1(image)))), []
    for stage in STAGES:
        x = getattr(net, stage)(x)
        maps.append(x)
    return maps


# --- the network


@pytest.mark.parametrize("depth", [18, 50])
def test_the_resnet_is_torchvisions(depth, randomised):
    theirs = randomised(torchvision_resnet(depth))
    ours = ResNet(depth).eval()
    ours.load_state_dict(trunk_state(theirs))
    with torch.no_grad():
        maps, expected = ours(IMAGE), torchvision_maps(theirs, IMAGE)
        uneven = torch.randn(1, 3, 50, 70)
        torch.testing.assert_close(ours(uneven), torchvision_maps(theirs, uneven), **LIMITS)
    torch.testing.assert_close(maps, expected, **LIMITS)
    assert tuple(tensor.shape[1] for tensor in maps) == ours.channels
    assert [64 // tensor.shape[2] for tensor in maps] == [96 // tensor.shape[3] for tensor in maps] == [*ours.strides]


@pytest.mark.parametrize("depth", BLOCKS)
def test_names_and_shapes_are_torchvisions_at_every_depth(depth):
    with torch.device("meta"):
        theirs, ours = trunk_state(torchvision_resnet(depth)), ResNet(depth).state_dict()
    assert [(key, value.shape) for key, value in ours.items()] == [(key, value.shape) for key, value in theirs.items()]


# depth, input, parameters, and the two counts: official ("GFLOPs", MACs / 2**30) and true (10**9 MACs)
PUBLISHED = [
    (50, (256, 192), 33_999_697, 8.991, 5.426),
    (101, (256, 192), 52_991_825, 12.378, 9.063),
    (152, (256, 192), 68_635_473, 15.765, 12.699),
    (152, (384, 288), 68_635_473, 35.470, 28.573),
]


def multiply_adds(net: nn.Module, image: torch.Tensor) -> tuple[int, int]:
    """Multiply-adds of a network of convolutions: as the official tool counts them, and truly."""
    counted, true = [], []

    def count(layer, inputs, output):
        counted.append(layer.weight.numel() * output.shape[2:].numel())
        meets = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        true.append(layer.weight.numel() * meets.shape[2:].numel())

    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(count)
    net.eval()(image)
    return sum(counted), sum(true)


@pytest.mark.parametrize(("depth", "size", "parameters", "official", "true"), PUBLISHED)
def test_costs_are_the_published_networks(depth, size, parameters, official, true):
    with torch.device("meta"):
        body = SimpleBaseline(SimpleBaselineConfig(depth=depth))
        net = nn.Sequential(body, HeatmapHead(body.channels, joints=17))
        counted = multiply_adds(net, torch.empty(1, 3, *size))
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters
    assert counted[0] / 2**30 == pytest.approx(official, abs=5e-4)
    assert counted[1] / 1e9 == pytest.approx(true, abs=5e-4)
    # torchvision's ResNet, less its classifier, plus what the paper's section 2 adds to it
    deconvs = 2048 * 256 * 16 + 2 * 256 * 256 * 16 + 3 * 2 * 256
    with torch.device("meta"):
        resnet = torchvision_resnet(depth)
    trunk = sum(parameter.numel() for name, parameter in resnet.named_parameters() if not name.startswith("fc."))
    assert parameters == trunk + deconvs + 256 * 17 + 17


@pytest.mark.parametrize("kernel", [2, 3, 4])
@pytest.mark.parametrize("deconvs", [1, 3, 5])
def test_every_transposed_convolution_doubles_the_size(deconvs, kernel):
    config = SimpleBaselineConfig(depth=18, width=4, deconv_widths=(6,) * deconvs, deconv_kernels=(kernel,) * deconvs)
    net = SimpleBaseline(config).eval()
    (tensor,) = net(IMAGE)
    assert tensor.shape == (2, 6, 2 * 2**deconvs, 3 * 2**deconvs)
    assert (net.channels, net.strides) == ((6,), (32 // 2**deconvs,))


REFUSED_CONFIGS = [
    ({"depth": 20}, "depth: 20 is not one of 18, 34, 50, 101, 152"),
    ({"width": 0}, "width: 0 wants whole numbers from 1 on"),
    ({"deconv_widths": ()}, "deconv_widths: .* wants one to five widths"),
    ({"deconv_widths": (256, 0, 256)}, "deconv_widths: .* wants whole numbers"),
    ({"deconv_kernels": (4, 4)}, "deconv_kernels: .* wants 3 of 2, 3, 4"),
    ({"deconv_kernels": (4, 4, 5)}, "deconv_kernels: .* wants 3 of 2, 3, 4"),
]


@pytest.mark.parametrize(("knobs", "message"), REFUSED_CONFIGS)
def test_what_cannot_be_built_is_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        SimpleBaselineConfig(**knobs)


# --- checkpoints


def weights(*sizes: int) -> torch.Tensor:
    return torch.randn(*sizes) / (sizes[1] * sizes[2] * sizes[3]) ** 0.5


def made(resnet: nn.Module, *, widths=(32, 24, 16), kernels=(4, 4, 4), final=1, joints=17, bias=False):
    """A checkpoint under the official names, and the heatmaps of IMAGE, worked out from torchvision's last map."""
    state, x = trunk_state(resnet), torchvision_maps(resnet, IMAGE)[-1]
    source = x.shape[1]
    for place, (width, kernel) in enumerate(zip(widths, kernels, strict=True)):
        up, norm = f"deconv_layers.{3 * place}", f"deconv_layers.{3 * place + 1}"
        layer = {f"{up}.weight": weights(source, width, kernel, kernel)}
        layer |= {f"{up}.bias": torch.randn(width)} if bias else {}
        moments = {"running_mean": torch.randn(width), "running_var": torch.rand(width) + 0.5}
        affine = {"weight": torch.rand(width) + 0.5, "bias": torch.randn(width)}
        padding, more = {2: (0, 0), 3: (1, 1), 4: (1, 0)}[kernel]  # pose_resnet.py, _get_deconv_cfg
        x = F.conv_transpose2d(x, layer[f"{up}.weight"], layer.get(f"{up}.bias"), 2, padding, more)
        x = F.batch_norm(x, *moments.values(), *affine.values()).relu()
        state |= layer | {f"{norm}.{name}": value for name, value in (affine | moments).items()}
        source = width
    state |= {"final_layer.weight": weights(joints, source, final, final), "final_layer.bias": torch.randn(joints)}
    return state, F.conv2d(x, state["final_layer.weight"], state["final_layer.bias"], padding=final // 2)


@pytest.fixture(scope="module")
def resnet():
    """torchvision's ResNet-18 with the statistics of a random batch."""
    net = torchvision_resnet(18)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        net.train()(torch.randn(4, 3, 64, 96))
    return net.eval()


@pytest.fixture(autouse=True)
def _no_gradients():
    torch.manual_seed(2)
    with torch.no_grad():
        yield


def renamed(state, *, body: str, head: str) -> dict[str, torch.Tensor]:
    tops = ("deconv_layers.", "final_layer.")
    return {(head if key.startswith(tops) else body) + key: value for key, value in state.items()}


LAYOUTS = {
    "official": lambda state: state,
    "pose_resnet_50_256x192.pth.tar": lambda state: {"state_dict": renamed(state, body="module.", head="module.")},
    "mmpose 0.x": lambda state: {"state_dict": renamed(state, body="backbone.", head="keypoint_head.")},
    "mmpose 1.x": lambda state: {"state_dict": renamed(state, body="backbone.", head="head."), "meta": {}},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_checkpoints_give_the_originals_heatmaps(resnet, layout):
    state, heatmaps = made(resnet)
    net = from_checkpoint(LAYOUTS[layout](state))
    torch.testing.assert_close(net(IMAGE), heatmaps, **LIMITS)
    assert heatmaps.shape == (2, 17, 16, 24)
    assert net.config == SimpleBaselineConfig(depth=18, deconv_widths=(32, 24, 16))
    assert net.family == ("mmpose" if layout.startswith("mmpose") else "pose")
    assert not net.leftover
    assert not net.training


OTHERS = [
    {"widths": (32, 16), "kernels": (4, 2)},
    {"kernels": (2, 3, 4), "final": 3, "joints": 14},
    {"bias": True},
]


@pytest.mark.parametrize("knobs", OTHERS, ids=str)
def test_other_heads_are_read_off_their_shapes(resnet, knobs):
    state, heatmaps = made(resnet, **knobs)
    torch.testing.assert_close(from_checkpoint(state)(IMAGE), heatmaps, **LIMITS)


@pytest.mark.parametrize("depth", BLOCKS)
def test_the_architecture_is_read_off_the_keys(depth):
    config = SimpleBaselineConfig(depth=depth, width=4, deconv_widths=(8, 4), deconv_kernels=(2, 4), deconv_bias=True)
    with torch.device("meta"):
        assert infer_baseline(SimpleBaseline(config).state_dict()) == config


def test_the_body_alone_needs_no_family(resnet):
    state, _ = made(resnet)
    body = {key: value for key, value in state.items() if not key.startswith("final_layer")}
    maps = from_checkpoint(body)(IMAGE)
    assert [tuple(tensor.shape) for tensor in maps] == [(2, 16, 16, 24)]
    headless = from_checkpoint(state, head=False)
    torch.testing.assert_close(headless(IMAGE), maps, **LIMITS)
    assert headless.leftover.keys() == {"final_layer.weight", "final_layer.bias"}


REFUSED = [
    (lambda s: s.pop("layer3.0.bn2.bias"), {}, ["missing: layer3.0.bn2.bias"]),
    (lambda s: s.pop("deconv_layers.4.running_var"), {}, ["missing: deconv_layers.4.running_var"]),
    (lambda s: s.pop("deconv_layers.3.weight"), {}, ["missing: deconv_layers.3.weight"]),
    (lambda s: s.pop("final_layer.bias"), {}, ["missing: final_layer.bias"]),
    (lambda s: s.pop("deconv_layers.0.weight"), {}, ["no HRNet in it, no SimpleBaseline", "deconv_layers.0.weight"]),
    (lambda s: s.update({"hm.0.weight": torch.ones(1)}), {}, ["left over: hm.0.weight", "head=False"]),
    (lambda s: s.update({"bn1.weight": torch.ones(7)}), {}, ["bn1.weight (7,) instead of (64,)"]),
    (
        lambda s: s.update({"layer3.2.conv1.weight": torch.ones(1)}),
        {},
        ["no published ResNet has (2, 2, 3, 2) basic blocks", "18: (2, 2, 2, 2)"],
    ),
    (lambda s: s.update({"last_layer.0.weight": s.pop("final_layer.weight")}), {}, ["segmentation", "SimpleBaseline"]),
    (lambda s: None, {"upsample": "nearest"}, ["upsample: SimpleBaseline has no such choice"]),
    (lambda s: None, {"align_corners": False}, ["align_corners: SimpleBaseline has no such choice"]),
]


@pytest.mark.parametrize(("damage", "choices", "words"), REFUSED, ids=lambda x: x[0] if isinstance(x, list) else "")
def test_what_does_not_fit_is_one_line(resnet, damage, choices, words):
    state, _ = made(resnet)
    damage(state)
    with pytest.raises(ValueError, match=r"^(checkpoint|upsample|align_corners): ") as caught:
        from_checkpoint(state, **choices)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)
