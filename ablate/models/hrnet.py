"""HRNet and its ablations: every decision of the network is a knob, in the papers' words.

PAMI is Wang et al., arXiv 1908.07919; CVPR is Sun et al., arXiv 1902.09212. The network itself is `hrnet_core`.
"""

from typing import Literal

from torch import Tensor, nn

from ablate.registry import model
from hrnet_core import HRNet, HRNetConfig, neck
from hrnet_core.config import check_integer


class Backbone(nn.Module):
    """images (B, 3, H, W) -> maps, finest first; `channels` and `strides` say what each map is."""

    def __init__(self, config: HRNetConfig, output: str, pyramid_stride: int = 1, pyramid_width: int = 256) -> None:
        super().__init__()
        self.body = HRNet(config)
        widths = {"v1h": sum(config.stream_widths), "v2p": pyramid_width}  # v1h: V2's width
        self.neck = neck(
            output,
            channels=self.body.channels,
            strides=self.body.strides,
            out_channels=widths.get(output),
            stride=pyramid_stride,
        )
        self.channels, self.strides = self.neck.channels, self.neck.strides

    @property
    def modules_of_stages(self) -> dict[str, list[nn.Module]]:
        """All before the second stream opens is one: the stem, stage 1 and its transition."""
        first = [self.body.get_submodule(name) for name in ("conv1", "conv2", "layer1", "transition1")]
        later = {f"stage {n}": [self.body.get_submodule(f"stage{n}")] for n in self.body.config.stages}
        return {"the stem and stage 1": first, **later}

    def forward(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.neck(self.body(images))
        return maps


@model(
    "hrnet",
    meaning=1,
    later=("stem_width", "pyramid_stride", "pyramid_width"),
    imagenet="github.com/HRNet/HRNet-Image-Classification (W18 to W64); timm",
)
def hrnet(
    *,
    width: int = 32,  # channels of the finest stream, C; the others double it (CVPR 3, "Instantiation")
    widths: tuple[int, ...] | None = None,  # channels of each stream instead, finest first
    streams: int = 4,  # 1 to 6 resolutions; fewer keep the depth, a 5th and 6th open in further stages (PAMI III-A)
    modules: tuple[int, ...] = (1, 4, 3),  # modules in stages 2, 3, 4 ... (CVPR 3)
    blocks: int | tuple[int, ...] = 4,  # residual blocks per stream and module, or per stage (CVPR 3)
    stage1_blocks: int = 4,  # bottleneck blocks of stage 1 (CVPR 3)
    stage1_planes: int = 64,  # their inner width (CVPR 3)
    stem_width: int = 64,  # channels of the stem's two convolutions; twice `width` keeps W32's proportions (CVPR 3)
    stem_stride: Literal[1, 2, 4] = 4,  # what the stem reduces the image by (CVPR 3)
    fusions: str | tuple[int, ...] = "within",  # within (8), across (3), final (1), or the modules that fuse (CVPR 4.3)
    routes: str = "full",  # full, neighbours, fine_to_coarse, coarse_to_fine: who sends to whom (CVPR 3)
    operator: str = "sum",  # sum, geometric_mean, concat, attention: how a stream takes in what it gets
    downsample: str = "strided_conv",  # strided_conv or bilinear, fine to coarse (PAMI VII)
    upsample: str = "nearest",  # nearest or bilinear, coarse to fine (CVPR 3; the segmentation code: bilinear)
    align_corners: bool = False,  # of bilinear resizing within fusions
    parallel_from_start: bool = False,  # all streams from stage 2 on (CVPR 4.3, "Resolution maintenance")
    stream_ratio: int = 2,  # resolution divided and width multiplied from stream to stream (CVPR 3)
    norm: str = "batch",  # batch or group normalisation of the body; heads keep their own
    norm_momentum: float = 0.1,  # of batch normalisation's running statistics
    output: str = "v1",  # v1, v1h, v2, v2p, streams, or stream1 to stream6: how maps leave (PAMI III-C; CVPR Fig. 5)
    pyramid_stride: Literal[1, 2] = 1,  # of v2p's last convolutions: 2 halves all its maps, as officially for FCOS
    pyramid_width: int = 256,  # channels of v2p's maps; eight times `width` keeps W32's proportions (PAMI III-C)
    checkpointing: bool = False,  # recompute modules in the backward pass: less memory, more time
) -> Backbone:
    """HRNet: parallel streams from high to low resolution, repeatedly fused."""
    check_integer("pyramid_width", pyramid_width)
    if output != "v2p" and (pyramid_width, pyramid_stride) != (256, 1):
        knob, value = ("pyramid_stride", pyramid_stride) if pyramid_width == 256 else ("pyramid_width", pyramid_width)
        raise ValueError(f"{knob}: {value} needs output='v2p', not {output!r}")
    config = HRNetConfig(
        width=width,
        widths=widths,
        streams=streams,
        modules=modules,
        blocks=blocks,
        stage1_blocks=stage1_blocks,
        stage1_planes=stage1_planes,
        stem_width=stem_width,
        stem_stride=stem_stride,
        fusions=fusions,
        routes=routes,
        operator=operator,
        downsample=downsample,
        upsample=upsample,
        align_corners=align_corners,
        parallel_from_start=parallel_from_start,
        stream_ratio=stream_ratio,
        norm=norm,
        norm_momentum=norm_momentum,
        multi_scale_output=output not in ("v1", "v1h", "stream1"),
        checkpointing=checkpointing,
    )
    return Backbone(config, output, pyramid_stride, pyramid_width)
