"""UNet++ (Zhou et al., arXiv 1807.10165): as published, or on a named encoder with one of two decoders.

As published it starts from scratch, with 32 to 512 channels (MrGiovanni/UNetPlusPlus, keras/helper_functions.py); here
convolutions are followed by batch normalisation instead of dropout, as of U-Net. On an encoder the decoder is either
segmentation_models_pytorch's, whose inner nodes are as wide as the encoder's maps, or that of the authors' code, where
each level has a width (keras/segmentation_models/xnet/builder.py).

Images whose sides do not fit are padded and the maps are cropped.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.base.modules import Conv2dReLU
from segmentation_models_pytorch.decoders.unetplusplus.decoder import UnetPlusPlusDecoder
from torch import Tensor, nn

from ablate import registry
from ablate.errors import PartError
from ablate.registry import model

DECODER = (256, 128, 64, 32, 16)  # coarsest first, in both codes
PLAIN = (32, 64, 128, 256, 512)  # finest first


class Nested(nn.Module):
    """The nested decoder of Fig. 1a: maps of an encoder, finest first, by halves -> the nodes of the finest level.

    `channels` are those of the maps; a 0 in the first place means that the encoder has no map there, and the level then
    has its last node alone. `widths` are the nodes' own, of all levels but the coarsest. Node (level, j) reads the node
    (level + 1, j - 1), enlarged, and all that its own level has so far.
    """

    def __init__(self, channels: Sequence[int], widths: Sequence[int], *, learned: bool) -> None:
        super().__init__()
        self.depth, self.first = len(widths), 0 if channels[0] else len(widths)
        self.up, self.blocks = nn.ModuleDict(), nn.ModuleDict()
        for level, column in self.places():
            width, below = widths[level], channels[level + 1] if column == 1 else widths[level + 1]
            own = channels[level] + (column - 1) * width if level or not self.first else 0
            name = f"{level}_{column}"
            if learned:
                self.up[name] = nn.ConvTranspose2d(below, width, 2, stride=2)
            self.blocks[name] = _two_convolutions((width if learned else below) + own, width)

    def places(self) -> list[tuple[int, int]]:
        """Level and column of each node, in the order in which they are computed."""
        columns = range(1, self.depth + 1)
        every = [(level, column) for column in columns for level in reversed(range(self.depth + 1 - column))]
        return [(level, column) for level, column in every if level or column >= self.first]

    def forward(self, maps: Sequence[Tensor | None]) -> list[Tensor]:
        """(B, channels[i], H / 2^i, W / 2^i) -> the finest level's nodes, (B, widths[0], H, W), the last one first."""
        rows = [[x] if x is not None else [] for x in maps]
        for level, column in self.places():
            name, below = f"{level}_{column}", rows[level + 1][column - 1]
            enlarged = self.up[name](below) if name in self.up else F.interpolate(below, scale_factor=2.0)
            rows[level].append(self.blocks[name](torch.cat([enlarged, *rows[level]], dim=1)))
        return rows[0][: -self.depth - 1 : -1] if maps[0] is not None else rows[0]


class Plain(nn.Module):
    """images (B, 3, H, W) -> the map of the last node (B, 32 width, H, W), in training with the nodes before it."""

    def __init__(self, width: float, *, supervised: bool) -> None:
        super().__init__()
        widths = _scaled(PLAIN, width)
        self.down = nn.ModuleList(_two_convolutions(*pair) for pair in pairwise([3, *widths]))
        self.decoder = Nested(widths, widths[:-1], learned=True)
        maps = self.decoder.depth if supervised else 1
        self.channels, self.strides = (widths[0],) * maps, (1,) * maps
        self.intermediate = tuple(range(1, maps))

    def forward(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[2:]
        x, maps = _padded(images, 2**self.decoder.depth), list[Tensor]()
        for block in self.down:
            x = block(F.max_pool2d(x, 2) if maps else x)
            maps.append(x)
        found = self.decoder(maps)[: len(self.channels) if self.training else 1]
        return [x[..., :height, :width] for x in found]


class OnEncoder(nn.Module):
    """images (B, 3, H, W) -> one map (B, 16 width, H, W)."""

    def __init__(self, encoder: Any, width: float, *, by_levels: bool) -> None:
        super().__init__()
        widths, channels = _scaled(DECODER, width), encoder.level_channels
        self.encoder, self.by_levels = encoder, by_levels
        self.decoder = (
            Nested([0, *channels[1:]], widths[::-1], learned=False)
            if by_levels
            else UnetPlusPlusDecoder(channels, widths)
        )
        self.channels, self.strides = (widths[-1],), (1,)

    def forward(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[2:]
        maps = self.encoder.levels(_padded(images, 32))
        found = self.decoder([None, *maps[1:]])[0] if self.by_levels else self.decoder(maps)
        return [found[..., :height, :width]]


@model(
    "unetpp",
    meaning=1,
    later=("nodes", "deep_supervision"),
    imagenet="timm (huggingface.co/timm), for the encoder; none for the plain network",
)
def unetpp(
    *,
    encoder: str | None = "resnet101",  # a name of timm's, or mit_b0 to mit_b5; none: the published plain network
    width: float = 1.0,  # times the published channel counts, of encoder and decoder
    nodes: Literal["levels"] | None = None,  # width of the decoder's: levels: by level (authors' code); none: smp's
    deep_supervision: bool = False,  # of the plain network's finest nodes; its paper: task.auxiliary_weight: 1
) -> Plain | OnEncoder:
    """UNet++: a U-Net whose skip connections are dense blocks of convolutions."""
    if width <= 0:
        raise PartError(f"width: must be above 0, not {width}")
    if encoder is None:
        if nodes:
            raise PartError("nodes: of a named encoder; the plain network has one width a level anyway")
        return Plain(width, supervised=deep_supervision)
    if deep_supervision:
        raise PartError("deep_supervision: is of the plain network; encoder: null is that")
    made = registry.build("model", "timm_encoder", {"encoder": encoder, "width": width, "pyramid": True})
    return OnEncoder(made, width, by_levels=nodes == "levels")


def _scaled(widths: tuple[int, ...], width: float) -> list[int]:
    return [max(1, round(channels * width)) for channels in widths]


def _padded(images: Tensor, multiple: int) -> Tensor:
    height, width = images.shape[2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple))


def _two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    made = (Conv2dReLU(channels, outputs, 3, padding=1, use_norm="batchnorm") for channels in (inputs, outputs))
    return nn.Sequential(*made)
