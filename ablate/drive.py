"""One `ablate run`, from checked study to stored results: what is missing is launched, mirrored and shown.

The driver decides nothing that results depend on. It may die at any moment: finished trials are stored, the others go
on from their saved state in the next run.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ablate import env, launch, match, registry, weights
from ablate.check import check_study, price_arms
from ablate.design import expand
from ablate.errors import AblateError, StoreError, StudyError, nearest
from ablate.launch import Listener
from ablate.result import Epoch, Result
from ablate.site import Site
from ablate.store import Store
from ablate.study import Study
from ablate.tracking import Tracker
from ablate.trial import Trial
from ablate.writer import Writer

LEAST_ROOM = 200 * 2**20  # bytes: a few training states of a middle-sized network


@dataclass(frozen=True)
class Where:
    """Everything about a run that is not the study: folders, cluster, tracker."""

    store: Store
    data: Path | None = None
    here: bool = False  # in this process, without Ray
    address: str | None = None
    tracker: str | None = None  # MLflow's URI; the results folder's SQLite when not given
    experiment: str | None = None
    predictions: Path | None = None  # where predictions are written, too; only for one trial here


@dataclass
class Outcome:
    """What one run came to."""

    planned: list[Trial]
    ran: dict[str, str] = field(default_factory=dict)  # trial id -> done, failed, diverged, busy
    interrupted: bool = False
    mirror_trouble: str = ""


class Driver:
    """Listens to the launch: tells the screen and the mirror, keeps count."""

    def __init__(self, store: Store, screen: Listener, writer: Writer, outcome: Outcome) -> None:
        self.store, self.screen, self.writer, self.outcome = store, screen, writer, outcome

    def started(self, trial: Trial) -> None:
        self.screen.started(trial)
        self.writer.started(trial)

    def epoch(self, trial: Trial, row: Epoch) -> None:
        self.screen.epoch(trial, row)
        self.writer.epoch(trial, row)

    def ended(self, trial: Trial, status: str) -> None:
        self.outcome.ran[trial.id] = status
        self.screen.ended(trial, status)
        self.writer.ended(trial)

    def died(self, trial: Trial, reason: str) -> None:
        """Its process is gone, so the driver writes what is known; a stored result stands."""
        if self.store.get(trial.id) is None:
            self.store.put(_dead(trial, reason), {})
            self.ended(trial, "failed")
        self.writer.ended(trial)


def drive(study: Study, trials: list[Trial], where: Where, screen: Listener) -> Outcome:
    """Run those of `trials` that have no result yet.

    Raises:
        AblateError: what can be known before any training, in one line; nothing is lost.
    """
    waiting = {trial.id for trial in where.store.missing(trials)}
    missing = [trial for trial in trials if trial.id in waiting]
    outcome, tracker = Outcome(missing), Tracker(where.store, study, where.tracker, where.experiment)
    if not missing:
        outcome.mirror_trouble = tracker.fill_if_behind()
        return outcome
    budget = study.budget
    site = Site(
        results=where.store.root.resolve(),
        data=where.data.resolve() if where.data else None,
        beside=Path(study.file).resolve().parent if study.file else None,
        gpu=budget.gpus > 0,
        threads=max(1, int(budget.cpus)),
        workers=budget.workers,
        checkpoint_minutes=budget.checkpoint_minutes,
        evaluate_every=budget.evaluate_every,
        predictions=where.predictions.resolve() if where.predictions else None,
        keep_weights=budget.keep_weights,
    )
    preflight(study, missing, where, site)
    tracker.refuse_unreachable()
    writer = tracker.follow(missing, [trial for trial in trials if trial.id not in waiting])
    driver, status = Driver(where.store, screen, writer, outcome), "FAILED"
    try:
        if where.here:
            launch.run_here(missing, site, driver)
        else:
            launch.run_on_ray(missing, site, budget, driver, plugins=study.plugins, address=where.address)
        status = "FINISHED"
    except KeyboardInterrupt:
        outcome.interrupted, status = True, "KILLED"
    finally:
        outcome.mirror_trouble = tracker.finish(writer, status)
    return outcome


def preflight(study: Study, trials: list[Trial], where: Where, site: Site) -> None:
    """All that can be known before the first epoch: networks, starting weights, data, room."""
    check_study(study)
    arms = {tuple(trial.arm.items()): trial for trial in trials}
    price_arms(list(arms.values()), file=study.file)
    for trial in arms.values():
        weights.check(trial.recipe, site)
    where.store.create()
    if shutil.disk_usage(where.store.root).free < LEAST_ROOM:
        raise StoreError(f"{where.store.root}: no room left on the disk (less than {LEAST_ROOM // 2**20} MiB free)")
    for part in {trial.recipe.dataset.model_dump_json(): trial.recipe.dataset for trial in trials}.values():
        data = registry.build("dataset", part.name, part.knobs)
        for split in ("train", "val"):
            data.open(split, where.data).verify()


def selected(study: Study, only: Iterable[str]) -> list[Trial]:
    """The study's trials, or those of the chosen arms and the control: `only` holds `factor=level` choices.

    Raises:
        StudyError: no such factor or level.
    """
    trials = expand(study)
    wanted: dict[str, set[str]] = {}
    for choice in only:
        name, _, level = choice.partition("=")
        if name not in study.factors:
            raise StudyError(f"--only {choice}: no factor {name!r}; {nearest(name, study.factors)}")
        if level not in study.factors[name].levels:
            raise StudyError(f"--only {choice}: no level {level!r}; {nearest(level, study.factors[name].levels)}")
        wanted.setdefault(name, set()).add(level)
    if not wanted:
        return trials
    control = {name: factor.control for name, factor in study.factors.items()}
    return [t for t in trials if t.arm == control or any(t.arm[name] in levels for name, levels in wanted.items())]


def imported(source: Path, store: Store) -> tuple[list[str], list[str]]:
    """Copy published results into the folder, and what was solved for their matched levels.

    Returns new ids and what was refused, one line each.

    Raises:
        AblateError: the source holds no results.
    """
    folder = source / "results" if (source / "results" / "trials").is_dir() else source
    shelf = Store(folder).read()
    if not shelf.results and not shelf.damaged:
        raise AblateError(f"{source}: holds no results (a folder with trials/<id>/result.json)")
    store.create()
    have, new = store.read().results, []
    for trial_id, result in shelf.results.items():
        if trial_id not in have:
            store.put(result, Store(folder).statistics(result.id))
            new.append(trial_id)
    clashes = match.take_in(folder, store.root)
    unlike = [
        f"{match.FILE}: {clashes} matched levels were solved otherwise here: imported results of theirs stand apart"
    ]
    return new, shelf.damaged + (unlike if clashes else [])


def _dead(trial: Trial, reason: str) -> Result:
    return Result(
        id=trial.id,
        recipe=trial.recipe,
        seed=trial.seed,
        data_version=trial.data_version,
        meanings=trial.meanings,
        status="failed",
        reason=reason,
        env=env.provenance(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
