"""DeepLabv3 (Chen et al., arXiv 1706.05587): a dilated residual network and atrous spatial pyramid pooling.

As published, the classifier follows the fused pyramid at once. torchvision's own network, whose pooling this is, puts a
3x3 convolution between them.
"""

from typing import Any, Literal

from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from ablate import registry
from ablate.registry import model


class DeepLabV3(nn.Module):
    """images (B, 3, H, W) -> one map (B, 256 width, H / output_stride, W / output_stride)."""

    def __init__(self, encoder: Any, output_stride: int, width: float) -> None:
        super().__init__()
        channels = max(1, round(256 * width))
        rates = [rate * 16 // output_stride for rate in (6, 12, 18)]  # sec. 3.3: doubled at stride 8
        self.encoder = encoder
        self.pyramid = ASPP(encoder.channels[-1], rates, channels)
        self.channels, self.strides = (channels,), encoder.strides[-1:]

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.pyramid(self.encoder(images)[-1])]


@model("deeplabv3", meaning=1, imagenet="timm (huggingface.co/timm), for the encoder")
def deeplabv3(
    *,
    encoder: str = "resnet101",  # a convolutional network of timm's that can be dilated
    output_stride: Literal[8, 16] = 8,  # what the image is reduced by
    width: float = 1.0,  # times the published channel counts, of encoder and pyramid
) -> DeepLabV3:
    """DeepLabv3: convolutions at several dilation rates and a global average, side by side."""
    knobs = {"encoder": encoder, "width": width, "output_stride": output_stride, "pyramid": True}
    return DeepLabV3(registry.build("model", "timm_encoder", knobs), output_stride, width)
