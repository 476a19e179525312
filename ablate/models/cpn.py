"""Cascaded Pyramid Network (Chen et al., CVPR 2018, arXiv 1711.07319): a supervised pyramid, then its refinement.

Layers are those of the released code (chenyilun95/tf-cpn, models/COCO.res50.256x192.CPN/network.py), with torch's
bilinear grid. Predictions there come from 3x3 convolutions; here they are the task's head, 1x1 for every network.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.errors import PartError
from ablate.registry import model
from hrnet_core import ResNet

LEVELS = 4  # of the pyramid: strides 4, 8, 16, 32


def normed(source: int, target: int, kernel: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size, and its normalisation."""
    return [nn.Conv2d(source, target, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(target)]


def resized(x: Tensor, like: Tensor) -> Tensor:
    """`x`, brought to the size of another map."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions to twice the planes, around a shortcut that projects where the width changes."""

    def __init__(self, source: int, planes: int) -> None:
        super().__init__()
        inner = [*normed(source, planes), nn.ReLU(), *normed(planes, planes, 3), nn.ReLU()]
        self.layers = nn.Sequential(*inner, *normed(planes, 2 * planes))
        self.shortcut = nn.Identity() if source == 2 * planes else nn.Sequential(*normed(source, 2 * planes))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layers(x) + self.shortcut(x))


class GlobalNet(nn.Module):
    """The ResNet's maps -> a pyramid of one width, finest first: each level with the coarser one added (sec. 3.2.1)."""

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Sequential(*normed(source, width), nn.ReLU()) for source in channels)
        self.merge = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in channels[1:])

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        levels = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        for i in reversed(range(len(self.merge))):
            levels[i] = levels[i] + self.merge[i](resized(levels[i + 1], levels[i]))
        return levels


class RefineNet(nn.Module):
    """The pyramid -> one map of its finest size: the coarser a level, the more bottlenecks it passes (sec. 3.2.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        planes = width // 2
        self.deepen = nn.ModuleList(
            nn.Sequential(*(Bottleneck(width, planes) for _ in range(level))) for level in range(LEVELS)
        )
        self.mix = Bottleneck(LEVELS * width, planes)

    def forward(self, levels: list[Tensor]) -> Tensor:
        refined = [resized(deepen(x), levels[0]) for deepen, x in zip(self.deepen, levels, strict=True)]
        mixed: Tensor = self.mix(torch.cat(refined, dim=1))  # (B, 4 C, H/4, W/4) -> (B, C, H/4, W/4)
        return mixed


class CPN(nn.Module):
    """images (B, 3, H, W) -> [the refined map (B, C, H/4, W/4)], in training followed by the levels of the pyramid.

    These are supervised at the finest size, as officially, and serve nothing else; so evaluation leaves them out.
    """

    def __init__(self, *, depth: int, width: int) -> None:
        super().__init__()
        channels = 4 * width
        self.encoder = ResNet(depth, width=width)
        self.pyramid = GlobalNet(self.encoder.channels, channels)
        self.supervised = nn.ModuleList(nn.Sequential(*normed(channels, channels), nn.ReLU()) for _ in range(LEVELS))
        self.refinement = RefineNet(channels)
        self.channels, self.strides = (channels,) * (1 + LEVELS), (4,) * (1 + LEVELS)
        self.intermediate = tuple(range(1, 1 + LEVELS))

    def forward(self, images: Tensor) -> list[Tensor]:
        levels = self.pyramid(self.encoder(images))
        refined = self.refinement(levels)
        if not self.training:
            return [refined]
        between = (layer(x) for layer, x in zip(self.supervised, levels, strict=True))
        return [refined, *(resized(x, refined) for x in between)]


@model(
    "cpn",
    meaning=1,
    supervised_between=True,
    imagenet="torchvision, ResNet50_Weights to ResNet152_Weights: for the encoder",
)
def cpn(
    *,
    depth: Literal[50, 101, 152] = 50,  # of the ResNet
    width: int = 64,  # planes of the ResNet's first stage; the pyramid has four times as many channels (published: 64)
) -> CPN:
    """Cascaded Pyramid Network: a pyramid finds the joints, a second net refines the hard ones.

    Raises:
        PartError: a width that is not positive.
    """
    if width < 1:
        raise PartError(f"width: must be positive, not {width}")
    return CPN(depth=depth, width=width)
