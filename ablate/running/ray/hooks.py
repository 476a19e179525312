"""Ray Tune's hooks in our words: what to try next, whether a trial goes on, and what became of it.

Tune's own order among pending trials is arbitrary, so it is given no more of them than can start.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ablate.errors import AblateError
from ablate.machine import Stop
from ablate.running.attempts import Attempt, Attempts
from ablate.storage import notes
from ablate.study import Budget, Trial
from ablate.training.reports import CROWDED, row

SAVING = 10.0  # seconds beyond the grace, which ends a run by itself
COUNT_AGAIN = 5.0  # seconds between two looks at the size of the cluster


class Relay:
    """What the hooks share: trials that Tune was given, and whether the run is ending."""

    def __init__(self, attempts: Attempts, stop: Stop, *, slots: Callable[[], int], patient: bool) -> None:
        self.attempts, self.stop, self.slots = attempts, stop, slots
        self.patient = patient  # with several nodes a storage error may be of one node only, so the trial is retried
        self.silent: dict[str, str] = {}  # trials whose processes are killed for that, and what was seen
        self.pending: set[str] = set()  # ids of trials that Tune has and no worker yet
        self.nodes: dict[str, list[str]] = {}  # that a trial is on
        self.tries = 0
        self.room, self.counted = 0, -COUNT_AGAIN  # trials that fit on the cluster, and when that was asked
        self.trouble = ""  # what a worker found wrong with the place

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its hooks to restore a run; we never do, and a screen cannot be pickled

    @property
    def ending(self) -> bool:
        """Trials end with their current epoch, and no more begin."""
        return bool(self.stop.asked or self.trouble)

    def take(self, parallel: int | None) -> Attempt | None:
        """The next attempt, if one can start."""
        running = len(self.attempts.running)
        if time.monotonic() - self.counted >= COUNT_AGAIN:
            self.room, self.counted = self.slots(), time.monotonic()
        full = running >= parallel if parallel else self.pending and running >= self.room
        if full:
            return None
        attempt = self.attempts.take()
        if attempt:
            self.pending.add(attempt.trial.id)
            self.tries += 1
        return attempt

    def began(self, trial: Trial) -> None:
        self.pending.discard(trial.id)
        for listener in self.attempts.listeners:
            listener.started(trial)

    def training(self) -> set[str]:
        """The ids of trials that a worker has."""
        return set(self.attempts.running) - self.pending

    def heard(self, trial: Trial, report: dict[str, Any]) -> None:
        """A worker's report."""
        self.nodes[trial.id] = list(report.get("nodes", []))
        if "row" in report:
            for listener in self.attempts.listeners:
                listener.epoch(trial, row(report))
        elif "trouble" in report:
            self.troubled(trial, str(report["trouble"]))
        else:
            self.attempts.ended(trial, str(report["status"]))

    def troubled(self, trial: Trial, reason: str) -> None:
        """Where a trial was to run, something is wrong that is not the trial's."""
        if not (self.patient and self.attempts.troubled(trial, reason)):
            self.trouble = reason
            self.attempts.running.pop(trial.id, None)

    def died(self, trial: Trial, error: str) -> None:
        """A worker's process is gone, or raised what is no result."""
        self.pending.discard(trial.id)
        nodes = self.nodes.pop(trial.id, [])
        if self.ending:
            self.attempts.running.pop(trial.id)
            return
        last_words = notes.take(self.attempts.store, trial.id, notes.LAST_WORDS) or self.silent.pop(trial.id, "")
        line = next((line for line in reversed(error.splitlines()) if line.strip()), "").strip()[:300]
        if f"{CROWDED}: " in line:
            self.attempts.crowded_out(trial, line.partition(f"{CROWDED}: ")[2])
        elif "its node has died" in error:
            self.attempts.died(trial, "its node died", nodes=nodes, with_node=True)
        elif "running low on memory" in error:
            self.attempts.died(trial, "Ray killed its process: its node ran out of memory", nodes=nodes)
        elif "its worker process has died" in error:
            self.attempts.died(trial, last_words or "its process was killed or crashed", nodes=nodes)
        elif self.patient and "error raised in its creation task" in error:
            self.troubled(trial, f"its process could not start: {line}")
        elif " is unavailable: " in error:
            self.attempts.died(trial, "its node does not answer", nodes=nodes, with_node=True)
        else:
            self.attempts.died(trial, line, nodes=nodes)


def searcher(relay: Relay, budget: Budget, shares: dict[str, float]) -> Any:
    """Tune's source of trials."""
    from ray.tune.search import Searcher

    class Next(Searcher):
        def set_search_properties(self, metric: str | None, mode: str | None, config: Any, **spec: Any) -> bool:
            return True

        def suggest(self, trial_id: str) -> Any:
            if relay.ending or relay.attempts.over:
                return Searcher.FINISHED
            attempt = relay.take(budget.parallel)
            if attempt is None:
                return Searcher.FINISHED if relay.attempts.over else None
            trial = attempt.trial
            gpus = max(1.0, budget.gpus) if attempt.alone else shares.get(trial.id, budget.gpus)
            return {"trial": trial.model_dump_json(), "id": trial.id, "try": relay.tries, "gpus": gpus}

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            """The callback below hears more."""

        def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
            """Nothing of Tune's is restored."""

    return Next()


def scheduler(relay: Relay) -> Any:
    """Tune's rule for going on: all do, until the run is ending."""
    from ray.tune.schedulers import FIFOScheduler

    class ToTheEnd(FIFOScheduler):
        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            if relay.ending:  # Tune would give a state 10 s to be saved
                tune_controller._tune_controller._actor_force_cleanup_timeout = relay.stop.grace + SAVING
                return str(self.STOP)
            return str(self.CONTINUE)

        def choose_trial_to_run(self, tune_controller: Any) -> None:
            for trial in tune_controller.get_trials() if relay.ending else ():
                if trial.status == trial.PENDING:
                    tune_controller.stop_trial(trial)

    return ToTheEnd()


def callback(tune: Any, relay: Relay) -> Any:
    """Tune's news."""

    class News(tune.Callback):
        def setup(self, **info: Any) -> None:
            relay.stop.listen()  # Tune has just taken SIGUSR1

        def on_trial_start(self, *, trial: Any, **info: Any) -> None:
            relay.began(_trial(trial))

        def on_trial_result(self, *, trial: Any, result: dict[str, Any], **info: Any) -> None:
            relay.heard(_trial(trial), result)

        def on_trial_error(self, *, trial: Any, **info: Any) -> None:
            try:
                text = Path(trial.error_file).read_text(errors="replace") if trial.error_file else ""
                relay.died(_trial(trial), text)
            except (AblateError, OSError) as error:  # its end cannot be stored
                relay.trouble = str(error)

    def _trial(tune_trial: Any) -> Trial:
        return relay.attempts.running[tune_trial.config["id"]].trial

    return News()


def name(tune_trial: Any) -> str:
    """Of a try: Tune makes a folder of it."""
    return f"{tune_trial.config['id']}-{tune_trial.config['try']}"
