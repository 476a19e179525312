"""HRNet as a library of decisions: every choice of the papers is a knob of HRNetConfig.

Beside it the baseline that the pose papers compare with, SimpleBaseline, whose checkpoints load the same way.
"""

from .checkpoint import Pretrained, from_checkpoint
from .config import HRNetConfig
from .heads import ClassificationHead, HeatmapHead, HigherHead, OCRHead, SegmentationHead, WidenHead
from .hrnet import HRNet
from .necks import NECKS, neck
from .presets import PRESETS
from .simple_baseline import ResNet, SimpleBaseline, SimpleBaselineConfig

__all__ = [
    "NECKS",
    "PRESETS",
    "ClassificationHead",
    "HRNet",
    "HRNetConfig",
    "HeatmapHead",
    "HigherHead",
    "OCRHead",
    "Pretrained",
    "ResNet",
    "SegmentationHead",
    "SimpleBaseline",
    "SimpleBaselineConfig",
    "WidenHead",
    "from_checkpoint",
    "neck",
]
