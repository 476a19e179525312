"""SimpleBaseline (Xiao, Wu and Wei, ECCV 2018, arXiv 1804.06208): a ResNet and transposed convolutions, no more.

The network itself is `hrnet_core`'s, under the official layer names. Its published "GFLOPs" overstate it: the papers'
tool counts a transposed convolution four times over.
"""

from typing import Literal

from ablate.registry import model
from hrnet_core import SimpleBaseline, SimpleBaselineConfig


@model("simple_baseline", meaning=1, imagenet="torchvision, ResNet18_Weights to ResNet152_Weights: for the ResNet")
def simple_baseline(
    *,
    depth: Literal[18, 34, 50, 101, 152] = 50,  # of the ResNet
    width: int = 64,  # planes of the ResNet's first stage; the later ones double it (published: 64)
    deconv_widths: tuple[int, ...] = (256, 256, 256),  # channels of the transposed convolutions, one to five (sec. 2)
    deconv_kernel: Literal[2, 3, 4] = 4,  # their kernel (table 2 compares)
) -> SimpleBaseline:
    """SimpleBaseline: a ResNet, brought back to stride 4 by three transposed convolutions."""
    kernels = (deconv_kernel,) * len(deconv_widths)
    config = SimpleBaselineConfig(depth=depth, width=width, deconv_widths=deconv_widths, deconv_kernels=kernels)
    return SimpleBaseline(config)
