"""Which stream sends to which, and by which operator it is taken in: the exchange unit (CVPR sec. 3).

Streams are counted from 0, the finest. A wiring is a rule over (source, target), one line in ROUTES; an
operator is one entry of OPERATORS. A stream always keeps its own map. Convolution comes before upsampling and
parameters are named `fuse_layers.<target>.<source>.*`, both as in every released network.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from .blocks import Norm, conv, shrink_conv

if TYPE_CHECKING:
    from .config import HRNetConfig

Wiring = Callable[[int, int], bool]  # (source, target) -> whether the source sends to the target

ROUTES: dict[str, Wiring] = {
    "full": lambda *_: True,
    "neighbours": lambda source, target: abs(source - target) <= 1,
    "fine_to_coarse": lambda source, target: source <= target,
    "coarse_to_fine": lambda source, target: source >= target,
}
DOWNSAMPLES = ("strided_conv", "bilinear")
UPSAMPLES = ("nearest", "bilinear")
ROOT_EPS = 1e-3  # added to a product below its root, whose slope at 0 would be infinite


def resize(x: torch.Tensor, size: Sequence[int], *, mode: str, align_corners: bool = False) -> torch.Tensor:
    """`x` at another height and width; `align_corners` concerns bilinear alone."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    if mode == "nearest":
        return F.interpolate(x, size=tuple(size), mode=mode)
    return F.interpolate(x, size=tuple(size), mode=mode, align_corners=align_corners)


class Shrink(nn.Module):
    """Bilinear downsampling step by step, because one jump by 8 would look at 4 of 64 pixels."""

    def __init__(self, *, steps: int, ratio: int, align_corners: bool) -> None:
        super().__init__()
        self.steps, self.ratio, self.align_corners = steps, ratio, align_corners

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.steps):
            smaller = [-(-side // self.ratio) for side in x.shape[-2:]]  # rounds up, as the strided convolution
            x = resize(x, smaller, mode="bilinear", align_corners=self.align_corners)
        return x


def make_path(source: int, target: int, *, config: "HRNetConfig", norm: Norm) -> nn.Sequential:
    """The layers that bring the source stream's map to the target stream's width, and down to its resolution.

    From a coarser stream: 1x1 convolution and normalisation, no ReLU; the target upsamples the outcome. From a finer
    one: a chain of strided convolutions that keeps the width, and the ReLU, until its last step.
    """
    wide, ratio, steps = config.stream_widths, config.stream_ratio, target - source
    if source < target and config.downsample == "strided_conv":
        keep = [shrink_conv(wide[source], wide[source], ratio=ratio, norm=norm) for _ in range(steps - 1)]
        return nn.Sequential(*keep, shrink_conv(wide[source], wide[target], ratio=ratio, norm=norm, relu=False))
    layers: dict[str, nn.Module] = {"0": conv(wide[source], wide[target], kernel=1), "1": norm(wide[target])}
    if source < target:
        layers = {"shrink": Shrink(steps=steps, ratio=ratio, align_corners=config.align_corners)} | layers
    return nn.Sequential(OrderedDict(layers))


class Sum(nn.Module):
    """Elementwise sum: the published operator, in the published order of terms."""

    def forward(self, own: torch.Tensor, terms: Iterable[torch.Tensor]) -> torch.Tensor:
        terms = iter(terms)
        total = next(terms)
        for term in terms:  # in place, but never into the stream's own map, which others read
            total = term.add_(total) if total is own else total.add_(term)
        return total


class GeometricMean(nn.Module):
    """Elementwise product, of which the root is taken and the sign kept: the product of PAMI sec. VII, in bounds.

    The paper does not say how its product was kept there. A stream's own map is not normalised, so that the bare
    product grows from fusion to fusion: W32's first loss is 2.5e22. Normalised as a batch it stays in bounds in
    training alone: with the running averages of evaluation an outlier grows as before. Under the root n maps that are k
    times as large give a map that is k times as large, as their sum does.
    """

    def forward(self, own: torch.Tensor, terms: Iterable[torch.Tensor]) -> torch.Tensor:
        terms = list(terms)
        product = reduce(torch.mul, terms)
        return product / (product.abs() + ROOT_EPS) ** (1 - 1 / len(terms))


class Concat(nn.Module):
    """All maps side by side, mixed back to the stream's width by a 1x1 convolution."""

    def __init__(self, channels: int, sources: int) -> None:
        super().__init__()
        self.mix = conv(sources * channels, channels, kernel=1, bias=True)

    def forward(self, own: torch.Tensor, terms: Iterable[torch.Tensor]) -> torch.Tensor:
        mixed: torch.Tensor = self.mix(torch.cat(list(terms), dim=1))  # (B, S*C, H, W) -> (B, C, H, W)
        return mixed


class Attention(nn.Module):
    """A sum whose terms are weighted per pixel by a softmax (attention to scale, Chen et al. 2016).

    The weights are scaled to sum to the number of terms, so that even weights are the published sum.
    """

    def __init__(self, channels: int, sources: int) -> None:
        super().__init__()
        self.gate = conv(channels, sources, kernel=1, bias=True)

    def forward(self, own: torch.Tensor, terms: Iterable[torch.Tensor]) -> torch.Tensor:
        terms = list(terms)  # S x (B, C, H, W)
        weights = len(terms) * self.gate(sum(terms)).softmax(dim=1)  # (B, S, H, W)
        weighted: torch.Tensor = sum(x * weights[:, i : i + 1] for i, x in enumerate(terms))
        return weighted


OPERATORS: dict[str, Callable[[int, int], nn.Module]] = {  # of a stream's channels and number of sources
    "sum": lambda *_: Sum(),
    "geometric_mean": lambda *_: GeometricMean(),
    "concat": Concat,
    "attention": Attention,
}


class Target(nn.Module):
    """What one stream makes of the maps of all: ReLU(operator(own, terms)), its layers named by source."""

    def __init__(self, target: int, *, streams: int, config: "HRNetConfig", norm: Norm) -> None:
        super().__init__()
        sends = ROUTES[config.routes]
        self.target, self.mode, self.align_corners = target, config.upsample, config.align_corners
        self.sources = [source for source in range(streams) if source == target or sends(source, target)]
        for source in self.sources:
            if source != target:
                self.add_module(str(source), make_path(source, target, config=config, norm=norm))
        self.operator = OPERATORS[config.operator](config.stream_widths[target], len(self.sources))

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        own = maps[self.target]
        if self.sources == [self.target]:
            return own
        return F.relu(self.operator(own, self._terms(maps)), inplace=True)

    def _terms(self, maps: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """What is taken in, the own map included, at its resolution; one at a time, as a sum needs no two at once."""
        own = maps[self.target]
        for source in self.sources:
            if source == self.target:
                yield own
            else:
                term = self.get_submodule(str(source))(maps[source])
                yield resize(term, own.shape[-2:], mode=self.mode, align_corners=self.align_corners)


class Fusion(nn.ModuleList):
    """The exchange between streams at a module's end: maps of all streams -> maps of the first `outputs`."""

    def __init__(self, *, streams: int, outputs: int, config: "HRNetConfig", norm: Norm) -> None:
        super().__init__(Target(i, streams=streams, config=config, norm=norm) for i in range(outputs))

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [target(maps) for target in self]
