"""Evaluations mirrored to MLflow: each is one finished run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ablate.tracking.experiment import Experiment, answering, local

EXPERIMENT = "evaluations"  # the usual one
ID = "ablate.evaluation"


class Shown(NamedTuple):
    """What MLflow is to show of an evaluation."""

    id: str
    name: str
    settings: Mapping[str, str]
    scores: Mapping[str, float]
    tags: Mapping[str, str]
    document: dict[str, Any]  # all of it


def show_evaluation(found: Shown, root: Path | None, *, uri: str | None = None, experiment: str | None = None) -> str:
    """Write an evaluation to the tracker at `uri`, or to the SQLite file in the results folder `root`.

    The run of an earlier evaluation of the same id is replaced. Returns how to look at it.

    Raises:
        ServiceError: the tracker cannot be reached, or refuses.
    """
    name = experiment or EXPERIMENT
    with answering(uri or str(root)):
        place = Experiment(str(uri), name) if uri or root is None else local(root, name)
        earlier = [run.id for run in place.runs(f"tags.`{ID}` = '{found.id}'")]
        run = place.create({ID: found.id, "mlflow.runName": found.name, **found.tags})
        place.log(run, [(score, value, 0, 0) for score, value in found.scores.items()], params=found.settings)
        place.document(run, "evaluation.json", found.document)
        place.close(run, "FINISHED")
        for old in earlier:
            place.drop(old)
        return place.link()
