"""HRFormer: HRNet's streams with transformer blocks in local windows (Yuan et al., NeurIPS 2021).

A block attends within windows of 7x7 pixels; the 3x3 depthwise convolution in its feed-forward part carries what was
found across their borders. Stem, stage 1 and transitions are HRNet's own. Follows arXiv 2110.09408 and the released
pose code, HRNet/HRFormer@1245b88b (pose/mmpose/models/backbones/hrt.py): maps are padded with zeros on all sides to
whole windows, and what is padded is attended to. Attention with relative positions is timm's, the same as Swin's.

HRFormer-S is the default. HRFormer-B is width=78, heads=2, drop_path=0.2; -T, for classification, width=18 and
modules=(1, 3, 2). The released classification and segmentation code upsamples to the nearest pixel. The paper's
"GFLOPs" for pose leave out the attention's products and its output projections, and count 2 per normalised element.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Literal

from timm.layers import DropPath
from timm.models.swin_transformer import WindowAttention, window_partition, window_reverse
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.errors import PartError
from ablate.registry import model
from hrnet_core import neck
from hrnet_core.blocks import Bottleneck, batch_norm, conv, conv_norm
from hrnet_core.fusion import resize
from hrnet_core.hrnet import Transition

Maps = list[Tensor]
BlockOf = Callable[[int, float], nn.Module]  # stream, drop path -> a block
Drops = Sequence[Sequence[float]]
NORM = batch_norm()
STEM, PLANES = 64, 64  # widths of the stem and inside stage 1's bottlenecks
MLP_RATIO = 4  # hidden channels of the feed-forward part, over the block's


def depthwise(channels: int, *, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=bias)


def feed_forward(channels: int, *, ffn_depthwise: bool) -> nn.Sequential:
    """1x1 to more channels, 3x3 for each (if `ffn_depthwise`), 1x1 back; all normalised and activated (Fig. 1)."""
    hidden = MLP_RATIO * channels
    convs = [conv(channels, hidden, kernel=1, bias=True), conv(hidden, channels, kernel=1, bias=True)]
    if ffn_depthwise:
        convs.insert(1, depthwise(hidden, bias=True))
    layers = [[layer, NORM(layer.out_channels), nn.GELU()] for layer in convs]
    return nn.Sequential(*chain.from_iterable(layers))


class TransformerBlock(nn.Module):
    """x (B, C, H, W) plus attention within windows, then plus the feed-forward part; sizes of all kinds."""

    def __init__(self, channels: int, *, heads: int, window: int, ffn_depthwise: bool, drop_path: float) -> None:
        super().__init__()
        self.window = (window, window)
        self.norm1, self.norm2 = nn.LayerNorm(channels, eps=1e-6), nn.LayerNorm(channels, eps=1e-6)
        self.attention = WindowAttention(channels, heads, window_size=window)
        self.mlp = feed_forward(channels, ffn_depthwise=ffn_depthwise)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        x = x + self.drop_path(self.attend(self.norm1(x)))
        y = self.mlp(self.norm2(x).permute(0, 3, 1, 2))  # (B, C, H, W)
        added: Tensor = x.permute(0, 3, 1, 2) + self.drop_path(y)
        return added

    def attend(self, x: Tensor) -> Tensor:
        """Attention among the pixels of each window: (B, H, W, C) -> (B, H, W, C)."""
        height, width = x.shape[1:3]
        missing = [-side % self.window[0] for side in (height, width)]
        top, left = missing[0] // 2, missing[1] // 2
        x = F.pad(x, (0, 0, left, missing[1] - left, top, missing[0] - top))
        padded = x.shape[1:3]
        windows = window_partition(x, self.window).flatten(1, 2)  # (B windows, 49, C)
        x = window_reverse(self.attention(windows), self.window, *padded)
        return x[:, top : top + height, left : left + width]


class Fusion(nn.Module):
    """The first `outputs` streams take in all: HRNet's exchange, its downsampling with separable convolutions."""

    def __init__(self, widths: Sequence[int], *, outputs: int, upsample: str) -> None:
        super().__init__()
        self.upsample = upsample
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self.route(widths, source, target) for source in range(len(widths)))
            for target in range(outputs)
        )

    @staticmethod
    def route(widths: Sequence[int], source: int, target: int) -> nn.Module:
        if source == target:
            return nn.Identity()
        if source > target:
            return conv_norm(widths[source], widths[target], norm=NORM, kernel=1, relu=False)  # upsampled after it
        steps: list[nn.Module] = []
        for step in range(source + 1, target + 1):
            last = step == target
            steps += [depthwise(widths[source], stride=2), NORM(widths[source])]
            steps += conv_norm(widths[source], widths[target if last else source], norm=NORM, kernel=1, relu=not last)
        return nn.Sequential(*steps)

    def forward(self, maps: Maps) -> Maps:
        fused = []
        for own, layers in zip(maps, self.fuse_layers, strict=False):
            arriving = [layer(x) for layer, x in zip(layers.children(), maps, strict=True)]
            arriving = [resize(x, own.shape[-2:], mode=self.upsample) for x in arriving]
            fused.append(F.relu(sum(arriving[1:], start=arriving[0])))
        return fused


class HRFormerModule(nn.Module):
    """Blocks on all streams in parallel, then their exchange."""

    def __init__(self, branches: Sequence[nn.Module], fusion: Fusion) -> None:
        super().__init__()
        self.branches, self.fusion = nn.ModuleList(branches), fusion

    def forward(self, maps: Maps) -> Maps:
        fused: Maps = self.fusion([branch(x) for branch, x in zip(self.branches, maps, strict=True)])
        return fused


def stages(
    block: BlockOf, widths: Sequence[int], modules: Sequence[int], *, drops: Drops, outputs: int, upsample: str
) -> nn.Sequential:
    """The transitions and modules after stage 1; `drops` are the drop paths of each module's blocks."""
    layers: list[nn.Module] = []
    before, remaining = [4 * PLANES], list(drops)
    for stage, count in enumerate(modules):
        now = list(widths[: stage + 2])
        layers.append(Transition(before, now, ratio=2, norm=NORM))
        for _ in range(count):
            depth = remaining.pop(0)
            fusion = Fusion(now, outputs=len(now) if remaining else outputs, upsample=upsample)
            branches = [nn.Sequential(*(block(stream, drop) for drop in depth)) for stream in range(len(now))]
            layers.append(HRFormerModule(branches, fusion))
        before = now
    return nn.Sequential(*layers)


class Backbone(nn.Module):
    """images (B, 3, H, W) -> maps, finest first, at 1/4 and coarser, as the neck lets them out."""

    def __init__(self, body: nn.Sequential, widths: Sequence[int], *, stage1_blocks: int, output: str) -> None:
        super().__init__()
        stem = [conv_norm(source, STEM, norm=NORM, stride=2) for source in (3, STEM)]
        inputs = [STEM] + [4 * PLANES] * (stage1_blocks - 1)
        self.stem = nn.Sequential(*stem, *(Bottleneck(width, PLANES, norm=NORM) for width in inputs))
        self.body = body
        strides = [4 * 2**i for i in range(len(widths))]
        self.neck = nn.Identity() if output == "all" else neck(output, channels=widths, strides=strides)
        self.channels = tuple(getattr(self.neck, "channels", widths))
        self.strides = tuple(getattr(self.neck, "strides", strides))

    def forward(self, images: Tensor) -> Maps:
        maps: Maps = self.neck(self.body([self.stem(images)]))
        return maps


@model("hrformer", meaning=1, imagenet="HRFormer-T, -S and -B, in the README of HRNet/HRFormer")
def hrformer(
    *,
    width: int = 32,  # channels of the finest stream, a multiple of `heads`; the others double it; -B has 78
    heads: int = 1,  # attention heads of the finest stream; the others double them; -B has 2
    modules: tuple[int, ...] = (1, 4, 2),  # modules of the stages with 2, 3, 4 streams
    blocks: int = 2,  # transformer blocks per stream and module
    stage1_blocks: int = 2,  # bottleneck blocks of stage 1
    window: int = 7,  # side of a window of attention in pixels; the paper's segmentation also has 15
    ffn_depthwise: bool = True,  # 3x3 depthwise convolutions in the feed-forward part carry across windows (sec. 3)
    drop_path: float = 0.1,  # how often training drops the last block's branches; rises from 0 with depth; -B has 0.2
    upsample: Literal["bilinear", "nearest"] = "bilinear",  # coarse to fine (pose code: bilinear)
    output: Literal["v1", "v2", "v2p", "all"] = "v1",  # the finest map (pose), all concatenated, a pyramid, or all
) -> Backbone:
    """HRFormer: HRNet's parallel streams, made of transformer blocks.

    Raises:
        PartError: a number that is not positive, a width that the heads do not divide, or a drop path outside 0 to 1.
    """
    counts = {"heads": heads, "blocks": blocks, "stage1_blocks": stage1_blocks, "window": window}
    for knob, value in counts.items():
        if value < 1:
            raise PartError(f"{knob}: must be at least 1, not {value}")
    if not modules or min(modules) < 1:
        raise PartError(f"modules: must be one positive number per stage, not {modules}")
    if width < 1 or width % heads:
        raise PartError(
            f"width: must be a multiple of heads, {heads}, not {width}; take {max(1, width // heads + 1) * heads}"
        )
    if not 0 <= drop_path < 1:
        raise PartError(f"drop_path: must be at least 0 and below 1, not {drop_path}")

    def block(stream: int, drop: float) -> nn.Module:
        channels, own_heads = width * 2**stream, heads * 2**stream
        return TransformerBlock(channels, heads=own_heads, window=window, ffn_depthwise=ffn_depthwise, drop_path=drop)

    widths, depth = [width * 2**i for i in range(len(modules) + 1)], sum(modules) * blocks
    rates = [drop_path * i / max(1, depth - 1) for i in range(depth)]
    drops = [rates[start : start + blocks] for start in range(0, depth, blocks)]
    outputs = 1 if output == "v1" else len(widths)
    body = stages(block, widths, modules, drops=drops, outputs=outputs, upsample=upsample)
    return Backbone(body, widths, stage1_blocks=stage1_blocks, output=output)
