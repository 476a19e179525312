"""Lite-HRNet: HRNet's streams with channel weights that are computed across resolutions (Yu et al., CVPR 2021).

What a shuffle block spends on 1x1 convolutions, quadratic in the width, is spent on weights: half of the channels are
weighted by what all streams saw, pooled to the coarsest, and by what their own stream saw, pooled to one pixel.
Follows arXiv 2104.06403 and the released code, HRNet/Lite-HRNet@7b9049d2 (models/backbones/litehrnet.py), with its
iterative head: each stream is added, upsampled, to the next finer one. Its finest map, which reads all streams, is
what the published pose networks read; the coarser maps leave with the widths that the head gives them.

Lite-HRNet-30 is modules=(3, 8, 3). The naive Lite-HRNet-18 is block="shuffle" with width=30, the wider one width=40.
The published "FLOPs" are in units of 2**20 and count more than MACs: 2 per normalised element, ReLU, pooled pixels.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.errors import PartError
from ablate.registry import model

Maps = list[Tensor]
CROSS_REDUCTION, OWN_REDUCTION = 8, 4  # how much narrower the weights' hidden layers are than their inputs


def conv_norm(source: int, target: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(source, target, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(target)]


def depthwise(channels: int, *, stride: int = 1) -> list[nn.Module]:
    return conv_norm(channels, channels, kernel=3, stride=stride, groups=channels)


def separable(source: int, target: int, *, stride: int = 1, relu: bool = True) -> list[nn.Module]:
    """3x3 for each channel, then 1x1 to the target's width."""
    return [*depthwise(source, stride=stride), *conv_norm(source, target), *([nn.ReLU()] if relu else [])]


def weights(channels: int, hidden: int, *, norm: bool) -> nn.Sequential:
    """Two 1x1 convolutions to weights between 0 and 1."""
    if norm:
        return nn.Sequential(*conv_norm(channels, hidden), nn.ReLU(), *conv_norm(hidden, channels), nn.Sigmoid())
    return nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1), nn.Sigmoid())


def shuffle(halves: Sequence[Tensor]) -> Tensor:
    """The channels of two maps (B, C, H, W) alternately: (B, 2 C, H, W)."""
    return torch.stack(list(halves), dim=2).flatten(1, 2)


class Stem(nn.Module):
    """(B, 3, H, W) -> (B, width, H/4, W/4): a convolution, then a shuffle block of stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv = nn.Sequential(*conv_norm(3, width, kernel=3, stride=2), nn.ReLU())
        self.short = nn.Sequential(*separable(half, half, stride=2))
        self.long = nn.Sequential(*conv_norm(half, width), nn.ReLU(), *separable(width, half, stride=2))

    def forward(self, images: Tensor) -> Tensor:
        first, second = self.conv(images).chunk(2, dim=1)
        return shuffle([self.short(first), self.long(second)])


class PerStream(nn.ModuleList):
    """One layer for each stream."""

    def forward(self, maps: Maps) -> Maps:
        return [layer(x) for layer, x in zip(self, maps, strict=True)]


class CrossResolutionWeighting(nn.Module):
    """Weights for the channels of all streams at once, one set per pixel of the coarsest stream (sec. 3.2)."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.widths = widths
        self.weights = weights(sum(widths), sum(widths) // CROSS_REDUCTION, norm=True)

    def forward(self, maps: Maps) -> Maps:
        height, width = maps[-1].shape[-2:]
        pooled = [F.adaptive_avg_pool2d(x, (height, width)) for x in maps[:-1]]
        found = self.weights(torch.cat([*pooled, maps[-1]], dim=1)).split(self.widths, dim=1)
        return [x * F.interpolate(w, size=x.shape[-2:], mode="nearest") for x, w in zip(maps, found, strict=True)]


class SpatialWeighting(nn.Module):
    """Weights for the channels of one stream, the same for all its pixels (squeeze and excitation; sec. 3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weights = weights(channels, channels // OWN_REDUCTION, norm=False)

    def forward(self, x: Tensor) -> Tensor:
        weighted: Tensor = x * self.weights(F.adaptive_avg_pool2d(x, 1))
        return weighted


class Block(nn.Module):
    """On every stream, half of the channels pass, the other half are transformed, and both are shuffled."""

    def __init__(self, widths: Sequence[int], kind: str) -> None:
        super().__init__()
        halves = [width // 2 for width in widths]
        steps: list[nn.Module] = []
        if kind == "weighting":
            steps.append(CrossResolutionWeighting(halves))
            steps.append(PerStream(nn.Sequential(*depthwise(half), SpatialWeighting(half)) for half in halves))
        else:
            steps.append(
                PerStream(nn.Sequential(*conv_norm(half, half), nn.ReLU(), *separable(half, half)) for half in halves)
            )
        self.transform = nn.Sequential(*steps)

    def forward(self, maps: Maps) -> Maps:
        first, second = zip(*(x.chunk(2, dim=1) for x in maps), strict=True)
        return [shuffle(pair) for pair in zip(first, self.transform(list(second)), strict=True)]


class Fusion(nn.Module):
    """Every stream takes in all others; `double_first` as in the published networks, whose weights rest on it.

    Their loop starts each sum with the finest stream's map and then adds that map once more. It adds in place, too:
    what the coarser streams get of the finest is its finished sum, before the ReLU. Without it: HRNet's plain sums.
    Here running statistics are updated once per step, in the published code twice where the map is added twice.
    """

    def __init__(self, widths: Sequence[int], *, double_first: bool) -> None:
        super().__init__()
        self.double_first = double_first
        streams = range(len(widths))
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self.route(widths, source, target) for source in streams) for target in streams
        )

    @staticmethod
    def route(widths: Sequence[int], source: int, target: int) -> nn.Module:
        if source == target:
            return nn.Identity()
        if source > target:
            return nn.Sequential(*conv_norm(widths[source], widths[target]))  # upsampled after it
        same = [separable(widths[source], widths[source], stride=2) for _ in range(source + 1, target)]
        steps = [*same, separable(widths[source], widths[target], stride=2, relu=False)]
        return nn.Sequential(*(nn.Sequential(*step) for step in steps))

    def forward(self, maps: Maps) -> Maps:
        maps, fused = list(maps), []
        for target, layers in enumerate(self.fuse_layers):
            size = maps[target].shape[-2:]
            arriving = [layer(x) for layer, x in zip(layers.children(), maps, strict=True)]
            arriving = [x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="nearest") for x in arriving]
            total = sum(arriving[1:], start=arriving[0])
            if self.double_first:
                total = total + arriving[0]
                if target == 0:
                    maps[0] = total
            fused.append(F.relu(total))
        return fused


class Transition(nn.Module):
    """Opens a stage: known streams pass, or change their width; the new one branches off the coarsest."""

    def __init__(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        super().__init__()
        known = [
            nn.Identity() if source == target else nn.Sequential(*separable(source, target))
            for source, target in zip(sources, targets, strict=False)
        ]
        self.streams = nn.ModuleList([*known, nn.Sequential(*separable(sources[-1], targets[-1], stride=2))])

    def forward(self, maps: Maps) -> Maps:
        return [layer(x) for layer, x in zip(self.streams, [*maps, maps[-1]], strict=True)]


class IterativeHead(nn.Module):
    """From the coarsest stream on: each is reduced to the next finer one's width and added to it, upsampled."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.channels = (widths[0], *widths[:-1])
        self.projects = nn.ModuleList(
            nn.Sequential(*separable(source, target)) for source, target in zip(widths, self.channels, strict=True)
        )

    def forward(self, maps: Maps) -> Maps:
        found: Maps = []  # coarsest first
        for layer, x in zip(reversed(self.projects), reversed(maps), strict=True):
            if found:
                x = x + F.interpolate(found[-1], size=x.shape[-2:], mode="bilinear", align_corners=True)
            found.append(layer(x))
        return found[::-1]


class Backbone(nn.Module):
    """images (B, 3, H, W) -> the head's maps, finest first, at 1/4, 1/8, 1/16 and 1/32."""

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        modules: tuple[int, ...],
        blocks: int,
        block: str,
        stem: int,
        double_first: bool,
    ) -> None:
        super().__init__()
        self.stem = Stem(stem)
        streams = [(stem,), *(widths[: i + 2] for i in range(len(modules)))]
        stages: list[nn.Module] = []
        for (before, now), count in zip(pairwise(streams), modules, strict=True):
            stages.append(Transition(before, now))
            for _ in range(count):
                layers = [Block(now, block) for _ in range(blocks)]
                stages.append(nn.Sequential(*layers, Fusion(now, double_first=double_first)))
        self.stages = nn.Sequential(*stages)
        self.head = IterativeHead(widths)
        self.channels = self.head.channels
        self.strides = tuple(4 * 2**i for i in range(len(widths)))

    def forward(self, images: Tensor) -> Maps:
        maps: Maps = self.head(self.stages([self.stem(images)]))
        return maps


@model("lite_hrnet", meaning=1)
def lite_hrnet(
    *,
    width: int = 40,  # channels of the finest stream, an even number; the others double it
    modules: tuple[int, ...] = (2, 4, 2),  # modules of the stages with 2, 3, 4 streams; -30 has 3, 8, 3
    blocks: int = 2,  # blocks of a module
    block: Literal["weighting", "shuffle"] = "weighting",  # conditional channel weighting, or the naive network's
    stem_width: int = 32,  # channels of the stem, an even number
    double_first: bool = True,  # the published fusion's quirk: the finest stream is added twice, already fused
) -> Backbone:
    """Lite-HRNet: light blocks that weight channels across resolutions.

    Raises:
        PartError: an odd or too small width, or a stage without modules or blocks.
    """
    for knob, value, least in (("width", width, 8), ("stem_width", stem_width, 2)):
        if value < least or value % 2:  # blocks halve their channels
            raise PartError(
                f"{knob}: must be an even number from {least} on, not {value}; take {max(least, value + 1)}"
            )
    if not modules or min(modules) < 1:
        raise PartError(f"modules: must be one positive number per stage, not {modules}")
    if blocks < 1:
        raise PartError(f"blocks: must be at least 1, not {blocks}")
    widths = tuple(width * 2**i for i in range(len(modules) + 1))
    return Backbone(widths, modules=modules, blocks=blocks, block=block, stem=stem_width, double_first=double_first)
