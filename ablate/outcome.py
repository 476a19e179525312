"""What one run came to, and who hears of it on the way: the screen, the mirror, and the results folder of a death."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from ablate import env
from ablate.attempts import Listener
from ablate.result import Epoch, Result
from ablate.store import Store
from ablate.tracking import Mirror, Writer
from ablate.trial import Trial

ENDED = ("done", "failed", "diverged")  # with a result of this run


@dataclass
class Outcome:
    """What one run came to."""

    planned: list[Trial]
    ran: dict[str, str] = field(default_factory=dict)  # trial id -> how it ended: see Listener.ended
    stopped: str = ""  # by whom, in words
    status: int = 0  # the exit status that says so
    mirror_trouble: str = ""


class Driver:
    """Listens to the launch: tells the screen and the mirror, keeps count."""

    def __init__(self, store: Store, screen: Listener, writer: Writer, outcome: Outcome) -> None:
        self.store, self.screen, self.writer, self.outcome = store, screen, writer, outcome
        self.opened: set[str] = set()  # trials that the mirror shows

    def started(self, trial: Trial) -> None:
        self.screen.started(trial)

    def epoch(self, trial: Trial, row: Epoch) -> None:
        self._open(trial)
        self.screen.epoch(trial, row)
        self.writer.put(lambda mirror: mirror.epochs(trial, [row]))

    def ended(self, trial: Trial, status: str) -> None:
        self.outcome.ran[trial.id] = status
        self.screen.ended(trial, status)
        if status in ENDED:
            self._open(trial)
            self.writer.put(lambda mirror: self._mirror(mirror, trial))

    def retried(self, trial: Trial, reason: str) -> None:
        self.screen.retried(trial, reason)

    def died(self, trial: Trial, reason: str) -> None:
        """Its process is gone, so the driver writes what is known; a stored result stands."""
        self.screen.died(trial, reason)
        if self.store.get(trial.id) is None:
            self.store.put(_dead(trial, reason), {})
        self.ended(trial, "failed")

    def _mirror(self, mirror: Mirror, trial: Trial) -> None:
        """In the mirror's thread, which may be far behind: only there is the result read."""
        result = self.store.get(trial.id)
        if result:
            mirror.ended(trial, result)

    def _open(self, trial: Trial) -> None:
        """Only now, for a trial that another process is at is not ours to mirror."""
        if trial.id not in self.opened:
            self.opened.add(trial.id)
            self.writer.put(lambda mirror: mirror.started(trial))


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
