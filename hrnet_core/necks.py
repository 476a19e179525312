"""How the maps leave: V1, V1h, V2, V2p, one stream of choice or all streams, for any list of maps, finest first.

A neck is a module from a list of maps to a list of maps; `channels` and `strides` describe what comes out.
V1 is the finest stream (CVPR sec. 3), V2 the concatenation of all (PAMI III-C), V2p a pyramid made of V2;
V1h is V1 widened to V2's width, so that the two differ in content alone (PAMI sec. VII). One coarser stream
is the representation-resolution ablation (CVPR sec. 4.3); all of them are what classification reads (PAMI, HRNet-Wx-C).
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from .blocks import conv
from .config import MOST_STREAMS, check_choice, check_integer
from .fusion import resize

Maps = list[torch.Tensor]
NECKS = ("v1", "v1h", "v2", "v2p", "streams", *(f"stream{i}" for i in range(1, MOST_STREAMS + 1)))


class Stream(nn.Module):
    """One map as it is; `stream` counts from 0, the finest. V1 is stream 0."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], *, stream: int = 0) -> None:
        super().__init__()
        if stream >= len(channels):
            raise ValueError(f"neck: 'stream{stream + 1}' needs {stream + 1} maps, but {len(channels)} come in")
        self.stream = stream
        self.channels, self.strides = (channels[stream],), (strides[stream],)

    def forward(self, maps: Maps) -> Maps:
        return [maps[self.stream]]


class Streams(nn.Module):
    """All maps as they are."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.channels, self.strides = tuple(channels), tuple(strides)

    def forward(self, maps: Maps) -> Maps:
        return maps


class V1h(nn.Module):
    """The finest map, widened by a 1x1 convolution to `out_channels` (V2's width if not given: 15 C)."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], *, out_channels: int | None = None) -> None:
        super().__init__()
        self.channels, self.strides = (out_channels or sum(channels),), (strides[0],)
        self.widen = conv(channels[0], self.channels[0], kernel=1, bias=True)

    def forward(self, maps: Maps) -> Maps:
        return [self.widen(maps[0])]


class V2(nn.Module):
    """All maps, upsampled bilinearly to the finest and concatenated: one map of 15 C channels."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], *, align_corners: bool = False) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.channels, self.strides = (sum(channels),), (strides[0],)

    def forward(self, maps: Maps) -> Maps:
        size = maps[0].shape[-2:]
        return [torch.cat([resize(x, size, mode="bilinear", align_corners=self.align_corners) for x in maps], dim=1)]


class V2p(nn.Module):
    """V2 reduced to `out_channels`, average-pooled to `levels` resolutions, a 3x3 convolution on each.

    As the released detectors do it (HRFPN of HRNet-Object-Detection and mmdetection): all linear, nothing
    normalised. `stride` is that of the last convolutions: 2 in mmdetection's FCOS, else 1.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        *,
        out_channels: int = 256,
        levels: int = 5,
        stride: int = 1,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.concat = V2(channels, strides, align_corners=align_corners)
        self.reduction_conv = conv(sum(channels), out_channels, kernel=1, bias=True)
        self.fpn_conv = nn.ModuleList(conv(out_channels, out_channels, stride=stride, bias=True) for _ in range(levels))
        self.channels = (out_channels,) * levels
        self.strides = tuple(strides[0] * stride * 2**level for level in range(levels))

    def forward(self, maps: Maps) -> Maps:
        finest = self.reduction_conv(*self.concat(maps))  # (B, 256, H/4, W/4)
        if min(finest.shape[-2:]) < 2 ** (len(self.fpn_conv) - 1):
            raise ValueError(f"neck: a map of {tuple(finest.shape[-2:])} is too small for {len(self.fpn_conv)} levels")
        levels = [finest] + [F.avg_pool2d(finest, 2**level) for level in range(1, len(self.fpn_conv))]
        return [conv(level) for conv, level in zip(self.fpn_conv, levels, strict=True)]


def neck(
    name: str,
    *,
    channels: Sequence[int],
    strides: Sequence[int],
    out_channels: int | None = None,
    align_corners: bool = False,
    stride: int = 1,
) -> Stream | Streams | V1h | V2 | V2p:
    """The neck called `name` (v1, v1h, v2, v2p, streams, stream1 ... stream6) for maps of these channels and strides.

    `out_channels` belongs to v1h (V2's width if not given; say it where the body puts out the finest map
    alone) and v2p (256), `align_corners` to the bilinear upsampling of v2 and v2p, `stride` to v2p's last convolutions.
    ValueError for a wrong name, or fewer than one channel.
    """
    check_choice("neck", name, NECKS)
    if out_channels is not None:
        check_integer("out_channels", out_channels)
    if name == "v1h":
        return V1h(channels, strides, out_channels=out_channels)
    if name == "v2":
        return V2(channels, strides, align_corners=align_corners)
    if name == "v2p":
        return V2p(channels, strides, out_channels=out_channels or 256, stride=stride, align_corners=align_corners)
    if name == "streams":
        return Streams(channels, strides)
    return Stream(channels, strides, stream=0 if name == "v1" else int(name.removeprefix("stream")) - 1)
