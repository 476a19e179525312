"""A network of your own, as a plug-in: a backbone that gives maps, to which the task adds its head."""

import torch
from torch import Tensor, nn

from ablate.registry import model


# The function's keyword arguments are the network's knobs: a study sets them as `model: {name: my_model, width: 32}`.
# They are read from this file without importing it, so defaults are literals, and the comment on a knob's line is what
# `ablate list knobs` prints. Raise `meaning` whenever you change what the network computes: older results then count
# as those of another network.
@model("my_model", meaning=1)
def my_model(
    *,
    width: int = 16,  # channels of the finest map; twice as many at half its resolution
    depth: int = 2,  # convolutions at each resolution
) -> nn.Module:
    """Two resolutions of plain convolutions, the coarser added to the finer."""
    return MyModel(width, depth)


class MyModel(nn.Module):
    """Images (B, 3, H, W) -> maps at 1/4 and 1/8 of their height and width."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        # What the task's head must know: the channels of each map, and how many pixels of the image a step in it is.
        self.channels = [width, 2 * width]
        self.strides = [4, 8]
        self.stem = nn.Sequential(block(3, width, stride=2), block(width, width, stride=2))
        self.fine = nn.Sequential(*(block(width, width) for _ in range(depth)))
        self.down = block(width, 2 * width, stride=2)
        self.coarse = nn.Sequential(*(block(2 * width, 2 * width) for _ in range(depth)))
        self.up = nn.Conv2d(2 * width, width, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        """A list of maps, the finest first."""
        fine = self.fine(self.stem(images))  # (B, width, H/4, W/4)
        coarse = self.coarse(self.down(fine))  # (B, 2 width, H/8, W/8)
        raised = nn.functional.interpolate(self.up(coarse), size=fine.shape[-2:])
        return [torch.relu(fine + raised), coarse]


def block(inputs: int, outputs: int, *, stride: int = 1) -> nn.Module:
    """A convolution with batch norm and ReLU."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
