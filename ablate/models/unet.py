"""U-Net (Ronneberger et al., arXiv 1505.04597), as published or with a decoder on a named encoder.

Two departures that everybody makes: convolutions are padded, so that maps keep their size, and followed by batch
normalisation. With a named encoder the decoder is segmentation_models_pytorch's, which resizes instead of learning to
upsample.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate import registry
from ablate.errors import PartError
from ablate.registry import model

DEPTH = 5  # resolutions of the published network
DECODER = (256, 128, 64, 32, 16)  # segmentation_models_pytorch's, at width 64


class Plain(nn.Module):
    """images (B, 3, H, W) -> one map (B, width, H, W): the published network before its last 1x1 convolution."""

    def __init__(self, width: float) -> None:
        super().__init__()
        widths = [max(1, round(width * 2**level)) for level in range(DEPTH)]
        self.down = nn.ModuleList(_two_convolutions(*pair) for pair in pairwise([3, *widths]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(wide, fine, 2, stride=2) for fine, wide in pairwise(widths))
        self.merge = nn.ModuleList(_two_convolutions(2 * fine, fine) for fine in widths[:-1])
        self.channels, self.strides = (widths[0],), (1,)

    def forward(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[2:]
        coarsest = 2 ** (DEPTH - 1)
        x = F.pad(images, (0, -width % coarsest, 0, -height % coarsest))
        skips: list[Tensor] = []
        for block in self.down:
            x = block(F.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        for level in reversed(range(DEPTH - 1)):
            x = self.merge[level](torch.cat([skips[level], self.up[level](x)], dim=1))
        return [x[..., :height, :width]]


class OnEncoder(nn.Module):
    """images (B, 3, H, W) -> one map (B, width / 4, H, W)."""

    def __init__(self, encoder: Any, width: float) -> None:
        from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder  # not needed by the plain network

        super().__init__()
        widths = [max(1, round(channels * width / 64)) for channels in DECODER]
        self.encoder = encoder
        self.decoder = UnetDecoder(encoder.level_channels, widths)
        self.channels, self.strides = (widths[-1],), (1,)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.decoder(self.encoder.levels(images))]


@model("unet", meaning=1, imagenet="timm, for a named encoder; none for the plain network")
def unet(
    *,
    encoder: str | None = None,  # None: the published plain encoder; or a name of timm's, such as resnet34, or mit_b0
    width: float = 64.0,  # channels of the finest level, doubled per level; a named encoder is scaled by width / 64
) -> Plain | OnEncoder:
    """U-Net: contracts to 1/16 and expands again, with a skip connection at every resolution."""
    if width <= 0:
        raise PartError(f"width: must be above 0, not {width}")
    if encoder is None:
        return Plain(width)
    knobs = {"encoder": encoder, "width": width / 64, "pyramid": True}
    return OnEncoder(registry.build("model", "timm_encoder", knobs), width)


def _two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)]
    return nn.Sequential(*layers)
