"""The two residual blocks and the layers they are made of.

Attribute names are the official ones, so published weights load without renaming.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

Norm = Callable[[int], nn.Module]  # channels -> a normalisation layer for them


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with groups of at least 8 channels (Wu & He 2018 use 16), at most 32 groups."""
    most = max(1, min(32, channels // 8))
    return nn.GroupNorm(next(g for g in range(most, 0, -1) if channels % g == 0), channels)


def batch_norm(momentum: float = 0.1) -> Norm:
    """Batch normalisation; `momentum` is the weight of the newest batch, as in torch."""
    return partial(nn.BatchNorm2d, momentum=momentum)


NORMS: dict[str, Callable[[float], Norm]] = {"batch": batch_norm, "group": lambda _: group_norm}


def conv(source: int, target: int, *, kernel: int = 3, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """A convolution that keeps the size, divided by `stride` and rounded up."""
    return nn.Conv2d(source, target, kernel, stride, padding=kernel // 2, bias=bias)


def conv_norm(
    source: int,
    target: int,
    *,
    norm: Norm,
    kernel: int = 3,
    stride: int = 1,
    relu: bool = True,
    bias: bool = False,
) -> nn.Sequential:
    """Convolution, normalisation and (by default) ReLU; keys `0.*` and `1.*`."""
    layers = [conv(source, target, kernel=kernel, stride=stride, bias=bias), norm(target)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


def shrink_conv(
    source: int, target: int, *, ratio: int, norm: Norm, relu: bool = True, bias: bool = False
) -> nn.Sequential:
    """One step down in resolution, by the smallest odd kernel that skips no pixel (3x3 for the ratio 2)."""
    return conv_norm(source, target, norm=norm, kernel=2 * (ratio // 2) + 1, stride=ratio, relu=relu, bias=bias)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut: the block of every stream (CVPR sec. 3), and of shallow ResNets.

    `planes` is the width that comes out, that of the input if not given; `stride` is the first convolution's.
    """

    def __init__(self, channels: int, planes: int | None = None, *, norm: Norm, stride: int = 1) -> None:
        super().__init__()
        planes = planes or channels
        self.conv1, self.bn1 = conv(channels, planes, stride=stride), norm(planes)
        self.conv2, self.bn2 = conv(planes, planes), norm(planes)
        self.downsample = shortcut(channels, planes, stride=stride, norm=norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        # In place: normalisation keeps its input, not its output.
        y = self.bn2(self.conv2(y)).add_(x if self.downsample is None else self.downsample(x))
        return F.relu(y, inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut, widening to 4 x `planes` (stage 1, classification, ResNets).

    `stride` is the 3x3 convolution's.
    """

    def __init__(self, channels: int, planes: int, *, norm: Norm, stride: int = 1) -> None:
        super().__init__()
        widened = 4 * planes
        self.conv1, self.bn1 = conv(channels, planes, kernel=1), norm(planes)
        self.conv2, self.bn2 = conv(planes, planes, stride=stride), norm(planes)
        self.conv3, self.bn3 = conv(planes, widened, kernel=1), norm(widened)
        self.downsample = shortcut(channels, widened, stride=stride, norm=norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y)).add_(x if self.downsample is None else self.downsample(x))
        return F.relu(y, inplace=True)


def shortcut(source: int, target: int, *, stride: int, norm: Norm) -> nn.Sequential | None:
    """What a block's input passes on its way around (officially `downsample`); None where it stays as it is."""
    if source == target and stride == 1:
        return None
    return conv_norm(source, target, norm=norm, kernel=1, stride=stride, relu=False)
