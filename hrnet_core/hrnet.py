"""Image -> one map per stream, finest first: the figure of the paper as code.

    stem - stage 1 - transition - stage 2 - transition - stage 3 - transition - stage 4 ...

Layer names are the official ones (conv1, layer1, transition2, stage3.1.branches.0 ...), so released weights
load 1:1, and a layer that two configurations share has the same name in both.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from .blocks import NORMS, BasicBlock, Bottleneck, Norm, conv, conv_norm, shrink_conv
from .config import HRNetConfig
from .fusion import Fusion

Maps = list[torch.Tensor]


class HRModule(nn.Module):
    """Residual blocks on all streams in parallel and, where it `fuses`, their exchange (CVPR sec. 3).

    Where a fusion is taken out (CVPR sec. 4.3) nothing takes its place: the streams pass on as they are.
    """

    def __init__(
        self, widths: Sequence[int], *, blocks: int, fuses: bool, outputs: int, config: HRNetConfig, norm: Norm
    ) -> None:
        super().__init__()
        self.outputs = outputs
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width, norm=norm) for _ in range(blocks))) for width in widths
        )
        self.fuse_layers = (
            Fusion(streams=len(widths), outputs=outputs, config=config, norm=norm)
            if fuses and len(widths) > 1
            else None
        )

    def forward(self, maps: Maps) -> Maps:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        return maps[: self.outputs] if self.fuse_layers is None else self.fuse_layers(maps)


class Transition(nn.ModuleList):
    """Opens a stage's streams: known ones pass (or change width), new ones branch off the coarsest map."""

    def __init__(self, sources: Sequence[int], targets: Sequence[int], *, ratio: int, norm: Norm) -> None:
        known = len(sources)
        layers: list[nn.Module] = []
        for i, width in enumerate(targets):
            if i >= known:
                keep = [shrink_conv(sources[-1], sources[-1], ratio=ratio, norm=norm) for _ in range(i - known)]
                layers.append(nn.Sequential(*keep, shrink_conv(sources[-1], width, ratio=ratio, norm=norm)))
            elif sources[i] != width:
                layers.append(conv_norm(sources[i], width, norm=norm))
            else:
                layers.append(nn.Identity())
        super().__init__(layers)

    def forward(self, maps: Maps) -> Maps:
        return [layer(maps[min(i, len(maps) - 1)]) for i, layer in enumerate(self)]


class HRNet(nn.Module):
    """The body: (B, in_channels, H, W) -> maps (B, channels[i], H/strides[i], W/strides[i]), finest first.

    H and W need not be multiples of the strides (sizes round up); below `config.min_size`: ValueError.
    """

    def __init__(self, config: HRNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or HRNetConfig()
        outputs = config.streams if config.multi_scale_output else 1
        self.channels = config.stream_widths[:outputs]
        self.strides = config.stream_strides[:outputs]
        norm = NORMS[config.norm](config.norm_momentum)

        stem, (first, second) = config.stem_width, {4: (2, 2), 2: (2, 1), 1: (1, 1)}[config.stem_stride]
        self.conv1, self.bn1 = conv(config.in_channels, stem, stride=first), norm(stem)
        self.conv2, self.bn2 = conv(stem, stem, stride=second), norm(stem)
        self.relu = nn.ReLU(inplace=True)

        widened = 4 * config.stage1_planes
        inputs = [stem] + [widened] * (config.stage1_blocks - 1)
        self.layer1 = nn.Sequential(*(Bottleneck(width, config.stage1_planes, norm=norm) for width in inputs))

        widths: tuple[int, ...] = (widened,)
        for i, stage in enumerate(config.stages):
            wanted = config.stream_widths[: config.stage_streams[i]]
            transition = Transition(widths, wanted, ratio=config.stream_ratio, norm=norm)
            self.add_module(f"transition{stage - 1}", transition)
            self.add_module(f"stage{stage}", nn.Sequential(*stage_modules(i, config=config, norm=norm)))
            widths = wanted

    def forward(self, image: torch.Tensor) -> Maps:
        config = self.config
        if image.ndim != 4 or image.shape[1] != config.in_channels or min(image.shape[2:]) < config.min_size:
            raise ValueError(
                f"image: {tuple(image.shape)} is not (B, {config.in_channels}, H, W) with H and W at least "
                f"{config.min_size}, the coarsest stream's stride ({config.streams} streams)"
            )
        if self.training and image.device.type == "cpu":
            # The layout that convolutions compute in there: a training step in fp32 takes 1.2 times as long without.
            # Evaluation keeps the image's layout, and with it the original's rounding.
            image = image.contiguous(memory_format=torch.channels_last)
        x = self.relu(self.bn1(self.conv1(image)))
        x = self.relu(self.bn2(self.conv2(x)))  # (B, 64, H/4, W/4)
        maps = [self._run(self.layer1, x)]  # (B, 256, H/4, W/4)
        for stage in config.stages:
            maps = self.get_submodule(f"transition{stage - 1}")(maps)
            for module in self.get_submodule(f"stage{stage}").children():
                maps = self._run(module, maps)
        return maps

    def _run(self, part: nn.Module, inputs: Any) -> Any:
        if not (self.config.checkpointing and self.training and torch.is_grad_enabled()):
            return part(inputs)
        return checkpoint(
            part,
            inputs,
            use_reentrant=False,
            preserve_rng_state=False,  # nothing in the body is random
            context_fn=lambda: (nullcontext(), unchanged_statistics(part)),
        )


def stage_modules(index: int, *, config: HRNetConfig, norm: Norm) -> Iterator[HRModule]:
    """The modules of the multi-stream stage at `index` in `config.stages`."""
    widths = config.stream_widths[: config.stage_streams[index]]
    before, last = sum(config.stage_modules[:index]), sum(config.stage_modules) - 1
    for module in range(before, before + config.stage_modules[index]):
        only_finest = module == last and not config.multi_scale_output
        yield HRModule(
            widths,
            blocks=config.stage_blocks[index],
            fuses=module in config.fusing,
            outputs=1 if only_finest else len(widths),
            config=config,
            norm=norm,
        )


@contextmanager
def unchanged_statistics(part: nn.Module) -> Iterator[None]:
    """Recompute with the batch's statistics, but without counting the batch a second time."""
    norms: list[Any] = [m for m in part.modules() if getattr(m, "num_batches_tracked", None) is not None]
    kept = [(module.momentum, module.num_batches_tracked) for module in norms]
    for module in norms:
        module.momentum, module.num_batches_tracked = 0.0, module.num_batches_tracked.clone()
    try:
        yield
    finally:
        for module, (momentum, counter) in zip(norms, kept, strict=True):
            module.momentum, module.num_batches_tracked = momentum, counter
