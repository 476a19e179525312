"""UNet++ (Zhou et al., arXiv 1807.10165) on a named encoder, with segmentation_models_pytorch's decoder.

Deep supervision is left out, as there. Images whose sides are no multiples of 32 are padded and the map is cropped.
"""

from typing import Any

import torch.nn.functional as F
from segmentation_models_pytorch.decoders.unetplusplus.decoder import UnetPlusPlusDecoder
from torch import Tensor, nn

from ablate import registry
from ablate.registry import model

DECODER = (256, 128, 64, 32, 16)  # coarsest first


class UNetPlusPlus(nn.Module):
    """images (B, 3, H, W) -> one map (B, 16 width, H, W)."""

    def __init__(self, encoder: Any, width: float) -> None:
        super().__init__()
        widths = [max(1, round(channels * width)) for channels in DECODER]
        self.encoder = encoder
        self.decoder = UnetPlusPlusDecoder(encoder.level_channels, widths)
        self.channels, self.strides = (widths[-1],), (1,)

    def forward(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[2:]
        padded = F.pad(images, (0, -width % 32, 0, -height % 32))
        return [self.decoder(self.encoder.levels(padded))[..., :height, :width]]


@model("unetpp", meaning=1, imagenet="timm (huggingface.co/timm), for the encoder")
def unetpp(
    *,
    encoder: str = "resnet101",  # a name of timm's, or mit_b0 to mit_b5
    width: float = 1.0,  # times the published channel counts, of encoder and decoder
) -> UNetPlusPlus:
    """UNet++: a U-Net whose skip connections are dense blocks of convolutions."""
    knobs = {"encoder": encoder, "width": width, "pyramid": True}
    return UNetPlusPlus(registry.build("model", "timm_encoder", knobs), width)
