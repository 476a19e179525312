"""HRNet as a library of decisions: every choice of the papers is a knob of HRNetConfig."""

from .checkpoint import Pretrained, from_checkpoint
from .config import HRNetConfig
from .heads import ClassificationHead, HeatmapHead, OCRHead, SegmentationHead, WidenHead
from .hrnet import HRNet
from .necks import NECKS, neck
from .presets import PRESETS

__all__ = [
    "NECKS",
    "PRESETS",
    "ClassificationHead",
    "HRNet",
    "HRNetConfig",
    "HeatmapHead",
    "OCRHead",
    "Pretrained",
    "SegmentationHead",
    "WidenHead",
    "from_checkpoint",
    "neck",
]
