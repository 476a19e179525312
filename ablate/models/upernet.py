"""UPerNet (Xiao et al., arXiv 1807.10221) with segmentation_models_pytorch's decoder.

The usual decoder on Swin, ConvNeXt and ViT encoders. A plain ViT's maps are resized to the four strides it reads.
"""

from typing import Any

from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
from torch import Tensor, nn

from ablate import registry
from ablate.registry import model


class UPerNet(nn.Module):
    """images (B, 3, H, W) -> one map (B, 512 width, H/4, W/4)."""

    def __init__(self, encoder: Any, width: float) -> None:
        super().__init__()
        channels = max(1, round(512 * width))
        self.encoder = encoder
        self.decoder = UPerNetDecoder(encoder.level_channels, decoder_channels=channels)
        self.channels, self.strides = (channels,), (4,)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.decoder(self.encoder.levels(images))]


@model("upernet", meaning=1, imagenet="timm (huggingface.co/timm), for the encoder")
def upernet(
    *,
    encoder: str = "resnet101",  # a name of timm's, such as swin_tiny_patch4_window7_224, or mit_b0 to mit_b5
    width: float = 1.0,  # times the published channel counts, of encoder and decoder
) -> UPerNet:
    """UPerNet: pyramid pooling on top of a feature pyramid, all levels fused at 1/4."""
    knobs = {"encoder": encoder, "width": width, "pyramid": True}
    return UPerNet(registry.build("model", "timm_encoder", knobs), width)
