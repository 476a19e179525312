"""A study's results in MLflow: a parent run per `ablate run`, a child per trial; what is written when, and by whom.

Written by drivers alone and never read back for numbers. Whatever was cut short is mended: runs are found by their
tags, epochs by the last one that a run has, and a curve is compared before its run counts as whole. Each `ablate run`
is a session, which marks the runs that it has in hand; those of a session whose process is dead are anyone's.
"""

import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ablate.errors import StoreError
from ablate.machine import files, origin, process
from ablate.storage import Epoch, Result, Store
from ablate.study import Study, Trial
from ablate.tracking import values
from ablate.tracking.experiment import RUNNING, Child, Experiment, Row, make_file

BATCH = 900  # metrics in one request; MLflow takes 1000
PARENTS = "tags.`ablate.planned` LIKE '%'"


def local_uri(results: Path) -> str:
    """The default tracker: a SQLite file under the results folder."""
    return f"sqlite:///{(results / 'mlflow.db').resolve()}"


class Mirror:
    """One study's runs, for one session. Every method may raise what the tracker raises, and be called again."""

    def __init__(
        self, store: Store, study: Study, *, uri: str | None = None, experiment: str | None = None, session: str = ""
    ) -> None:
        self.store, self.study, self.session = store, study, session
        place = None if uri else (store.root / "mlflow").resolve()
        for own in () if uri else ("mlflow", "mlflow.db"):
            files.refuse_outside(store.root / own, store.root)
        if not uri:
            make_file(store.root / "mlflow.db")
        self.experiment = Experiment(uri or local_uri(store.root), experiment or study.name, place)
        self.parent = ""
        self.children: dict[str, Child] = {}  # those that were looked up
        self.twice: list[Child] = []  # further runs of one trial: a request that seemed lost may have come late

    def survey(self) -> None:
        """Look up all children at once, which MLflow takes some ms for each."""
        for child in self.experiment.children():
            if child.trial in self.children:
                self.twice.append(self.children[child.trial])
            self.children[child.trial] = child

    def open(self, planned: list[Trial], reused: list[Trial]) -> None:
        """Begin the session's parent run, or find it again; done trials are linked by a tag, not copied."""
        for run in self.experiment.search(PARENTS, _of(self.session)):
            self.parent = run.info.run_id
            if run.info.status != "RUNNING":  # another took us for dead
                self.experiment.reopen(self.parent)
            return
        tags = {
            "mlflow.runName": f"{self.study.name} {self.study.scale}".strip(),
            "ablate.scale": self.study.scale,
            "ablate.planned": str(len(planned)),
            "ablate.reused": " ".join(trial.id for trial in reused)[:5000],
            "ablate.process": process.own(),
        }
        self.parent = self._create(tags | _heartbeat())

    def beat(self) -> None:
        """A sign of life, for `ablate` on other machines."""
        self.experiment.log(self.parent, tags=_heartbeat())

    def started(self, trial: Trial) -> None:
        """Open the trial's run, or take up the one it has; one that shows a result waits for epochs of another try."""
        child = self._find(trial)
        if child is None:
            self._begin(trial)
        elif not child.holds[0] and not self._in_other_hands(child):
            self._take(child)

    def epochs(self, trial: Trial, rows: Iterable[tuple[Epoch, int]]) -> None:
        """Log the rows of the learning curve that the run does not have yet, each with its time in ms since 1970.

        Only the driver that trains a trial has rows of it, so whatever the run says, it is ours.
        """
        child = self.children.get(trial.id) or self._find(trial)
        if child is None or child.holds[0]:
            child = self._begin(trial, instead_of=child)
        elif child.session != self.session or child.status != "RUNNING":
            self._take(child)
        self._log_rows(child, rows)

    def busy(self, trial: Trial) -> None:
        """Another driver has the trial: leave no empty run of ours behind."""
        child = self._find(trial)
        if child and child.session == self.session and not child.epoch:
            self.experiment.drop(child.run)
            del self.children[trial.id]

    def is_done(self, trial: Trial) -> bool:
        """Whether the tracker is known to have a result of the trial, whole, that needs no other try."""
        return trial.id in self.children and self.children[trial.id].holds[0] == "done"

    def shows(self, trial: Trial, result: Result) -> bool:
        """Whether the tracker is known to have that result, whole. Two of one trial that are done say the same."""
        if result.status == "done":
            return self.is_done(trial)
        return trial.id in self.children and self.children[trial.id].holds == _stamp(result)

    def ended(self, trial: Trial, result: Result) -> None:
        """Log what the result holds and close its run with the status that it deserves."""
        child = self.children.get(trial.id) or self._find(trial)
        if self.shows(trial, result) or (child and self._in_other_hands(child)):
            return  # or the driver that has it will write it
        begin, end, times = values.begin(result), values.end(result), values.times(result)
        if child is None or child.holds[0]:  # what it shows is an earlier try
            child = self._begin(trial, instead_of=child, start=begin)
        self._log_rows(child, zip(result.curve, times, strict=True))
        if not self._fits(child, result):
            child = self._begin(trial, instead_of=child, start=begin)
            self._log_rows(child, zip(result.curve, times, strict=True))
        metrics = [(name, value, end, len(times)) for name, value in values.summary(result).items()]
        self.experiment.log(child.run, metrics, params=values.params(trial), tags=values.tags(result))
        child.status = _deserved(result)
        self.experiment.close(child.run, child.status, end)
        self.experiment.document(child.run, "config.json", values.config(trial))
        self.experiment.document(child.run, "result.json", json.loads(result.model_dump_json()))
        child.holds = _stamp(result)  # last, when all else is there
        self.experiment.log(child.run, tags={"ablate.status": result.status, "ablate.finished": result.finished})

    def reconcile(self, *, ending: bool = False) -> int:
        """Mend what dead drivers left: runs that say RUNNING, second runs of one trial; returns how many.

        A child gets the status of its stored result, or KILLED until a later run takes it up. With `ending`, so do
        the children of this session.
        """
        parents = {run.data.tags.get("ablate.session", ""): run for run in self.experiment.search(PARENTS, RUNNING)}
        living = {self.session, *(session for session, run in parents.items() if _lives(run))}
        lost = [run.info.run_id for session, run in parents.items() if session not in living]
        for run_id in lost:
            self.experiment.close(run_id, "KILLED")
        spared = living - {self.session} if ending else living
        left = [child for child in self.experiment.children(RUNNING) if child.session not in spared]
        for child in left:
            child.status = _deserved(self._result(child.trial))
            self.experiment.close(child.run, child.status)
            self.children[child.trial] = child
        twice = [child for child in self.twice if child.status != "RUNNING" or child.session not in spared]
        for child in twice:
            self.experiment.drop(child.run)
        self.twice = []
        return len(lost) + len(left) + len(twice)

    def close(self, status: str) -> None:
        """End this session's runs, its parent with the status given."""
        self.reconcile(ending=True)
        self.experiment.close(self.parent, status)

    def _find(self, trial: Trial) -> Child | None:
        """The trial's run as it is now, for another driver may have opened one."""
        self.children.pop(trial.id, None)
        for child in self.experiment.children(f"tags.`ablate.trial` = '{trial.id}'"):
            self.children[trial.id] = child
        return self.children.get(trial.id)

    def _in_other_hands(self, child: Child) -> bool:
        """Whether another driver, alive, is at this run."""
        if child.status != "RUNNING" or child.session == self.session or not child.session.isalnum():
            return False
        return any(_lives(run) for run in self.experiment.search(PARENTS, _of(child.session)))

    def _begin(self, trial: Trial, *, instead_of: Child | None = None, start: int | None = None) -> Child:
        """A new run for the trial; metrics cannot be taken back, so an earlier try's run goes to MLflow's bin."""
        if instead_of:
            self.experiment.drop(instead_of.run)
        parent = {"mlflow.parentRunId": self.parent} if self.parent else {}
        run_id = self._create(values.names(trial) | parent, start)
        self.children[trial.id] = Child(run_id, trial.id, "RUNNING", self.session, 0, ("", ""))
        self.experiment.log(run_id, params=values.params(trial))
        return self.children[trial.id]

    def _fits(self, child: Child, result: Result) -> bool:
        """Whether a run shows this result's curve without gaps, and no end of another try that was not marked."""
        if self.experiment.history(child.run, "loss") != values.losses(result):
            return False
        end = (len(result.curve), result.seconds)
        return all(point == end for point in self.experiment.history(child.run, "seconds"))

    def _take(self, child: Child) -> None:
        """Go on with a run that an earlier session left."""
        self.experiment.log(child.run, tags={"ablate.session": self.session})
        self.experiment.reopen(child.run)
        child.session, child.status = self.session, "RUNNING"

    def _create(self, tags: dict[str, str], start: int | None = None) -> str:
        ours = {"ablate.study": self.study.name, "ablate.session": self.session, "mlflow.source.name": "ablate"}
        ours |= {"mlflow.user": os.environ.get("USER", "unknown")}
        ours |= {"mlflow.source.git.commit": origin.revision()["revision"]}
        return self.experiment.create(tags | ours, start)

    def _log_rows(self, child: Child, rows: Iterable[tuple[Epoch, int]]) -> None:
        """Log whole epochs, many in one request, so that the last one a run has tells what it has."""
        batch: list[Row] = []
        for row, moment in sorted(rows, key=lambda pair: pair[0].epoch):
            if row.epoch > child.epoch:
                values = {"epoch": row.epoch, "loss": row.loss, "lr": row.lr}
                values |= {"train_images_per_second": row.images_per_second, **row.scores}
                if len(batch) + len(values) > BATCH:
                    batch = self._flush(child, batch)
                batch += [(name, value, moment, row.epoch) for name, value in values.items()]
        self._flush(child, batch)

    def _flush(self, child: Child, batch: list[Row]) -> list[Row]:
        if batch:
            self.experiment.log(child.run, batch)
            child.epoch = batch[-1][3]
        return []

    def _result(self, trial_id: str) -> Result | None:
        with suppress(StoreError):  # damaged, or no id at all: it comes from the tracker
            return self.store.get(trial_id)
        return None


def _stamp(result: Result) -> tuple[str, str]:
    return result.status, result.finished


def _deserved(result: Result | None) -> str:
    if result is None:
        return "KILLED"
    return "FINISHED" if result.status == "done" else "FAILED"


def _heartbeat() -> dict[str, str]:
    return {"ablate.alive": f"{time.time():.0f}"}


def _lives(parent: Any) -> bool:
    """Whether the driver of a parent run is alive."""
    tags = parent.data.tags
    beat = tags.get("ablate.alive", "")
    silence = time.time() - int(beat) if beat.isdecimal() else process.STALE
    return parent.info.status == "RUNNING" and process.lives(tags.get("ablate.process", ""), silence)


def _of(session: str) -> str:
    return f"tags.`ablate.session` = '{session}'"
