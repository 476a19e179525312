"""Every wiring and knob: shapes, gradients, names, precision, and that nothing leaks from one model to the next."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from hrnet_core import HRNet, HRNetConfig, neck
from hrnet_core.config import FUSIONS
from hrnet_core.fusion import DOWNSAMPLES, OPERATORS, ROUTES, UPSAMPLES

SMALL = {"width": 8, "modules": (1, 2, 2), "blocks": 1, "stage1_blocks": 1, "stage1_planes": 8, "stem_width": 8}
KNOBS = [
    *({"fusions": fusions} for fusions in (*FUSIONS, (0, 2, 4), ())),
    *({"routes": routes} for routes in ROUTES),
    *({"operator": operator} for operator in OPERATORS),
    *({"downsample": downsample} for downsample in DOWNSAMPLES),
    *({"upsample": upsample} for upsample in UPSAMPLES),
    {"upsample": "bilinear", "downsample": "bilinear", "align_corners": True},
    {"parallel_from_start": True},
    *({"streams": streams} for streams in range(1, 7)),
    *({"streams": 1, "fusions": fusions} for fusions in FUSIONS),
    *({"stream_ratio": ratio, "streams": 3} for ratio in (3, 4)),
    *({"stem_stride": stride} for stride in (1, 2)),
    {"norm": "group"},
    {"widths": (8, 12, 10, 6)},
    {"blocks": (1, 2, 1)},
    {"in_channels": 1},
    {"multi_scale_output": False},
]


def built(**knobs) -> HRNet:
    torch.manual_seed(0)
    return HRNet(HRNetConfig(**(SMALL | knobs)))


def image_for(model: HRNet, batch: int = 2) -> torch.Tensor:
    side = model.config.min_size
    return torch.randn(batch, model.config.in_channels, 2 * side, 3 * side)


@pytest.mark.parametrize("knobs", KNOBS, ids=str)
def test_maps_have_the_promised_shapes_and_parameters_get_gradients(knobs):
    model = built(**knobs)
    image = image_for(model)
    maps = model(image)
    assert [tuple(x.shape) for x in maps] == [
        (2, channels, image.shape[2] // stride, image.shape[3] // stride)
        for channels, stride in zip(model.channels, model.strides, strict=True)
    ]
    sum(x.square().sum() for x in maps).backward()
    unused = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not unused or not model.config.multi_scale_output
    finite = all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert finite


@pytest.mark.parametrize("knobs", KNOBS, ids=str)
def test_sizes_that_are_no_multiples_round_up(knobs):
    model = built(**knobs).eval()
    side = 2 * model.config.min_size + 1
    with torch.no_grad():
        maps = model(torch.randn(1, model.config.in_channels, side, side + 2))
    assert [x.shape[2:] for x in maps] == [(-(-side // s), -(-(side + 2) // s)) for s in model.strides]


def without_gradient(model: HRNet) -> set[str]:
    finest = neck("v1", channels=model.channels, strides=model.strides)(model(image_for(model)))
    finest[0].sum().backward()
    return {name for name, parameter in model.named_parameters() if parameter.grad is None}


def test_dead_streams_show_as_parameters_without_gradient():
    assert not without_gradient(built(multi_scale_output=False))
    assert all(name.startswith("stage4.1.fuse_layers.") for name in without_gradient(built()))  # V1 of a V2 body
    dead = without_gradient(built(fusions=(0,), multi_scale_output=False))  # nothing returns to stream 0 after stage 2
    assert {"stage3.0.branches.2.0.conv1.weight", "stage4.1.branches.1.0.conv1.weight"} <= dead
    assert not any(name.startswith(("stage2.0.branches", "stage4.1.branches.0")) for name in dead)


@pytest.mark.parametrize("fusions", ["across", "final", (0,), ()])
def test_taking_fusions_out_only_takes_their_keys_away(fusions):
    full, fewer = built().state_dict(), built(fusions=fusions).state_dict()
    assert {key: value.shape for key, value in fewer.items()}.items() <= {k: v.shape for k, v in full.items()}.items()
    assert all(".fuse_layers." in key for key in set(full) - set(fewer))


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_fewer_streams_only_take_keys_away_and_keep_the_depth(streams):
    full, fewer = built().state_dict(), built(streams=streams).state_dict()
    assert set(fewer) < set(full)
    finest = [key for key in full if ".branches.0." in key]
    assert [key for key in fewer if ".branches.0." in key] == finest


def test_a_module_without_fusion_passes_its_streams_on():
    module = built(fusions=()).stage2[0]
    maps = [torch.randn(1, 8, 4, 4), torch.randn(1, 16, 2, 2)]
    expected = [branch(x) for branch, x in zip(module.branches, maps, strict=True)]
    torch.testing.assert_close(module(maps), expected)


def test_operators_agree_with_their_definitions():
    torch.manual_seed(0)
    own, received = torch.randn(2, 3, 4, 4), [torch.randn(2, 3, 4, 4) for _ in range(2)]
    made = {name: make(3, 3) for name, make in OPERATORS.items()}
    outcome = {name: operator(own, [own, *(term.clone() for term in received)]) for name, operator in made.items()}
    torch.testing.assert_close(outcome["sum"], own + received[0] + received[1])
    product = (own * received[0] * received[1]).numpy()
    root = torch.from_numpy(np.cbrt(product))
    apart = np.abs(product) > 0.1  # where the root's slope is not kept in bounds
    torch.testing.assert_close(outcome["geometric_mean"][apart], root[apart], rtol=0.01, atol=0)
    stacked = torch.cat([own, *received], dim=1)
    mixed = torch.einsum("oc,bchw->bohw", made["concat"].mix.weight[:, :, 0, 0], stacked)
    torch.testing.assert_close(outcome["concat"], mixed + made["concat"].mix.bias[:, None, None])
    nn.init.zeros_(made["attention"].gate.weight)
    nn.init.zeros_(made["attention"].gate.bias)
    torch.testing.assert_close(made["attention"](own, [own, *received]), outcome["sum"])  # even weights: the sum
    nn.init.constant_(made["attention"].gate.bias[0], 50.0)
    torch.testing.assert_close(made["attention"](own, [own, *received]), 3 * own)  # all weight on its own map


def test_a_product_stays_in_bounds_where_the_bare_one_does_not():
    """An outlier of a thousand, in evaluation, is no more at the end than it is for a sum."""
    images, ends = None, {}
    for operator in ("sum", "geometric_mean"):
        torch.manual_seed(0)
        net = built(operator=operator).eval()
        images = 1000 * image_for(net) if images is None else images
        with torch.no_grad():
            ends[operator] = max(float(level.abs().max()) for level in net(images))
    assert 0 < ends["geometric_mean"] < 10 * ends["sum"]
    for name in ("multiply", "normalised_product"):
        with pytest.raises(ValueError, match=rf"'{name}'.*'geometric_mean'"):
            HRNetConfig(operator=name)


def test_a_product_is_as_large_as_its_maps_and_has_a_slope_at_nothing():
    maps = [torch.randn(2, 3, 4, 4).double() for _ in range(3)]
    operator = OPERATORS["geometric_mean"](3, 3)
    large, larger = (operator(k * maps[0], [k * one for one in maps]) for k in (1e4, 1e6))
    torch.testing.assert_close(larger, 100 * large, rtol=1e-4, atol=0)
    nothing = [torch.zeros(1, requires_grad=True) for _ in range(3)]
    operator(nothing[0], nothing).sum().backward()
    assert all(torch.isfinite(one.grad).all() for one in nothing)


def test_bilinear_downsampling_is_the_mean_over_its_pixels():
    path = built(downsample="bilinear", streams=4).stage4[0].fuse_layers[3].get_submodule("0")
    x = torch.randn(1, 8, 16, 16)
    torch.testing.assert_close(path.shrink(x), nn.functional.avg_pool2d(x, 8))


def test_recomputation_gives_the_same_gradients_and_statistics():
    plain, recomputing = built(), built(checkpointing=True)
    image = image_for(plain)
    for model in (plain, recomputing):
        sum(x.square().mean() for x in model(image)).backward()
    for (name, ours), theirs in zip(recomputing.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad), name
    for (name, ours), theirs in zip(recomputing.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("knobs", [{}, {"upsample": "bilinear"}, {"operator": "attention"}, {"norm": "group"}], ids=str)
def test_channels_last_gives_the_same_numbers(knobs):
    model = built(**knobs).double().eval()  # in training the body changes the layout by itself, on a CPU
    image = image_for(model).double()
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    maps = last(image.contiguous(memory_format=torch.channels_last))
    assert maps[0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(maps, model(image))


def test_training_on_a_cpu_runs_in_channels_last_and_evaluation_as_given():
    model = built().double()
    image = image_for(model).double()
    trained = model(image)
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in trained)
    assert all(x.is_contiguous() for x in model.eval()(image))


@pytest.mark.parametrize("knobs", [{}, *({"operator": o} for o in OPERATORS), {"norm": "group"}], ids=str)
def test_bf16_autocast_trains(knobs):
    model = built(**knobs).to(memory_format=torch.channels_last)
    image = image_for(model).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = sum(x.float().square().mean() for x in model(image))
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    if knobs == {}:
        reference = sum(x.square().mean() for x in built()(image))
        assert loss.item() == pytest.approx(reference.item(), rel=0.05)


def test_models_do_not_leak_into_each_other():
    before = built().state_dict()
    for knobs in KNOBS:
        model = built(**knobs)
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
    after = built()
    assert after.config == HRNetConfig(**SMALL)
    for key, value in after.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_evaluation_does_not_change_the_model_or_the_image():
    model = built().eval()
    image = image_for(model)
    kept, before = image.clone(), {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        first, second = model(image), model(image)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert torch.equal(image, kept)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_group_norm_keeps_eight_channels_in_a_group():
    groups = {
        m.num_channels: m.num_groups for m in built(norm="group", width=18).modules() if isinstance(m, nn.GroupNorm)
    }
    assert all(channels % n == 0 and channels / n >= 8 for channels, n in groups.items())
    assert groups[144] == 18
