"""Convolutional Neural Fabrics: a trellis of scales and layers, no architecture chosen (Saxena & Verbeek, NIPS 2016).

Every node is ReLU(BN(sum of 3x3 convolutions)) of the finer, the same and the coarser node of the layer before. In
the first layer signals run from fine to coarse, so that the image reaches all scales; in the last from coarse to
fine, so that all scales reach the finest node, which leaves (arXiv 1606.02492, Fig. 1: dense prediction). Follows the
released code, shreyassaxena/convolutional-neural-fabrics@4afcfadb: stride 2 towards coarser nodes, zeros between the
pixels before the convolution towards finer ones, which together is a transposed convolution.

All channels of two neighbours are connected (the paper's dense fabrics, not its sparse ones). Difference: no biases,
for the normalisation after the sum would take them out.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from ablate.errors import PartError
from ablate.registry import model


def conv(source: int, target: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(source, target, 3, stride, padding=1, bias=False)


def edge(widths: Sequence[int], source: int, target: int) -> nn.Module:
    """The convolution from one scale to the same or the next; scales count from 0, the finest."""
    if source > target:
        return nn.ConvTranspose2d(widths[source], widths[target], 3, stride=2, padding=1, output_padding=1, bias=False)
    return conv(widths[source], widths[target], stride=1 + target - source)


class Node(nn.Module):
    """What several neighbours send, each through its edge, summed, normalised and activated."""

    def __init__(self, edges: Sequence[nn.Module], channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(edges)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, *neighbours: Tensor, size: Sequence[int]) -> Tensor:
        height, width = size
        arriving = [edge(x)[..., :height, :width] for edge, x in zip(self.edges, neighbours, strict=True)]
        return F.relu(self.norm(sum(arriving[1:], start=arriving[0])))


class Layer(nn.Module):
    """One node per scale, from the nodes of the layer before; in the `last` also from the next coarser node of its own.

    The sizes of the maps stay; where one is odd, what comes up from the coarser scale is cut to it.
    """

    def __init__(self, widths: tuple[int, ...], *, last: bool) -> None:
        super().__init__()
        self.last = last
        coarsest = len(widths) - 1
        self.sources = [range(max(0, i - 1), min(coarsest, i + 1) + 1) for i in range(len(widths))]
        nodes = []
        for i, width in enumerate(widths):
            edges = [edge(widths, source, i) for source in self.sources[i]]
            if last and i < coarsest:
                edges.append(edge(widths, i + 1, i))
            nodes.append(Node(edges, width))
        self.nodes = nn.ModuleList(nodes)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        found: list[Tensor] = []  # coarsest first
        for i in reversed(range(len(maps))):
            neighbours = [maps[source] for source in self.sources[i]]
            below = found[-1:] if self.last else []
            found.append(self.nodes[i](*neighbours, *below, size=maps[i].shape[-2:]))
        return found[::-1]


class Backbone(nn.Module):
    """images (B, 3, H, W) -> the last layer's finest node (B, width, H / stride, W / stride), in a list."""

    def __init__(self, widths: tuple[int, ...], *, layers: int, stem_stride: int) -> None:
        super().__init__()
        self.channels, self.strides = (widths[0],), (stem_stride,)
        steps = {1: (1,), 2: (2,), 4: (2, 2)}[stem_stride]
        stem = [self.step(3 if i == 0 else widths[0], widths[0], stride) for i, stride in enumerate(steps)]
        self.stem = nn.Sequential(*stem)  # the first layer's finest node
        self.descent = nn.ModuleList(self.step(widths[i], widths[i + 1], 2) for i in range(len(widths) - 1))
        self.layers = nn.Sequential(*(Layer(widths, last=i == layers - 1) for i in range(1, layers)))

    @staticmethod
    def step(source: int, target: int, stride: int) -> nn.Sequential:
        return nn.Sequential(conv(source, target, stride=stride), nn.BatchNorm2d(target), nn.ReLU(inplace=True))

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = [self.stem(images)]
        for step in self.descent:
            maps.append(step(maps[-1]))
        finest: Tensor = self.layers(maps)[0]
        return [finest]


@model("fabrics", meaning=1)
def fabrics(
    *,
    width: int = 64,  # channels of every node, or of the finest scale's nodes where they double
    layers: int = 8,  # columns of nodes; each is one 3x3 convolution deep
    scales: int = 6,  # resolutions, each half of the one before; the paper goes down to one pixel
    channel_doubling: bool = False,  # twice the channels at half the resolution
    stem_stride: Literal[1, 2, 4] = 1,  # what the image is reduced by before the finest scale; published: 1
) -> Backbone:
    """Convolutional Neural Fabrics: every layer exchanges between neighbouring scales.

    Raises:
        PartError: no channels or scales, or fewer than two layers.
    """
    for knob, value, least in (("width", width, 1), ("layers", layers, 2), ("scales", scales, 1)):
        if value < least:
            raise PartError(f"{knob}: must be at least {least}, not {value}")
    growth = 2 if channel_doubling else 1
    return Backbone(tuple(width * growth**i for i in range(scales)), layers=layers, stem_stride=stem_stride)
