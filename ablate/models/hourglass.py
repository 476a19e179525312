"""Stacked Hourglass (Newell, Yang and Deng, ECCV 2016, arXiv 1603.06937): down to a sixteenth and up again, repeatedly.

Layers are those of the released code (princeton-vl/pose-hg-train, src/models/hg.lua). Two differences. There, what a
stage feeds back are its supervised heatmaps; here the heads belong to the task, so each stage has a hidden prediction
of its own beside them. And pooling rounds up, so that sizes need not be multiples of 64.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from ablate.errors import PartError
from ablate.registry import model

DEPTH = 4  # halvings within an hourglass


class Residual(nn.Module):
    """Normalisation and ReLU before each of three convolutions, 1x1, 3x3, 1x1, the inner two half as wide."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        widths = (source, target // 2, target // 2, target)
        for width, wanted, kernel in zip(widths, widths[1:], (1, 3, 1), strict=False):
            layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, wanted, kernel, padding=kernel // 2)]
        self.layers = nn.Sequential(*layers)
        self.skip = nn.Identity() if source == target else nn.Conv2d(source, target, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x) + self.skip(x)
        return y


def residuals(width: int, blocks: int) -> nn.Sequential:
    """As many residual modules of one width as a place of the network has."""
    return nn.Sequential(*(Residual(width, width) for _ in range(blocks)))


class Hourglass(nn.Module):
    """(B, C, h, w) -> the same size: half the resolution and what happens there, added to a path that stays."""

    def __init__(self, width: int, *, blocks: int, depth: int) -> None:
        super().__init__()
        self.stay, self.down, self.up = (residuals(width, blocks) for _ in range(3))
        inner = Hourglass(width, blocks=blocks, depth=depth - 1) if depth > 1 else residuals(width, blocks)
        self.inner: nn.Module = inner

    def forward(self, x: Tensor) -> Tensor:
        low = self.up(self.inner(self.down(F.max_pool2d(x, 2, ceil_mode=True))))
        y: Tensor = self.stay(x) + F.interpolate(low, size=x.shape[2:])  # nearest
        return y


class Feedback(nn.Module):
    """What a stage hands on to the next: its features, and its predictions widened again, both by 1x1 convolutions."""

    def __init__(self, width: int, predictions: int) -> None:
        super().__init__()
        self.features = nn.Conv2d(width, width, 1)
        self.predictions = nn.Sequential(nn.Conv2d(width, predictions, 1), nn.Conv2d(predictions, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.features(x) + self.predictions(x)
        return y


class StackedHourglass(nn.Module):
    """images (B, 3, H, W) -> one map (B, C, H/4, W/4) for each stage, the last stage's first."""

    def __init__(self, *, stages: int, width: int, blocks: int, predictions: int) -> None:
        super().__init__()
        self.channels, self.strides = (width,) * stages, (4,) * stages
        self.intermediate = tuple(range(1, stages))
        self.stem = nn.Sequential(
            nn.Conv2d(3, width // 4, 7, stride=2, padding=3), nn.BatchNorm2d(width // 4), nn.ReLU(),
            Residual(width // 4, width // 2), nn.MaxPool2d(2, ceil_mode=True),
            Residual(width // 2, width // 2), Residual(width // 2, width),
        )  # fmt: skip
        self.stages = nn.ModuleList(
            nn.Sequential(
                Hourglass(width, blocks=blocks, depth=DEPTH), residuals(width, blocks),
                nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU(),
            )
            for _ in range(stages)
        )  # fmt: skip
        self.feedbacks = nn.ModuleList(Feedback(width, predictions) for _ in range(stages - 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.stem(images)  # (B, C, H/4, W/4)
        maps: list[Tensor] = []
        for stage, feedback in zip(self.stages, [*self.feedbacks, None], strict=True):
            maps.insert(0, stage(x))
            if feedback:
                x = x + feedback(maps[0])
        return maps


@model("hourglass", meaning=1, supervised_between=True)
def hourglass(
    *,
    stages: Literal[1, 2, 3, 4, 5, 6, 7, 8] = 8,  # hourglasses, one after the other (sec. 3.3)
    width: int = 256,  # channels throughout, a multiple of 4 (sec. 3.1)
    blocks: int = 1,  # residual modules at each place (released code, nModules: 1 with 8 stages)
    predictions: int = 17,  # channels of a stage's hidden prediction, as many as joints (sec. 3.3)
) -> StackedHourglass:
    """Stacked Hourglass: encoder-decoders in a row, each supervised.

    Raises:
        PartError: a width that is no multiple of 4, or a number that is not positive.
    """
    if width % 4:
        raise PartError(f"width: {width} is no multiple of 4")
    for knob, value in (("width", width), ("blocks", blocks), ("predictions", predictions)):
        if value < 1:
            raise PartError(f"{knob}: must be positive, not {value}")
    return StackedHourglass(stages=stages, width=width, blocks=blocks, predictions=predictions)
