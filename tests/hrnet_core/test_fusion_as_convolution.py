"""Fusion is one convolution over all streams, fully connected where its wiring is (PAMI III-A, "multi-resolution
convolution").

On the coarsest stream's grid a finer stream's pixels become channels (space to depth). There every linear fusion is one
dense convolution with a kernel of 3 x 3, whose blocks from stream to stream are zero where a wiring does not send. What
is not linear is taken out or compared after it: the ReLU at a fusion's end is applied to both; those between the
strided convolutions of a chain, and what batch normalisation adds, are left out.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hrnet_core import HRNetConfig
from hrnet_core.blocks import batch_norm
from hrnet_core.fusion import DOWNSAMPLES, ROUTES, UPSAMPLES, Fusion

WIDTHS = (2, 3, 1, 2)
HEIGHT, WIDTH = 5, 6  # of the coarsest stream
MIDDLE = (2, 3)


def built(streams, **knobs):
    """A fusion with random weights whose paths are linear: normalisation scales and adds nothing."""
    torch.manual_seed(0)
    fusion = Fusion(
        streams=streams, outputs=streams, config=HRNetConfig(widths=WIDTHS, **knobs), norm=batch_norm()
    ).double()
    for module in list(fusion.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.Identity())
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -2, 2)
            nn.init.uniform_(module.running_var, 0.5, 2)
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return fusion.eval().requires_grad_(False)


def before_the_relu(fusion, maps):
    return [
        maps[at] if target.sources == [at] else target.operator(maps[at], target._terms(maps))
        for at, target in enumerate(fusion)
    ]


def stacked(maps):
    """Maps of all streams on the grid of the coarsest: (B, all channels and pixels of a cell, HEIGHT, WIDTH)."""
    steps = len(maps) - 1
    return torch.cat([F.pixel_unshuffle(level, 2 ** (steps - at)) for at, level in enumerate(maps)], dim=1)


def channels(streams):
    return [width * 4 ** (streams - 1 - at) for at, width in enumerate(WIDTHS[:streams])]


def unstacked(x, streams):
    parts = x.split(channels(streams), dim=1)
    return [F.pixel_shuffle(part, 2 ** (streams - 1 - at)) for at, part in enumerate(parts)]


def kernel(fusion):
    """The dense convolution's weights (out, in, 3, 3), read off what one pixel of the middle cell brings about."""
    streams, count = len(fusion), sum(channels(len(fusion)))
    impulses = torch.zeros(count, count, HEIGHT, WIDTH, dtype=torch.double)
    impulses[range(count), range(count), MIDDLE[0], MIDDLE[1]] = 1
    answers = stacked(before_the_relu(fusion, unstacked(impulses, streams)))  # (in, out, HEIGHT, WIDTH)
    near = answers[:, :, MIDDLE[0] - 1 : MIDDLE[0] + 2, MIDDLE[1] - 1 : MIDDLE[1] + 2]
    torch.testing.assert_close(near.abs().sum(), answers.abs().sum())  # nothing is further away
    return near.flip(2, 3).transpose(0, 1)


WIRINGS = [
    {"routes": routes, "downsample": downsample, "upsample": upsample, "operator": operator}
    for routes in ROUTES
    for downsample in DOWNSAMPLES
    for upsample in UPSAMPLES
    for operator in ("sum", "concat")
]


@pytest.mark.parametrize("streams", [2, 3, 4])
@pytest.mark.parametrize("knobs", WIRINGS, ids=lambda knobs: "-".join(knobs.values()))
def test_a_fusion_is_one_dense_convolution_on_the_stacked_streams(knobs, streams):
    fusion = built(streams, **knobs)
    dense = kernel(fusion)
    torch.manual_seed(1)
    maps = [
        torch.randn(2, width, HEIGHT * 2 ** (streams - 1 - at), WIDTH * 2 ** (streams - 1 - at), dtype=torch.double)
        for at, width in enumerate(WIDTHS[:streams])
    ]
    expected = unstacked(F.conv2d(stacked(maps), dense, padding=1), streams)
    for at, (ours, theirs) in enumerate(zip(fusion([level.clone() for level in maps]), expected, strict=True)):
        alone = fusion[at].sources == [at]  # it receives nothing, and stays as it is
        fused = theirs if alone else F.relu(theirs)
        assert torch.equal(ours, maps[at]) == alone
        # Bilinear enlargement repeats the border, where the convolution's padding is 0: compared within it.
        border = 2 ** (streams - 1 - at) if knobs["upsample"] == "bilinear" else 0
        inside = (..., slice(border, ours.shape[2] - border), slice(border, ours.shape[3] - border))
        assert ours[inside].numel() > 0
        torch.testing.assert_close(ours[inside], fused[inside], rtol=0, atol=1e-10)
    for target, rows in enumerate(dense.split(channels(streams), dim=0)):
        for source, block in enumerate(rows.split(channels(streams), dim=1)):
            sends = source == target or ROUTES[knobs["routes"]](source, target)
            assert bool(block.abs().max() > 0) == sends, (source, target)


def scaled(path):
    """The weights of a path's last convolution, with the scale of its normalisation."""
    layers = list(path.modules())
    norm = next(layer for layer in layers if isinstance(layer, nn.BatchNorm2d))
    weight = next(layer for layer in layers if isinstance(layer, nn.Conv2d)).weight
    return weight * (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None, None, None]


def test_the_blocks_are_the_convolutions_own_weights():
    """Two streams: the finer one's strided 3x3 over the pixels of four cells, the coarser one's 1x1 for each pixel."""
    fusion = built(2)
    fine, coarse = channels(2)
    dense = kernel(fusion)
    strided = F.pad(scaled(fusion[1].get_submodule("0")), (1, 0, 1, 0))  # pixels -2 to 1: two of each of two cells
    cells = strided.unflatten(3, (2, 2)).unflatten(2, (2, 2))  # (out, in, cell, pixel, cell, pixel)
    wanted = cells.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
    torch.testing.assert_close(dense[fine:, :fine], F.pad(wanted, (0, 1, 0, 1)))
    pointwise = scaled(fusion[0].get_submodule("1")).repeat_interleave(4, dim=0)
    torch.testing.assert_close(dense[:fine, fine:], F.pad(pointwise, (1, 1, 1, 1)))
    for start, end in ((0, fine), (fine, fine + coarse)):
        torch.testing.assert_close(
            dense[start:end, start:end], F.pad(torch.eye(end - start).double()[..., None, None], (1, 1, 1, 1))
        )
