"""From finished predictions to an evaluation: scores, their intervals over redrawn test images, and how they came."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import torch

from ablate.analysis import redrawn
from ablate.beside import Evaluated, Reported, Subject, evaluations
from ablate.datasets import Array
from ablate.errors import DataError
from ablate.evaluation.asked import Asked
from ablate.machine import origin
from ablate.tasks import Prediction
from ablate.training.evaluate import Unscored, score


@dataclass(frozen=True)
class Predicted:
    """Finished predictions for a whole split, and whose they are."""

    subject: Subject
    predictions: list[Prediction]
    samples: int  # predicted people or images
    seconds: float = 0.0  # that predicting took
    notes: Sequence[str] = ()
    reported: Sequence[Reported] = ()


def evaluated(asked: Asked, predicted: Predicted, *, label: str) -> tuple[Evaluated, dict[str, Array]]:
    """The evaluation, and its per-image statistics.

    Raises:
        DataError: nothing could be scored.
    """
    task = asked.task_part.name
    try:
        truth = asked.task.ground_truth(asked.samples)
        scores, statistics = score(task, predicted.predictions, truth, asked.info, asked=asked.meanings)
    except Unscored as error:
        raise DataError(f"{label}: {error}") from None
    ids = sorted(asked.samples.image_ids())
    statistics |= {f"{redrawn.IMAGES}/ids": np.array(ids, np.int64)}
    statistics |= {f"{redrawn.IMAGES}/names": np.array([asked.samples.name(i) for i in ids], dtype=str)}
    if groups := asked.groups():
        statistics |= {f"{redrawn.IMAGES}/groups": np.array(groups, dtype=str)}
    images = redrawn.TestImagesOf.of(label, statistics, asked.parts)
    protocol = {} if predicted.subject.kind == "predictions" else asked.evaluation
    parts = [part.model_dump(mode="json") for part in (asked.task_part, asked.dataset_part)]
    found = Evaluated(
        id=evaluations.identity(predicted.subject, *parts, protocol, asked.digest, asked.meanings),
        label=label,
        subject=predicted.subject,
        task=asked.task_part,
        dataset=asked.dataset_part,
        evaluation=protocol,
        meanings=asked.meanings,
        data_version=asked.info.version,
        data_digest=asked.digest,
        parts=asked.parts,
        scores=scores,
        intervals=redrawn.intervals(images.redrawn()),
        images=len(ids),
        groups=images.drawn if groups else 0,
        samples=predicted.samples,
        reported=list(predicted.reported),
        notes=list(predicted.notes),
        env=origin.provenance() | {"device": "cuda" if torch.cuda.is_initialized() else "cpu"},
        seconds=predicted.seconds,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return found, statistics
