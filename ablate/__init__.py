"""Ablation studies for vision backbones, from Python; the commands call these same functions.

    import ablate

    study = ablate.load_study("studies/fusion_count.yaml", scale="demo")
    print(ablate.plan(study, results="results"))
    ablate.run(study, results="results")
    evidence = ablate.evidence(study, results="results")
    evidence.to_frame()  # a row for each arm, seed and metric

Importing this package loads neither torch nor Ray: each function loads what it needs.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

# cityscapesscripts brings `typing` 3.7.4.3, a module of 2020 for Python 3.4. Where PYTHONPATH puts site-packages first
# it hides the standard one, and the next import fails for no visible reason.
_typing = PathFinder.find_spec("typing")
if _typing and os.path.dirname(_typing.origin or "") != os.path.dirname(os.__file__):  # noqa: PTH120
    sys.stderr.write(f"ablate: {_typing.origin} hides Python's own module: pip uninstall typing\n")
    raise SystemExit(2)

from typing import TYPE_CHECKING  # noqa: E402

if TYPE_CHECKING:
    from ablate.analysis import Evidence
    from ablate.planning.plan import Plan
    from ablate.running.outcome import Outcome
    from ablate.storage import Shelf
    from ablate.study import Study
    from ablate.training.reports import Listener

__all__ = ["evidence", "load_study", "plan", "results", "run"]


def load_study(path: Path | str, *, scale: str | None = None) -> Study:
    """The study in a YAML file, under one of its scales (its default one when none is named).

    Raises:
        StudyError, PartError: one line that names the file, the key and the nearest valid choice.
    """
    from ablate.study import load

    return load(path, scale=scale)


def plan(study: Study, *, results: Path | str = "results") -> Plan:
    """What a study would train, cost, and be able to show, beside what the results folder or URL holds of it.

    Raises:
        StudyError, PartError: what does not go together, in one line.
        StoreError: the results cannot be read.
    """
    from ablate.planning.open_study import designed
    from ablate.planning.plan import plan
    from ablate.storage import Store

    return plan(designed(study, results), Store(results))


def run(
    study: Study,
    *,
    results: Path | str = "results",
    data: Path | str | None = None,
    only: Iterable[str] = (),
    retry: bool = False,
    local: bool = False,
    address: str | None = None,
    minutes: float = math.inf,
    mlflow: str | None = None,
    experiment: str | None = None,
    listeners: Sequence[Listener] = (),
) -> Outcome:
    """Train what is missing of a study, and store and mirror it; silent unless there are listeners.

    Args:
        results: a folder or a URL, see `ablate run --help`.
        data: the folder that holds the data sets' folders.
        only: arms by their labels, or as `factor=level`; the control always runs.
        retry: run failed and diverged trials again.
        local: one trial after the other in this process, without Ray.
        address: of a running Ray cluster, `auto` or `HOST:PORT`.
        minutes: after which the run is stopped, as Ctrl-C would.
        mlflow: a tracking URI; a SQLite file beside the results when not given.
        experiment: MLflow's; the study's name when not given.
        listeners: hear of trials as they go; see `ablate.training.reports.Listener`.

    Raises:
        AblateError: what can be known before any training, in one line; nothing is lost.
    """
    from ablate.planning.open_study import designed
    from ablate.running.drive import Where, drive_study, selected, tries_of
    from ablate.storage import Store, kind_to_train

    folder = Path(data).expanduser() if data is not None else None
    store, design = Store(results), designed(study, results, folder)
    trials = selected(design, only)
    store = store.of(kind_to_train(study, trials, store.read()))
    if retry:
        store.forget_failed(tries_of(design, trials) + trials)
    where = Where(
        store, folder, here=local, address=address, tracker=mlflow, experiment=experiment, minutes=minutes
    )  # fmt: skip
    return drive_study(design, trials, where, listeners)


def results(where: Path | str = "results") -> Shelf:
    """All results that a folder or URL holds, by trial id, and what of it could not be trusted.

    Raises:
        StoreError: they cannot be read.
    """
    from ablate.storage import Store

    return Store(where).read()


def evidence(
    study: Study, *, results: Path | str = "results", images: bool = True, device: str | None = None
) -> Evidence:
    """What the results of a study show: scores, effects with their intervals, verdicts. Needs no torch.

    Without `images` the intervals over test images are left out, which takes most of the time. `device` is `cpu` or
    `cuda`, the kind of device that the results are of; that of most of them when not given.

    Raises:
        StudyError: arms are evaluated by different protocols.
        StoreError: the results cannot be read, or were made from different files.
    """
    from ablate.analysis import gather
    from ablate.planning.open_study import designed
    from ablate.storage import Store

    return gather(designed(study, results, keep=False), Store(results, device), images=images)
