"""The families of released checkpoints: how to tell them, their key names, and what shapes do not show.

Sources: the official repositories (deep-high-resolution-net.pytorch, HigherHRNet-Human-Pose-Estimation,
HRNet-Semantic-Segmentation, HRNet-Image-Classification, HRNet-Facial-Landmark-Detection, HRNet-Object-Detection, and
for SimpleBaseline human-pose-estimation.pytorch), timm, mmpose 0.x and 1.x, mmsegmentation, mmdetection.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """One kind of checkpoint: `sign` matches a key that only this kind has, `renames` lead to the official names."""

    sign: str
    head: str  # heatmap, bottom_up, segmentation, ocr, classification or pyramid
    upsample: str  # within fusions
    align_corners: bool = False
    renames: tuple[tuple[str, str], ...] = ()


# mmsegmentation names a convolution and its normalisation, the official code counts them.
_CONTEXT = r"^decode_head\.1\.object_context_block\."
_PROJECTIONS = {"query": "f_pixel", "key": "f_object", "value": "f_down", "out": "f_up"}
_MMSEG_OCR = (
    (r"^decode_head\.0\.convs\.0\.conv\.", "aux_head.0."),
    (r"^decode_head\.0\.convs\.0\.bn\.", "aux_head.1."),
    (r"^decode_head\.0\.conv_seg\.", "aux_head.3."),
    (r"^decode_head\.1\.conv_seg\.", "cls_head."),
    (r"^decode_head\.1\.bottleneck\.conv\.", "conv3x3_ocr.0."),
    (r"^decode_head\.1\.bottleneck\.bn\.", "conv3x3_ocr.1."),
    (_CONTEXT + r"bottleneck\.conv\.", "ocr_distri_head.conv_bn_dropout.0."),
    (_CONTEXT + r"bottleneck\.bn\.", "ocr_distri_head.conv_bn_dropout.1.0."),
    (_CONTEXT, "ocr_distri_head.object_context_block."),
    *((rf"\.{theirs}_project\.", f".{ours}.") for theirs, ours in _PROJECTIONS.items()),
    (r"\.(f_\w+)\.(?:0\.)?conv\.", r".\1.0."),
    (r"\.(f_\w+)\.(?:0\.)?bn\.", r".\1.1.0."),
    (r"\.(f_\w+)\.1\.conv\.", r".\1.2."),
    (r"\.(f_\w+)\.1\.bn\.", r".\1.3.0."),
)

FAMILIES = {
    "classification": Family(r"incre_modules\.", "classification", "nearest"),  # official and timm: same keys
    "pose": Family(r"final_layer\.weight", "heatmap", "nearest"),
    "higher": Family(  # mmpose 0.x has the same names below keypoint_head
        r"(?:keypoint_head\.)?final_layers\.1\.",
        "bottom_up",
        "nearest",
        renames=((r"^keypoint_head\.(final_layers|deconv_layers)\.", r"\1."),),
    ),
    "ocr": Family(r"ocr_distri_head\.", "ocr", "bilinear", align_corners=True),
    "segmentation": Family(r"last_layer\.", "segmentation", "bilinear"),
    "face": Family(r"head\.0\.", "segmentation", "bilinear", renames=((r"^head\.", "last_layer."),)),
    "mmpose_v2": Family(  # its HRNetV2 configurations set upsample=dict(mode="bilinear", align_corners=False)
        r"(?:head\.conv_layers|keypoint_head\.final_layer)\.0\.",
        "segmentation",
        "bilinear",
        renames=(
            (r"^head\.conv_layers\.|^keypoint_head\.final_layer\.", "last_layer."),
            (r"^head\.final_layer\.", "last_layer.3."),
        ),
    ),
    "mmpose": Family(
        r"(?:keypoint_)?head\.final_layer\.weight",
        "heatmap",
        "nearest",
        renames=((r"^(?:keypoint_)?head\.(final_layer|deconv_layers)\.", r"\1."),),
    ),
    "mmseg_ocr": Family(_CONTEXT, "ocr", "bilinear", renames=_MMSEG_OCR),
    "mmseg": Family(
        r"decode_head\.convs\.0\.conv\.",
        "segmentation",
        "bilinear",
        renames=(
            (r"^decode_head\.convs\.0\.conv\.", "last_layer.0."),
            (r"^decode_head\.convs\.0\.bn\.", "last_layer.1."),
            (r"^decode_head\.conv_seg\.", "last_layer.3."),
        ),
    ),
    "detection": Family(  # HRNet-Object-Detection (fpn_conv) and mmdetection (fpn_convs)
        r"neck\.reduction_conv\.",
        "pyramid",
        "nearest",
        renames=(
            (r"^neck\.reduction_conv\.(?:0|conv)\.", "reduction_conv."),
            (r"^neck\.fpn_convs?\.(\d+)\.(?:conv\.)?", r"fpn_conv.\1."),
        ),
    ),
}


def has_head(keys: Iterable[str], family: str) -> bool:
    """Whether the head that `family` is known by is among `keys`."""
    return any(re.match(FAMILIES[family].sign, key) for key in keys)


def recognise(keys: Collection[str]) -> str | None:
    """The name of the family whose head is among `keys`, or None: a body alone, or a head not known here."""
    return next((family for family in FAMILIES if has_head(keys, family)), None)


def official_name(key: str, family: Family) -> str:
    """The official name of a layer that `family` calls `key`."""
    for pattern, name in family.renames:
        key = re.sub(pattern, name, key)
    return key
