"""What a score is made of: that of every class or joint, by arm, and which of them are at chance.

Read from the stored per-image statistics, by the task's metrics that know parts.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ablate.analysis.resample import unfit
from ablate.datasets import Info, build_dataset
from ablate.metrics import ByPart, Parts, build_metric
from ablate.registry import describe
from ablate.storage import Arrays
from ablate.study import Recipe

LEAST = 0.02  # what no network needs to have learned anything for
NOTHING = Parts("part", "", (), np.zeros(0), np.zeros(0), np.zeros(0))


@dataclass(frozen=True)
class Breakdown:
    """The scores of the classes or joints that the test images have, in one metric."""

    kind: str  # class or joint
    measure: str  # what the scores are
    names: tuple[str, ...]  # of P; none where no result holds what it takes
    absent: tuple[str, ...]  # others, that no test image has labelled
    share: tuple[float, ...]  # (P,), of all that is labelled
    trivial: tuple[float, ...]  # (P,), the score of whoever predicts the commonest everywhere
    scores: dict[str, tuple[float, ...]]  # arm's label -> (P,), the mean over seeds; nan where undefined
    seeds: dict[str, int]  # arm's label -> how many seeds that is over
    lacking: int  # finished trials whose results do not hold what it takes

    @property
    def kinds(self) -> str:
        """Several of its kind: classes, joints."""
        return self.kind + ("es" if self.kind.endswith("s") else "s")

    def at_chance(self, arm: str) -> list[str]:
        """Those whose score is below .02, or not above what predicting the commonest everywhere gives."""
        scored = zip(self.names, self.scores.get(arm, ()), self.trivial, strict=False)
        return [name for name, score, trivial in scored if score < LEAST or score <= trivial]


def breakdowns(
    recipe: Recipe, finished: Mapping[str, list[str]], statistics: Callable[[str], Arrays]
) -> list[Breakdown]:
    """One for each metric of the task that knows parts. `finished`: an arm's label -> its trials with a score.

    Raises:
        StoreError: a trial's statistics are damaged, or not what the metric reads.
    """
    names = describe("task", recipe.task.name).facts.get("metrics", ())
    made = [(str(name), metric) for name in names if isinstance(metric := build_metric(str(name)), ByPart)]
    if not made or not any(finished.values()):
        return []
    info = build_dataset(recipe.dataset).info
    return [_breakdown(name, metric, info, finished, statistics) for name, metric in made]


def _breakdown(
    name: str, metric: ByPart, info: Info, finished: Mapping[str, list[str]], statistics: Callable[[str], Arrays]
) -> Breakdown:
    found = {arm: list(_parts(name, metric, info, trials, statistics)) for arm, trials in finished.items()}
    first = next((parts for of_arm in found.values() for parts in of_arm), NOTHING)
    there = np.asarray(first.truth, dtype=float) > 0
    return Breakdown(
        kind=first.kind,
        measure=first.measure or name,
        names=_chosen(first.names, there),
        absent=_chosen(first.names, ~there),
        share=tuple((first.truth / max(first.truth.sum(), 1))[there].tolist()),
        trivial=tuple(first.trivial[there].tolist()),
        scores={arm: tuple(_mean(of_arm)[there].tolist()) for arm, of_arm in found.items() if of_arm},
        seeds={arm: len(of_arm) for arm, of_arm in found.items()},
        lacking=sum(map(len, finished.values())) - sum(map(len, found.values())),
    )


def _parts(
    name: str, metric: ByPart, info: Info, trials: list[str], statistics: Callable[[str], Arrays]
) -> Iterator[Parts]:
    for trial in trials:
        stored = statistics(trial).items()
        own = {key.partition("/")[2]: array for key, array in stored if key.startswith(f"{name}/")}
        if own:
            try:
                yield metric.parts(own, info)
            except Exception as error:  # whatever arrays that another metric left, or nobody, make of it
                raise unfit(trial, error) from None


def _mean(seeds: list[Parts]) -> np.ndarray:
    """(P,) over the seeds that have a score; nan where none has."""
    return np.array([_of_defined(column) for column in np.stack([parts.scores for parts in seeds]).T])


def _of_defined(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _chosen(names: tuple[str, ...], where: np.ndarray) -> tuple[str, ...]:
    return tuple(name for name, chosen in zip(names, where, strict=True) if chosen)
