"""Dilated residual network for segmentation: stride 8 by dilation, then one 3x3 convolution.

As in PAMI (arXiv 1908.07919) Table III, "D-ResNet-101": timm's resnet101s has the stem of three 3x3 convolutions
(64, 64, 128) that reproduces the table's parameters and GFLOPs. The idea is Yu et al., arXiv 1705.09914.
"""

from typing import Any, Literal

from torch import Tensor, nn

from ablate import registry
from ablate.registry import model


class DilatedResNet(nn.Module):
    """images (B, 3, H, W) -> one map (B, 512 width, H / output_stride, W / output_stride)."""

    def __init__(self, encoder: Any, width: float) -> None:
        super().__init__()
        channels = max(1, round(512 * width))
        self.encoder = encoder
        self.mix = nn.Sequential(
            nn.Conv2d(encoder.channels[-1], channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.channels, self.strides = (channels,), encoder.strides[-1:]

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.mix(self.encoder(images)[-1])]


@model("dilated_resnet", meaning=1, imagenet="timm (huggingface.co/timm): resnet101s.gluon_in1k and its like")
def dilated_resnet(
    *,
    encoder: str = "resnet101s",  # a residual network of timm's; the s has a deep stem
    output_stride: Literal[8, 16] = 8,  # what the image is reduced by
    width: float = 1.0,  # times the published channel counts
) -> DilatedResNet:
    """A residual network whose last stages are dilated instead of strided."""
    knobs = {"encoder": encoder, "width": width, "output_stride": output_stride, "pyramid": True}
    return DilatedResNet(registry.build("model", "timm_encoder", knobs), width)
