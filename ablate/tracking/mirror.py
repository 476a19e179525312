"""A study's results in MLflow: a parent run per `ablate run`, a child per trial; what is written when, and by whom.

A child is whole when it is FINISHED or FAILED, which is said last; its tag `ablate.shows` names the result that it
shows. While a trial trains, its child shows the epochs so far. What was cut short is not mended: it is dropped, and
written anew from the stored result. Each driver is a session, which marks its runs; what is not whole and belongs to
a session whose process lives is left to that.
"""

import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from uuid import uuid4

from ablate.errors import one_line
from ablate.machine import HEARTBEAT, origin, process
from ablate.storage import Epoch, Result, Store
from ablate.study import Design, Trial
from ablate.tracking import values
from ablate.tracking.experiment import Experiment, Run

PARENTS, CHILDREN, RUNNING = (
    "tags.`ablate.planned` LIKE '%'", "tags.`ablate.trial` LIKE '%'", "attributes.status = 'RUNNING'",
)  # fmt: skip


@dataclass
class Live:
    """The run of a trial that trains, and the epochs that it has."""

    run: str
    rows: list[Epoch] = field(default_factory=list)


class Mirror:
    """One study's runs, for one session. Every method may raise what the tracker raises, and be called again."""

    def __init__(
        self, experiment: Experiment, store: Store, design: Design, planned: int = 0, reused: Iterable[Trial] = ()
    ) -> None:
        self.experiment, self.store, self.design, self.session = experiment, store, design, uuid4().hex
        self.about = {"ablate.planned": str(planned), "ablate.reused": " ".join(trial.id for trial in reused)[:5000]}
        self.parent = ""  # made with the first child: no run stays empty
        self._live: dict[str, Live] = {}  # by trial; one that could not be written is forgotten, and begun anew
        self._beaten = time.monotonic()

    def fill(self) -> tuple[int, int, str]:
        """Show all results that are not shown yet.

        Returns how many of the study's trials are shown now, how many runs of dead drivers and double ones were closed
        or dropped, and why a trial could not be written.
        """
        lacking, shown, mended = self.survey()
        trouble = ""
        for trial, result in lacking:
            try:
                self.beat()
                shown += self.ended(trial, result)
            except Exception as error:
                self.resume()  # raises, if it was not this trial alone
                trouble = one_line(error)
        return shown, mended, trouble

    def survey(self) -> tuple[list[tuple[Trial, Result]], int, int]:
        """Close or drop what dead drivers left, and all runs but one of each result.

        Returns the results that MLflow lacks, how many it shows, and how many runs were closed or dropped.
        """
        dead, living = self._parents()
        left, mended = list(dead), 0
        shown: set[str] = set()
        busy: set[str] = set()  # a living driver is about to show it
        children = sorted(self.experiment.runs(CHILDREN), key=lambda run: (_trial(run), run.id))
        results = self.store.read().results  # read last: it holds whatever a child shows
        self._live = {name: live for name, live in self._live.items() if name not in results}
        for trial_id, group in groupby(children, key=_trial):
            runs = list(group)
            if result := results.get(trial_id):
                kept = self._tidy(runs, values.stamp(result), living)
                mended += len(runs) - len(kept)
                (shown if any(map(_shows, kept)) else busy).update({trial_id} if kept else ())
            else:  # what there is to see of it stays until it is trained again
                left += [run for run in runs if run.status == "RUNNING" and _session(run) not in living]
        for run in left:
            self.experiment.close(run.id, "KILLED")
        trials = {trial.id: trial for trial in self.design.trials}
        lacking = [(trials[name], results[name]) for name in trials if name in results.keys() - shown - busy]
        return lacking, len(shown & trials.keys()), mended + len(left)

    def resume(self) -> None:
        """After a failure: find the session's parent, which may have been made, or closed by who took us for dead."""
        self.parent = ""
        for run in list(self.experiment.runs(PARENTS, _of(self.session))):
            if self.parent:
                self.experiment.drop(run.id)  # made twice
            elif run.status != "RUNNING":
                self.experiment.reopen(run.id)
            self.parent = self.parent or run.id

    def beat(self) -> None:
        """A sign of life once a minute, for `ablate` on other machines."""
        if self.parent and time.monotonic() - self._beaten > HEARTBEAT:
            self.experiment.log(self.parent, tags=_heartbeat())
            self._beaten = time.monotonic()

    def epochs(self, trial: Trial, rows: Sequence[tuple[Epoch, int]]) -> None:
        """Show the learning curve of a trial that trains: all its rows so far, each with its time in ms since 1970."""
        live = self._live.pop(trial.id, None)
        if live is None:
            self._clear(trial)
            live = self._begin(trial)
        new = rows[len(live.rows) :]
        self.experiment.log(live.run, values.curve(new))
        live.rows += [row for row, _ in new]
        self._live[trial.id] = live

    def ended(self, trial: Trial, result: Result) -> bool:
        """Show a stored result; False where a living driver is about to."""
        stamp, times, end = values.stamp(result), values.times(result), values.end(result)
        live = self._live.pop(trial.id, None)
        if live is None or repr(live.rows) != repr(result.curve[: len(live.rows)]):  # epochs were trained twice
            if kept := self._clear(trial, stamp):
                return any(map(_shows, kept))
            live = self._begin(trial, values.begin(result))
        rest = list(zip(result.curve, times, strict=True))[len(live.rows) :]
        metrics = [(name, value, end, len(times)) for name, value in values.summary(result).items()]
        self.experiment.log(live.run, [*values.curve(rest), *metrics], tags=values.tags(result))
        self.experiment.document(live.run, "config.json", values.config(trial))
        self.experiment.document(live.run, "result.json", json.loads(result.model_dump_json()))
        self.experiment.close(live.run, "FINISHED" if result.status == "done" else "FAILED", end)
        self._clear(trial, stamp)  # what was there before, and what another driver wrote at the same time
        return True

    def close(self, status: str) -> None:
        """End the session: its parent with that status, trials without an end as KILLED."""
        for run in list(self.experiment.runs(CHILDREN, RUNNING, _of(self.session))):
            self.experiment.close(run.id, "KILLED")
        if self.parent:
            self.experiment.close(self.parent, status)

    def _parents(self) -> tuple[list[Run], set[str]]:
        """Runs of dead drivers that say RUNNING, and the sessions of others that live."""
        running = [run for run in self.experiment.runs(PARENTS, RUNNING) if _session(run) != self.session]
        living = {_session(run) for run in running if _lives(run)}
        return [run for run in running if _session(run) not in living], living

    def _clear(self, trial: Trial, stamp: str = "") -> list[Run]:
        """Drop the trial's runs but one that shows the result of that stamp and those of living drivers; what stays."""
        runs = sorted(self.experiment.runs(f"tags.`ablate.trial` = '{trial.id}'"), key=lambda run: run.id)
        others = {_session(run) for run in runs if not _shows(run)} - {self.session}
        return self._tidy(runs, stamp, self._parents()[1] if others else set())

    def _tidy(self, runs: list[Run], stamp: str, living: set[str]) -> list[Run]:
        """Of runs of one trial in the order of their ids, in which all drivers agree which one stays."""
        same = [run for run in runs if stamp and _shows(run) == stamp]
        kept = same[:1] + [run for run in runs if not _shows(run) and _session(run) in living]
        for run in runs:
            if run not in kept:
                self.experiment.drop(run.id)
        return kept

    def _begin(self, trial: Trial, start: int | None = None) -> Live:
        if not self.parent:
            study = self.design.study
            name = {"mlflow.runName": f"{study.name} {study.scale}".strip(), "ablate.scale": study.scale}
            self.parent = self._create(name | self.about | {"ablate.process": process.own()} | _heartbeat())
        live = Live(self._create(values.names(trial) | {"mlflow.parentRunId": self.parent}, start))
        self.experiment.log(live.run, params=values.params(trial))
        return live

    def _create(self, tags: dict[str, str], start: int | None = None) -> str:
        ours = {"ablate.study": self.design.study.name, "ablate.session": self.session, "mlflow.source.name": "ablate"}
        ours |= {"mlflow.user": os.environ.get("USER", "unknown")}
        ours |= {"mlflow.source.git.commit": origin.revision()["revision"]}
        return self.experiment.create(tags | ours, start)


def _trial(run: Run) -> str:
    return run.tags["ablate.trial"]


def _session(run: Run) -> str:
    return run.tags.get("ablate.session", "")


def _shows(run: Run) -> str:
    """The stamp of the result that a run shows whole; empty where it does not."""
    return run.tags.get("ablate.shows", "") if run.status in ("FINISHED", "FAILED") else ""


def _heartbeat() -> dict[str, str]:
    return {"ablate.alive": f"{time.time():.0f}"}


def _lives(parent: Run) -> bool:
    """Whether the driver of a parent run is alive."""
    beat = parent.tags.get("ablate.alive", "")
    silence = time.time() - int(beat) if beat.isdecimal() else process.STALE
    return process.lives(parent.tags.get("ablate.process", ""), silence)


def _of(session: str) -> str:
    return f"tags.`ablate.session` = '{session}'"
