"""What one run came to, and who hears of it on the way: the screen, the mirror, and the results folder of a death."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ablate.analysis import Shown
from ablate.errors import DamagedError
from ablate.machine import origin
from ablate.storage import Epoch, Result, Store, whose
from ablate.study import Trial
from ablate.tracking import Writer
from ablate.training.reports import Listener


@dataclass
class Outcome:
    """What one run came to."""

    planned: list[Trial]
    ran: dict[str, str] = field(default_factory=dict)  # trial id -> how it ended: see Listener.ended
    stopped: str = ""  # by whom, in words
    status: int = 0  # the exit status that says so
    mirror_trouble: str = ""

    def __repr__(self) -> str:
        return self._shown().text()

    def _repr_html_(self) -> str:
        return self._shown().html()

    def _shown(self) -> Shown:
        rows = [
            {
                "trial": trial.id,
                "arm": ", ".join(f"{factor}={level}" for factor, level in trial.arm.items()),
                "seed": trial.seed,
                "status": self.ran.get(trial.id, "not run"),
            }
            for trial in self.planned
        ]
        counted = ", ".join(f"{count} {status}" for status, count in Counter(self.ran.values()).most_common())
        ended = f"; stopped: {self.stopped}" if self.stopped else ""
        return Shown(f"{len(self.planned)} trials to run: {counted or 'none ran'}{ended}.", rows)


class Driver:
    """Listens to the launch: tells the screen and the mirror, keeps count."""

    def __init__(self, store: Store, screen: Listener, writer: Writer, outcome: Outcome, *, owner: str = "") -> None:
        self.store, self.screen, self.writer, self.outcome, self.owner = store, screen, writer, outcome, owner

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

    def retried(self, trial: Trial, reason: str) -> None:
        self.screen.retried(trial, reason)

    def died(self, trial: Trial, reason: str) -> None:
        """Its process is gone, so the driver writes what is known; what is stored or held by another process stands."""
        self.screen.died(trial, reason)
        with self.store.lock(trial.id, owner=self.owner, wait=False) as hold:
            status = self._stored(trial) or ("failed" if hold else "busy")
            if hold and not self._stored(trial):
                self.store.put(_dead(trial, reason), {}, hold=hold, keep=True)
        self.ended(trial, status)

    def _stored(self, trial: Trial) -> str:
        with suppress(DamagedError):
            result = self.store.get(trial.id)
            return result.status if result else ""
        return ""


def _dead(trial: Trial, reason: str) -> Result:
    return Result(
        **whose(trial),
        status="failed",
        reason=reason,
        env=origin.provenance(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
