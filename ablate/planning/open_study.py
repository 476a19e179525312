"""A study as commands see it: read from its file, one scale chosen, levels matched in cost, arms tuned."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ablate.storage import Result
    from ablate.study import Arm, Choice, Design, Study


def opened(
    file: Path | str, *, scale: str | None, results: str | None, data: Path | None = None, keep: bool = True
) -> "Design":
    """The design of the study in a file; see `designed`.

    Raises:
        StudyError, PartError: one line with the file, the key and the nearest valid choice.
    """
    from ablate.study import load

    return designed(load(file, scale=scale), results, data, keep=keep)


def designed(study: "Study", results: Path | str | None, data: Path | None = None, *, keep: bool = True) -> "Design":
    """The arms and trials of a study, the joints that only files name read, its matched levels solved, its arms tuned
    as far as their tries have ended.

    What is found is kept in the results folder, unless that is only read. Without `data` the data folder is the one of
    the environment variable ABLATE_DATA.

    Raises:
        StudyError, PartError: one line with the file, the key and the nearest valid choice.
    """
    from ablate.planning.match import solve
    from ablate.planning.skeleton import name_joints
    from ablate.study import Design

    root = data or (Path(named) if (named := os.environ.get("ABLATE_DATA")) else None)
    design = Design(solve(name_joints(study, results, root, keep=keep), results, keep=keep))
    return tuned(design, results) if design.tries else design


def tuned(design: "Design", results: Path | str | None) -> "Design":
    """The design with what the tries of `tune` chose: of each arm whose tries have all ended, the values with the best
    mean score on the held-out images; of equal ones the first. Where no try has a score it is the first. A try that
    failed has not ended: it says nothing of its values.

    Raises:
        StoreError: the results cannot be read, or tries on one data set were made from different files.
    """
    from ablate.storage import Store, kind_of, refuse_different_data
    from ablate.study import Design

    tries = design.tries
    if tries is None or results is None:
        return design
    everything = Store(results).read()
    shelf = everything.of(kind_of(tries.study, tries.trials, everything)).results
    found = {trial.id: shelf[trial.id] for trial in tries.trials if trial.id in shelf}
    ended = {trial: result for trial, result in found.items() if result.status in ("done", "diverged")}
    for name in tries.sets:
        there = [trial.id for arm in tries.on(name) for trial in arm.trials]
        refuse_different_data(ended[trial] for trial in there if trial in ended)
    choices = {}
    for arm in design.arms:
        own = [one for one in tries.arms if arm.levels.items() <= one.levels.items()]
        if all(trial.id in ended for one in own for trial in one.trials):
            choices[arm.label] = _choice(design, own, ended)
    return Design(design.study, choices=choices)


def _choice(design: "Design", tries: "list[Arm]", ended: "Mapping[str, Result]") -> "Choice":
    """Of the tries of one arm, which have all ended."""
    from ablate import registry
    from ablate.study import Choice

    tune, metric = design.study.tune, design.study.metrics[0]
    assert tune
    sign = -1 if registry.less_is_better(design.control.recipe.task.name, metric) else 1
    scores = {
        label: tuple(_score(ended[trial.id], metric) for trial in arm.trials)
        for label, arm in zip(tune.tries, tries, strict=True)
    }
    means = {label: sign * fmean(own) for label, own in scores.items()}
    best = max(means, key=lambda label: means[label] if math.isfinite(means[label]) else -math.inf)
    return Choice(tune.tries[best], best, scores)


def _score(result: "Result", metric: str) -> float:
    return result.scores.get(metric, math.nan) if result.status == "done" else math.nan
