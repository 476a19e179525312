"""Semantic segmentation with the official recipe: one class per pixel, learned from crops, tested on whole images.

Everything follows HRNet/HRNet-Semantic-Segmentation (branches pytorch-v1.1 and, for OCR, HRNet-OCR; lib/datasets,
lib/core), the code of arXiv 1908.07919: random scale, crop and mirroring; cross entropy at the labels' resolution.
Images are scaled whole, as there: warping the crop alone took as long (4 ms of a 512x1024 crop) and rounds otherwise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import fsum
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from ablate.datasets import IGNORED, Classes, Info, LabelledImage, LabelledSamples, Samples, Split
from ablate.errors import PartError
from ablate.registry import protocol, task
from ablate.tasks import Batch, Outputs, normalised
from ablate.tasks._class_scores import class_scores, scaled_size, upsampled
from ablate.tasks._label_map_files import read_label_maps
from ablate.tasks._pixel_loss import cross_entropy, hard_cross_entropy, labelled_weight
from hrnet_core import OCRHead, SegmentationHead

cv2.setNumThreads(0)  # loader processes would fight over the cores
Found = dict[str, Any]  # a Prediction: `image_id`, and `labels` (H, W) uint8, places of classes


@protocol("segmentation", later=("pad",))
@dataclass(frozen=True)
class SegmentationProtocol:
    """How classes are read from whole images; by default at once, at their own size.

    Raises:
        PartError: no scale or one that is not positive, windows with gaps between them, or none to fill.
    """

    scales: tuple[float, ...] = (1.0,)  # relative sizes of the image; their scores are averaged
    flip: bool = False  # average with the logits of the mirrored image
    window: tuple[int, int] | None = None  # height and width of a sliding window; none: as large as the image at 1.0
    stride: tuple[int, int] | None = None  # between windows, down and across; none: the window's size, no overlap
    pad: bool = False  # fill windows beyond the image with black (official: PASCAL-Context); else the last move back

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise PartError(f"scales: positive numbers, not {list(self.scales)}")
        for knob, value in (("window", self.window), ("stride", self.stride)):
            if value and min(value) <= 0:
                raise PartError(f"{knob}: must be positive, not {list(value)}")
        if self.stride and not self.window:
            raise PartError("stride: there is no window that it could be of")
        if self.pad and not self.window:
            raise PartError("pad: there is no window that could be filled")
        if self.stride and self.window and (self.stride[0] > self.window[0] or self.stride[1] > self.window[1]):
            raise PartError(f"stride: {list(self.stride)} leaves gaps between windows of {list(self.window)}")

    @property
    def passes(self) -> float:
        return (2 if self.flip else 1) * fsum(scale**2 for scale in self.scales)


@task(
    "segmentation",
    meaning=1,
    metrics=("mean_iou", "dice", "hausdorff"),
    input="size",
    dataset="cityscapes",
    preset="segmentation",
    later=("resize", "ocr_channels"),
)
@dataclass(frozen=True)
class Segmentation:
    """Semantic segmentation: a crop in, logits of the classes out.

    Raises:
        PartError: a size, a scale, a step or a number of pixels that is not positive, or scales out of order.
    """

    size: tuple[int, int] = (512, 1024)  # height and width of the training crop, pixels
    resize: int | tuple[int, int] | None = None  # images at scale 1: longer side, or height and width; none: their own
    scale: tuple[float, float] = (0.5, 2.1)  # augmentation: relative size of the image, least and most (paper: 0.5, 2)
    scale_step: float = 0.1  # augmentation: between sizes, all of them equally likely
    flip: float = 0.5  # augmentation: how often the crop is mirrored
    head_: Literal["linear", "mixing", "ocr"] = "linear"  # classifier alone; HRNetV2's (PAMI III-C); object contexts
    ocr_channels: int = 512  # of OCR's pixels, twice those of its keys (512 beside W48; a narrow network wants fewer)
    class_weights: bool | tuple[float, ...] = True  # in the loss: as the data set publishes, none, or one a class
    ohem: bool = False  # learn from hard pixels only: those whose class is given less than a probability
    ohem_threshold: float = 0.9  # this probability
    ohem_min_kept: int = 524288  # a higher one where fewer of the batch are left (officially 131072 of 3 images)
    auxiliary_weight: float = 0.4  # of the losses of OCR's object regions and of intermediate maps; the main one: 1
    align_corners: bool = False  # of the bilinear upsampling of logits (official: True with OCR)

    def __post_init__(self) -> None:
        knobs = {"size": min(self.size), "scale": min(self.scale)}
        knobs |= {"scale_step": self.scale_step, "ohem_min_kept": self.ohem_min_kept}
        if self.resize is not None:
            knobs["resize"] = min(self.resize) if isinstance(self.resize, tuple) else self.resize
        for knob, value in knobs.items():
            if value <= 0:
                raise PartError(f"{knob}: must be positive, not {value}")
        if self.ocr_channels < 2:
            raise PartError(f"ocr_channels: must be two or more, not {self.ocr_channels}")
        if self.scale[0] > self.scale[1]:
            raise PartError(f"scale: the least comes first, not {self.scale[0]} before {self.scale[1]}")
        weights = self.class_weights if isinstance(self.class_weights, tuple) else ()
        if weights and (min(weights) < 0 or not any(weights)):
            raise PartError(f"class_weights: numbers of 0 or more, not all 0; not {list(weights)}")

    def head(
        self, info: Info, channels: Sequence[int], strides: Sequence[int], *, intermediate: Sequence[int] = ()
    ) -> nn.Module:
        """Maps -> logits (B, C, h, w), or a list of them whose last are the main ones (OCR; intermediate maps)."""
        classes = len(self._weights(info.need_classes()))
        widths = (
            {"mid_channels": self.ocr_channels, "key_channels": self.ocr_channels // 2} if self.head_ == "ocr" else {}
        )
        main = HEADS[self.head_](channels, classes=classes, **widths)
        between = [LinearHead(channels, classes=classes, place=place) for place in intermediate if place]
        return Supervised(between, main) if between else main

    def input_size(self, info: Info, *, training: bool) -> tuple[int, int]:
        if training or info.size is None:
            return self.size
        return self._shape or scaled_size(info.size, 1.0, longer=self._longer)

    def sample_counts(self, info: Info) -> dict[Split, int] | None:
        return info.images

    def samples(self, opened: LabelledSamples) -> "LabelledImages":
        return LabelledImages(opened, tuple(opened.image_ids()))

    def encode(self, sample: LabelledImage, info: Info, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """A crop where `rng` is given, else the whole image, its labels then of its own size.

        Returns `image` (3, H, W) uint8 RGB; `labels` (H, W) uint8, places of classes or IGNORED; `class_weights`
        (C,) float32; `image_id`; and `mirror` (C,), each class's counterpart, where mirroring swaps some.
        """
        image, labels, classes = sample["image"], sample["labels"], info.need_classes()
        if self._shape:
            image = cv2.resize(image, self._shape[::-1], interpolation=cv2.INTER_LINEAR)
        if rng is not None:
            image, labels = self._augmented(image, labels, classes, rng)
        encoded = {
            "image": np.ascontiguousarray(image.transpose(2, 0, 1)),  # (3, H, W)
            "labels": np.ascontiguousarray(labels),
            "class_weights": np.array(self._weights(classes), np.float32),
            "image_id": sample["image_id"],
        }
        return encoded | ({"mirror": np.array(classes.mirror)} if classes.flip_pairs else {})

    def collate(self, encoded: list[dict[str, Any]]) -> Batch:
        batch: Batch = default_collate(encoded)
        return batch

    def prepare(self, batch: Batch) -> Tensor:
        return normalised(batch["image"])

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Cross entropy of the main logits, with OHEM of hard pixels only, plus that of auxiliary logits, weighted.

        Processes that share a batch look for hard pixels each in its part, as officially, and keep their share of them.
        """
        labels, weights = batch["labels"].long(), batch["class_weights"][0]
        *auxiliary, main = (
            upsampled(logits.float(), labels.shape[1:], align_corners=self.align_corners)  # (B, C, H, W)
            for logits in _listed(outputs)
        )
        if self.ohem:
            kept = max(1, round(self.ohem_min_kept * float(batch.get("share", 1))))
            total = hard_cross_entropy(main, labels, weights, threshold=self.ohem_threshold, min_kept=kept)
        else:
            total = cross_entropy(main, labels, weights)
        for logits in auxiliary:
            total = total + self.auxiliary_weight * cross_entropy(logits, labels, weights)
        return total

    def loss_weight(self, batch: Batch) -> Tensor:
        return labelled_weight(batch["labels"].long(), batch["class_weights"][0])

    def samples_for_evaluation(self, samples: LabelledSamples, protocol: SegmentationProtocol) -> "LabelledImages":
        return self.samples(samples)

    def evaluation_batch(self, batch: int) -> int:
        return 1  # images may differ in size

    def ground_truth(self, samples: LabelledSamples) -> dict[str, Any]:
        """`images` with their ids, and `labels`: image id -> (H, W) uint8, read when asked for."""
        return {"images": [{"id": image_id} for image_id in samples.image_ids()], "labels": Labels(samples)}

    @torch.no_grad()
    def predict(self, model: Callable[[Tensor], Outputs], batch: Batch, protocol: SegmentationProtocol) -> list[Found]:
        """`image_id` and `labels` (H, W) uint8, places of classes, for each image."""
        scores = class_scores(
            lambda images: _listed(model(images))[-1],
            self.prepare(batch),
            protocol,
            align_corners=self.align_corners,
            size=batch["labels"].shape[1:] if self._shape else None,
            longer=self._longer,
            mirror=batch["mirror"][0] if "mirror" in batch else None,
        )
        labels = scores.argmax(dim=1).to(torch.uint8).cpu().numpy()  # (B, H, W)
        return [{"image_id": int(i), "labels": of_image} for i, of_image in zip(batch["image_id"], labels, strict=True)]

    def finish(self, predictions: list[Found], protocol: SegmentationProtocol, info: Info) -> list[Found]:
        return predictions

    def write_predictions(self, predictions: list[Found], samples: Samples, folder: Path) -> None:
        """One PNG per image with the data set's label ids, as the Cityscapes server takes them."""
        classes = samples.info.need_classes()
        ids = np.array(classes.label_ids or range(len(classes)), np.uint8)
        for prediction in predictions:
            _, png = cv2.imencode(".png", ids[prediction["labels"]])
            (folder / f"{samples.name(prediction['image_id'])}.png").write_bytes(png.tobytes())

    def read_predictions(self, place: Path, samples: LabelledSamples) -> tuple[list[Found], list[str]]:
        """From a folder of PNG maps, whoever wrote it."""
        return read_label_maps(place, samples)

    def _weights(self, classes: Classes) -> tuple[float, ...]:
        """The weight of each class in the loss."""
        if not isinstance(self.class_weights, tuple):
            return (classes.class_weights if self.class_weights else ()) or (1.0,) * len(classes)
        if len(self.class_weights) != len(classes):
            raise PartError(f"class_weights: {len(self.class_weights)} numbers for {len(classes)} classes")
        return self.class_weights

    @property
    def _shape(self) -> tuple[int, int] | None:
        """Height and width that every image is given first, whatever its shape."""
        return self.resize if isinstance(self.resize, tuple) else None

    @property
    def _longer(self) -> int | None:
        """The longer side of every image at scale 1."""
        return self.resize if isinstance(self.resize, int) else None

    def _augmented(
        self, image: np.ndarray, labels: np.ndarray, classes: Classes, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """A crop of the image at another size, or its mirror image, in which left parts are right ones."""
        if self._shape:
            labels = cv2.resize(labels, self._shape[::-1], interpolation=cv2.INTER_NEAREST)
        steps = int((self.scale[1] - self.scale[0]) / self.scale_step + 1e-6)
        scale = self.scale[0] + self.scale_step * int(rng.integers(steps + 1))
        scaled = scaled_size(labels.shape, scale, longer=self._longer)
        image = cv2.resize(image, scaled[::-1], interpolation=cv2.INTER_LINEAR)
        labels = cv2.resize(labels, scaled[::-1], interpolation=cv2.INTER_NEAREST)
        top, left = (int(rng.integers(max(0, s - c) + 1)) for s, c in zip(scaled, self.size, strict=True))
        image = padded_crop(image, corner=(top, left), size=self.size, beyond=0)
        labels = padded_crop(labels, corner=(top, left), size=self.size, beyond=IGNORED)
        if rng.random() >= self.flip:
            return image, labels
        counterpart = np.arange(256, dtype=np.uint8)
        counterpart[: len(classes)] = classes.mirror
        return image[:, ::-1], counterpart[labels[:, ::-1]]


@dataclass(frozen=True)
class LabelledImages:
    """The samples of an opened split: its images with their labels."""

    opened: LabelledSamples
    ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> LabelledImage:
        image, labels = self.opened.labelled_image(self.ids[index])
        return {"image": image, "labels": labels, "image_id": self.ids[index]}

    @property
    def image_of(self) -> tuple[int, ...]:
        """The image of each sample."""
        return self.ids


@dataclass(frozen=True)
class Labels:
    """The labels (H, W) of an opened split by image id."""

    opened: LabelledSamples

    def __getitem__(self, image_id: int) -> np.ndarray:
        return self.opened.labels(image_id)


class LinearHead(nn.Module):
    """Logits from one of the maps by a 1x1 convolution: (B, channels, h, w) -> (B, classes, h, w)."""

    def __init__(self, channels: Sequence[int], *, classes: int, place: int = 0) -> None:
        super().__init__()
        self.place = place
        self.classifier = nn.Conv2d(channels[place], classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        logits: Tensor = self.classifier(maps[self.place])
        return logits


class Supervised(nn.Module):
    """In training the logits of further heads before those of the main one; in evaluation the main ones alone."""

    def __init__(self, auxiliary: list[LinearHead], main: nn.Module) -> None:
        super().__init__()
        self.auxiliary, self.main = nn.ModuleList(auxiliary), main

    def forward(self, maps: list[Tensor]) -> Outputs:
        logits: Outputs = self.main(maps)
        return [*(head(maps) for head in self.auxiliary), *_listed(logits)] if self.training else logits


HEADS: dict[str, Callable[..., nn.Module]] = {"linear": LinearHead, "mixing": SegmentationHead, "ocr": OCRHead}


def padded_crop(pixels: np.ndarray, *, corner: tuple[int, int], size: tuple[int, int], beyond: int) -> np.ndarray:
    """The crop of `size` whose top left is `corner`, with `beyond` below and to the right of the picture's ends."""
    (top, left), (height, width) = corner, size
    part = pixels[top : top + height, left : left + width]
    missing = (0, height - part.shape[0], 0, width - part.shape[1])
    return np.asarray(cv2.copyMakeBorder(part, *missing, cv2.BORDER_CONSTANT, value=[beyond] * 3))


def _listed(outputs: Outputs) -> list[Tensor]:
    return outputs if isinstance(outputs, list) else [outputs]
