"""The task shelf's contract, `Task`; what tasks with heatmaps share is in `_heatmaps`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ablate.datasets import Info, Samples, Split
from ablate.tasks._heatmaps import crop_affine, gaussians, grown_to_shape, oks_nms, read_heatmaps

__all__ = [
    "Batch",
    "Prediction",
    "Sample",
    "Task",
    "crop_affine",
    "gaussians",
    "grown_to_shape",
    "normalised",
    "oks_nms",
    "read_heatmaps",
]

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
