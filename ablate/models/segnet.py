"""SegNet (Badrinarayanan et al., PAMI 2017, arXiv 1511.00561): VGG-16 and its mirror image, joined by pooling indices.

The published decoder ends in a 3x3 convolution to the classes, which is the classifier; the task's 1x1 takes its place.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from ablate.errors import PartError
from ablate.registry import model

CONVOLUTIONS = (2, 2, 3, 3, 3)  # VGG-16's, per stage
MULTIPLES = (1, 2, 4, 8, 8)  # its channels, in units of the first stage's


class SegNet(nn.Module):
    """images (B, 3, H, W) -> one map (B, width, H, W)."""

    def __init__(self, width: float) -> None:
        super().__init__()
        widths = [max(1, round(width * multiple)) for multiple in MULTIPLES]
        stages = list(zip([3, *widths], widths, CONVOLUTIONS, strict=False))
        self.down = nn.ModuleList(_convolutions([finer, *[own] * count]) for finer, own, count in stages)
        # Coarsest first. The finest stage stops at its own width, one convolution early.
        mirrored = [_convolutions([*[own] * count, finer]) for finer, own, count in reversed(stages[1:])]
        self.up = nn.ModuleList([*mirrored, _convolutions([widths[0]] * CONVOLUTIONS[0])])
        self.channels, self.strides = (widths[0],), (1,)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = images
        pooled = []
        for stage in self.down:
            x = stage(x)
            size = x.shape[2:]
            x, places = F.max_pool2d(x, 2, return_indices=True)
            pooled.append((places, size))
        for stage, (places, size) in zip(self.up, reversed(pooled), strict=True):
            x = stage(F.max_unpool2d(x, places, [2, 2], output_size=size))
        return [x]


@model("segnet", meaning=1)
def segnet(
    *,
    width: float = 64.0,  # channels of the first stage; later ones have 2, 4, 8 and 8 times as many
) -> SegNet:
    """SegNet: upsamples by putting values back where max pooling found them."""
    if width <= 0:
        raise PartError(f"width: must be above 0, not {width}")
    return SegNet(width)


def _convolutions(channels: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
