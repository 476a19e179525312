"""ResNet (He et al., CVPR 2016, arXiv 1512.03385) as a plain encoder: torchvision's, without pooling and classifier.

It has no decoder: heads read the last stage's map, as a classifier does. With `pyramid` the maps of all stages come
out, and heads, which read the first, see the first stage alone.
"""

from typing import Literal

import torchvision
from torch import Tensor, nn

from ablate.errors import PartError
from ablate.registry import model

STRIDES = (4, 8, 16, 32)


class Encoder(nn.Module):
    """images (B, 3, H, W) -> the maps of the last `stages` stages, finest first."""

    def __init__(self, body: torchvision.models.ResNet, *, stages: int, output_stride: int) -> None:
        super().__init__()
        widest = body.fc.in_features
        del body.avgpool, body.fc
        self.body, self.stages = body, stages
        self.channels = tuple(widest // 2**step for step in reversed(range(stages)))
        self.strides = tuple(min(stride, output_stride) for stride in STRIDES[-stages:])

    def forward(self, images: Tensor) -> list[Tensor]:
        body, maps = self.body, []
        x = body.maxpool(body.relu(body.bn1(body.conv1(images))))
        for stage in (body.layer1, body.layer2, body.layer3, body.layer4):
            x = stage(x)
            maps.append(x)
        return maps[-self.stages :]


@model("resnet", meaning=1, imagenet="torchvision, ResNet18_Weights to ResNet152_Weights")
def resnet(
    *,
    depth: Literal[18, 34, 50, 101, 152] = 50,  # layers (He et al., table 1)
    output_stride: Literal[8, 16, 32] = 32,  # below 32, the last stages dilate their convolutions instead (from 50 on)
    pyramid: bool = False,  # the maps of all four stages, not the last one's alone
) -> Encoder:
    """ResNet: a plain encoder.

    Raises:
        PartError: dilation in a network of basic blocks, which torchvision does not build.
    """
    if output_stride < STRIDES[-1] and depth < 50:
        raise PartError(f"output_stride: {output_stride} needs a depth of 50 or more, not {depth}")
    dilated = [output_stride < stride for stride in STRIDES[1:]]
    body = torchvision.models.get_model(f"resnet{depth}", weights=None, replace_stride_with_dilation=dilated)
    return Encoder(body, stages=len(STRIDES) if pyramid else 1, output_stride=output_stride)
