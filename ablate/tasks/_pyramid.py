"""What detectors of one stage and of two share: a pyramid, its anchors and boxes, rules, and how layers are drawn."""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool, LastLevelP6P7

from ablate.tasks._mmdetection import Anchors, BoxMaps

LEVELS = ["0", "1", "2", "3"]  # the finest four, which boxes are read from; coarser ones only propose


class Detections(NamedTuple):
    """What was found in one image, best first."""

    boxes: Tensor  # (N, 4) x0 y0 x1 y1
    scores: Tensor  # (N,)
    labels: Tensor  # (N,) from 1 on
    masks: Tensor | None  # (N, 1, 28, 28), probabilities within the boxes


class Rules(NamedTuple):
    """What the heads are made with; see the knobs of `Detection`."""

    classes: int
    anchor_scale: float
    anchor_ratios: tuple[float, ...]
    box_beta: float
    proposals: int
    sampled: int
    box_width: int
    mask_width: int
    score_threshold: float
    nms: float
    most: int
    masks: bool
    conventions: str = "torchvision"

    @property
    def old(self) -> bool:
        """Whether they are mmdetection's before version 2."""
        return self.conventions == "mmdetection1"


Draws = dict[nn.Module, Callable[[nn.Module], None]]


class Pyramid(nn.Module):
    """Maps of one width: as they come where they are a pyramid already, else torchvision's FPN of them."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int], *, width: int, extra: str) -> None:
        super().__init__()
        self.is_there = len(set(channels)) == 1
        added = 0 if self.is_there else {"pool": 1, "conv": 2}[extra]
        self.channels = channels[0] if self.is_there else width
        self.strides = (*strides, *(strides[-1] * 2 ** (step + 1) for step in range(added)))
        if not self.is_there:
            blocks = LastLevelMaxPool() if extra == "pool" else LastLevelP6P7(width, width)
            self.fpn = FeaturePyramidNetwork(list(channels), width, blocks)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        named = OrderedDict((str(place), x) for place, x in enumerate(maps))
        return named if self.is_there else self.fpn(named)


def anchors_of(strides: Sequence[int], rules: Rules) -> AnchorGenerator:
    """The anchors of maps of these strides."""
    if rules.conventions != "torchvision":
        offset = 0.5 if rules.old else 0.0
        return Anchors(strides, rules.anchor_scale, rules.anchor_ratios, offset=offset, whole=rules.old)
    sizes = tuple((round(rules.anchor_scale * stride),) for stride in strides)
    return AnchorGenerator(sizes, (rules.anchor_ratios,) * len(strides))


def box_maps(side: int, strides: Sequence[int], rules: Rules) -> nn.Module:
    """Maps by level, boxes of images and sizes of images -> (boxes, C, side, side)."""
    if rules.conventions != "torchvision":
        return BoxMaps(side, strides[: len(LEVELS)], shifted=not rules.old)
    pool: nn.Module = MultiScaleRoIAlign(LEVELS, side, 2)
    return pool


def pyramid_rules(pyramid: Pyramid) -> Draws:
    """How the layers of an FPN are drawn."""
    layers = () if pyramid.is_there else pyramid.fpn.modules()
    return {layer: uniform for layer in layers if isinstance(layer, nn.Conv2d)}


def has_weights(layer: nn.Module) -> bool:
    """Whether it is a convolution."""
    return isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)


def normal(deviation: float) -> Callable[[nn.Module], None]:
    """Weights N(0, deviation), biases 0."""

    def draw(layer: nn.Module) -> None:
        nn.init.normal_(layer.get_parameter("weight"), std=deviation)
        nn.init.zeros_(layer.get_parameter("bias"))

    return draw


def kaiming(layer: nn.Module) -> None:
    """Weights by He et al., fan-out, biases 0."""
    nn.init.kaiming_normal_(layer.get_parameter("weight"), mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(layer.get_parameter("bias"))


def uniform(layer: nn.Module) -> None:
    """Weights uniform by He et al., fan-in, without a gain; biases 0."""
    nn.init.kaiming_uniform_(layer.get_parameter("weight"), a=1)
    nn.init.zeros_(layer.get_parameter("bias"))


def rare(layer: nn.Module) -> None:
    """Every class has a probability of 0.01 at first, or the many places without an instance would drown the others."""
    nn.init.normal_(layer.get_parameter("weight"), std=0.01)
    nn.init.constant_(layer.get_parameter("bias"), -math.log(99))
