"""A network whose width is a fraction, as an outsider's plugin: its cost is known by hand."""

from typing import Literal

from torch import nn

from ablate.registry import model


class Scaled(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.only = nn.Conv2d(3, channels, 3, padding=1)
        self.channels, self.strides = [channels], [1]

    def forward(self, images):
        return [self.only(images)]


@model("scaled", meaning=1)
def scaled(
    *,
    multiplier: float = 1.0,  # of 16 channels
    least: Literal[1, 2] = 1,  # channels
    shape: tuple[int, ...] = (3, 3),  # of nothing
):
    """One convolution of 16 channels, or a multiple of them."""
    return Scaled(max(least, round(16 * multiplier)))
