"""Feature pyramid for segmentation (Kirillov et al., arXiv 1901.02446), with segmentation_models_pytorch's decoder.

Images whose sides are no multiples of 32 are padded and the map is cropped.
"""

from typing import Any

import torch.nn.functional as F
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from torch import Tensor, nn

from ablate import registry
from ablate.registry import model


class FPN(nn.Module):
    """images (B, 3, H, W) -> one map (B, 128 width, H/4, W/4)."""

    def __init__(self, encoder: Any, width: float) -> None:
        super().__init__()
        pyramid, channels = max(1, round(256 * width)), 4 * max(1, round(32 * width))
        self.encoder = encoder
        self.decoder = FPNDecoder(encoder.level_channels, pyramid_channels=pyramid)
        _narrow(self.decoder.seg_blocks, pyramid, channels)
        self.channels, self.strides = (channels,), (4,)

    def forward(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[2:]
        padded = F.pad(images, (0, -width % 32, 0, -height % 32))
        return [self.decoder(self.encoder.levels(padded))[..., : height // 4, : width // 4]]


@model("fpn", meaning=1, imagenet="timm (huggingface.co/timm), for the encoder")
def fpn(
    *,
    encoder: str = "resnet101",  # a name of timm's, such as convnext_tiny, or mit_b0 to mit_b5
    width: float = 1.0,  # times the published channel counts, of encoder and decoder
) -> FPN:
    """Semantic FPN: a top-down pyramid whose levels are upsampled to 1/4 and summed."""
    knobs = {"encoder": encoder, "width": width, "pyramid": True}
    return FPN(registry.build("model", "timm_encoder", knobs), width)


def _narrow(branches: Any, inputs: int, outputs: int) -> None:
    """Give the decoder's branches `outputs` channels, where it allows multiples of 32 only.

    A group of their normalisation keeps the published 4 channels.
    """
    for branch in branches:
        for place, layer in enumerate(branch.block):
            layer.block[0] = nn.Conv2d(outputs if place else inputs, outputs, 3, padding=1, bias=False)
            layer.block[1] = nn.GroupNorm(outputs // 4, outputs)
