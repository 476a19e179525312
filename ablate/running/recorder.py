"""Keeps what a run was predicted to take and what became of it, as it hears of its trials."""

import math
import time
from contextlib import suppress

from ablate.errors import StoreError
from ablate.planning.durations import of_trials
from ablate.planning.last_run import Run, keep, now
from ablate.planning.plan import at_once
from ablate.storage import Epoch, Shelf, Store
from ablate.study import Design, Trial


class Watch:
    """A listener that keeps the prediction of a run and what became of it."""

    def __init__(self, design: Design, trials: list[Trial], shelf: Shelf, store: Store, *, alone: bool) -> None:
        study = design.study
        seconds, basis = of_trials(design, trials, shelf)
        self.study, self.store = study, store
        self.run = Run(started=now(), basis=basis, predicted_seconds=seconds, at_once=1 if alone else at_once(study))
        self._start, self._first, self._last = time.monotonic(), math.nan, math.nan
        self._running: set[str] = set()
        self.ran: dict[str, str] = {}  # trial id -> how it ended: see Listener.ended
        self._most = 0
        keep(store, study, self.run)

    def noticed(self, remark: str) -> None:
        """Nothing of it was predicted."""

    def started(self, trial: Trial) -> None:
        self._running.add(trial.id)
        self._most = max(self._most, len(self._running))

    def epoch(self, trial: Trial, row: Epoch) -> None:
        if math.isnan(self._first):  # before it a cluster was reached and processes were started, once for all trials
            self._first = time.monotonic() - row.seconds

    def ended(self, trial: Trial, status: str) -> None:
        self._running.discard(trial.id)
        self.ran[trial.id] = status
        if status != "busy":
            self._last = time.monotonic()

    def waits(self, trial: Trial, whom: str) -> None:
        """Another run's trial is no part of this one's prediction."""

    def retried(self, trial: Trial, reason: str) -> None:
        self._running.discard(trial.id)

    def died(self, trial: Trial, reason: str) -> None:
        self._running.discard(trial.id)

    def close(self) -> None:
        """The run ended, in whatever way."""
        became = {
            "ended": now(),
            "seconds": time.monotonic() - self._start,
            "busy_seconds": self._last - self._first,
            "ran_at_once": self._most,
            "ran": sum(status != "busy" for status in self.ran.values()),
        }
        with suppress(StoreError):  # whatever ended the run matters more
            keep(self.store, self.study, self.run.model_copy(update=became))
