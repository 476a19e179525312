"""What a run was predicted to take, kept from its start, and how far that was off once it ended.

results/plans/<study>.json   of each scale the last run: when it started and ended, and what was predicted of it
"""

import json
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from ablate.attempts import Listener
from ablate.durations import of_trials
from ablate.errors import StoreError
from ablate.plan import at_once
from ablate.result import Epoch, Result
from ablate.schedule import Cluster, Job, makespan
from ablate.store import Shelf, Store
from ablate.study import Study
from ablate.trial import FROZEN, Trial


class Run(BaseModel):
    """One run, as predicted at its start and as it went. Times without a unit in their name are UTC, ISO 8601."""

    model_config = FROZEN
    started: str
    basis: str  # what the prediction rests on
    predicted_seconds: dict[str, float]  # by trial id, in the order of launch; nan when nothing told
    at_once: int = Field(ge=1)  # trials, as assumed
    ended: str | None = None  # None while it runs, and for ever if its driver was killed
    seconds: float = math.nan  # from start to end
    busy_seconds: float = math.nan  # of these, from the first epoch's start to the last trial's end
    ran_at_once: int = Field(default=0, ge=0)  # trials, at most
    ran: int = Field(default=0, ge=0)  # trials that came to an end

    def makespan(self, trials_at_once: int) -> float:
        """Seconds predicted for its trials, so many at once; nan when nothing told."""
        known = all(math.isfinite(value) and value >= 0 for value in self.predicted_seconds.values())
        jobs = [Job(value) for value in self.predicted_seconds.values()] if known else []
        return makespan(jobs, Cluster(devices=trials_at_once)) if known else math.nan


class Watch:
    """Hears what the screen hears, and keeps the prediction of a run and what became of it."""

    def __init__(
        self, screen: Listener, study: Study, trials: list[Trial], shelf: Shelf, store: Store, *, alone: bool
    ) -> None:
        seconds, basis = of_trials(study, trials, shelf)
        self.screen, self.study, self.store = screen, study, store
        self.run = Run(started=_now(), basis=basis, predicted_seconds=seconds, at_once=1 if alone else at_once(study))
        self._start, self._first, self._last = time.monotonic(), math.nan, math.nan
        self._running: set[str] = set()
        self._ran: set[str] = set()
        self._most = 0
        _keep(store, study, self.run)

    def started(self, trial: Trial) -> None:
        self._running.add(trial.id)
        self._most = max(self._most, len(self._running))
        self.screen.started(trial)

    def epoch(self, trial: Trial, row: Epoch) -> None:
        if math.isnan(self._first):  # before it a cluster was reached and processes were started, once for all trials
            self._first = time.monotonic() - row.seconds
        self.screen.epoch(trial, row)

    def ended(self, trial: Trial, status: str) -> None:
        self._running.discard(trial.id)
        if status != "busy":
            self._ran.add(trial.id)
            self._last = time.monotonic()
        self.screen.ended(trial, status)

    def retried(self, trial: Trial, reason: str) -> None:
        self._running.discard(trial.id)
        self.screen.retried(trial, reason)

    def died(self, trial: Trial, reason: str) -> None:
        self._running.discard(trial.id)
        self.screen.died(trial, reason)

    def close(self) -> None:
        """The run ended, in whatever way."""
        became = {
            "ended": _now(),
            "seconds": time.monotonic() - self._start,
            "busy_seconds": self._last - self._first,
            "ran_at_once": self._most,
            "ran": len(self._ran),
        }
        with suppress(StoreError):  # whatever ended the run matters more
            _keep(self.store, self.study, self.run.model_copy(update=became))


def last_run(study: Study, store: Store) -> Run | None:
    """The last run of this study and scale; None where none is known, or its document is damaged."""
    return _read(store, study).get(study.scale)


def compared(run: Run, results: Mapping[str, Result]) -> list[str]:
    """How far a run's prediction was off, in sentences."""
    began = f"The last run began {run.started.replace('T', ' ')[:16]} UTC"
    planned, predicted = len(run.predicted_seconds), run.makespan(max(1, run.at_once))
    if run.ended is None:
        return [f"{began} and has not ended, or was killed; {_hours(predicted)} were predicted for its trials."]
    if run.ran < planned:
        lines = [f"{began} and stopped after {_hours(run.seconds)} with {run.ran} of {planned} trials."]
    else:
        lines = [
            f"{began}; its {planned} trials took {_hours(run.busy_seconds)}, {_against(run.busy_seconds, predicted)}."
        ]
        if run.ran_at_once != run.at_once and run.ran_at_once and math.isfinite(predicted):
            other = _against(run.busy_seconds, run.makespan(run.ran_at_once))
            lines.append(f"{run.at_once} at once were assumed, {run.ran_at_once} ran at once: for so many, {other}.")
    done = {name: results[name].seconds for name in run.predicted_seconds if _done(results.get(name))}
    if done and math.isfinite(predicted):
        own = math.fsum(done.values())
        told = _against(own, math.fsum(run.predicted_seconds[name] for name in done))
        lines.append(f"One after the other, {len(done)} of its trials took {_hours(own)}, {told}; by {run.basis}.")
    return lines


def _done(result: Result | None) -> bool:
    return result is not None and result.status == "done"


def _against(taken: float, predicted: float) -> str:
    if not predicted > 0:
        return "of which nothing was predicted"
    off = 100 * (predicted / taken - 1) if taken > 0 else math.inf
    return f"{_hours(predicted)} were predicted ({off:+.0f} %)"


def _hours(seconds: float) -> str:
    if math.isnan(seconds):
        return "nothing"
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"


def _keep(store: Store, study: Study, run: Run) -> None:
    if len(run.predicted_seconds) < 2:  # one trial is no schedule, and must not hide the run that it belongs to
        return
    runs = _read(store, study) | {study.scale: run}
    document = {scale: json.loads(kept.model_dump_json()) for scale, kept in runs.items()}
    store.place.write(_name(study), json.dumps(document, indent=1).encode())


def _read(store: Store, study: Study) -> dict[str, Run]:
    """The runs by scale; none where the document is missing or damaged: a prediction is not worth an error."""
    try:
        return TypeAdapter(dict[str, Run]).validate_json(store.place.read(_name(study)) or b"{}")
    except (StoreError, ValidationError):
        return {}


def _name(study: Study) -> str:
    return f"plans/{study.name}.json"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
