"""The architecture of a checkpoint, read off its keys and shapes (official names, without prefixes)."""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate

import torch
from torch import nn

from .config import FUSIONS, HRNetConfig
from .fusion import ROUTES
from .heads import ClassificationHead, HeatmapHead, HigherHead, OCRHead, SegmentationHead, WidenHead
from .hrnet import HRNet
from .necks import V2, Stream, V2p
from .simple_baseline import BLOCKS, STAGES, SimpleBaseline, SimpleBaselineConfig

State = dict[str, torch.Tensor]
LEAST_TENSORS = 6  # of a block: two convolutions, two normalisations
OPERATOR_KEYS = {
    "concat": ".operator.mix.",
    "attention": ".operator.gate.",
}  # the others leave no trace: taken for a sum


def infer_config(state: Mapping[str, torch.Tensor]) -> HRNetConfig:
    """The body's configuration, as far as keys and shapes tell it; stem stride and stream ratio as published."""
    stages = sorted({int(key[5]) for key in state if re.match(r"stage\d\.", key)})
    streams = count(state, f"stage{stages[-1]}.0.branches.")
    widths = tuple(shape(state, f"stage{stages[-1]}.0.branches.{i}.0.conv1.weight")[0] for i in range(streams))
    blocks = tuple(count(state, f"stage{stage}.0.branches.0.") for stage in stages)
    modules = tuple(count(state, f"stage{stage}.") for stage in stages)
    stage1 = count(state, "layer1.")
    named = stage1 + sum(stage * of_stage * n for stage, of_stage, n in zip(stages, modules, blocks, strict=True))
    if LEAST_TENSORS * named > len(state):
        raise ValueError(f"checkpoint: its keys name {named:,} blocks, and it has {len(state):,} tensors")
    stem = shape(state, "conv1.weight", least=2)
    config = HRNetConfig(
        width=widths[0],
        widths=None if widths == tuple(widths[0] * 2**i for i in range(streams)) else widths,
        streams=streams,
        modules=modules,
        blocks=blocks[0] if len(set(blocks)) == 1 else blocks,
        stage1_blocks=stage1,
        stage1_planes=shape(state, "layer1.0.conv1.weight")[0],
        stem_width=stem[0],
        in_channels=stem[1],
        norm="batch" if "bn1.running_mean" in state else "group",
        parallel_from_start=2 < streams == count(state, "stage2.0.branches."),
    )
    return config if streams == 1 else with_fusions(config, state)


def with_fusions(config: HRNetConfig, state: Mapping[str, torch.Tensor]) -> HRNetConfig:
    """`config` with the fusions that `state` has: which modules fuse, which streams send, by which operator."""
    first = dict(zip(config.stages, accumulate((0, *config.stage_modules)), strict=False))
    wires: dict[int, set[tuple[int, int]]] = {}  # module, counted through all stages -> its (source, target) pairs
    strided = True
    for key in state:
        found = re.match(r"stage(\d)\.(\d+)\.fuse_layers\.(\d)\.(\d)\.(.*)", key)
        if found:
            stage, module, target, source = map(int, found.groups()[:4])
            wires.setdefault(first[stage] + module, set()).add((source, target))
            strided = strided and not (source < target and found[5] == "0.weight")
    last = wires.get(sum(config.stage_modules) - 1)
    config = replace(
        config,
        fusions=tuple(sorted(wires)),
        multi_scale_output=last is None or any(target > 0 for _, target in last),
        downsample="strided_conv" if strided else "bilinear",
        operator=next((op for op, sign in OPERATOR_KEYS.items() if any(sign in key for key in state)), "sum"),
    )
    config = replace(config, routes=next((name for name in ROUTES if wiring(config, name) == wires), "full"))
    named = (replace(config, fusions=name) for name in FUSIONS)
    return next((candidate for candidate in named if candidate.fusing == config.fusing), config)


def wiring(config: HRNetConfig, routes: str) -> dict[int, set[tuple[int, int]]]:
    """The (source, target) pairs of every fusing module under `routes`."""
    streams = [n for n, modules in zip(config.stage_streams, config.stage_modules, strict=True) for _ in range(modules)]
    targets = streams if config.multi_scale_output else [*streams[:-1], 1]
    sends = ROUTES[routes]
    return {
        module: {(s, t) for t in range(targets[module]) for s in range(streams[module]) if s != t and sends(s, t)}
        for module in config.fusing
    }


def infer_baseline(state: Mapping[str, torch.Tensor]) -> SimpleBaselineConfig:
    """SimpleBaseline's configuration: the ResNet by its kind and number of blocks, the transposed convolutions."""
    blocks = tuple(count(state, f"{stage}.") for stage in STAGES)
    deep = "layer1.0.conv3.weight" in state
    depth = next((depth for depth, known in BLOCKS.items() if known == blocks and (depth >= 50) == deep), None)
    if depth is None:
        kind = "bottlenecks" if deep else "basic blocks"
        raise ValueError(f"checkpoint: no published ResNet has {blocks} {kind}; SimpleBaseline's: {BLOCKS}")
    convolutions = [key for key in state if key.startswith("deconv_layers.") and state[key].ndim == 4]
    # Every third layer: normalisation and ReLU stand between. At least the first, so that its absence is named.
    deconvs = [shape(state, f"deconv_layers.{3 * place}.weight", least=3) for place in range(max(1, len(convolutions)))]
    return SimpleBaselineConfig(
        depth=depth,
        width=shape(state, "layer1.0.conv1.weight")[0],
        deconv_widths=tuple(layer[1] for layer in deconvs),
        deconv_kernels=tuple(layer[2] for layer in deconvs),
        deconv_bias="deconv_layers.0.bias" in state,
    )


def infer_neck_and_head(
    state: Mapping[str, torch.Tensor], body: HRNet | SimpleBaseline, kind: str | None
) -> tuple[nn.Module, nn.Module]:
    """What follows the body: `kind` is a family's head, None for nothing."""
    channels, strides = body.channels, body.strides
    if kind in ("heatmap", "bottom_up"):
        return Stream(channels, strides), infer_heatmaps(state, channels, finer=kind == "bottom_up")
    if kind is None:
        return nn.Identity(), nn.Identity()
    if isinstance(body, SimpleBaseline):
        raise ValueError(f"checkpoint: a {kind} head on a SimpleBaseline, which has heatmaps; head=False leaves it out")
    concat = V2(channels, strides, align_corners=body.config.align_corners)
    if kind == "segmentation":
        layer = shape(state, "last_layer.3.weight", least=3)
        bias = "last_layer.0.bias" in state
        return concat, SegmentationHead(concat.channels, classes=layer[0], kernel=layer[2], bias=bias)
    if kind == "ocr":
        classes, middle = shape(state, "cls_head.weight", least=2)[:2]
        keys = shape(state, "ocr_distri_head.object_context_block.f_down.0.weight")[0]
        ocr = OCRHead(
            concat.channels,
            classes=classes,
            mid_channels=middle,
            key_channels=keys,
            bias="conv3x3_ocr.0.bias" in state,
        )
        return concat, ocr
    if kind == "classification":
        return nn.Identity(), infer_classification(state, channels)
    return infer_pyramid(state, body), nn.Identity()


def infer_heatmaps(state: Mapping[str, torch.Tensor], channels: tuple[int, ...], *, finer: bool) -> nn.Module:
    """The head of pose estimation: heatmaps, or HigherHRNet's with tags and finer heatmaps."""
    if not finer:
        layer = shape(state, "final_layer.weight", least=3)
        return HeatmapHead(channels, joints=layer[0], kernel=layer[2])
    layer, blocks = shape(state, "final_layers.1.weight", least=3), count(state, "deconv_layers.0.") - 1
    return HigherHead(channels, joints=layer[0], kernel=layer[2], blocks=blocks)


def infer_classification(state: Mapping[str, torch.Tensor], channels: tuple[int, ...]) -> nn.Module:
    """The classification head, or its widening half where that is all there is (timm's `features_only`)."""
    if "final_layer.0.weight" not in state:
        return WidenHead(channels)
    classes = shape(state, "classifier.weight")[0] if "classifier.weight" in state else 0
    return ClassificationHead(channels, classes=classes, bias="final_layer.0.bias" in state)


def infer_pyramid(state: Mapping[str, torch.Tensor], body: HRNet) -> V2p:
    """The detectors' neck; FCOS (told by its centerness branch) has its last convolutions stride 2 in mmdetection."""
    fcos = any(re.match(r"bbox_head\.(conv|fcos)_centerness", key) for key in state)
    return V2p(
        body.channels,
        body.strides,
        out_channels=shape(state, "reduction_conv.weight")[0],
        levels=count(state, "fpn_conv."),
        stride=2 if fcos else 1,
    )


def count(state: Mapping[str, torch.Tensor], prefix: str) -> int:
    """How many different numbers follow `prefix` in the keys."""
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def shape(state: Mapping[str, torch.Tensor], key: str, *, least: int = 1) -> tuple[int, ...]:
    """The shape under `key`; ValueError where it is missing, or has fewer than `least` dimensions."""
    if key not in state:
        raise ValueError(f"checkpoint: missing: {key}")
    if state[key].ndim < least:
        raise ValueError(f"checkpoint: {key} has the shape {tuple(state[key].shape)}, which no layer's weight has")
    return tuple(state[key].shape)
