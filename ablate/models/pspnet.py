"""PSPNet (Zhao et al., arXiv 1612.01105): a dilated residual network and pyramid pooling.

The pooling is segmentation_models_pytorch's; the convolution after it is 3x3 as published (theirs is 1x1).
"""

from typing import Any, Literal

from segmentation_models_pytorch.base.modules import Conv2dReLU
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPModule
from torch import Tensor, nn

from ablate import registry
from ablate.registry import model

POOLED = (1, 2, 3, 6)  # cells per side that the image is averaged over


class PSPNet(nn.Module):
    """images (B, 3, H, W) -> one map (B, 512 width, H / output_stride, W / output_stride)."""

    def __init__(self, encoder: Any, width: float) -> None:
        super().__init__()
        wide, channels = encoder.channels[-1], max(1, round(512 * width))
        self.encoder = encoder
        self.psp = PSPModule(wide, sizes=POOLED)
        pooled = wide // len(POOLED) * len(POOLED)
        self.mix = nn.Sequential(Conv2dReLU(wide + pooled, channels, 3, padding=1), nn.Dropout2d(0.1))
        self.channels, self.strides = (channels,), encoder.strides[-1:]

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.mix(self.psp(self.encoder(images)[-1]))]


@model("pspnet", meaning=1, imagenet="timm (huggingface.co/timm), for the encoder")
def pspnet(
    *,
    encoder: str = "resnet101",  # a convolutional network of timm's that can be dilated; resnet101s has a deep stem
    output_stride: Literal[8, 16] = 8,  # what the image is reduced by
    width: float = 1.0,  # times the published channel counts, of encoder and pyramid
) -> PSPNet:
    """PSPNet: averages over 1, 4, 9 and 36 parts of the image join the map as context."""
    knobs = {"encoder": encoder, "width": width, "output_stride": output_stride, "pyramid": True}
    return PSPNet(registry.build("model", "timm_encoder", knobs), width)
