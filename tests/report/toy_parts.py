"""A model, a task, a data set and a metric that cost nothing: what a report needs to know of a study."""

from types import SimpleNamespace

import numpy as np

from ablate.datasets import Info
from ablate.metrics import Parts
from ablate.registry import dataset, metric, model, protocol, section, task


@model("toy_net", meaning=1)
def toy_net(*, fusions: str = "within", width: int = 8):
    """A network that is never built."""


@task("toy_task", meaning=1, metrics=("toy_score",))
def toy_task(*, size: tuple[int, int] = (64, 64), sigma: float = 1.5):
    """A task that is never trained."""


@task("toy_other_task", meaning=1, metrics=("toy_score",))
def toy_other_task():
    """Another one."""


@protocol("toy_task")
def toy_protocol(*, boxes: str = "ground_truth", flip: bool = True):
    """How it would be evaluated."""


@protocol("toy_other_task")
def toy_other_protocol(*, flip: bool = True):
    """How the other one would be."""


@dataset("toy_figures", meaning=1)
def toy_figures(*, images: int = 40):
    """A data set without files."""
    return SimpleNamespace(info=Info("toy figures", "toy-1", licence="none", source="none"))


def scores_for(value):
    """A score by every name; there are no large people, so APL is undefined."""
    others = {"AP50": value**0.5, "AP75": value**1.2, "APM": value, "APL": np.nan, "AR": 0.9 * value, "PCK": value**0.4}
    return {"AP": value, **others}


@metric("toy_score", meaning=1, scores=("AP", "AP50", "AP75", "APM", "APL", "AR", "PCK"))
def toy_score():
    """Means over images of what is stored for each."""

    def aggregate(statistics, weights=None):
        counts = np.ones(len(statistics["image_ids"])) if weights is None else weights
        value = float(counts @ statistics["value"] / counts.sum())
        return scores_for(value)

    def parts(statistics, info):
        value = float(statistics["value"].mean())
        return Parts("class", "toy score", ("near", "far", "none"), np.array([2 * value, 0.01, np.nan]),
                     np.array([30, 10, 0]), np.array([0.3, 0, 0]))  # fmt: skip

    return SimpleNamespace(aggregate=aggregate, parts=parts)


@section("toy_section", meaning=1, place=25)
def toy_section():
    """A section from elsewhere."""
    return lambda evidence: []
