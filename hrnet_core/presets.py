"""The published networks as configurations, the paper's own numbers beside them.

Millions of parameters, and GFLOPs as the papers count them (multiply-adds of convolutions / 2^30): (p)
pose, 17 joints, 256x192, CVPR Table 1; (s) segmentation, 19 classes, 1024x2048, PAMI Table III and, for the
small ones, the README of HRNet-Semantic-Segmentation; (c) ImageNet, 224x224, the README of
HRNet-Image-Classification. Pose networks set `multi_scale_output=False`, segmentation networks
`upsample="bilinear"`.

"tiny" and "small" are our own, for processors and small images: all of W32, its stem and first stage included, made
narrower in proportion, so that each stage has about the share of the multiply-adds that it has in W32. A narrow network
with the published stem of 64 channels spends most of its cost before the first fusion (W8: 76 %, W32: 18 %).
"""

from .config import HRNetConfig

PRESETS: dict[str, HRNetConfig] = {
    # 113 M multiply-adds at 64x64, 4.9 M parameters; 22 % of the cost before the first fusion
    "tiny": HRNetConfig(width=18, stem_width=36, stage1_planes=36, stage1_blocks=2, blocks=2),
    # 359 M multiply-adds at 64x64, 16 M parameters; 18 %
    "small": HRNetConfig(width=24, stem_width=48, stage1_planes=48),
    # The released "W18-small-v1" has width 16. (s) 1.5 M, 31.1; (c) 13.2 M, 1.49
    "w18_small_v1": HRNetConfig(width=16, stage1_blocks=1, stage1_planes=32, modules=(1, 1, 1), blocks=2),
    # (s) 3.9 M, 71.6; (c) 15.6 M, 2.42
    "w18_small_v2": HRNetConfig(width=18, stage1_blocks=2, modules=(1, 3, 2), blocks=2),
    "w18": HRNetConfig(width=18),  # (c) 21.3 M, 3.99
    "w30": HRNetConfig(width=30),  # (c) 37.7 M, 7.55
    "w32": HRNetConfig(width=32),  # (p) 28.5 M, 7.10; (c) 41.2 M, 8.31
    "w40": HRNetConfig(width=40),  # (s) 45.2 M, 493.2 (its code: 45.9 M, 498.7); (c) 57.6 M, 11.8
    "w44": HRNetConfig(width=44),  # (c) 67.1 M, 13.9
    "w48": HRNetConfig(width=48),  # (p) 63.6 M, 14.6; (s) 65.9 M, 696.2; (c) 77.5 M, 16.1
    "w64": HRNetConfig(width=64),  # (c) 128.1 M, 26.9
}
