"""The published heads: heatmaps, bottom-up heatmaps, segmentation (V2), with context (OCR), classification.

Each takes a list of maps, as bodies and necks give them, finest first; layer names are the official ones.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from .blocks import BasicBlock, Bottleneck, Norm, batch_norm, conv, conv_norm, shrink_conv

Maps = list[torch.Tensor]


class HeatmapHead(nn.Module):
    """One heatmap per joint from the first map, linear: (B, C, h, w) -> (B, K, h, w) (CVPR sec. 3).

    Where `intermediate` names other places of maps, training gives a list, with the heatmaps of theirs after the first.
    """

    def __init__(
        self, channels: Sequence[int], *, joints: int, kernel: int = 1, intermediate: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.final_layer = conv(channels[0], joints, kernel=kernel, bias=True)
        self.intermediate_layers = nn.ModuleDict(
            {str(place): conv(channels[place], joints, kernel=kernel, bias=True) for place in intermediate}
        )

    def forward(self, maps: Maps) -> torch.Tensor | Maps:
        heatmaps: torch.Tensor = self.final_layer(maps[0])
        if not (self.training and self.intermediate_layers):
            return heatmaps
        return [heatmaps, *(layer(maps[int(place)]) for place, layer in self.intermediate_layers.items())]


class HigherHead(nn.Module):
    """Heatmaps of all people, with tags that tell them apart, and finer heatmaps (HigherHRNet, CVPR 2020).

    (B, C, h, w) -> [K heatmaps and after them K tags (B, 2K, h, w), K heatmaps (B, K, 2h, 2w)]. The finer ones are read
    from the map and the first outputs side by side, twice as large and C wide, after four basic blocks.
    """

    output_names = ("heatmaps_and_tags", "heatmaps")  # in files of the whole network
    only_size = None  # images of any size

    def __init__(
        self, channels: Sequence[int], *, joints: int, kernel: int = 1, blocks: int = 4, norm: Norm | None = None
    ) -> None:
        super().__init__()
        norm, width = norm or batch_norm(), channels[0]
        doubled = nn.ConvTranspose2d(width + 2 * joints, width, 4, 2, 1, bias=False)
        up = nn.Sequential(doubled, norm(width), nn.ReLU(inplace=True))
        refined = (nn.Sequential(BasicBlock(width, norm=norm)) for _ in range(blocks))  # official nesting
        self.deconv_layers = nn.ModuleList([nn.Sequential(up, *refined)])
        self.final_layers = nn.ModuleList(conv(width, n, kernel=kernel, bias=True) for n in (2 * joints, joints))

    def forward(self, maps: Maps) -> Maps:
        coarse = self.final_layers[0](maps[0])
        finer = self.deconv_layers[0](torch.cat([maps[0], coarse], dim=1))
        return [coarse, self.final_layers[1](finer)]


def mixing_head(channels: int, classes: int, *, norm: Norm, bias: bool = True, kernel: int = 1) -> nn.Sequential:
    """1x1 convolution, normalisation, ReLU, classifier (keys 0, 1, 3), as the official code has it."""
    mixing = conv_norm(channels, channels, norm=norm, kernel=1, bias=bias)
    return nn.Sequential(*mixing, conv(channels, classes, kernel=kernel, bias=True))


class SegmentationHead(nn.Module):
    """Logits from V2's map at its own resolution: (B, 15C, h, w) -> (B, classes, h, w) (PAMI III-C, V).

    `bias` is that of the mixing convolution: True in the official code, False in mmsegmentation.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        classes: int,
        bias: bool = True,
        kernel: int = 1,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        self.last_layer = mixing_head(channels[0], classes, norm=norm or batch_norm(), bias=bias, kernel=kernel)

    def forward(self, maps: Maps) -> torch.Tensor:
        logits: torch.Tensor = self.last_layer(maps[0])
        return logits


class ObjectContext(nn.Module):
    """Every pixel attends to the K object regions (Yuan et al. 2020, OCR; layer names as there)."""

    def __init__(self, channels: int, keys: int, *, norm: Norm) -> None:
        super().__init__()

        def project(source: int, *targets: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for target in targets:  # official nesting: conv, (norm, ReLU), conv, (norm, ReLU)
                layers += [conv(source, target, kernel=1), nn.Sequential(norm(target), nn.ReLU(inplace=True))]
                source = target
            return nn.Sequential(*layers)

        self.f_pixel, self.f_object = project(channels, keys, keys), project(channels, keys, keys)
        self.f_down, self.f_up = project(channels, keys), project(keys, channels)

    def forward(self, pixels: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        query = self.f_pixel(pixels).flatten(2).transpose(1, 2)  # (B, HW, keys)
        key = self.f_object(regions).flatten(2)  # (B, keys, K)
        value = self.f_down(regions).flatten(2).transpose(1, 2)  # (B, K, keys)
        weights = (query @ key * key.shape[1] ** -0.5).softmax(dim=-1)  # (B, HW, K)
        context = (weights @ value).transpose(1, 2).unflatten(2, pixels.shape[-2:])  # (B, keys, H, W)
        widened: torch.Tensor = self.f_up(context)
        return widened


class DistributeContext(nn.Module):
    """Object context beside the pixel features, mixed back to their width."""

    def __init__(self, channels: int, keys: int, *, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.object_context_block = ObjectContext(channels, keys, norm=norm)
        mix = [norm(channels), nn.ReLU(inplace=True)]
        self.conv_bn_dropout = nn.Sequential(
            conv(2 * channels, channels, kernel=1), nn.Sequential(*mix), nn.Dropout2d(dropout)
        )

    def forward(self, pixels: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        context = self.object_context_block(pixels, regions)
        mixed: torch.Tensor = self.conv_bn_dropout(torch.cat([context, pixels], dim=1))
        return mixed


class OCRHead(nn.Module):
    """Object-contextual logits: V2's map (B, 15C, h, w) -> [auxiliary, main], each (B, classes, h, w).

    As in HRNet-Semantic-Segmentation (branch HRNet-OCR); its loss weighs them 0.4 and 1. `bias` as in
    SegmentationHead, and here of the 3x3 convolution too.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        classes: int,
        mid_channels: int = 512,
        key_channels: int = 256,
        dropout: float = 0.05,
        bias: bool = True,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        norm = norm or batch_norm()
        self.aux_head = mixing_head(channels[0], classes, norm=norm, bias=bias)
        self.conv3x3_ocr = conv_norm(channels[0], mid_channels, norm=norm, bias=bias)
        self.ocr_distri_head = DistributeContext(mid_channels, key_channels, norm=norm, dropout=dropout)
        self.cls_head = conv(mid_channels, classes, kernel=1, bias=True)

    def forward(self, maps: Maps) -> Maps:
        auxiliary = self.aux_head(maps[0])
        pixels = self.conv3x3_ocr(maps[0])  # (B, 512, h, w)
        shares = auxiliary.flatten(2).softmax(dim=2)  # (B, K, hw): of every class, over the pixels
        regions = (pixels.flatten(2) @ shares.transpose(1, 2)).unsqueeze(3)  # (B, 512, K, 1)
        return [auxiliary, self.cls_head(self.ocr_distri_head(pixels, regions))]


def widening_blocks(channels: Sequence[int], *, norm: Norm) -> nn.ModuleList:
    """One bottleneck per stream, to 128, 256, 512, 1024 ... channels."""
    return nn.ModuleList(nn.Sequential(Bottleneck(width, 32 * 2**i, norm=norm)) for i, width in enumerate(channels))


class WidenHead(nn.Module):
    """The classification head's first half: every map, widened (what timm's `features_only` gives)."""

    def __init__(self, channels: Sequence[int], *, norm: Norm | None = None) -> None:
        super().__init__()
        self.incre_modules = widening_blocks(channels, norm=norm or batch_norm())

    def forward(self, maps: Maps) -> Maps:
        return [widen(x) for widen, x in zip(self.incre_modules, maps, strict=True)]


class ClassificationHead(nn.Module):
    """Class logits (B, classes) from the maps of all streams, gathered fine to coarse (PAMI, HRNet-Wx-C).

    `bias` is that of the convolutions before a normalisation: True in the official code, False in timm's
    "ssld" weights; `ratio` is the step in resolution between maps. `classes=0` gives pooled features (B,
    2048).
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        classes: int = 1000,
        bias: bool = True,
        ratio: int = 2,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        norm = norm or batch_norm()
        self.incre_modules = widening_blocks(channels, norm=norm)
        widths = [128 * 2**i for i in range(len(channels))]
        self.downsamp_modules = nn.ModuleList(
            shrink_conv(fine, coarse, ratio=ratio, norm=norm, bias=bias) for fine, coarse in pairwise(widths)
        )
        self.final_layer = conv_norm(widths[-1], 2048, norm=norm, kernel=1, bias=bias)
        self.classifier = nn.Linear(2048, classes) if classes else nn.Identity()

    def forward(self, maps: Maps) -> torch.Tensor:
        x = self.incre_modules[0](maps[0])  # (B, 128, h, w)
        for down, widen, finer in zip(self.downsamp_modules, self.incre_modules[1:], maps[1:], strict=True):
            x = down(x) + widen(finer)
        x = self.final_layer(x)  # (B, 2048, h/8, w/8)
        logits: torch.Tensor = self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits
