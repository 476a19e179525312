"""Detectors in files of mmdetection and torchvision: which one it is, and its tensors by our names.

mmdetection from version 2 on (its keys begin with roi_head) counts the background as the last class, has no boxes and
masks for it, and divides the deltas of a cascade's last stage by 0.033 and 0.067; version 1 counts it as the first, as
torchvision and we do. Classes, boxes and masks of the background are never read, so that zeros stand for them.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

State = dict[str, Tensor]
BGR = {"colours": "bgr"}
CAFFE = {"white": 255.0, "mean": [122.7717, 115.9465, 102.9801], "std": [1.0, 1.0, 1.0]}  # of RGB; fed as BGR
LAST_STAGE = (30 * 0.033, 30 * 0.033, 15 * 0.067, 15 * 0.067)  # our coder's weights for what its code multiplies by
WITHOUT_EPS = ("258fb6c6", "bf2d0c1e")  # torchvision's COCO_V1 files of Faster and Mask R-CNN, whose norms add nothing
NORM_EPS = 1e-5

OF_PROPOSALS = (
    (r"^rpn_head\.rpn_conv\.", "rpn.head.conv.0.0."),
    (r"^rpn_head\.rpn_cls\.", "rpn.head.cls_logits."),
    (r"^rpn_head\.rpn_reg\.", "rpn.head.bbox_pred."),
)
OF_STAGES = (
    (r"^shared_fcs\.0\.", "box_head.fc6."),
    (r"^shared_fcs\.1\.", "box_head.fc7."),
    (r"^fc_cls\.", "box_predictor.cls_score."),
    (r"^fc_reg\.", "box_predictor.bbox_pred."),
    (r"^convs\.(\d)\.conv\.", r"mask_head.\1.0."),
    (r"^upsample\.", "mask_predictor.conv5_mask."),
    (r"^conv_logits\.", "mask_predictor.mask_fcn_logits."),
)
OF_FCOS = (
    (r"^bbox_head\.(?:fcos|conv)_cls\.", "fcos.head.classification_head.cls_logits."),
    (r"^bbox_head\.(?:fcos|conv)_reg\.", "fcos.head.regression_head.bbox_reg."),
    (r"^bbox_head\.(?:fcos|conv)_centerness\.", "fcos.head.regression_head.bbox_ctrness."),
)
OF_TORCHVISION: tuple[
    tuple[str, str | Callable[[re.Match[str]], str]], ...
] = (  # the second half: names of its files from before 2021
    (r"^backbone\.fpn\.", "head.head.pyramid.fpn."),
    (r"^head\.(classification|regression)_head\.", r"head.head.fcos.head.\1_head."),
    (r"^(rpn|roi_heads)\.", r"head.head.\1."),
    (r"(rpn\.head\.conv)\.(weight|bias)$", r"\1.0.0.\2"),
    (r"(fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)$", r"\1.0.\2"),
    (r"mask_head\.mask_fcn([1-4])\.", lambda found: f"mask_head.{int(found[1]) - 1}.0."),
)
NUMBERS = (".scale", ".num_batches_tracked")
OURS = ("rpn.", "roi_heads.", "cascade.", "fcos.")
SIGNS = ("roi_heads.box_predictor.cls_score.weight", "head.classification_head.cls_logits.weight")  # of torchvision
DEPTHS: dict[tuple[int, ...], int] = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}


class Held(NamedTuple):
    """A detector that a file holds."""

    knobs: dict[str, object]  # of the task
    classes: int
    state: State  # by our names
    read: dict[str, object]  # knobs of `network.`: the pictures that it takes


def of_mmdetection(heads: Mapping[str, Tensor]) -> Held:
    """The detector whose heads have these tensors, by mmdetection's names; a pyramid that is there goes before them.

    Raises:
        ValueError: a tensor that tells which detector it is, is missing, or one is a single number, or a scale is not.
    """
    if single := [key for key, value in heads.items() if not value.dim() and not key.endswith(NUMBERS)]:
        raise ValueError(f"{single[0]} is a single number, which no layer has")
    return _two_stages(heads) if any(key.startswith("rpn_head.") for key in heads) else _fcos(heads)


def _two_stages(heads: Mapping[str, Tensor]) -> Held:
    old = not any(key.startswith("roi_head.") for key in heads)
    state = {_stage_name(key.removeprefix("roi_head.")): value for key, value in heads.items()}
    cascade = any(key.startswith("cascade.") for key in state)
    first = "cascade.0" if cascade else "roi_heads"
    classes = _rows(state, f"{first}.box_predictor.cls_score.weight") - 1
    masks = any(".mask_" in key for key in state)
    knobs: dict[str, object] = {
        "detector": f"{'cascade' if cascade else 'mask' if masks else 'faster'}{'_mask' * (cascade and masks)}_rcnn",
        "conventions": "mmdetection1" if old else "mmdetection",
        "box_width": _rows(state, f"{first}.box_head.fc6.weight"),
    }
    if masks:
        knobs["mask_width"] = _rows(state, f"{first}.mask_head.0.0.weight")
    if not old:
        state = {key: _background_first(key, value, cascade=cascade) for key, value in state.items()}
    for key in state:
        if key.startswith("cascade.2.box_predictor.bbox_pred.") and len(state[key]) == len(LAST_STAGE):
            factors = torch.tensor(LAST_STAGE, dtype=state[key].dtype)
            state[key] = state[key] * factors.reshape(-1, *[1] * (state[key].dim() - 1))
    return Held(knobs, classes, _below_head(state), {})


def _stage_name(key: str) -> str:
    found = re.match(r"(?:bbox|mask)_head\.(?:(\d)\.)?(.+)", key)
    if not found:
        return _renamed(key, OF_PROPOSALS)
    layer = _renamed(found[2], OF_STAGES)
    known = layer != found[2]
    return f"{f'cascade.{found[1]}' if found[1] else 'roi_heads'}.{layer}" if known else key


def _background_first(key: str, value: Tensor, *, cascade: bool) -> Tensor:
    if ".cls_score." in key:
        return torch.cat([value[-1:], value[:-1]])
    rows = {".mask_fcn_logits.": 1, ".bbox_pred.": 0 if cascade else 4}
    more = 0 if key.startswith("rpn.") else next((count for layer, count in rows.items() if layer in key), 0)
    return torch.cat([value.new_zeros(more, *value.shape[1:]), value]) if more else value


def _fcos(heads: Mapping[str, Tensor]) -> Held:
    state, scales = {}, {}
    for key, value in heads.items():
        if found := re.fullmatch(r"bbox_head\.scales\.(\d)\.scale", key):
            if value.numel() != 1:
                raise ValueError(f"{key} wants a single number, and has {value.numel()}")
            scales[int(found[1])] = value
        else:
            state[_fcos_name(key)] = value
    if scales:
        state["fcos.head.scales"] = torch.stack([scales[level].reshape(()) for level in sorted(scales)])
    for name in [name for name in state if re.search(r"_head\.conv\.\d+\.weight$", name) and state[name].dim() == 4]:
        bias = name.removesuffix("weight") + "bias"  # a convolution before a norm has none
        state.setdefault(bias, torch.zeros(len(state[name])))
    old = any(key.startswith("bbox_head.fcos_") for key in heads)
    classes = _rows(state, "fcos.head.classification_head.cls_logits.weight")
    knobs: dict[str, object] = {"detector": "fcos", "conventions": "mmdetection"}
    return Held(knobs, classes, _below_head(state), BGR | (CAFFE if old else {}))


def _fcos_name(key: str) -> str:
    if found := re.match(r"bbox_head\.(cls|reg)_convs\.(\d)\.(conv|gn)\.(.+)", key):
        branch = {"cls": "classification", "reg": "regression"}[found[1]]
        return f"fcos.head.{branch}_head.conv.{3 * int(found[2]) + (found[3] == 'gn')}.{found[4]}"
    return _renamed(key, OF_FCOS)


def is_torchvisions(state: Mapping[str, object]) -> bool:
    """Whether these are a detector's tensors by torchvision's names."""
    return any(sign in state for sign in SIGNS)


def of_torchvision(state: Mapping[str, Tensor], *, sha256: str = "") -> tuple[Held, int]:
    """The detector of a whole state dict by torchvision's names, and the depth of its ResNet.

    Two released files are of networks whose norms add nothing to the variance; the digest tells.

    Raises:
        ValueError: a tensor that tells which detector it is, is missing, or it has no ResNet that is known.
    """
    own = {_renamed(key, OF_TORCHVISION): value for key, value in state.items()}
    blocks = tuple(len({k.split(".")[3] for k in own if k.startswith(f"backbone.body.layer{n}.")}) for n in range(1, 5))
    deep = "backbone.body.layer1.0.conv3.weight" in own
    depth = 34 if blocks == (3, 4, 6, 3) and not deep else DEPTHS.get(blocks)
    if depth is None:
        raise ValueError(f"a detector of torchvision's with no ResNet as its backbone: stages of {blocks} blocks")
    if sha256.startswith(WITHOUT_EPS):
        own = {key: value - NORM_EPS if key.endswith("running_var") else value for key, value in own.items()}
    knobs: dict[str, object] = {"width": _rows(own, "head.head.pyramid.fpn.layer_blocks.0.0.weight")}
    if SIGNS[1] in state:
        knobs |= {"detector": "fcos", "score_threshold": 0.2, "nms": 0.6}  # its builder's
        return Held(knobs, _rows(own, "head.head.fcos.head.classification_head.cls_logits.weight"), own, {}), depth
    stage = "head.head.roi_heads"
    masks = any(".mask_predictor." in key for key in own)
    knobs |= {"detector": "mask_rcnn" if masks else "faster_rcnn"}
    knobs |= {"box_width": _rows(own, f"{stage}.box_head.fc6.weight")}
    if masks:
        knobs |= {"mask_width": _rows(own, f"{stage}.mask_head.0.0.weight")}
    return Held(knobs, _rows(own, f"{stage}.box_predictor.cls_score.weight") - 1, own, {}), depth


def _renamed(key: str, rules: Iterable[tuple[str, str | Callable[[re.Match[str]], str]]]) -> str:
    for pattern, name in rules:
        key = re.sub(pattern, name, key)
    return key


def _below_head(state: State) -> State:
    """Ours lie there; what is not known keeps its name."""
    return {f"head.head.{key}" if key.startswith(OURS) else key: value for key, value in state.items()}


def _rows(state: Mapping[str, Tensor], key: str) -> int:
    """How many outputs a layer has."""
    if key not in state or not state[key].dim():
        raise ValueError(f"missing: {key}")
    return len(state[key])
