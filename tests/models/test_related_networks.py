"""GridNet, Convolutional Neural Fabrics, Lite-HRNet and HRFormer against hand-worked and published numbers."""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ablate import registry
from ablate.errors import PartError

SMALL = {
    "gridnet": {"width": 2, "rows": 3, "down_columns": 2, "up_columns": 2, "lateral_dropout": 0.1},
    "fabrics": {"width": 2, "layers": 3, "scales": 3},
    "lite_hrnet": {"width": 8, "modules": (1, 1, 1), "blocks": 1, "stem_width": 4},
    "hrformer": {"width": 4, "modules": (1, 1, 1), "blocks": 1, "stage1_blocks": 1, "output": "all"},
}
FEWER = {"gridnet": {"rows": 1}, "fabrics": {"scales": 1, "layers": 2}, "lite_hrnet": {"modules": (1,)}}
HRFORMER_B = {"width": 78, "heads": 2}


def build(name: str, **knobs: object) -> nn.Module:
    backbone: nn.Module = registry.build("model", name, registry.check_knobs("model", name, knobs))
    return backbone


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("size", [(64, 96), (50, 45)], ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_is_used_at_sizes_of_all_kinds(name: str, size: tuple[int, int]) -> None:
    backbone = build(name, **SMALL[name])
    maps = backbone(torch.rand(2, 3, *size))
    for tensor, channels, stride in zip(maps, backbone.channels, backbone.strides, strict=True):
        assert tensor.shape == (2, channels, *(-(-side // stride) for side in size))
    sum(tensor.square().sum() for tensor in maps).backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("name", FEWER)
def test_fewer_resolutions_work(name: str) -> None:
    backbone = build(name, **{**SMALL[name], **FEWER[name]})
    assert backbone(torch.rand(2, 3, 32, 32))[0].shape[1] == backbone.channels[0]


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("gridnet", {"rows": 0}, "^rows: "),
        ("gridnet", {"lateral_dropout": 1.0}, "^lateral_dropout: "),
        ("fabrics", {"layers": 1}, "^layers: must be at least 2"),
        ("lite_hrnet", {"width": 41}, "^width: must be an even number .* take 42"),
        ("lite_hrnet", {"modules": ()}, "^modules: "),
        ("lite_hrnet", {"blocks": 0}, "^blocks: "),
        ("hrformer", {"width": 33, "heads": 2}, "^width: must be a multiple of heads, 2, .* take 34"),
        ("hrformer", {"modules": (1, 0)}, "^modules: "),
        ("hrformer", {"window": 0}, "^window: "),
        ("hrformer", {"drop_path": 1.0}, "^drop_path: "),
    ],
)
def test_impossible_knobs_are_named(name: str, knobs: dict[str, object], message: str) -> None:
    with pytest.raises(PartError, match=message):
        build(name, **knobs)


# GridNet and Fabrics: no published counts, so hand-worked ones.


def test_gridnet_has_the_parameters_of_its_grid() -> None:
    stem = 6 + (56 + 4) + (38 + 4)  # BN of the image, 3x3 from 3 to 2 and from 2 to 2 channels, a BN after each
    down = (4 + 76) + (8 + 148)  # BN of 2 and 3x3 from 2 to 4, BN of 4 and 3x3 from 4 to 4
    laterals = 2 * (4 + 38) + 2 * (8 + 148)
    up = (8 + 74) + (4 + 38)
    net = build("gridnet", width=2, rows=2, down_columns=1, up_columns=1)
    assert parameters(net) == stem + down + laterals + up == 864
    wider = build("gridnet", width=2, rows=2, down_columns=3, up_columns=2)
    assert parameters(wider) == 864 + 2 * (laterals + down) + (laterals + up)


def test_gridnet_rows_carry_their_map_and_add_to_it() -> None:
    net = build("gridnet", width=2, rows=3).eval()
    for step in [*net.opening, *net.columns]:
        for layer in step.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(net(images)[0], net.stem(images))
    nn.init.ones_(net.columns[-1].verticals[0][-1].bias)  # what the last column sends up to the finest row
    torch.testing.assert_close(net(images)[0], net.stem(images) + 1)


def test_gridnet_drops_laterals_in_training_only() -> None:
    plain, dropping = build("gridnet", width=2, rows=2), build("gridnet", width=2, rows=2, lateral_dropout=0.5)
    dropping.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(plain.eval()(images)[0], dropping.eval()(images)[0])
    lateral, x = dropping.train().columns[0].laterals[0], torch.rand(2, 2, 8, 8)
    with torch.no_grad():
        kept = {round(float(((lateral(x) - x) / lateral.branch(x)).median()), 3) for _ in range(30)}
    assert kept == {0.0, 2.0}  # nothing, or the branch over the probability of keeping it


def test_fabrics_have_the_parameters_of_their_trellis() -> None:
    def conv(source: int, target: int) -> int:
        return 9 * source * target

    first = (conv(3, 2) + 4) + (conv(2, 2) + 4)
    last = (2 * conv(2, 2) + 4) + (3 * conv(2, 2) + 4)  # coarse: finer, same; fine: same, coarser twice
    assert parameters(build("fabrics", width=2, layers=2, scales=2)) == first + last == 286
    middle = 4 * conv(2, 2) + 8
    assert parameters(build("fabrics", width=2, layers=4, scales=2)) == first + 2 * middle + last
    doubled = (conv(3, 2) + 4) + (conv(2, 4) + 8) + (conv(2, 4) + conv(4, 4) + 8) + (conv(2, 2) + 2 * conv(4, 2) + 4)
    assert parameters(build("fabrics", width=2, layers=2, scales=2, channel_doubling=True)) == doubled == 546


def test_a_fabric_node_sums_its_neighbours_and_coarser_maps_arrive_between_zeros() -> None:
    net = build("fabrics", width=1, layers=2, scales=2).eval()
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.zeros_(layer.weight)
            nn.init.ones_(layer.weight[..., 1, 1])
    # First layer: 3 channels of ones make 3 at both scales. Last layer: the coarse node has 3 + 3, the fine one its own
    # 3 and, on every other pixel, the coarse node of the layer before (3) and of its own layer (6).
    expected = torch.full((1, 1, 4, 4), 3.0)
    expected[..., ::2, ::2] = 12
    torch.testing.assert_close(net(torch.ones(1, 3, 4, 4))[0], expected, rtol=1e-4, atol=0)


# Lite-HRNet and HRFormer: published counts. HRFormer's pose counts: arXiv 2110.09408, comparison on COCO val.


def with_pose_head(name: str, knobs: dict[str, object]) -> nn.Module:
    """The network with 17 joints, on the meta device."""
    with torch.device("meta"):
        backbone = build(name, **knobs)
        head = nn.Conv2d(backbone.channels[0], 17, 1)
    return nn.ModuleDict({"backbone": backbone, "head": head}).eval()


def counted(net: nn.Module, size: tuple[int, int]) -> Counter[str]:
    """What tools that hook layers see: multiply-adds of convolutions and linear layers, elements of the others."""
    seen: Counter[str] = Counter()

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                seen[f"{name.rpartition('.')[2]} MACs"] += output.numel() * layer.weight[0].numel()
                seen["MACs"] += output.numel() * layer.weight[0].numel()
            elif isinstance(output, Tensor):
                seen[type(layer).__name__] += output.numel()

        return hook

    for name, layer in net.named_modules():
        layer.register_forward_hook(note(name))
    with torch.no_grad():
        net["head"](net["backbone"](torch.empty(1, 3, *size, device="meta"))[0])
    return seen


LITE_ROWS = [  # README of HRNet/Lite-HRNet: millions of parameters, "GFLOPs"
    ({}, (256, 192), 1.1, 0.2052),
    ({}, (384, 288), 1.1, 0.4616),
    ({"modules": (3, 8, 3)}, (256, 192), 1.8, 0.3192),
    ({"modules": (3, 8, 3)}, (384, 288), 1.8, 0.7178),
    ({"block": "shuffle", "width": 30}, (256, 192), 0.7, 0.1948),
    ({"block": "shuffle", "width": 40}, (256, 192), 1.3, 0.3111),
]


@pytest.mark.parametrize(("knobs", "size", "millions", "published"), LITE_ROWS)
def test_lite_hrnet_costs_what_was_published(
    knobs: dict[str, object], size: tuple[int, int], millions: float, published: float
) -> None:
    net = with_pose_head("lite_hrnet", knobs)
    assert int(parameters(net) / 1e5) / 10 == millions or round(parameters(net) / 1e6, 1) == millions
    seen = counted(net, size)
    # torchstat's count, in 2**20: besides MACs, 2 per normalised element, ReLU (only what is a layer here), and pixels
    # pooled for the spatial weights. What is left out, the ReLU after fusions and the rest, is below half a percent.
    total = seen["MACs"] + 2 * seen["BatchNorm2d"] + seen["ReLU"] + seen["SpatialWeighting"]
    assert total / 2**20 / 1000 == pytest.approx(published, rel=0.005)


HRFORMER_ROWS = [  # knobs, input, millions of parameters, GFLOPs
    ({}, (256, 192), 7.8, 2.8),
    (HRFORMER_B, (256, 192), 43.2, 12.2),
    ({}, (384, 288), 7.8, 6.2),
    (HRFORMER_B, (384, 288), 43.2, 26.8),
]


@pytest.mark.parametrize(("knobs", "size", "millions", "published"), HRFORMER_ROWS)
def test_hrformer_costs_what_was_published_for_pose(
    knobs: dict[str, object], size: tuple[int, int], millions: float, published: float
) -> None:
    net = with_pose_head("hrformer", knobs)
    assert parameters(net) / 1e6 == pytest.approx(millions, rel=0.01)
    seen = counted(net, size)
    # The paper's counter sees layers only: neither the products of queries, keys and values nor the output
    # projections, which its code applies as a function; and it counts 2 per normalised element.
    total = seen["MACs"] - seen["proj MACs"] + 2 * seen["BatchNorm2d"]
    assert total / 1e9 == pytest.approx(published, rel=0.01)


IMAGENET_ROWS = [({"width": 18, "modules": (1, 3, 2)}, 8.0), ({}, 13.5), (HRFORMER_B, 50.3)]  # README of HRNet/HRFormer


@pytest.mark.parametrize(("knobs", "millions"), IMAGENET_ROWS)
def test_hrformer_has_the_parameters_published_for_classification(knobs: dict[str, object], millions: float) -> None:
    with torch.device("meta"):
        backbone = build("hrformer", **knobs, output="all")
    head = 1024 * 2048 + 3 * 2048 + 2048 * 1000 + 1000  # 1x1, its bias and BN, the classifier
    for place, width in enumerate(backbone.channels):  # separable bottlenecks to 128, 256, 512 and 1024 channels
        planes = 32 * 2**place
        head += width * planes + 9 * planes + 4 * planes**2 + 4 * width * planes + 20 * planes
        if place < 3:  # a 3x3 per channel and a 1x1, both with bias and BN, down to the next
            head += (9 + 3) * 4 * planes + 32 * planes**2 + 3 * 8 * planes
    assert round((parameters(backbone) + head) / 1e6, 1) == millions


def test_lite_hrnet_adds_the_finest_map_twice_and_sends_it_fused() -> None:
    images = torch.rand(2, 3, 64, 64)
    published, plain = (build("lite_hrnet", **SMALL["lite_hrnet"], double_first=d).eval() for d in (True, False))
    plain.load_state_dict(published.state_dict())
    assert not torch.allclose(published(images)[0], plain(images)[0])

    x = [torch.rand(1, 8, 8, 8), torch.rand(1, 16, 4, 4)]
    fusion = published.stages[1][-1]
    (_, from_coarse), (from_fine, _) = fusion.fuse_layers
    coming_up = nn.functional.interpolate(from_coarse(x[1]), scale_factor=2)
    total = 2 * x[0] + coming_up
    expected = [total.relu(), (2 * from_fine(total) + x[1]).relu()]
    torch.testing.assert_close(fusion(x), expected)
    fusion.double_first = False
    torch.testing.assert_close(fusion(x), [(x[0] + coming_up).relu(), (from_fine(x[0]) + x[1]).relu()])


def test_lite_hrnet_passes_half_of_the_channels_shuffled() -> None:
    net = build("lite_hrnet", **SMALL["lite_hrnet"]).eval()
    x = [torch.rand(1, 8, 8, 8), torch.rand(1, 16, 4, 4)]
    for before, after in zip(x, net.stages[1][0](x), strict=True):
        half = before.shape[1] // 2
        assert torch.equal(after[:, ::2], before[:, :half])
        assert not torch.equal(after[:, 1::2], before[:, half:])


def test_lite_hrnet_reads_every_stream_in_its_finest_map() -> None:
    net = build("lite_hrnet", **SMALL["lite_hrnet"])
    net(torch.rand(2, 3, 64, 64))[0].square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_hrformer_attends_within_windows_about_the_centre() -> None:
    block = build("hrformer", **SMALL["hrformer"]).body[1].branches[0][0].eval()
    x = torch.rand(1, 8, 10, 4)  # padded to 14 x 14: borders of windows at row 7 - 3 and column 7 - 2
    moved = x.clone()
    moved[0, 0, 0] += torch.tensor([1.0, -1.0, 0.0, 0.0])
    changed = (block.attend(moved) - block.attend(x)).abs().amax(-1)[0] > 1e-7
    assert changed[:4, :5].all()
    assert not changed[4:].any()
    assert not changed[:, 5:].any()


def test_hrformer_puts_out_what_is_asked_for() -> None:
    knobs = SMALL["hrformer"]
    finest, everything = build("hrformer", **{**knobs, "output": "v1"}), build("hrformer", **knobs)
    assert (finest.channels, finest.strides) == ((4,), (4,))
    assert (everything.channels, everything.strides) == ((4, 8, 16, 32), (4, 8, 16, 32))
    assert build("hrformer", **{**knobs, "output": "v2"}).channels == (60,)
    finest(torch.rand(2, 3, 64, 64))[0].square().sum().backward()
    assert all(parameter.grad is not None for parameter in finest.parameters())


def test_hrformer_without_depthwise_convolutions_has_fewer_parameters() -> None:
    without = build("hrformer", **SMALL["hrformer"], ffn_depthwise=False)
    with_them = build("hrformer", **SMALL["hrformer"])
    blocks = sum(16 * 2**stream * (3 - max(0, stream - 1)) for stream in range(4))  # hidden channels of all blocks
    assert parameters(with_them) - parameters(without) == blocks * (9 + 1 + 2)
