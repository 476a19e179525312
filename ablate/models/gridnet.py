"""GridNet: rows of residual blocks at ever coarser resolutions, joined by columns (Fourure et al., BMVC 2017).

The first columns send each row's map down to the next coarser row, the later ones up to the next finer row; every
crossing is a sum. Follows arXiv 1707.07958 and the released code, Fourure/GridNet@2def0343 (GridNet.lua), where batch
normalisation and ReLU come before each convolution and rows keep their maps unnormalised. The finest row leaves; the
two last 3x3 convolutions, to the classes, are the place of the task's head.

Differences: only coarse-to-fine steps are transposed convolutions (with stride 1 those are convolutions whose
kernel is turned round); a lateral branch that training keeps is divided by the probability of keeping it.
"""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from ablate.errors import PartError
from ablate.registry import model


def conv(source: int, target: int, *, stride: int = 1) -> nn.Conv2d:
    """3x3, size kept or divided by `stride`; biases as in the released code, for the rows' sums stay unnormalised."""
    return nn.Conv2d(source, target, 3, stride, padding=1)


def grow(source: int, target: int) -> nn.ConvTranspose2d:
    """3x3 to twice the size."""
    return nn.ConvTranspose2d(source, target, 3, stride=2, padding=1, output_padding=1)


def preactivated(first: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    """`first`, which may change width and size, and one more convolution, both behind normalisation and ReLU."""
    source, target = first.in_channels, first.out_channels
    head = [nn.BatchNorm2d(source), nn.ReLU(inplace=True), first]
    return nn.Sequential(*head, nn.BatchNorm2d(target), nn.ReLU(inplace=True), conv(target, target))


class Lateral(nn.Module):
    """A step along a row: the map plus its branch, which training drops for the whole batch now and then."""

    def __init__(self, channels: int, *, dropout: float) -> None:
        super().__init__()
        self.branch = preactivated(conv(channels, channels))
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.branch(x)
        if self.training and self.dropout:
            y = y * F.dropout(y.new_ones(()), self.dropout)  # one draw for all: 0 or 1 / (1 - dropout)
        return x + y


class Column(nn.Module):
    """A step along all rows and, at the same time, down from each row to the next coarser one, or up."""

    def __init__(self, widths: tuple[int, ...], *, up: bool, dropout: float) -> None:
        super().__init__()
        self.up = up
        self.laterals = nn.ModuleList(Lateral(width, dropout=dropout) for width in widths)
        steps = [grow(coarse, fine) if up else conv(fine, coarse, stride=2) for fine, coarse in pairwise(widths)]
        self.verticals = nn.ModuleList(preactivated(step) for step in steps)

    def forward(self, rows: list[Tensor]) -> list[Tensor]:
        rows = [lateral(x) for lateral, x in zip(self.laterals, rows, strict=True)]
        if not self.up:
            for i, vertical in enumerate(self.verticals):
                rows[i + 1] = rows[i + 1] + vertical(rows[i])
            return rows
        for i, vertical in reversed(list(enumerate(self.verticals))):
            height, width = rows[i].shape[-2:]
            rows[i] = rows[i] + vertical(rows[i + 1])[..., :height, :width]  # one pixel too much where the size is odd
        return rows


class Backbone(nn.Module):
    """images (B, 3, H, W) -> the finest row (B, width, H / stride, W / stride), in a list."""

    def __init__(
        self, widths: tuple[int, ...], *, down_columns: int, up_columns: int, dropout: float, stem_stride: int
    ) -> None:
        super().__init__()
        self.channels, self.strides = (widths[0],), (stem_stride,)
        first, second = {1: (1, 1), 2: (2, 1), 4: (2, 2)}[stem_stride]
        stem = [conv(3, widths[0], stride=first), conv(widths[0], widths[0], stride=second)]
        layers = [[layer, nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)] for layer in stem]
        self.stem = nn.Sequential(nn.BatchNorm2d(3), *layers[0], *layers[1])
        self.opening = nn.ModuleList(preactivated(conv(fine, coarse, stride=2)) for fine, coarse in pairwise(widths))
        ups = [False] * (down_columns - 1) + [True] * up_columns
        self.columns = nn.Sequential(*(Column(widths, up=up, dropout=dropout) for up in ups))

    def forward(self, images: Tensor) -> list[Tensor]:
        rows = [self.stem(images)]
        for step in self.opening:  # the first column: there is nothing to the left of it
            rows.append(step(rows[-1]))
        finest: Tensor = self.columns(rows)[0]
        return [finest]


@model("gridnet", meaning=1)
def gridnet(
    *,
    width: int = 16,  # channels of the finest row; each coarser row doubles them
    rows: int = 5,  # resolutions, each half of the one before
    down_columns: int = 3,  # columns that send from fine to coarse, the first one included
    up_columns: int = 3,  # columns that send from coarse to fine
    lateral_dropout: float = 0.0,  # how often training drops a step along a row; 0.1 in the released code
    stem_stride: Literal[1, 2, 4] = 1,  # what the stem reduces the image by; published: 1
) -> Backbone:
    """GridNet: a grid of residual rows and of columns that subsample, then upsample.

    Raises:
        PartError: a number that is not positive, or a dropout outside 0 to 1.
    """
    counts = {"width": width, "rows": rows, "down_columns": down_columns, "up_columns": up_columns}
    for knob, value in counts.items():
        if value < 1:
            raise PartError(f"{knob}: must be at least 1, not {value}")
    if not 0 <= lateral_dropout < 1:
        raise PartError(f"lateral_dropout: must be at least 0 and below 1, not {lateral_dropout}")
    return Backbone(
        tuple(width * 2**row for row in range(rows)),
        down_columns=down_columns,
        up_columns=up_columns,
        dropout=lateral_dropout,
        stem_stride=stem_stride,
    )
