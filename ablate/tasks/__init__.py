"""The task shelf's contract, `Task`, and what tasks with heatmaps share: crops, targets, maxima, duplicates.

Crops and heatmaps follow leoxiaobin/deep-high-resolution-net.pytorch@6f69e4676ad8 (lib/utils/transforms.py,
lib/dataset/JointsDataset.py, lib/core/inference.py, lib/nms/nms.py).
"""

from collections.abc import Sequence
from math import cos, radians, sin
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ablate.datasets import Info, Samples, Split

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in 0..1

Batch = dict[str, Tensor]  # what `collate` makes; on the device where the network is
Prediction = dict[str, Any]  # one detected instance, in COCO's result format and a few fields of the task's own
Sample = dict[str, Any]


class Task(Protocol):
    """What a builder of this shelf returns: frozen, without state, cheap to send to loader processes.

    A loss that is no mean over samples comes with `loss_weight(batch)`, a scalar tensor: what it is a mean over. The
    losses of a batch's parts, averaged by it, are the loss of the batch; so several processes train one network.
    """

    def head(
        self, info: Info, channels: Sequence[int], strides: Sequence[int], *, intermediate: Sequence[int] = ()
    ) -> nn.Module:
        """The last layers, from a backbone's maps, finest first, to what `loss` and `predict` take.

        `intermediate` are places of maps that get a head of their own in training, for supervision on the way.
        """

    def input_size(self, info: Info, *, training: bool) -> tuple[int, int]:
        """Height and width of what the network sees, in training or in evaluation (which costs are quoted for)."""

    def sample_counts(self, info: Info) -> dict[Split, int] | None:
        """Declared numbers of this task's samples; None where nobody has declared them."""

    def samples(self, opened: Samples) -> Any:
        """What to train on, with `len` and indexing, from an opened split. Raises DataError."""

    def encode(self, sample: Sample, info: Info, rng: np.random.Generator | None) -> dict[str, Any]:
        """One sample as the network sees it, arrays and numbers only; augmented where `rng` is given."""

    def collate(self, encoded: list[dict[str, Any]]) -> Batch:
        """Encoded samples as one batch of tensors, on the CPU."""

    def prepare(self, batch: Batch) -> Tensor:
        """The batch's images for the network, (B, 3, H, W) float32, normalised, on the batch's device."""

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """A scalar in float32, whatever the precision of `outputs`.

        Where several processes share a batch, its `share`, a number up to 1, is how much of it this process has.
        """

    def samples_for_evaluation(self, samples: Samples, protocol: Any) -> Any:
        """What to evaluate on, with `len` and indexing, from an opened split. Raises DataError.

        Its `left_out`, where it has one, counts samples on images that the split does not have.
        """

    def evaluation_batch(self, batch: int) -> int:
        """How many samples are predicted at once, where training takes `batch`."""

    def ground_truth(self, samples: Samples) -> dict[str, Any]:
        """What the task's metrics compare predictions with: `images`, a list of dicts with `id`, and more."""

    def predict(self, model: nn.Module, batch: Batch, protocol: Any) -> list[Prediction]:
        """The instances of a batch, in pixels of the original images. Runs without gradients.

        They hold numbers, texts, lists, dicts and arrays only, for they go from process to process.
        """

    def finish(self, predictions: list[Prediction], protocol: Any, info: Info) -> list[Prediction]:
        """What needs all predictions at once: scores that depend on several things, duplicates."""

    def write_predictions(self, predictions: list[Prediction], samples: Samples, folder: Path) -> None:
        """Finished predictions of an opened split as files in the field's format. Raises OSError."""


def normalised(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) of 0 to 255 as float32 with the mean and deviation of ImageNet's taken out."""
    mean, std = (255 * torch.tensor(of, device=images.device).view(3, 1, 1) for of in (IMAGENET_MEAN, IMAGENET_STD))
    return (images.float() - mean) / std


def grown_to_shape(extent: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Width and height (2,), the shorter side grown until they have the shape of `size` (height, width)."""
    width, height = extent
    shape = size[1] / size[0]
    return np.array([max(width, shape * height), max(height, width / shape)])


def crop_affine(centre: np.ndarray, extent: np.ndarray, *, size: tuple[int, int], angle: float) -> np.ndarray:
    """The (2, 3) map from image pixels to the pixels of a crop of `size` (height, width).

    `centre` goes to (width / 2, height / 2), `extent[0]` pixels become the crop's width, and what stood at
    `angle` degrees (clockwise as one sees it) stands upright.
    """
    factor, turn = size[1] / extent[0], radians(angle)
    linear = factor * np.array([[cos(turn), sin(turn)], [-sin(turn), cos(turn)]])
    return np.column_stack([linear, np.array([size[1], size[0]]) / 2 - linear @ centre])


def gaussians(centres: Tensor, labelled: Tensor, *, size: Sequence[int], sigma: float) -> tuple[Tensor, Tensor]:
    """Target heatmaps (B, K, h, w) and weights (B, K) of points.

    `centres` (B, K, 2), x and y in heatmap pixels, are rounded; a Gaussian has peak 1 and is cut to a square
    of 3 sigma to each side. A point whose square misses the map weighs 0. `labelled` (B, K) is 0 or 1.
    """
    height, width = size
    centre, reach = (centres.float() + 0.5).trunc(), 3 * sigma  # official: int(), which cuts towards zero
    limits = centres.new_tensor([width, height])
    inside = ((centre - reach < limits) & (centre + reach + 1 >= 0)).all(2)  # (B, K)
    profiles = []
    for axis, length in enumerate((width, height)):
        distance = torch.arange(length, device=centres.device) - centre[..., axis, None]  # (B, K, length)
        profiles.append(torch.exp(-(distance**2) / (2 * sigma**2)) * (distance.abs() <= reach))
    weights = labelled * inside
    targets = profiles[1][..., :, None] * profiles[0][..., None, :]  # (B, K, h, w)
    return targets * (weights > 0.5)[..., None, None], weights


def read_heatmaps(heatmaps: Tensor, *, refine: bool) -> tuple[Tensor, Tensor]:
    """Points (B, K, 2), x and y in heatmap pixels, and heights (B, K) from float32 heatmaps (B, K, h, w).

    The maximum; with `refine` a quarter pixel towards the higher neighbour, away from the border (officially
    where 1 < x < w - 1 and 1 < y < h - 1). A map without a positive value gives (0, 0).
    """
    height, width = heatmaps.shape[2:]
    flat = heatmaps.flatten(2)  # (B, K, h w)
    confidence, index = flat.max(dim=2)
    index = index * (confidence > 0)
    x, y = index % width, index // width
    points = torch.stack([x, y], dim=2).float()
    if refine:
        inner = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
        index = index * inner + (width + 1) * ~inner  # any place that has four neighbours; its shift is not used
        for axis, step in enumerate((1, width)):
            after, before = (flat.gather(2, (index + s)[..., None])[..., 0] for s in (step, -step))
            points[..., axis] += 0.25 * torch.sign(after - before) * inner
    return points, confidence


def oks_nms(people: list[Prediction], *, sigmas: np.ndarray, threshold: float) -> list[int]:
    """Greedy suppression within one image: which people stay, best score first.

    Two people's similarity is the object keypoint similarity over all joints with the mean of their areas.
    """
    points = np.array([person["keypoints"] for person in people]).reshape(len(people), -1, 3)[:, :, :2]
    areas = np.array([person["area"] for person in people])
    order = np.argsort([-person["score"] for person in people], kind="stable")
    kept: list[int] = []
    while len(order):
        best, others = order[0], order[1:]
        kept.append(int(best))
        squared = ((points[others] - points[best]) ** 2).sum(2)  # (N, K)
        area = (areas[others] + areas[best]) / 2 + np.spacing(1)
        similarity = np.exp(-squared / (2 * sigmas) ** 2 / area[:, None] / 2).mean(1)
        order = others[similarity <= threshold]
    return kept
