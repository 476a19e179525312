"""SimpleBaseline (Xiao, Wu and Wei, ECCV 2018): a ResNet whose last map transposed convolutions bring back to stride 4.

Layer names are those of microsoft/human-pose-estimation.pytorch (lib/models/pose_resnet.py), the ResNet's those of
torchvision too, so published weights of either load 1:1. The heatmaps themselves are `HeatmapHead`'s.
"""

from dataclasses import dataclass

import torch
from torch import nn

from .blocks import NORMS, BasicBlock, Bottleneck, Norm, conv

Maps = list[torch.Tensor]
BLOCKS = {  # depth -> blocks of the four stages (He et al. 2016, table 1)
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
STAGES = ("layer1", "layer2", "layer3", "layer4")
PADDINGS = {2: (0, 0), 3: (1, 1), 4: (1, 0)}  # kernel -> padding and output padding that double the size exactly


@dataclass(frozen=True, kw_only=True)
class SimpleBaselineConfig:
    """The knobs of one SimpleBaseline; ValueError, in one line that names the knob, for what cannot be built."""

    depth: int = 50  # of the ResNet: 18, 34, 50, 101 or 152
    width: int = 64  # planes of the ResNet's first stage; the later ones double it
    deconv_widths: tuple[int, ...] = (256, 256, 256)  # channels of the transposed convolutions, each of stride 2
    deconv_kernels: tuple[int, ...] = (4, 4, 4)  # their kernels: 2, 3 or 4
    deconv_bias: bool = False  # whether they have biases, in vain before a normalisation
    norm_momentum: float = 0.1  # of batch normalisation

    def __post_init__(self) -> None:
        if self.depth not in BLOCKS:
            raise ValueError(f"depth: {self.depth!r} is not one of {', '.join(map(str, BLOCKS))}")
        if not 1 <= len(self.deconv_widths) <= 5:
            raise ValueError(f"deconv_widths: {self.deconv_widths!r} wants one to five widths: stride 16 to 1")
        for name, numbers in (("width", (self.width,)), ("deconv_widths", self.deconv_widths)):
            if not all(type(number) is int and number > 0 for number in numbers):
                raise ValueError(f"{name}: {getattr(self, name)!r} wants whole numbers from 1 on")
        if len(self.deconv_kernels) != len(self.deconv_widths) or not set(self.deconv_kernels) <= set(PADDINGS):
            wanted = f"{len(self.deconv_widths)} of {', '.join(map(str, PADDINGS))}"
            raise ValueError(f"deconv_kernels: {self.deconv_kernels!r} wants {wanted}")


class ResNet(nn.Module):
    """Images (B, 3, H, W) -> maps of strides 4, 8, 16 and 32, finest first (He et al. 2016).

    As torchvision builds it, without pooling and classifier: a bottleneck's stride is its 3x3 convolution's. `width`
    is that of the first stage, 64 as published. H and W that are no multiples of 32 round up.
    """

    def __init__(self, depth: int = 50, *, width: int = 64, norm: Norm | None = None) -> None:
        super().__init__()
        norm = norm or NORMS["batch"](0.1)
        block, expansion = (BasicBlock, 1) if depth < 50 else (Bottleneck, 4)
        self.channels = tuple(expansion * width * 2**stage for stage in range(4))
        self.strides = (4, 8, 16, 32)
        self.conv1, self.bn1 = conv(3, width, kernel=7, stride=2), norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        source = width
        for stage, blocks in enumerate(BLOCKS[depth]):
            planes, target = width * 2**stage, self.channels[stage]
            first = block(source, planes, norm=norm, stride=2 if stage else 1)
            others = (block(target, planes, norm=norm) for _ in range(blocks - 1))
            self.add_module(STAGES[stage], nn.Sequential(first, *others))
            source = target

    def forward(self, image: torch.Tensor) -> Maps:
        return resnet_maps(self, image)


def resnet_maps(net: nn.Module, image: torch.Tensor) -> Maps:
    """The maps of a network that has a ResNet's layers under their names: strides 4, 8, 16 and 32."""
    x = image
    for name in ("conv1", "bn1", "relu", "maxpool"):
        x = net.get_submodule(name)(x)  # at last (B, 64, H/4, W/4)
    maps = []
    for name in STAGES:
        x = net.get_submodule(name)(x)
        maps.append(x)
    return maps


class SimpleBaseline(nn.Module):
    """The body: images (B, 3, H, W) -> [one map (B, 256, H/4, W/4)]; H/4 and W/4 round up.

    Where H or W is no multiple of 32, the ResNet reaches beyond the image; what is made of that is cropped.
    """

    def __init__(self, config: SimpleBaselineConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SimpleBaselineConfig()
        norm = NORMS["batch"](config.norm_momentum)
        resnet = ResNet(config.depth, width=config.width, norm=norm)
        for name, layer in resnet.named_children():  # officially they stand beside the others
            self.add_module(name, layer)
        layers: list[nn.Module] = []
        source = resnet.channels[-1]
        for width, kernel in zip(config.deconv_widths, config.deconv_kernels, strict=True):
            padding, more = PADDINGS[kernel]
            up = nn.ConvTranspose2d(source, width, kernel, 2, padding, output_padding=more, bias=config.deconv_bias)
            layers += [up, norm(width), nn.ReLU(inplace=True)]
            source = width
        self.deconv_layers = nn.Sequential(*layers)
        self.channels, self.strides = (source,), (resnet.strides[-1] // 2 ** len(config.deconv_widths),)

    def forward(self, image: torch.Tensor) -> Maps:
        stride = self.strides[0]
        height, width = (-(-length // stride) for length in image.shape[2:])
        return [self.deconv_layers(resnet_maps(self, image)[-1])[..., :height, :width]]
