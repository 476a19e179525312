"""What mmdetection computes otherwise than torchvision, as parts of the same heads.

Its anchors are not rounded and lie a map's stride apart, whatever the image's size; RoIAlign is shifted by half a
pixel; FCOS has centre-ness beside the classes and distances as exponentials; masks are sampled at the pixels' centres.

Version 1 counts a box's last pixel in: its width is x1 - x0 + 1. In terms of x1 + 1, where the box ends, that is the
usual coder, overlap and clipping, so that only anchors and RoIAlign are left to differ: anchors are rounded, with
centres in the middle of a step, and RoIAlign takes two samples a side and is not shifted.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import batched_nms, clip_boxes_to_image, roi_align

FINEST = 56  # pixels: boxes below twice this side are read from the finest map
CANDIDATES = 1000  # of a level that FCOS looks at


class Anchors(AnchorGenerator):
    """Anchors of a side of `scale` strides, with heights over widths, around each place of each map."""

    def __init__(
        self, strides: Sequence[int], scale: float, ratios: Sequence[float], *, offset: float = 0.0, whole: bool = False
    ) -> None:
        super().__init__(tuple((scale * stride,) for stride in strides), (tuple(ratios),) * len(strides))
        self.apart = tuple(strides)
        self.cell_anchors = [_cell(stride, scale, ratios, offset, whole=whole) for stride in strides]

    def grid_anchors(self, grid_sizes: list[list[int]], strides: list[list[Tensor]]) -> list[Tensor]:
        """Around all places of maps of these sizes, (places x ratios, 4) of each; strides are the maps' own."""
        own = [[torch.tensor(step, device=strides[0][0].device)] * 2 for step in self.apart]
        found: list[Tensor] = super().grid_anchors(grid_sizes, own)
        return found


def _cell(stride: int, scale: float, ratios: Sequence[float], offset: float, *, whole: bool) -> Tensor:
    """(ratios, 4) around the first place, whose centre is `offset` strides from the image's corner."""
    roots = torch.tensor(ratios).sqrt()
    half = torch.stack([stride * scale / roots, stride * scale * roots], dim=1) / 2
    if not whole:
        return torch.cat([offset * stride - half, offset * stride + half], dim=1)
    centre = offset * (stride - 1)  # of the first and last pixel; rounded are the places of these
    return torch.cat([(centre - half + 0.5).round(), (centre + half - 0.5).round() + 1], dim=1)


class BoxMaps(nn.Module):
    """Maps by level, boxes and sizes of images -> (boxes, C, side, side), each box from the map that fits its size."""

    def __init__(self, side: int, strides: Sequence[int], *, shifted: bool) -> None:
        super().__init__()
        self.side, self.strides, self.shifted = side, tuple(strides), shifted

    def forward(self, maps: dict[str, Tensor], boxes: list[Tensor], sizes: list[tuple[int, int]]) -> Tensor:
        whose = torch.cat([torch.full_like(of_image[:, :1], place) for place, of_image in enumerate(boxes)])
        rows = torch.cat([whose, torch.cat(boxes)], dim=1)
        sides = ((rows[:, 3] - rows[:, 1]) * (rows[:, 4] - rows[:, 2])).sqrt()
        levels = torch.log2(sides / FINEST + 1e-6).floor().clamp(0, len(self.strides) - 1)
        found = rows.new_zeros(len(rows), maps["0"].shape[1], self.side, self.side)
        for level, stride in enumerate(self.strides):
            own = torch.where(levels == level)[0]
            found[own] = roi_align(
                maps[str(level)], rows[own], self.side, 1 / stride, -1 if self.shifted else 2, aligned=self.shifted
            )
        return found


class CentreBesideClasses(FCOSHead):
    """FCOS' head in HRNet's detectors (`gn-head`): distances in pixels are exp(scale x), with a scale a level."""

    def __init__(self, channels: int, classes: int, strides: Sequence[int]) -> None:
        super().__init__(channels, 1, classes)
        self.strides = tuple(strides)
        self.scales = nn.Parameter(torch.ones(len(strides)))

    def level(self, x: Tensor, place: int) -> list[Tensor]:
        """Of one map: logits of classes (B, C, h, w), distances in strides (B, 4, h, w), centre-ness (B, 1, h, w)."""
        of_classes = self.classification_head.conv(x)
        moves = self.scales[place] * self.regression_head.bbox_reg(self.regression_head.conv(x))
        logits = self.classification_head.cls_logits(of_classes)
        return [logits, moves.exp() / self.strides[place], self.regression_head.bbox_ctrness(of_classes)]

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """As torchvision's: (B, places, C), (B, places, 4) and (B, places, 1)."""
        levels = [self.level(x, place) for place, x in enumerate(maps)]
        names = ("cls_logits", "bbox_regression", "bbox_ctrness")
        flat = [
            torch.cat([x.flatten(2) for x in of_all], dim=2).transpose(1, 2) for of_all in zip(*levels, strict=True)
        ]
        return dict(zip(names, flat, strict=True))


def surest(
    logits: list[Tensor], boxes: list[Tensor], centres: list[Tensor], size: tuple[int, int],
    *, threshold: float, nms: float, most: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """What FCOS found in one image, from logits (places, C), boxes (places, 4) and centre-ness (places, 1) of levels.

    Classes are chosen by their own probability and ranked by its product with centre-ness. Boxes (N, 4), scores (N,)
    and classes (N,) from 0 on, best first.
    """
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for of_level, where, centre in zip(logits, boxes, centres, strict=True):
        sure = of_level.sigmoid()
        places, classes = torch.where(sure > threshold)
        order = sure[places, classes].topk(min(CANDIDATES, len(places))).indices
        places, classes = places[order], classes[order]
        scores = sure[places, classes] * centre[places, 0].sigmoid()
        parts.append((clip_boxes_to_image(where[places], size), scores, classes))
    found, scores, classes = (torch.cat(of_all) for of_all in zip(*parts, strict=True))
    wide = (found[:, 2:] > found[:, :2]).all(dim=1)
    found, scores, classes = found[wide], scores[wide], classes[wide]
    kept = batched_nms(found, scores, classes, nms)[:most]
    return found[kept], scores[kept], classes[kept]


def pasted(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks within boxes (N, 1, h, w), as (N, H, W) of the image, read at the centres of its pixels."""
    height, width = size
    corner, far = boxes[:, :2], boxes[:, 2:]
    sides = (far - corner).clamp(min=1e-6)
    across = (torch.arange(width, device=boxes.device) + 0.5 - corner[:, :1]) / sides[:, :1] * 2 - 1
    down = (torch.arange(height, device=boxes.device) + 0.5 - corner[:, 1:]) / sides[:, 1:] * 2 - 1
    grid = torch.stack(
        [across[:, None].expand(-1, height, -1), down[:, :, None].expand(-1, -1, width)], dim=-1
    )  # (N, H, W, 2)
    return F.grid_sample(masks, grid, align_corners=False)[:, 0]
