"""DeepLabv3+ (Chen et al., arXiv 1802.02611) with segmentation_models_pytorch's decoder.

Images whose sides are no multiples of the output stride are padded and the map is cropped.
"""

from typing import Any, Literal

import torch.nn.functional as F
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from torch import Tensor, nn

from ablate import registry
from ablate.registry import model


class DeepLabV3Plus(nn.Module):
    """images (B, 3, H, W) -> one map (B, 256 width, H/4, W/4)."""

    def __init__(self, encoder: Any, output_stride: Literal[8, 16], width: float) -> None:
        super().__init__()
        self.encoder, self.coarsest = encoder, output_stride
        self.decoder = DeepLabV3PlusDecoder(
            encoder.level_channels,
            encoder_depth=5,
            out_channels=max(1, round(256 * width)),
            atrous_rates=[rate * 16 // output_stride for rate in (6, 12, 18)],
            output_stride=output_stride,
            aspp_separable=True,
            aspp_dropout=0.5,
        )
        self.channels, self.strides = (max(1, round(256 * width)),), (4,)

    def forward(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[2:]
        padded = F.pad(images, (0, -width % self.coarsest, 0, -height % self.coarsest))
        return [self.decoder(self.encoder.levels(padded))[..., : height // 4, : width // 4]]


@model("deeplabv3plus", meaning=1, imagenet="timm (huggingface.co/timm), for the encoder")
def deeplabv3plus(
    *,
    encoder: str = "xception71",  # a convolutional network of timm's that can be dilated
    output_stride: Literal[8, 16] = 16,  # what the encoder reduces the image by
    width: float = 1.0,  # times the published channel counts, of encoder and decoder; the skip keeps its 48
) -> DeepLabV3Plus:
    """DeepLabv3+: DeepLabv3 with separable convolutions and a decoder that joins the maps at 1/4."""
    knobs = {"encoder": encoder, "width": width, "output_stride": output_stride, "pyramid": True}
    return DeepLabV3Plus(registry.build("model", "timm_encoder", knobs), output_stride, width)
