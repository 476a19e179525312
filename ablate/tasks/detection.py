"""Detection and instance segmentation: an image in, boxes, classes and maybe masks out.

The recipe is that of HRNet/HRNet-Object-Detection (mmdetection), the code of arXiv 1908.07919: the image is resized so
that its shorter side has a length and its longer one no more than another, mirrored, and padded to a multiple of 32.
The heads are in `_detectors.py`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from pycocotools import mask as runs
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import paste_masks_in_image

from ablate.datasets import Info, InstanceSamples, InstancesOfImage, Samples, Split, as_runs
from ablate.errors import PartError
from ablate.registry import protocol, task
from ablate.tasks import Batch, Forward, Outputs, normalised
from ablate.tasks._coco_results import INSTANCES, read_instance_results
from ablate.tasks._detectors import Detector, OneStage, TwoStage, loss_names
from ablate.tasks._mmdetection import pasted
from ablate.tasks._pyramid import Pyramid, Rules

cv2.setNumThreads(0)  # loader processes would fight over the cores
Found = dict[str, Any]  # a Prediction: COCO's result of an instance
STRIDE = 32  # sides of what the network sees are multiples of it
MASKED = ("mask_rcnn", "cascade_mask_rcnn")
PIXELS = 2**22  # of masks that are pasted at once


@protocol("detection")
@dataclass(frozen=True)
class DetectionProtocol:
    """How detections are read from a network; by default as the official test."""

    mask_threshold: float = 0.5  # a pixel with a probability above it is part of the instance

    @property
    def passes(self) -> float:
        return 1.0


@task(
    "detection",
    meaning=1,
    metrics=("box_ap", "mask_ap"),
    input="size",
    dataset="coco_instances",
    preset="detection",
    later=("conventions",),
)
@dataclass(frozen=True)
class Detection:
    """Detection: an image in, boxes and classes out, with Mask R-CNN masks too.

    Raises:
        PartError: a size, a threshold or a number that is not positive.
    """

    detector: Literal["faster_rcnn", "mask_rcnn", "cascade_rcnn", "cascade_mask_rcnn", "fcos"] = "faster_rcnn"  # head
    size: tuple[int, int] = (800, 1333)  # the image's shorter side, and the most that its longer one may have; pixels
    scale: tuple[float, float] = (1.0, 1.0)  # augmentation: relative size of the image, least and most
    flip: float = 0.5  # augmentation: how often the image is mirrored
    width: int = 256  # channels of the pyramid that is built where the backbone gives none (FPN)
    anchor_scale: float = 8.0  # an anchor's side over its map's stride (papers' code: 8, as torchvision's 32 to 512)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # heights over widths of anchors
    box_beta: float = 1.0  # where the boxes' smooth L1 becomes linear (papers' code: 1; torchvision: 1/9)
    proposals: int = 1000  # boxes of an image that the second stage looks at in evaluation; cost is counted with them
    sampled: int = 512  # boxes of an image that the second stage learns from
    box_width: int = 1024  # of the second stage's two layers
    mask_width: int = 256  # of the mask head's five layers
    score_threshold: float = 0.05  # detections below it are dropped
    nms: float = 0.5  # of two boxes of a class that overlap more than this the lower-scored goes
    most: int = 100  # detections of an image
    conventions: Literal["torchvision", "mmdetection", "mmdetection1"] = "torchvision"  # of anchors, RoIAlign, FCOS

    def __post_init__(self) -> None:
        knobs = {"size": min(self.size), "scale": min(self.scale), "width": self.width, "proposals": self.proposals}
        knobs |= {"sampled": self.sampled, "box_width": self.box_width, "mask_width": self.mask_width}
        knobs |= {"anchor_scale": self.anchor_scale, "box_beta": self.box_beta, "nms": self.nms, "most": self.most}
        for knob, value in (knobs | {"anchor_ratios": min(self.anchor_ratios, default=0)}).items():
            if value <= 0:
                raise PartError(f"{knob}: must be positive, not {value}")
        if self.size[0] > self.size[1] or self.scale[0] > self.scale[1]:
            raise PartError("size, scale: the smaller number comes first")

    def head(
        self, info: Info, channels: Sequence[int], strides: Sequence[int], *, intermediate: Sequence[int] = ()
    ) -> nn.Module:
        """Maps, sizes and annotations -> losses, or detections; see `Detector`.

        Raises:
            PartError: the backbone gives one map, of which no pyramid can be made.
        """
        if len(channels) < 2:
            raise PartError("detection needs maps of several strides: output v2p of hrnet, pyramid of resnet")
        one_stage = self.detector == "fcos"
        alike = len(set(channels)) == 1
        first = int(one_stage and not alike and strides[0] < 8)  # as officially, an FPN for FCOS begins at stride 8
        channels, strides = channels[first:], strides[first:]
        pyramid = Pyramid(channels, strides, width=self.width, extra="conv" if one_stage else "pool")
        rules = Rules(
            len(info.need_things()), self.anchor_scale, self.anchor_ratios, self.box_beta, self.proposals,
            self.sampled, self.box_width, self.mask_width, self.score_threshold, self.nms, self.most,
            self.detector in MASKED, self.conventions,
        )  # fmt: skip
        if one_stage:
            return Detector(OneStage(pyramid, rules), stride=strides[0], first=first)
        return Detector(TwoStage(pyramid, rules, cascade=self.detector.startswith("cascade")), stride=strides[0])

    def input_size(self, info: Info, *, training: bool) -> tuple[int, int]:
        """Of a declared size of all images, else of one that is half as wide again as high (COCO: 800 x 1216)."""
        shorter, longer = self.size
        height, width = info.size or (shorter, min(longer, shorter * 3 // 2))
        factor = self._factor(height, width)
        return _padded(round(height * factor)), _padded(round(width * factor))

    def sample_counts(self, info: Info) -> dict[Split, int] | None:
        return info.images

    def samples(self, opened: InstanceSamples) -> "Images":
        """Images with an instance that can be learned from."""
        return Images(opened, tuple(i for i in opened.image_ids() if self._learned(opened.instances(i)).any()))

    def encode(self, sample: "Image", info: Info, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """The image resized, in training with its instances, which are those that can be learned from.

        Returns `image` (3, H, W) uint8 RGB, `size` (2,) its height and width, `original` (2,) those before, `image_id`,
        and where `rng` is given `boxes` (N, 4) float32 x0 y0 x1 y1, `labels` (N,) from 1 on, `masks` (N, H, W) uint8.
        """
        image = sample["image"]
        original = image.shape[:2]
        factor = self._factor(*original)
        if rng is not None:
            factor *= rng.uniform(*self.scale)
        size = tuple(max(1, round(side * factor)) for side in original)
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
        flipped = rng is not None and rng.random() < self.flip
        found = {
            "image": np.ascontiguousarray((image[:, ::-1] if flipped else image).transpose(2, 0, 1)),
            "size": np.array(size), "original": np.array(original), "image_id": sample["image_id"],
        }  # fmt: skip
        return found if rng is None else found | self._targets(sample["instances"], original, size, flipped=flipped)

    def collate(self, encoded: list[dict[str, Any]]) -> Batch:
        """Images and masks padded to one size; the instances of all images one after the other, `count` of each."""
        height, width = (_padded(max(int(one["size"][side]) for one in encoded)) for side in (0, 1))
        batch = {
            "image": torch.stack([_filled(one["image"], height, width) for one in encoded]),
            "size": torch.from_numpy(np.stack([one["size"] for one in encoded])),
            "original": torch.from_numpy(np.stack([one["original"] for one in encoded])),
            "image_id": torch.tensor([one["image_id"] for one in encoded]),
        }
        if "boxes" in encoded[0]:
            batch["count"] = torch.tensor([len(one["labels"]) for one in encoded])
            for key in ("boxes", "labels"):
                batch[key] = torch.from_numpy(np.concatenate([one[key] for one in encoded]))
        if "masks" in encoded[0]:
            batch["masks"] = torch.cat([_filled(one["masks"], height, width) for one in encoded])
        return batch

    def prepare(self, batch: Batch) -> Tensor:
        """Padding is 0 after normalisation, as officially."""
        images = normalised(batch["image"])
        for image, (height, width) in zip(images, batch["size"].tolist(), strict=True):
            image[:, height:], image[:, :, width:] = 0, 0
        return images

    def given(self, batch: Batch) -> tuple[Tensor, ...]:
        """See `GivesHead`."""
        masks = (batch["masks"],) if "masks" in batch else ()
        return batch["size"], batch["count"], batch["boxes"], batch["labels"], *masks

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """The sum of the head's losses."""
        return torch.stack(list(outputs)).sum()

    def loss_parts(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """The head's losses by name."""
        names = loss_names(self.detector, masks=self.detector in MASKED)
        return dict(zip(names, outputs, strict=True))

    def samples_for_evaluation(self, samples: InstanceSamples, protocol: DetectionProtocol) -> "Images":
        return Images(samples, tuple(samples.image_ids()))

    def evaluation_batch(self, batch: int) -> int:
        return 1  # images differ in size, and padding is seen at their borders

    def ground_truth(self, samples: InstanceSamples) -> dict[str, Any]:
        return dict(samples.instance_truth())

    @torch.no_grad()
    def predict(self, model: Forward, batch: Batch, protocol: DetectionProtocol) -> list[Found]:
        """`image_id`, `category_id` from 1 on, `bbox`, `score` and of detectors with masks `segmentation`."""
        boxes, scores, labels, counts, *masks = model(self.prepare(batch), batch["size"])
        found: list[Found] = []
        start = 0
        for place, count in enumerate(counts.tolist()):
            own = slice(start, start + count)
            original, size = batch["original"][place], batch["size"][place]
            scaled = boxes[own] * (original / size).flip(0).repeat(2)
            shapes = self._pasted(masks[0][own], scaled, original.tolist(), protocol.mask_threshold) if masks else None
            found += _results(int(batch["image_id"][place]), scaled, scores[own], labels[own], shapes)
            start += count
        return found

    def finish(self, predictions: list[Found], protocol: DetectionProtocol, info: Info) -> list[Found]:
        return predictions

    def write_predictions(self, predictions: list[Found], samples: Samples, folder: Path) -> None:
        """COCO's results, with the numbers that the set's files give its categories."""
        numbers = samples.category_numbers  # type: ignore[attr-defined]  # of the samples that this task is given
        own = [found | {"category_id": numbers[found["category_id"] - 1]} for found in predictions]
        (folder / INSTANCES).write_text(json.dumps(own), encoding="utf-8")

    def read_predictions(self, place: Path, samples: InstanceSamples) -> tuple[list[Found], list[str]]:
        """From a file of COCO's results, whoever wrote it."""
        return read_instance_results(place, samples)

    def _pasted(self, masks: Tensor, boxes: Tensor, size: list[int], threshold: float) -> list[Any]:
        """Masks within boxes (N, 1, 28, 28) as runs over an image of that size."""
        few = max(1, PIXELS // (size[0] * size[1]))
        of_torchvision, found = self.conventions == "torchvision", list[Any]()
        for own, of_box in zip(masks.float().split(few), boxes.split(few), strict=True):
            shape = (size[0], size[1])
            whole = paste_masks_in_image(own, of_box, shape)[:, 0] if of_torchvision else pasted(own, of_box, shape)
            found += [runs.encode(np.asfortranarray(mask)) for mask in (whole > threshold).byte().cpu().numpy()]
        return found

    def _factor(self, height: int, width: int) -> float:
        shorter, longer = self.size
        return min(shorter / min(height, width), longer / max(height, width))

    def _learned(self, instances: InstancesOfImage) -> np.ndarray:
        """(N,): boxes with an area, no crowds, and with masks where the detector has some."""
        wanted = (instances["boxes"][:, 2:].min(axis=1, initial=np.inf) > 0) & (instances["crowd"] == 0)
        if self.detector in MASKED:
            wanted &= np.array([mask is not None for mask in instances["masks"]], dtype=bool)
        return np.asarray(wanted)

    def _targets(
        self, instances: InstancesOfImage, original: tuple[int, ...], size: tuple[int, ...], *, flipped: bool
    ) -> dict[str, Any]:
        own = self._learned(instances)
        corners = instances["boxes"][own]
        corners = np.column_stack([corners[:, :2], corners[:, :2] + corners[:, 2:]])
        limits = np.tile(original[::-1], 2)
        corners = corners.clip(0, limits)
        if flipped:
            left, top, right, bottom = corners.T
            corners = np.column_stack([limits[0] - right, top, limits[0] - left, bottom])
        scaled = corners * np.tile(np.array(size[::-1]) / np.array(original[::-1]), 2)
        wide = (scaled[:, 2:] - scaled[:, :2]).min(axis=1, initial=np.inf) > 0
        found = {"boxes": scaled[wide].astype(np.float32), "labels": instances["places"][own][wide] + 1}
        if self.detector in MASKED:
            places = np.flatnonzero(own)[wide]
            found["masks"] = _drawn([instances["masks"][place] for place in places], original, size, flipped=flipped)
        return found


Image = dict[str, Any]  # a sample: `image` (H, W, 3) uint8 RGB, `image_id`, `instances`


@dataclass(frozen=True)
class Images:
    """The samples of an opened split: its images with their instances."""

    opened: InstanceSamples
    ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Image:
        image_id = self.ids[index]
        own = {"image_id": image_id, "instances": self.opened.instances(image_id)}
        return own | {"image": self.opened.image(image_id)}

    @property
    def image_of(self) -> tuple[int, ...]:
        """The image of each sample."""
        return self.ids


def _padded(side: int) -> int:
    return -(-side // STRIDE) * STRIDE


def _filled(pixels: np.ndarray, height: int, width: int) -> Tensor:
    """(..., h, w) -> (..., height, width), with 0 below and to the right."""
    return F.pad(torch.from_numpy(pixels), (0, width - pixels.shape[-1], 0, height - pixels.shape[-2]))


def _drawn(masks: list[Any], original: tuple[int, ...], size: tuple[int, ...], *, flipped: bool) -> np.ndarray:
    """(N, H, W) uint8 of the resized image, from N masks as COCO's files write them."""
    drawn = np.zeros((len(masks), *size), np.uint8)
    for place, mask in enumerate(masks):
        whole = runs.decode(as_runs(mask, *original))
        resized = cv2.resize(whole, size[::-1], interpolation=cv2.INTER_NEAREST)
        drawn[place] = resized[:, ::-1] if flipped else resized
    return drawn


def _results(image_id: int, boxes: Tensor, scores: Tensor, labels: Tensor, shapes: list[Any] | None) -> list[Found]:
    corners = boxes.double().cpu().numpy()
    sides = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    found = [
        {"image_id": image_id, "category_id": label, "bbox": box, "score": score}
        for box, score, label in zip(sides.tolist(), scores.tolist(), labels.tolist(), strict=True)
    ]
    if shapes is None:
        return found
    return [
        one | {"segmentation": {"size": list(shape["size"]), "counts": shape["counts"].decode()}}
        for one, shape in zip(found, shapes, strict=True)
    ]
