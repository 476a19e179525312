"""A trained network on the evaluation split: predictions, per-image statistics, scores.

Statistics are per image and aggregated late, so that one bootstrap serves every metric.
"""

import math
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ablate import registry
from ablate.datasets import Array, Info, Samples
from ablate.errors import StoreError
from ablate.machine import beat, clock
from ablate.metrics import Document, build_metric
from ablate.study import Trial
from ablate.tasks import LeavesOut, Outputs, Prediction, SomeTask, WritesPredictions, build_protocol
from ablate.training.batches import Encoded, batches, placed
from ablate.training.fit import Diverged, Training
from ablate.training.site import Site


class Unscored(Exception):
    """No score is a number: the evaluation split has nothing that any of the task's metrics could count."""


@dataclass(frozen=True)
class Evaluation:
    """Scores by name, statistics by `metric/array`, and how fast and on what they were found."""

    scores: dict[str, float]
    statistics: dict[str, Array]
    images_per_second: float  # predicted
    seconds: float  # that predicting took
    predictions: list[Prediction]  # finished
    left_out: int  # samples, such as detected boxes, on images that the split does not have


def evaluate(
    training: Training,
    trial: Trial,
    task: SomeTask,
    info: Info,
    samples: Samples,
    site: Site,
    *,
    folder: Path | None = None,
) -> Evaluation | None:
    """Predict every sample by the recipe's protocol and score the predictions with the task's metrics.

    Several processes predict their shares of the batches; process 0 scores them all, the others get None.
    Predictions are also written to `folder` where one is given; it is there.

    Raises:
        StoreError: they cannot be.
        Diverged: an output of the network is not finite.
        Unscored: nothing could be scored.
    """
    protocol = build_protocol(trial.recipe.task, trial.recipe.evaluation)
    chosen = task.samples_for_evaluation(samples, protocol)
    size, team = task.evaluation_batch(trial.recipe.train.batch), training.team
    loader = batches(Encoded(chosen, task, info, seed=trial.seed), size, site, task, team=team)
    start, predictions, network = clock.now(), list[Prediction](), _Watched(training)
    training.evaluated.eval()
    with torch.inference_mode(), training.autocast():
        for batch in placed(loader, training.device):
            with network.blamed():
                predictions += task.predict(network, batch, protocol)
            beat()
    network.refuse()
    predictions = team.gather(predictions)
    seconds = clock.now() - start
    if not team.leads:
        return None
    finished = task.finish(predictions, protocol, info)
    if folder:
        _write(finished, task, samples, folder)
    left_out = chosen.left_out if isinstance(chosen, LeavesOut) else 0
    truth = task.ground_truth(samples)
    scores, statistics = score(trial.recipe.task.name, finished, truth, info, asked=trial.meanings)
    return Evaluation(scores, statistics, len(chosen) / seconds, seconds, finished, left_out)


def score(
    task: str, predictions: list[Prediction], ground_truth: Document, info: Info, *, asked: Container[str] | None = None
) -> tuple[dict[str, float], dict[str, Array]]:
    """All scores of the metrics of the task of that name, and the per-image statistics they come from.

    A metric that is computed only where a study asks for it has its role in `asked`; None asks for all. Some scores may
    be nan, such as the IoU of a class without pixels, or PCK where nobody has a torso.

    Raises:
        Unscored: all are.
    """
    scores: dict[str, float] = {}
    statistics: dict[str, Array] = {}
    for name in registry.describe("task", task).facts["metrics"]:
        only_asked = registry.describe("metric", name).facts.get("only_asked")
        if only_asked and asked is not None and f"metric {name}" not in asked:
            continue
        metric = build_metric(name)
        arrays = metric.per_image(predictions, ground_truth, info)
        scores |= metric.aggregate(arrays)
        statistics |= {f"{name}/{key}": value for key, value in arrays.items()}
    if not any(map(math.isfinite, scores.values())):
        raise Unscored(f"nothing could be scored: {', '.join(scores)} are no numbers on this evaluation split")
    return scores, statistics


def _write(predictions: list[Prediction], task: SomeTask, samples: Samples, folder: Path) -> None:
    assert isinstance(task, WritesPredictions)  # others have been refused
    try:
        task.write_predictions(predictions, samples, folder)
    except OSError as error:
        raise StoreError(f"{error.filename or folder}: {error.strerror}") from None


class _Watched:
    """The network as tasks predict with it, which notes whether an output is not finite: a network that normalises each
    batch by itself in training may overflow in evaluation, and labels of its maps would still be numbers.

    It notes on the device, which is asked once. Negative infinity may be meant: the score of what cannot be.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self.spoilt = torch.zeros((), dtype=torch.bool, device=training.device)

    def __call__(self, images: Tensor, *given: Tensor) -> Outputs:
        outputs: Outputs = self.training.evaluated(images.contiguous(memory_format=self.training.layout), *given)
        for output in [outputs] if isinstance(outputs, Tensor) else outputs:
            if isinstance(output, Tensor) and output.is_floating_point():  # a plug-in's may be something else
                self.spoilt = self.spoilt | ~(output < math.inf).all()
        return outputs

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Diverged instead of what the task raises for such outputs."""
        try:
            yield
        except Exception:
            self._refuse(int(self.spoilt))
            raise

    def refuse(self) -> None:
        """Raises Diverged in process 0 if an output was not finite in any process."""
        spoilt = self.spoilt.long().cpu().reshape(1)
        self.training.team.sum(spoilt)
        if self.training.team.leads:
            self._refuse(int(spoilt))

    def _refuse(self, spoilt: int) -> None:
        if spoilt:
            raise Diverged("outputs of the network are not finite in evaluation")
