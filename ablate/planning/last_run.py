"""What a run was predicted to take, kept from its start, and how far that was off once it ended.

results/plans/<study>.json   of each scale the last run: when it started and ended, and what was predicted of it
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from ablate.errors import StoreError
from ablate.planning.schedule import Cluster, Job, makespan
from ablate.storage import Result, Store
from ablate.study import FROZEN, Study


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


def keep(store: Store, study: Study, run: Run) -> None:
    """Keep a run of its study's scale in place of the last one."""
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


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
