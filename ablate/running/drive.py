"""One `ablate run`, from checked study to stored results: what is missing is launched, mirrored and shown.

Nothing that the driver does changes a result. It may die at any moment: finished trials are stored, and the next run
continues the others from their saved states.
"""

import math
import os
import sys
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from ablate.analysis import gather
from ablate.datasets import Remarks, Samples
from ablate.errors import PartError, StudyError, printable
from ablate.machine import GRACE, Stop
from ablate.planning.arm_costs import counted
from ablate.planning.durations import launch_order
from ablate.planning.open_study import tuned
from ablate.running.here import run_here
from ablate.running.outcome import Outcome, reached
from ablate.running.ray.start import run_on_ray
from ablate.running.recorder import Watch
from ablate.storage import Store, kept_plans, kind_to_train, notes
from ablate.study import Design, Recipe, Trial, check_study
from ablate.tasks import WritesPredictions, build_task
from ablate.tracking import Tracker
from ablate.training import batches, weights
from ablate.training.reports import Listener
from ablate.training.site import Site

IMAGES = {"images": True, "held_out": True}  # knobs of training that say which images are read
SHOWN = 3  # remarks on a split of the data


@dataclass(frozen=True)
class Where:
    """Everything about a run that is not the study: folders, cluster, tracker."""

    store: Store
    data: Path | None = None
    here: bool = False  # in this process, without Ray
    address: str | None = None
    tracker: str | None = None  # MLflow's URI; SQLite beside the results when not given
    experiment: str | None = None
    predictions: Path | None = None  # where predictions are written, too; only for one trial here
    wait: bool = True  # for trials that another process is at
    minutes: float = math.inf  # after which the run is stopped
    grace: float = GRACE  # seconds that running epochs may still take once it is stopped


def drive_study(design: Design, trials: list[Trial], where: Where, listeners: Sequence[Listener] = ()) -> Outcome:
    """Run a study: as `drive` does, but of arms that are tuned the tries first, and a study with looks from look to
    look, where what is decided is trained no further.

    Raises:
        AblateError: what can be known before any training, in one line; nothing is lost.
    """
    if design.tries:
        return _drive_tuned(design, trials, where, listeners)
    return _drive_by_looks(design, trials, where, listeners)


def _drive_by_looks(design: Design, trials: list[Trial], where: Where, listeners: Sequence[Listener]) -> Outcome:
    if not design.study.looks:
        return drive(design, trials, where, listeners)
    whole, began, before = Outcome([]), time.monotonic(), list[Trial]()
    store = where.store.of(kind_to_train(design.study, trials, where.store.read()))
    while True:
        found = gather(design, store, images=False)
        due = [trial for trial in trials if (design.arm(trial).label, trial.seed) in found.missing]
        left = where.minutes - (time.monotonic() - began) / 60
        if due and left <= 0:
            whole.stopped, whole.status = f"after {where.minutes:g} minutes", 124
            return whole
        part = drive(design, due, replace(where, minutes=left), listeners)
        whole.add(part)
        unfinished = {"busy", "cancelled"} & set(part.ran.values())
        if part.stopped or unfinished or not due or due == before:
            return whole
        before = due
        for line in reached(gather(design, store, images=False), trials):
            for listener in listeners:
                listener.noticed(line)


def tries_of(design: Design, trials: Iterable[Trial]) -> list[Trial]:
    """The tries of the arms of these trials; none where nothing is tuned."""
    arms = {arm.label: arm.levels.items() for arm in map(design.arm, trials)}.values()
    tries = design.tries.trials if design.tries else []
    return [trial for trial in tries if any(levels <= trial.arm.items() for levels in arms)]


def _drive_tuned(design: Design, trials: list[Trial], where: Where, listeners: Sequence[Listener]) -> Outcome:
    """The tries of these arms, and then the trials with what they chose; those of an arm with a failed try wait."""
    began, named = time.monotonic(), replace(where, experiment=where.experiment or design.study.name)
    assert design.tries
    whole = drive(design.tries, tries_of(design, trials), named, listeners, of=design)
    if whole.stopped or {"busy", "cancelled"} & set(whole.ran.values()):
        return whole
    left = where.minutes - (time.monotonic() - began) / 60
    if left <= 0:
        whole.stopped, whole.status = f"after {where.minutes:g} minutes", 124
        return whole
    chosen = tuned(design, where.store.place.address)
    lost = {arm.label for arm in chosen.waiting}
    for listener, label in product(listeners, sorted(lost & {design.arm(trial).label for trial in trials})):
        listener.noticed(f"{label} waits, for a try of it has failed: --retry trains that again")
    ready = [(chosen.arm(trial), trial.seed) for trial in trials if chosen.arm(trial).label not in lost]
    own = [arm.trials[design.study.seeds.index(seed)] for arm, seed in ready]
    whole.add(_drive_by_looks(chosen, own, replace(where, minutes=left), listeners))
    return whole


def drive(
    design: Design, trials: list[Trial], where: Where, listeners: Sequence[Listener] = (), *, of: Design | None = None
) -> Outcome:
    """Run those of `trials` that have no result yet; listeners hear of them as they go.

    Before, the plan is kept, and that of the study whose tries they are (`of`).

    Raises:
        AblateError: what can be known before any training, in one line; nothing is lost.
    """
    study, shelf = design.study, where.store.read()
    if waiting := {arm.label for arm in design.waiting} & {design.arm(trial).label for trial in trials}:
        raise StudyError(f"tune: {min(waiting)} is not tuned yet; ablate run trains its tries first")
    kind = kind_to_train(study, trials, shelf)
    where = replace(where, store=where.store.of(kind))
    waiting = {trial.id for trial in where.store.missing(trials, shelf=shelf.of(kind))}
    missing = [trial for trial in trials if trial.id in waiting]
    outcome, tracker = Outcome(missing), Tracker(where.store, design, where.tracker, where.experiment)
    if not missing:
        outcome.mirror_trouble = tracker.refill()
        return outcome
    budget = study.budget
    site = Site(
        results=where.store.place.address,
        data=where.data.resolve() if where.data else None,
        beside=Path(study.file).resolve().parent if study.file else None,
        budget=budget,
        predictions=where.predictions.resolve() if where.predictions else None,
        owner=uuid.uuid4().hex,
    )
    for remark in preflight(design, missing, where, site):
        for listener in listeners:
            listener.noticed(remark)
    tracker.refuse_unreachable()
    for asked in (of, design):
        if asked:
            kept_plans.keep(where.store, asked, shelf.results)
    missing = launch_order(design, missing, shelf)
    watch = Watch(design, missing, shelf, where.store, alone=where.here)
    notes.clear(where.store, missing)  # they are asked for again, and what was said is over
    writer = tracker.follow(missing, [trial for trial in trials if trial.id not in waiting])
    hear, outcome.ran, status = (*listeners, watch, writer), watch.ran, "FAILED"
    stop = Stop(minutes=where.minutes, grace=where.grace)

    def lost(reason: str) -> None:
        try:
            sys.stderr.write(f"ablate: {printable(reason)}\n")
            sys.stderr.flush()
            writer.close("KILLED", hurry=True)
        finally:
            os._exit(2)

    try:
        with stop:
            if where.here:
                run_here(missing, site, hear, stop=stop, wait=where.wait)
            else:
                names = study.plugin_names
                run_on_ray(missing, site, budget, hear, stop=stop, lost=lost, plugins=names, address=where.address)
        status = "KILLED" if stop.asked else "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
    finally:
        watch.close()
        outcome.stopped, outcome.status = stop.asked, stop.status
        outcome.mirror_trouble = writer.close(status, hurry=bool(stop.asked))
    return outcome


def preflight(design: Design, trials: list[Trial], where: Where, site: Site) -> list[str]:
    """All that can be known before the first epoch: networks, starting weights, data, room.

    Returns remarks on the data, which may be meant and may be mistakes.
    """
    check_study(design)
    for arm in {arm.label: arm for arm in map(design.arm, trials)}.values():
        counted(arm.recipe, arm.levels, file=design.study.file)  # and plug-ins are tried
        weights.check(arm.recipe, site)
        if where.predictions and not isinstance(build_task(arm.recipe.task), WritesPredictions):
            raise PartError(f"--predictions: the task {arm.recipe.task.name!r} has no write_predictions")
    where.store.create()
    where.store.refuse_full()
    found: dict[str, None] = {}
    evaluated: dict[str, dict[str, str]] = {}  # data set -> digest of its evaluation split -> an arm that has it
    for trial in {_looked_at(trial.recipe): trial for trial in trials}.values():
        splits, digests = batches.opened(trial.recipe, where.data, seed=trial.seed)
        found |= {remark: None for samples in splits.values() for remark in _remarks(samples)}
        arm = design.arm(trial)
        evaluated.setdefault(arm.dataset, {}).setdefault(digests["val"], arm.label)
    for found_there in evaluated.values():
        if len(found_there) == 1:
            continue
        said = " and ".join(f"{label} on {digest}" for digest, label in list(found_there.items())[:2])
        raise StudyError(f"arms are evaluated on different files, {said}: these are not scores of one table")
    return list(found)


def _looked_at(recipe: Recipe) -> str:
    """What of a recipe says which data it reads."""
    return recipe.model_dump_json(include={"dataset": True, "task": True, "evaluation": True, "train": IMAGES})


def _remarks(samples: Samples) -> list[str]:
    """The first of a split's remarks, and how many there are."""
    found = samples.remarks() if isinstance(samples, Remarks) else []
    rest = [f"{samples.folder}: {len(found) - SHOWN} more remarks, see ablate data check"] if len(found) > SHOWN else []
    return found[:SHOWN] + rest


def selected(design: Design, only: Iterable[str], *, flag: str = "--only") -> list[Trial]:
    """The design's trials, or those of the chosen arms and the control; see `Design.chosen`.

    Raises:
        StudyError: no such factor or level.
    """
    if not (choices := list(only)):
        return design.trials
    chosen = design.chosen(choices, flag=flag)
    wanted = {arm.label for arm in (*map(design.control_of, chosen), *chosen)}
    return [trial for trial in design.trials if design.arm(trial).label in wanted]
