"""Classification of images with the official recipe: one class for each image.

Everything follows HRNet/HRNet-Image-Classification@f760c988482c (tools/train.py, tools/valid.py), the code of arXiv
1908.07919's Tables XV and XVI, which is PyTorch's ImageNet example: a random part of the image, resized and mirrored,
in training; in evaluation the middle of the image, of which the shorter side was resized. Both resize as Pillow does.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import default_collate

from ablate.datasets import ClassifiedSamples, Info, Samples, Split
from ablate.errors import PartError
from ablate.registry import protocol, task
from ablate.tasks import Batch, Outputs, normalised
from ablate.tasks._classification_files import FILE, read_classifications
from hrnet_core import ClassificationHead

BEST = 5  # classes that are predicted for an image
TRIES = 10  # at a part of the image that fits into it
Found = dict[str, Any]  # a Prediction: `image_id`, `classes` and `probabilities` of the most probable, best first
Sample = dict[str, Any]  # a ClassifiedImage, in evaluation with `crop`


@protocol("classification")
@dataclass(frozen=True)
class ClassificationProtocol:
    """How images are evaluated; by default as the official test.

    Raises:
        PartError: a crop that is not a part of the image.
    """

    crop: float = 0.875  # what the network sees of the resized image's shorter side: 224 of 256 pixels
    flip: bool = False  # average with the probabilities of the mirrored image

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1:
            raise PartError(f"crop: above 0 and at most 1, not {self.crop}")

    @property
    def passes(self) -> float:
        return 2.0 if self.flip else 1.0


@task("classification", meaning=1, metrics=("accuracy",), input="size", dataset="image_folder", preset="classification")
@dataclass(frozen=True)
class Classification:
    """Classification of images: an image in, logits of the classes out.

    Raises:
        PartError: a size, an area or a ratio that is not positive, numbers out of order, or smoothing that leaves no
            truth.
    """

    size: tuple[int, int] = (224, 224)  # height and width of what the network sees, pixels
    scale: tuple[float, float] = (0.08, 1.0)  # augmentation: area of the part of an image, least and most; of 1
    ratio: tuple[float, float] = (0.75, 1.3333333333333333)  # augmentation: its width over height, least and most
    flip: float = 0.5  # augmentation: how often the image is mirrored
    smoothing: float = 0.0  # of the truth in the loss: what all classes share of it (Szegedy et al., CVPR 2016: 0.1)
    head_: Literal["linear", "normed", "join", "gather"] = "linear"  # see docs/classification.md; gather: HRNet-Wx-C's

    def __post_init__(self) -> None:
        for knob, value in {"size": min(self.size), "scale": self.scale[0], "ratio": self.ratio[0]}.items():
            if value <= 0:
                raise PartError(f"{knob}: must be positive, not {value}")
        if self.scale[0] > self.scale[1] or self.ratio[0] > self.ratio[1]:
            raise PartError("scale, ratio: the smaller number comes first")
        if self.scale[1] > 1:
            raise PartError(f"scale: no part of an image is larger than it, not {self.scale[1]}")
        if not 0 <= self.smoothing < 1:
            raise PartError(f"smoothing: from 0 to below 1, not {self.smoothing}")

    def head(
        self, info: Info, channels: Sequence[int], strides: Sequence[int], *, intermediate: Sequence[int] = ()
    ) -> nn.Module:
        """Maps -> logits (B, C). What is only there for supervision is not read.

        Raises:
            PartError: a head that gathers maps, and a backbone that gives one.
        """
        places = [place for place in range(len(channels)) if place not in intermediate]
        return HEADS[self.head_](places, channels, strides, len(info.need_image_classes()))

    def input_size(self, info: Info, *, training: bool) -> tuple[int, int]:
        return self.size

    def sample_counts(self, info: Info) -> dict[Split, int] | None:
        return info.classified

    def samples(self, opened: ClassifiedSamples) -> "ClassifiedImages":
        return ClassifiedImages(opened, tuple(opened.classified_ids()))

    def encode(self, sample: Sample, info: Info, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """A part of the image where `rng` is given, else its middle.

        Returns `image` (3, H, W) uint8 RGB; `label`, the place of its class; `image_id`.
        """
        image = sample["image"]
        if rng is None:
            image = middle(image, self.size, sample.get("crop", 0.875))
        else:
            top, left, height, width = some_part(image.shape[:2], self.scale, self.ratio, rng)
            image = resized(image[top : top + height, left : left + width], self.size)
            image = image[:, ::-1] if rng.random() < self.flip else image
        return {
            "image": np.ascontiguousarray(image.transpose(2, 0, 1)),  # (3, H, W)
            "label": sample["label"],
            "image_id": sample["image_id"],
        }

    def collate(self, encoded: list[dict[str, Any]]) -> Batch:
        batch: Batch = default_collate(encoded)
        return batch

    def prepare(self, batch: Batch) -> Tensor:
        return normalised(batch["image"])

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Cross entropy, mean over images."""
        assert isinstance(outputs, Tensor)
        return F.cross_entropy(outputs.float(), batch["label"], label_smoothing=self.smoothing)

    def samples_for_evaluation(
        self, samples: ClassifiedSamples, protocol: ClassificationProtocol
    ) -> "ClassifiedImages":
        return ClassifiedImages(samples, tuple(samples.classified_ids()), crop=protocol.crop)

    def evaluation_batch(self, batch: int) -> int:
        return batch

    def ground_truth(self, samples: ClassifiedSamples) -> dict[str, Any]:
        """`images`, those that have a class, with their ids, and `classes`: image id -> the place of its class."""
        ids = samples.classified_ids()
        return {"images": [{"id": i} for i in ids], "classes": {i: samples.image_class(i) for i in ids}}

    @torch.no_grad()
    def predict(
        self, model: Callable[[Tensor], Outputs], batch: Batch, protocol: ClassificationProtocol
    ) -> list[Found]:
        """Of each image `image_id`, and of its five most probable classes `classes`, places, and `probabilities`."""
        images = self.prepare(batch)
        probabilities = _probabilities(model(images))  # (B, C)
        if protocol.flip:
            probabilities = (probabilities + _probabilities(model(images.flip(3)))) / 2
        best, places = probabilities.topk(min(BEST, probabilities.shape[1]), dim=1)
        rows = zip(batch["image_id"].tolist(), places.tolist(), best.tolist(), strict=True)
        return [{"image_id": image, "classes": of, "probabilities": values} for image, of, values in rows]

    def finish(self, predictions: list[Found], protocol: ClassificationProtocol, info: Info) -> list[Found]:
        return predictions

    def write_predictions(self, predictions: list[Found], samples: Samples, folder: Path) -> None:
        """A list of {image_id, name, classes, probabilities} with the classes' names."""
        names = samples.info.need_image_classes()
        rows = [
            found | {"name": samples.name(found["image_id"]), "classes": [names[place] for place in found["classes"]]}
            for found in predictions
        ]
        (folder / FILE).write_text(json.dumps(rows), encoding="utf-8")

    def read_predictions(self, place: Path, samples: Samples) -> tuple[list[Found], list[str]]:
        """From such a file, whoever wrote it; without `image_id` an image is known by its `name`."""
        return read_classifications(place, samples)


def _probabilities(logits: Outputs) -> Tensor:
    assert isinstance(logits, Tensor)
    return logits.float().softmax(dim=1)


@dataclass(frozen=True)
class ClassifiedImages:
    """The samples of an opened split: its images that have a class, in evaluation with what is seen of them."""

    opened: ClassifiedSamples
    ids: tuple[int, ...]
    crop: float | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        image, label = self.opened.classified_image(self.ids[index])
        sample = {"image": image, "label": label, "image_id": self.ids[index]}
        return sample if self.crop is None else sample | {"crop": self.crop}

    @property
    def image_of(self) -> tuple[int, ...]:
        """The image of each sample."""
        return self.ids


def some_part(
    size: Sequence[int], scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a part of an image (height, width), drawn as torchvision's RandomResizedCrop does.

    Its area is uniform, its ratio uniform in the logarithm. Where ten draws do not fit it is the middle of the image,
    with the ratio that is nearest to the image's own.
    """
    height, width = size
    for _ in range(TRIES):
        area = height * width * rng.uniform(*scale)
        sides = exp(rng.uniform(log(ratio[0]), log(ratio[1])))
        high, wide = round(sqrt(area / sides)), round(sqrt(area * sides))
        if 0 < high <= height and 0 < wide <= width:
            return int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1)), high, wide
    high, wide = height, width
    if width / height < ratio[0]:
        high = round(width / ratio[0])
    elif width / height > ratio[1]:
        wide = round(height * ratio[1])
    return (height - high) // 2, (width - wide) // 2, high, wide


def middle(image: np.ndarray, size: tuple[int, int], crop: float) -> np.ndarray:
    """The middle (H, W, 3) of an image that was resized so that it fills a `crop` of one side, and less of the other.

    For a square it is torchvision's Resize of the shorter side and CenterCrop.
    """
    (height, width), (high, wide) = image.shape[:2], (int(side / crop) for side in size)
    if high * width >= wide * height:
        wide = int(high * width / height)
    else:
        high = int(wide * height / width)
    larger = resized(image, (high, wide))
    top, left = round((high - size[0]) / 2), round((wide - size[1]) / 2)
    return larger[top : top + size[0], left : left + size[1]]


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8, bilinear over all pixels that one of the outcome stands for (what Pillow calls bilinear)."""
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


class Pooled(nn.Module):
    """Logits, linear in the means of maps: of the coarsest one, as most networks have it, or of all, joined."""

    def __init__(self, places: Sequence[int], channels: Sequence[int], classes: int, *, normed: bool = False) -> None:
        super().__init__()
        self.places = tuple(places)
        width = sum(channels[place] for place in places)
        self.norm = nn.LayerNorm(width, eps=1e-6) if normed else nn.Identity()
        self.classifier = nn.Linear(width, classes)

    def forward(self, maps: list[Tensor]) -> Tensor:
        means = torch.cat([maps[place].mean(dim=(2, 3)) for place in self.places], dim=1)
        logits: Tensor = self.classifier(self.norm(means))
        return logits


def _gather(places: Sequence[int], channels: Sequence[int], strides: Sequence[int], classes: int) -> nn.Module:
    if len(places) < 2 or list(places) != list(range(len(channels))):
        raise PartError("head: gather takes the maps of several streams: output streams of hrnet")
    return ClassificationHead(channels, classes=classes, ratio=strides[1] // strides[0])


HEADS: dict[str, Callable[[list[int], Sequence[int], Sequence[int], int], nn.Module]] = {
    "linear": lambda places, channels, _, classes: Pooled(places[-1:], channels, classes),
    "normed": lambda places, channels, _, classes: Pooled(places[-1:], channels, classes, normed=True),
    "join": lambda places, channels, _, classes: Pooled(places, channels, classes),
    "gather": _gather,
}
