"""SegFormer (Xie et al., arXiv 2105.15203): a Mix Transformer and a decoder of linear layers, both from
segmentation_models_pytorch.
"""

from typing import Any

from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder
from torch import Tensor, nn

from ablate import registry
from ablate.registry import model


class SegFormer(nn.Module):
    """images (B, 3, H, W) -> one map (B, C, H/4, W/4)."""

    def __init__(self, encoder: Any, channels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = SegformerDecoder(encoder.level_channels, segmentation_channels=channels)
        self.channels, self.strides = (channels,), (4,)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.decoder(self.encoder.levels(images))]


@model("segformer", meaning=1, imagenet="smp-hub (huggingface.co/smp-hub): mit_b0.imagenet to mit_b5.imagenet")
def segformer(
    *,
    encoder: str = "mit_b0",  # mit_b0 to mit_b5, or a name of timm's
    width: float = 1.0,  # times the published channel counts, of encoder and decoder; heads keep their number
) -> SegFormer:
    """SegFormer: transformer maps at four strides, each through a linear layer, joined at 1/4."""
    knobs = {"encoder": encoder, "width": width, "pyramid": True}
    published = 256 if encoder in ("mit_b0", "mit_b1") else 768  # Table 6
    return SegFormer(registry.build("model", "timm_encoder", knobs), max(1, round(published * width)))
