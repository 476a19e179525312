"""VGG (Simonyan and Zisserman, ICLR 2015, arXiv 1409.1556) as a plain encoder: torchvision's convolutions.

It has no decoder: heads read what its classifier would, at a thirty-second of the image's size. With `pyramid` the maps
before the last three poolings come out too, and heads, which read the first, see the first three groups alone.
"""

from typing import Literal

from torch import Tensor, nn
from torchvision.models import vgg as torchvision_vgg

from ablate.registry import model

PLANS = {11: "A", 13: "B", 16: "D", 19: "E"}  # depth -> column of the paper's table 1, as torchvision names them


class Encoder(nn.Module):
    """images (B, 3, H, W) -> maps of strides 4, 8, 16 (before their pooling) and 32 (after the last), or the last."""

    def __init__(self, features: nn.Sequential, *, pyramid: bool) -> None:
        super().__init__()
        self.features = features
        self.channels: tuple[int, ...] = (256, 512, 512, 512) if pyramid else (512,)
        self.strides: tuple[int, ...] = (4, 8, 16, 32) if pyramid else (32,)

    def forward(self, images: Tensor) -> list[Tensor]:
        x, maps = images, []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
            x = layer(x)
        return [*maps, x][-len(self.channels) :]


@model("vgg", meaning=1, imagenet="torchvision, VGG11_BN_Weights to VGG19_BN_Weights, and without _BN")
def vgg(
    *,
    depth: Literal[11, 13, 16, 19] = 16,  # layers, the classifier's three included (table 1)
    batch_norm: bool = True,  # after every convolution (the paper has none)
    pyramid: bool = False,  # maps of strides 4 to 32, not the last alone
) -> Encoder:
    """VGG: a plain encoder of 3x3 convolutions and pooling."""
    features = torchvision_vgg.make_layers(torchvision_vgg.cfgs[PLANS[depth]], batch_norm=batch_norm)
    return Encoder(features, pyramid=pyramid)
