"""The task shelf's contract, `Task`; what tasks with heatmaps share is in `_heatmaps`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from torch import Tensor, nn

from ablate import registry
from ablate.datasets import Info, Samples, Split
from ablate.registry import Chosen
from ablate.tasks._constants import constants
from ablate.tasks._heatmaps import crop_affine, dark, gaussians, grown_to_shape, oks_nms, read_heatmaps

__all__ = [
    "Batch",
    "Computes",
    "DrawsOwn",
    "Forward",
    "GivesHead",
    "Items",
    "LeavesOut",
    "NamedOutputs",
    "OfImages",
    "Outputs",
    "PlainOutputs",
    "Prediction",
    "ReadsPredictions",
    "Sample",
    "SomeTask",
    "Task",
    "WeighsBatches",
    "WritesPredictions",
    "build_protocol",
    "build_task",
    "constants",
    "crop_affine",
    "dark",
    "gaussians",
    "grown_to_shape",
    "normalised",
    "oks_nms",
    "passes",
    "read_heatmaps",
]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in 0..1

Batch = dict[str, Tensor]  # what `collate` makes; on the device where the network is
Outputs = Tensor | list[Tensor]  # of a task's head
Prediction = dict[str, object]  # one detected instance, in COCO's result format and a few fields of the task's own
Sample = dict[str, object]

S = TypeVar("S")  # a sample as the task's `samples` give it
S_co = TypeVar("S_co", covariant=True)
Opened_contra = TypeVar("Opened_contra", bound=Samples, contravariant=True)  # a split with what the task needs
Rules_contra = TypeVar("Rules_contra", contravariant=True)  # the task's protocol of evaluation


class Forward(Protocol):
    """A network in evaluation: images (B, 3, H, W), and what the head of the task takes besides, as it says."""

    def __call__(self, images: Tensor, /, *given: Tensor) -> Outputs: ...


class Items(Protocol[S_co]):
    """What has a length and is read by index: samples to train on, or to evaluate on."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> S_co: ...


class Task(Protocol[Opened_contra, S, Rules_contra]):
    """What a builder of this shelf makes: frozen, without state, cheap to send to loader processes.

    Further protocols name what a task, its samples and its protocol of evaluation may have besides. The decorator's
    facts say what is asked without importing the task: `metrics`, names of metrics; `input`, the knob that is height
    and width of what the network sees in training (`size` where none is named); `dataset` and `preset`, with which
    `ablate cost` prices a bare model for this task (it offers only tasks that have both); `predicts`, a word that tasks
    share whose predictions are scored alike, so that one study may compare them.
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

    def samples(self, opened: Opened_contra) -> Items[S]:
        """What to train on, from an opened split. Raises DataError."""

    def encode(self, sample: S, info: Info, rng: np.random.Generator | None) -> dict[str, object]:
        """One sample as the network sees it, arrays and numbers only; augmented where `rng` is given."""

    def collate(self, encoded: list[dict[str, object]]) -> Batch:
        """Encoded samples as one batch of tensors, on the CPU."""

    def prepare(self, batch: Batch) -> Tensor:
        """The batch's images for the network, (B, 3, H, W) float32, normalised, on the batch's device."""

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """A scalar in float32, whatever the precision of `outputs`.

        Where several processes share a batch, its `share`, a number up to 1, is how much of it this process has.
        """

    def samples_for_evaluation(self, samples: Opened_contra, protocol: Rules_contra) -> Items[S]:
        """What to evaluate on, from an opened split. Raises DataError."""

    def evaluation_batch(self, batch: int) -> int:
        """How many samples are predicted at once, where training takes `batch`."""

    def ground_truth(self, samples: Opened_contra) -> dict[str, object]:
        """What the task's metrics compare predictions with: `images`, a list of dicts with `id`, and more."""

    def predict(self, model: Forward, batch: Batch, protocol: Rules_contra) -> list[Prediction]:
        """The instances of a batch, in pixels of the original images. Runs without gradients.

        They hold numbers, texts, lists, dicts and arrays only, for they go from process to process.
        """

    def finish(self, predictions: list[Prediction], protocol: Rules_contra, info: Info) -> list[Prediction]:
        """What needs all predictions at once: scores that depend on several things, duplicates."""


SomeTask = Task[Samples, object, object]  # whose samples and protocol only it knows; others hand them on


@runtime_checkable
class WeighsBatches(Protocol):
    """Optional: a task whose loss is no mean over samples says what it is a mean over.

    The losses of a batch's parts, averaged by it, are the loss of the batch; so several processes train one network.
    """

    def loss_weight(self, batch: Batch) -> Tensor:
        """A scalar."""


@runtime_checkable
class LossParts(Protocol):
    """Optional: a task whose loss is a sum of losses, for the learning curve."""

    def loss_parts(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Scalars by name; their sum is the loss."""


@runtime_checkable
class GivesHead(Protocol):
    """Optional: a task whose head takes more than maps, as one that samples what it learns from.

    In training the network is called with the images and all of this. In evaluation the task calls it as it likes.
    """

    def given(self, batch: Batch) -> tuple[Tensor, ...]:
        """What follows the images, from a batch to train on."""


@runtime_checkable
class DrawsOwn(Protocol):
    """Optional: a head that has layers with a rule of their own for drawing their weights, whatever the recipe's is."""

    def own_rules(self) -> Mapping[nn.Module, Callable[[nn.Module], None]]:
        """Layer -> what draws its weights; all other layers of the head are drawn as torch does it."""


@runtime_checkable
class PlainOutputs(Protocol):
    """Optional: a head whose outputs depend on what it finds says what of it can be written as one graph."""

    def plain(self, maps: Sequence[Tensor]) -> Tensor:
        """A tensor whose shape follows from the image's alone. Raises PartError."""


@runtime_checkable
class NamedOutputs(Protocol):
    """Optional: a head whose outputs all count, in files of the whole network by these names."""

    output_names: tuple[str, ...]
    only_size: tuple[int, int] | None  # height and width of the images that it is made for; None: any


@runtime_checkable
class WritesPredictions(Protocol):
    """Optional: a task whose predictions have a format of files in its field (`ablate trial --predictions`)."""

    def write_predictions(self, predictions: list[Prediction], samples: Samples, folder: Path) -> None:
        """Finished predictions of an opened split as files. Raises OSError."""


@runtime_checkable
class ReadsPredictions(Protocol):
    """Optional: a task that reads files of predictions which other systems wrote (`ablate evaluate --predictions`)."""

    def read_predictions(self, place: Path, samples: Samples) -> tuple[list[Prediction], list[str]]:
        """Finished predictions for an opened split, from a file or a folder, and remarks on how it was read.

        Raises DataError.
        """


@runtime_checkable
class LeavesOut(Protocol):
    """Optional: samples for evaluation of which some are on images that the split does not have."""

    @property
    def left_out(self) -> int:
        """How many."""


@runtime_checkable
class OfImages(Protocol):
    """Optional: samples that say which images they are of; then a recipe may train on some of them (`train.images`)."""

    @property
    def image_of(self) -> Sequence[int]:
        """The id of the image of each sample, by the sample's index."""


@runtime_checkable
class Computes(Protocol):
    """Optional: a protocol of evaluation that computes more than one forward pass over the evaluated image."""

    @property
    def passes(self) -> float:
        """How many such passes, by area: 2 with the mirrored image, a fourth of one at half its size."""


def passes(protocol: object) -> float:
    """Forward passes that predicting a sample takes by a protocol of evaluation; 1 where it does not say."""
    return protocol.passes if isinstance(protocol, Computes) else 1.0


def build_task(part: Chosen) -> SomeTask:
    """The task that a recipe names, with the knobs it gives. Raises PartError."""
    made: SomeTask = registry.build("task", part.name, part.knobs)
    return made


def build_protocol(task: Chosen, knobs: Mapping[str, object]) -> object:
    """The task's protocol of evaluation, which only the task reads. Raises PartError."""
    made: object = registry.build("protocol", task.name, dict(knobs))
    return made


def normalised(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) of 0 to 255 as float32 with the mean and deviation of ImageNet's taken out."""
    mean, std = (255 * constants(of, images.device).view(3, 1, 1) for of in (IMAGENET_MEAN, IMAGENET_STD))
    return (images.float() - mean) / std
