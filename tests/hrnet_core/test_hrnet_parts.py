"""Necks and heads: what comes out, and that it equals an independent computation."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hrnet_core import NECKS, ClassificationHead, HeatmapHead, OCRHead, SegmentationHead, neck

CHANNELS, STRIDES = (4, 8, 16, 32), (4, 8, 16, 32)


def maps_for(channels=CHANNELS, finest=(16, 24)) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, c, finest[0] // 2**i, finest[1] // 2**i) for i, c in enumerate(channels)]


@pytest.mark.parametrize("name", NECKS[:-2])
def test_necks_put_out_what_they_promise(name):
    made = neck(name, channels=CHANNELS, strides=STRIDES)
    out = made(maps_for())
    assert [x.shape[1] for x in out] == list(made.channels)
    assert [64 // x.shape[2] for x in out] == list(made.strides)


@pytest.mark.parametrize("name", ["v1", "v1h", "v2", "stream1"])
def test_necks_take_a_single_map(name):
    made = neck(name, channels=(4,), strides=(8,))
    assert made(maps_for((4,)))[0].shape == (2, 4, 16, 24)
    assert (made.channels, made.strides) == ((4,), (8,))


def test_v1_and_single_streams_are_the_maps_themselves():
    maps = maps_for()
    for i, x in enumerate(maps):
        assert neck(f"stream{i + 1}", channels=CHANNELS, strides=STRIDES)(maps)[0] is x
    assert neck("v1", channels=CHANNELS, strides=STRIDES)(maps)[0] is maps[0]


def test_v1h_has_the_width_of_v2():
    assert neck("v1h", channels=CHANNELS, strides=STRIDES).channels == (60,)
    assert neck("v1h", channels=(4,), strides=(4,), out_channels=60).channels == (60,)


@pytest.mark.parametrize("align_corners", [False, True])
def test_v2_is_the_upsampled_concatenation(align_corners):
    maps = maps_for()
    up = nn.UpsamplingBilinear2d if align_corners else lambda size: nn.Upsample(size, mode="bilinear")
    expected = torch.cat([maps[0], *(up((16, 24))(x) for x in maps[1:])], dim=1)
    out = neck("v2", channels=CHANNELS, strides=STRIDES, align_corners=align_corners)(maps)
    torch.testing.assert_close(out[0], expected)


def test_v2p_pools_the_reduced_map():
    made, maps = neck("v2p", channels=CHANNELS, strides=STRIDES, out_channels=6), maps_for()
    with torch.no_grad():
        out = made(maps)
        reduced = made.reduction_conv(neck("v2", channels=CHANNELS, strides=STRIDES)(maps)[0])
        blocks = reduced.unfold(2, 4, 4).unfold(3, 4, 4).mean(dim=(-1, -2))  # averages of 4 x 4 pixels
        torch.testing.assert_close(out[2], made.fpn_conv[2](blocks))
    assert made.strides == (4, 8, 16, 32, 64)
    assert sum(p.numel() for p in made.parameters()) == (60 * 6 + 6) + 5 * (6 * 6 * 9 + 6)


@pytest.mark.parametrize(
    ("name", "channels", "message"),
    [
        ("v3", CHANNELS, "neck: 'v3' is not one of v1, v1h, v2"),
        ("stream4", CHANNELS[:3], "neck: 'stream4' needs 4 maps, but 3 come in"),
        ("stream9", CHANNELS, "did you mean"),
    ],
)
def test_wrong_necks_are_refused(name, channels, message):
    with pytest.raises(ValueError, match=message):
        neck(name, channels=channels, strides=STRIDES[: len(channels)])


def test_a_map_too_small_for_the_pyramid_is_refused():
    with pytest.raises(ValueError, match="too small for 5 levels"):
        neck("v2p", channels=CHANNELS, strides=STRIDES)(maps_for(finest=(8, 8)))


def test_heads_put_out_their_shapes_and_get_gradients():
    maps = maps_for()
    wide = neck("v2", channels=CHANNELS, strides=STRIDES)(maps)
    for head, inputs, shapes in (
        (HeatmapHead(CHANNELS, joints=17), maps, [(2, 17, 16, 24)]),
        (HeatmapHead(CHANNELS, joints=17, kernel=3), maps, [(2, 17, 16, 24)]),
        (SegmentationHead((60,), classes=19), wide, [(2, 19, 16, 24)]),
        (OCRHead((60,), classes=19, mid_channels=32, key_channels=16), wide, [(2, 19, 16, 24)] * 2),
        (ClassificationHead(CHANNELS, classes=10), maps, [(2, 10)]),
        (ClassificationHead(CHANNELS[:1], classes=10), maps[:1], [(2, 10)]),
        (ClassificationHead(CHANNELS, classes=0), maps, [(2, 2048)]),
    ):
        out = head(inputs)
        out = out if isinstance(out, list) else [out]
        assert [tuple(x.shape) for x in out] == shapes
        sum(x.square().sum() for x in out).backward()
        assert all(parameter.grad is not None for parameter in head.parameters())


def test_ocr_equals_a_computation_from_its_weights():
    """As the official module computes it (seg_hrnet_ocr.py), written with plain functions and einsum."""
    torch.manual_seed(1)
    head = OCRHead((60,), classes=5, mid_channels=32, key_channels=16)
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    head.eval()
    weights = head.state_dict()

    def layer(x, conv, norm, padding=0):
        y = F.conv2d(x, weights[f"{conv}.weight"], weights.get(f"{conv}.bias"), padding=padding)
        moments = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
        return F.batch_norm(y, *moments, weights[f"{norm}.weight"], weights[f"{norm}.bias"]).relu()

    x = torch.randn(2, 60, 6, 8)
    auxiliary = F.conv2d(layer(x, "aux_head.0", "aux_head.1"), weights["aux_head.3.weight"], weights["aux_head.3.bias"])
    pixels = layer(x, "conv3x3_ocr.0", "conv3x3_ocr.1", padding=1)
    shares = auxiliary.flatten(2).softmax(dim=-1)
    regions = torch.einsum("bkn,bcn->bck", shares, pixels.flatten(2)).unsqueeze(-1)
    block = "ocr_distri_head.object_context_block"
    project = {
        name: layer(layer(y, f"{block}.{name}.0", f"{block}.{name}.1.0"), f"{block}.{name}.2", f"{block}.{name}.3.0")
        for name, y in (("f_pixel", pixels), ("f_object", regions))
    }
    value = layer(regions, f"{block}.f_down.0", f"{block}.f_down.1.0")
    likeness = torch.einsum("bdn,bdk->bnk", project["f_pixel"].flatten(2), project["f_object"].flatten(2)) / 4
    context = torch.einsum("bnk,bdk->bdn", likeness.softmax(dim=-1), value.flatten(2)).reshape(2, 16, 6, 8)
    context = layer(context, f"{block}.f_up.0", f"{block}.f_up.1.0")
    mixing = "ocr_distri_head.conv_bn_dropout"
    mixed = layer(torch.cat([context, pixels], dim=1), f"{mixing}.0", f"{mixing}.1.0")
    main = F.conv2d(mixed, weights["cls_head.weight"], weights["cls_head.bias"])
    with torch.no_grad():
        torch.testing.assert_close(head([x]), [auxiliary, main], rtol=1e-5, atol=1e-5)
