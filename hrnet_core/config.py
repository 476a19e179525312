"""Every decision that makes an HRNet, as one frozen value with the published choice as default.

"CVPR" is Sun et al. 2019 (arXiv 1902.09212), "PAMI" is Wang et al. 2020 (arXiv 1908.07919).
An impossible combination is refused here, before any layer is built.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import accumulate

from .blocks import NORMS
from .fusion import DOWNSAMPLES, OPERATORS, ROUTES, UPSAMPLES

FUSIONS = ("within", "across", "final")  # 8, 3 and 1 fusions in the published network
MOST_STREAMS = 6
UNSTABLE = {"multiply": "the bare product", "normalised_product": "the product normalised as a batch"}


@dataclass(frozen=True, kw_only=True)
class HRNetConfig:
    """The knobs of one HRNet; ValueError, in one line that names the knob, for what cannot be built."""

    width: int = 32  # C, the width of the finest stream; the others double it (CVPR sec. 3, "Instantiation")
    widths: tuple[int, ...] | None = None  # one width per stream, instead of C, 2C, 4C, 8C
    streams: int = 4  # resolutions kept at most; fewer keep all stages and their depth (CVPR sec. 3; PAMI III-A)
    modules: tuple[int, ...] = (1, 4, 3)  # modules of stages 2, 3, 4; stages 5 and 6: one each (CVPR sec. 3)
    blocks: int | tuple[int, ...] = 4  # residual blocks of a stream in a module, or one number per stage (sec. 3)
    stage1_blocks: int = 4  # bottleneck blocks of stage 1 (CVPR sec. 3)
    stage1_planes: int = 64  # their inner width; stage 1 puts out four times as much (CVPR sec. 3)
    stem_width: int = 64  # channels of the two stem convolutions (CVPR sec. 3)
    stem_stride: int = 4  # how much the stem reduces the image: 4, 2 or 1 (CVPR sec. 3; PAMI III)
    in_channels: int = 3  # channels of the image
    fusions: str | tuple[int, ...] = "within"  # within, across, final, or the modules that fuse (CVPR sec. 4.3, T. 6)
    routes: str = "full"  # which streams exchange within a fusion (CVPR sec. 3, "exchange units": all of them)
    operator: str = "sum"  # how a stream takes in what it receives (CVPR sec. 3: sum)
    downsample: str = "strided_conv"  # fine to coarse within a fusion (CVPR sec. 3: 3x3 convolutions of stride 2)
    upsample: str = "nearest"  # coarse to fine (CVPR sec. 3: nearest; segmentation code and PAMI III-B: bilinear)
    align_corners: bool = False  # of bilinear resizing within fusions; the released OCR networks say True
    parallel_from_start: bool = False  # all streams from stage 2 on (CVPR sec. 4.3, "Resolution maintenance")
    stream_ratio: int = 2  # from stream to stream: resolution divided, width multiplied (CVPR sec. 3)
    norm: str = "batch"  # normalisation after every convolution: batch or group
    norm_momentum: float = 0.1  # of batch normalisation; official segmentation trains with 0.01
    multi_scale_output: bool = True  # False: the last module puts out the finest stream only (V1; CVPR sec. 3)
    checkpointing: bool = False  # recompute every module in the backward pass: same numbers, less memory, more time

    def __post_init__(self) -> None:
        for name in ("widths", "modules", "blocks", "fusions"):
            value = getattr(self, name)
            if isinstance(value, list):  # as a file brings it; a tuple can be hashed
                object.__setattr__(self, name, tuple(value))
        self._check_numbers()
        self._check_names()
        self._check_lists()

    @property
    def stages(self) -> tuple[int, ...]:
        """Numbers of the multi-stream stages, from 2 on."""
        return tuple(range(2, 2 + max(len(self.modules), self.streams - 1)))

    @property
    def stage_modules(self) -> tuple[int, ...]:
        """Modules of each multi-stream stage; further stages get one, the least that opens a stream."""
        return self.modules + (1,) * (len(self.stages) - len(self.modules))

    @property
    def stage_blocks(self) -> tuple[int, ...]:
        """Residual blocks per stream and module, for each multi-stream stage."""
        return (self.blocks,) * len(self.stages) if isinstance(self.blocks, int) else self.blocks

    @property
    def stage_streams(self) -> tuple[int, ...]:
        """Streams that run in each multi-stream stage: one more from stage to stage, up to `streams`."""
        return tuple(self.streams if self.parallel_from_start else min(s, self.streams) for s in self.stages)

    @property
    def fusing(self) -> frozenset[int]:
        """The modules that end in a fusion, counted through all stages from 0."""
        ends = [end - 1 for end in accumulate(self.stage_modules)]
        if self.fusions == "within":
            return frozenset(range(ends[-1] + 1))
        if self.fusions == "across":
            return frozenset(ends)
        return frozenset(ends[-1:]) if self.fusions == "final" else frozenset(map(int, self.fusions))

    @property
    def stream_widths(self) -> tuple[int, ...]:
        """Channels of every stream, finest first."""
        return self.widths or tuple(self.width * self.stream_ratio**i for i in range(self.streams))

    @property
    def stream_strides(self) -> tuple[int, ...]:
        """Image pixels per map pixel of every stream, finest first."""
        return tuple(self.stem_stride * self.stream_ratio**i for i in range(self.streams))

    @property
    def min_size(self) -> int:
        """The smallest height and width of an image: one pixel on the coarsest stream."""
        return self.stream_strides[-1]

    def _check_numbers(self) -> None:
        for name in ("width", "stage1_blocks", "stage1_planes", "stem_width", "in_channels"):
            check_integer(name, getattr(self, name))
        check_integer("streams", self.streams, most=MOST_STREAMS)
        check_integer("stream_ratio", self.stream_ratio, least=2, most=4)
        if self.stem_stride not in (1, 2, 4):
            raise ValueError(f"stem_stride: {self.stem_stride!r} is not one of 1, 2, 4")
        for name in ("align_corners", "parallel_from_start", "multi_scale_output", "checkpointing"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}: {getattr(self, name)!r} is not True or False")
        if not 0 <= self.norm_momentum <= 1:
            raise ValueError(f"norm_momentum: {self.norm_momentum!r} is not between 0 and 1")

    def _check_names(self) -> None:
        check_choice("routes", self.routes, ROUTES)
        if self.operator in UNSTABLE:
            raise ValueError(
                f"operator: {self.operator!r}, {UNSTABLE[self.operator]}, overflows within the network; the stable "
                "product is 'geometric_mean'"
            )
        check_choice("operator", self.operator, OPERATORS)
        check_choice("downsample", self.downsample, DOWNSAMPLES)
        check_choice("upsample", self.upsample, UPSAMPLES)
        check_choice("norm", self.norm, NORMS)
        if self.align_corners and "bilinear" not in (self.upsample, self.downsample):
            raise ValueError("align_corners: True needs upsample='bilinear' or downsample='bilinear'")

    def _check_lists(self) -> None:
        if not isinstance(self.modules, tuple) or not 3 <= len(self.modules) <= MOST_STREAMS - 1:
            raise ValueError(f"modules: {self.modules!r} wants a number for stages 2, 3, 4 (and for 5 and 6)")
        for count in self.modules:
            check_integer("modules", count)
        for count in self.stage_blocks if isinstance(self.blocks, tuple) else (self.blocks,):
            check_integer("blocks", count)
        if len(self.stage_blocks) != len(self.stages):
            raise ValueError(f"blocks: {self.blocks!r} wants one number, or one for each of stages {self.stages}")
        if self.widths is not None and (not isinstance(self.widths, tuple) or len(self.widths) != self.streams):
            raise ValueError(f"widths: {self.widths!r} wants {self.streams} numbers, one per stream")
        for width in self.widths or ():
            check_integer("widths", width)
        self._check_fusions()

    def _check_fusions(self) -> None:
        last = sum(self.stage_modules) - 1
        otherwise = f", or a list of modules from 0 to {last}"
        if not isinstance(self.fusions, tuple):
            check_choice("fusions", self.fusions, FUSIONS, otherwise)
            return
        for module in self.fusions:
            if type(module) is not int or not 0 <= module <= last:
                raise ValueError(f"fusions: {module!r} is not one of {', '.join(FUSIONS)}{otherwise}")
        if len(set(self.fusions)) < len(self.fusions):
            raise ValueError(f"fusions: {self.fusions!r} names a module twice")


def check_choice(name: str, value: object, choices: Iterable[str], otherwise: str = "") -> None:
    """Refuse a `value` that is no choice, in one line with the nearest one."""
    choices = tuple(choices)
    if value in choices:
        return
    near = get_close_matches(str(value), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{name}: {value!r} is not one of {', '.join(choices)}{otherwise}{hint}")


def check_integer(name: str, value: object, *, least: int = 1, most: int | None = None) -> None:
    """Refuse a `value` that is no whole number or out of bounds, in one line."""
    wanted = f"a whole number from {least} to {most}" if most else f"a whole number from {least} on"
    if type(value) is not int or value < least or (most is not None and value > most):
        raise ValueError(f"{name}: {value!r} is not {wanted}")
