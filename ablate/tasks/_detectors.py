"""Detection heads on a pyramid, built on torchvision's region proposals, matcher, samplers, coders and RoIAlign.

A head takes maps, finest first, with the sizes of the images and, in training, what is annotated. It gives its losses
in training and its detections in evaluation. Coordinates need more digits than bf16 has, so all of it is computed in
float32. On the meta device, where cost is counted, a fixed number of proposals goes through the second stage.

Faster R-CNN: arXiv 1506.01497; Mask R-CNN: 1703.06870; Cascade R-CNN: 1712.00726; FCOS: 1904.01355, as torchvision has
it (centre sampling, GIoU, centre-ness on the regression branch). `conventions` takes parts of `_mmdetection` instead.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_inference, maskrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import clip_boxes_to_image

from ablate.errors import PartError
from ablate.tasks._mmdetection import Anchors, CentreBesideClasses, surest
from ablate.tasks._pyramid import (
    Detections,
    Draws,
    Pyramid,
    Rules,
    anchors_of,
    box_maps,
    has_weights,
    kaiming,
    normal,
    pyramid_rules,
    rare,
)

Stage = tuple[float, tuple[float, float, float, float], float]
CASCADE: tuple[Stage, ...] = (  # overlap with an instance, weights of its box's coder, weight in the loss
    (0.5, (10.0, 10.0, 5.0, 5.0), 1.0),
    (0.6, (20.0, 20.0, 10.0, 10.0), 0.5),
    (0.7, (30.0, 30.0, 15.0, 15.0), 0.25),
)
Sizes = list[tuple[int, int]]  # heights and widths of images, pixels
Target = dict[str, Tensor]  # of an image: `boxes` (N, 4) x0 y0 x1 y1, `labels` (N,) from 1 on, maybe `masks` (N, H, W)


class TwoStage(nn.Module):
    """Faster R-CNN, with masks Mask R-CNN; with several stages Cascade R-CNN, whose boxes know no class."""

    def __init__(self, pyramid: Pyramid, rules: Rules, *, cascade: bool) -> None:
        super().__init__()
        self.pyramid, self.rules = pyramid, rules
        self.stages_are = CASCADE if cascade else CASCADE[:1]
        width = pyramid.channels
        anchors = anchors_of(pyramid.strides, rules)
        self.rpn = RegionProposalNetwork(
            anchors, RPNHead(width, anchors.num_anchors_per_location()[0]), 0.7, 0.3, 256, 0.5,
            {"training": 2000, "testing": 1000}, {"training": 2000, "testing": rules.proposals}, 0.7,
        )  # fmt: skip
        pool = box_maps(7, pyramid.strides, rules)
        hidden = rules.box_width
        heads = [
            RoIHeads(
                pool, TwoMLPHead(width * 49, hidden), FastRCNNPredictor(hidden, rules.classes + 1), overlap, overlap,
                rules.sampled, 0.25, weights, rules.score_threshold, rules.nms, rules.most,
            )
            for overlap, weights, _ in self.stages_are
        ]  # fmt: skip
        if cascade:
            for head in heads:
                head.box_predictor.bbox_pred = nn.Linear(hidden, 4)
            self.cascade = nn.ModuleList(heads)
        else:
            self.roi_heads = heads[0]
        if rules.masks:  # of one stage in Mask R-CNN, of each in Cascade Mask R-CNN, as officially
            for head in heads:
                head.mask_roi_pool = box_maps(14, pyramid.strides, rules)
                head.mask_head = MaskRCNNHeads(width, (rules.mask_width,) * 4, 1)
                head.mask_predictor = MaskRCNNPredictor(rules.mask_width, rules.mask_width, rules.classes + 1)

    @property
    def heads(self) -> list[RoIHeads]:
        """The second stages, in their order."""
        return list(self.cascade) if len(self.stages_are) > 1 else [self.roi_heads]

    def own_rules(self) -> Draws:
        """How layers are drawn that have a rule of their own; see `build.initialise`."""
        rules: Draws = {layer: normal(0.01) for layer in self.rpn.head.modules() if isinstance(layer, nn.Conv2d)}
        for head in self.heads:
            rules |= {head.box_predictor.cls_score: normal(0.01), head.box_predictor.bbox_pred: normal(0.001)}
            masks = [head.mask_head, head.mask_predictor] if self.rules.masks else []
            rules |= {layer: kaiming for part in masks for layer in part.modules() if has_weights(layer)}
        return rules | pyramid_rules(self.pyramid)

    def losses(self, maps: Sequence[Tensor], images: ImageList, targets: list[Target]) -> dict[str, Tensor]:
        """Scalars by name, to be added up."""
        levels = self.pyramid(maps)
        proposals, first = self.rpn(images, levels, targets)
        losses: dict[str, Tensor] = {"proposals": first["loss_objectness"], "proposed boxes": first["loss_rpn_box_reg"]}
        for number, (head, (_, _, weight)) in enumerate(zip(self.heads, self.stages_are, strict=True), start=1):
            boxes, matched, labels, wanted = head.select_training_samples(proposals, targets)
            logits, moves = self._second(head, levels, boxes, images)
            found = {"class": F.cross_entropy(logits, torch.cat(labels)), "box": self._box_loss(moves, labels, wanted)}
            if self.rules.masks:
                found["mask"] = _mask_loss(head, levels, images.image_sizes, targets, (boxes, matched, labels))
            of_stage = f" {number}" if len(self.heads) > 1 else ""
            losses |= {f"{name}{of_stage}": weight * loss for name, loss in found.items()}
            if number < len(self.heads):
                proposals = _refined(head, moves, boxes, targets, images.image_sizes)
        return losses

    def detections(self, maps: Sequence[Tensor], images: ImageList) -> list[Detections]:
        """What is found in each image."""
        levels = self.pyramid(maps)
        boxes, _ = self.rpn(images, levels)
        scores = []
        for number, head in enumerate(self.heads, start=1):
            logits, moves = self._second(head, levels, boxes, images)
            scores.append(logits)
            if number < len(self.heads):
                boxes = _refined(head, moves, boxes, [], images.image_sizes)
        if len(self.heads) > 1:  # boxes of the last stage, scores of all
            logits, moves = self._together(scores), moves.repeat(1, self.rules.classes + 1)
        own, sure, labels = self.heads[-1].postprocess_detections(logits, moves, boxes, images.image_sizes)
        if not self.rules.masks:
            return [Detections(b, s, n, None) for b, s, n in zip(own, sure, labels, strict=True)]
        shapes = [
            maskrcnn_inference(_mask_logits(head, levels, own, images.image_sizes), labels) for head in self.heads
        ]
        masks = [torch.stack(of_image).mean(0) for of_image in zip(*shapes, strict=True)]
        return [Detections(b, s, n, m) for b, s, n, m in zip(own, sure, labels, masks, strict=True)]

    def counted(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The outputs of all layers, without any data: for `proposals` boxes an image, in training `sampled` ones."""
        levels = self.pyramid(maps)
        outputs = [x for part in self.rpn.head(list(levels.values())) for x in part]
        many = len(maps[0]) * (self.rules.sampled if self.training else self.rules.proposals)
        for head in self.heads:
            boxes = maps[0].new_zeros(many, self.pyramid.channels, 7, 7)
            outputs += head.box_predictor(head.box_head(boxes))
            if self.rules.masks:
                few = len(maps[0]) * (self.rules.sampled // 4 if self.training else self.rules.most)
                shapes = maps[0].new_zeros(few, self.pyramid.channels, 14, 14)
                outputs.append(head.mask_predictor(head.mask_head(shapes)))
        return outputs

    def _second(
        self, head: RoIHeads, levels: dict[str, Tensor], boxes: list[Tensor], images: ImageList
    ) -> tuple[Tensor, Tensor]:
        """Logits (R, C + 1) and moves of boxes (R, 4 (C + 1)), or (R, 4) where they know no class."""
        logits, moves = head.box_predictor(head.box_head(head.box_roi_pool(levels, boxes, images.image_sizes)))
        return logits, moves

    def _together(self, logits: list[Tensor]) -> Tensor:
        """One for all stages: of torchvision's kind their mean probability, mmdetection's code takes the mean logit."""
        if self.rules.conventions == "torchvision":
            return torch.stack([x.softmax(-1) for x in logits]).mean(0).log()
        return torch.stack(logits).mean(0)

    def _box_loss(self, moves: Tensor, labels: list[Tensor], wanted: list[Tensor]) -> Tensor:
        """Smooth L1 of the boxes that have an instance, over all that were sampled."""
        label = torch.cat(labels)
        own = torch.where(label > 0)[0]
        column = label[own] if moves.shape[1] > 4 else torch.zeros_like(own)
        found = moves.reshape(len(label), -1, 4)[own, column]
        return F.smooth_l1_loss(found, torch.cat(wanted)[own], beta=self.rules.box_beta, reduction="sum") / len(label)


class OneStage(nn.Module):
    """FCOS, torchvision's, on a pyramid of ours."""

    def __init__(self, pyramid: Pyramid, rules: Rules) -> None:
        super().__init__()
        self.pyramid, self.rules = pyramid, rules
        nothing = nn.Identity()
        nothing.out_channels = pyramid.channels  # type: ignore[assignment]  # torchvision asks for the number
        strides = pyramid.strides
        anchors = AnchorGenerator(tuple((stride,) for stride in strides), ((1.0,),) * len(strides))
        head = FCOSHead(pyramid.channels, 1, rules.classes)
        if rules.conventions != "torchvision":
            anchors = Anchors(strides, 1.0, (1.0,), offset=0.5)
            head = CentreBesideClasses(pyramid.channels, rules.classes, strides)
        self.fcos = FCOS(
            nothing, rules.classes, anchor_generator=anchors, head=head, score_thresh=rules.score_threshold,
            nms_thresh=rules.nms, detections_per_img=rules.most,
        )  # fmt: skip

    def own_rules(self) -> Draws:
        """How layers are drawn that have a rule of their own; see `build.initialise`."""
        rules: Draws = {layer: normal(0.01) for layer in self.fcos.head.modules() if isinstance(layer, nn.Conv2d)}
        return rules | {self.fcos.head.classification_head.cls_logits: rare} | pyramid_rules(self.pyramid)

    def losses(self, maps: Sequence[Tensor], images: ImageList, targets: list[Target]) -> dict[str, Tensor]:
        """Scalars by name, to be added up."""
        levels, outputs = self._outputs(maps)
        anchors = self.fcos.anchor_generator(images, levels)
        own = [target | {"labels": target["labels"] - 1} for target in targets]  # FCOS counts classes from 0
        found = self.fcos.compute_loss(own, outputs, anchors, [x.shape[-2] * x.shape[-1] for x in levels])
        return {"class": found["classification"], "box": found["bbox_regression"], "centre": found["bbox_ctrness"]}

    def detections(self, maps: Sequence[Tensor], images: ImageList) -> list[Detections]:
        """What is found in each image."""
        levels, outputs = self._outputs(maps)
        counts = [x.shape[-2] * x.shape[-1] for x in levels]
        split = {name: list(value.split(counts, dim=1)) for name, value in outputs.items()}
        anchors = [list(of_image.split(counts)) for of_image in self.fcos.anchor_generator(images, levels)]
        if self.rules.conventions != "torchvision":
            return [self._surest(split, place, anchors[place], size) for place, size in enumerate(images.image_sizes)]
        found = self.fcos.postprocess_detections(split, anchors, images.image_sizes)
        return [Detections(one["boxes"], one["scores"], one["labels"] + 1, None) for one in found]

    def counted(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The outputs of all layers, without any data."""
        return list(self._outputs(maps)[1].values())

    def plain(self, maps: Sequence[Tensor]) -> Tensor:
        """(B, C + 5, places): of every place, of all levels, finest first, the classes' logits, the distances to left,
        top, right and bottom in strides, and the logit of centre-ness."""
        levels = enumerate(self.pyramid(maps).values())
        return torch.cat([torch.cat(self._level(x, place), dim=1).flatten(2) for place, x in levels], dim=2)

    def _level(self, x: Tensor, place: int) -> list[Tensor]:
        head = self.fcos.head
        if isinstance(head, CentreBesideClasses):
            return head.level(x, place)
        classes, boxes = head.classification_head, head.regression_head
        moves = boxes.conv(x)
        return [classes.cls_logits(classes.conv(x)), boxes.bbox_reg(moves).relu(), boxes.bbox_ctrness(moves)]

    def _surest(
        self, split: dict[str, list[Tensor]], place: int, anchors: list[Tensor], size: tuple[int, int]
    ) -> Detections:
        logits, moves, centres = ([x[place] for x in of_all] for of_all in split.values())
        boxes = [self.fcos.box_coder.decode(*pair) for pair in zip(moves, anchors, strict=True)]
        rules = self.rules
        found, scores, classes = surest(
            logits, boxes, centres, size, threshold=rules.score_threshold, nms=rules.nms, most=rules.most
        )
        return Detections(found, scores, classes + 1, None)

    def _outputs(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
        levels = list(self.pyramid(maps).values())
        return levels, self.fcos.head(levels)


def loss_names(detector: str, *, masks: bool) -> list[str]:
    """The names of a head's losses, in the order in which `Detector` gives them."""
    if detector == "fcos":
        return ["class", "box", "centre"]
    own = ["class", "box", "mask"] if masks else ["class", "box"]
    stages = [f" {number}" for number in range(1, len(CASCADE) + 1)] if detector.startswith("cascade") else [""]
    return ["proposals", "proposed boxes", *(f"{name}{stage}" for stage in stages for name in own)]


class Detector(nn.Module):
    """A head as the network has it: tensors in, tensors out.

    forward(maps) on the meta device, and in training: all outputs, for counting and timing. In training forward(maps,
    sizes (B, 2), counts (B,), boxes (N, 4), labels (N,), masks (N, H, W) or none) gives the losses, in the order of
    `loss_names`. In evaluation forward(maps, sizes), the sizes being the whole where not given, gives boxes (N, 4),
    scores (N,), labels (N,), counts (B,), and masks (N, 1, 28, 28) of heads that have them.
    """

    def __init__(self, head: TwoStage | OneStage, *, stride: int, first: int = 0) -> None:
        super().__init__()
        self.head, self.stride, self.first = head, stride, first  # the finest map that is read, and its stride

    def own_rules(self) -> Draws:
        """See `build.initialise`."""
        return self.head.own_rules()

    def plain(self, maps: Sequence[Tensor]) -> Tensor:
        """See `PlainOutputs`."""
        if isinstance(self.head, TwoStage):
            raise PartError(
                "a detector of two stages is no graph: what the second looks at, the first finds; its weights can be "
                "written to a file that ends in .safetensors"
            )
        return self.head.plain(maps[self.first :])

    def forward(self, maps: Sequence[Tensor], *given: Tensor) -> list[Tensor]:
        maps = maps[self.first :]
        if maps[0].is_meta or (self.training and not given):
            return self.head.counted(maps)
        with torch.autocast(maps[0].device.type, enabled=False):
            full = [x.float() for x in maps]
            height, width = (side * self.stride for side in full[0].shape[-2:])
            whole = full[0].new_empty(len(full[0]), 1, height, width)  # its shape alone is asked for
            sizes = given[0].tolist() if given else [(height, width)] * len(whole)
            images = ImageList(whole, [(int(h), int(w)) for h, w in sizes])
            if self.training:
                return list(self.head.losses(full, images, _targets(*given[1:])).values())
            found = self.head.detections(full, images)
        counts = torch.tensor([len(one.scores) for one in found], device=full[0].device)
        parts = [
            torch.cat(of_all) for of_all in zip(*((one.boxes, one.scores, one.labels) for one in found), strict=True)
        ]
        shapes = [one.masks for one in found if one.masks is not None]
        return [*parts, counts, *([torch.cat(shapes)] if shapes else [])]


def _targets(counts: Tensor, boxes: Tensor, labels: Tensor, masks: Tensor | None = None) -> list[Target]:
    """The annotations of each image, from those of all."""
    lengths = counts.tolist()
    found = [{"boxes": b, "labels": n} for b, n in zip(boxes.split(lengths), labels.split(lengths), strict=True)]
    if masks is not None:
        found = [one | {"masks": m} for one, m in zip(found, masks.split(lengths), strict=True)]
    return found


def _refined(head: RoIHeads, moves: Tensor, boxes: list[Tensor], targets: list[Target], sizes: Sizes) -> list[Tensor]:
    """The boxes where a stage moves them, without those that were the truth itself: the next stage adds it again."""
    moved = head.box_coder.decode(moves.detach(), boxes).squeeze(1).split([len(of_image) for of_image in boxes])
    found = []
    for place, (after, before, size) in enumerate(zip(moved, boxes, sizes, strict=True)):
        kept = clip_boxes_to_image(after, size)
        if targets and len(targets[place]["boxes"]):
            is_truth = (before[:, None] == targets[place]["boxes"][None]).all(-1).any(-1)
            kept = kept[~is_truth]
        found.append(kept)
    return found


def _mask_loss(
    head: RoIHeads,
    levels: dict[str, Tensor],
    sizes: Sizes,
    targets: list[Target],
    sampled: tuple[list[Tensor], list[Tensor], list[Tensor]],
) -> Tensor:
    """Of the boxes, as sampled, that have an instance."""
    boxes, matched, labels = sampled
    own = [torch.where(of_image > 0)[0] for of_image in labels]
    boxes, matched = ([x[rows] for x, rows in zip(part, own, strict=True)] for part in (boxes, matched))
    logits = _mask_logits(head, levels, boxes, sizes)
    loss: Tensor = maskrcnn_loss(logits, boxes, [t["masks"] for t in targets], [t["labels"] for t in targets], matched)
    return loss


def _mask_logits(head: RoIHeads, levels: dict[str, Tensor], boxes: list[Tensor], sizes: Sizes) -> Tensor:
    logits: Tensor = head.mask_predictor(head.mask_head(head.mask_roi_pool(levels, boxes, sizes)))
    return logits
