"""What one run came to, and what is stored of a trial whose process is gone."""

from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ablate.analysis import Evidence, Shown
from ablate.errors import DamagedError
from ablate.machine import origin
from ablate.storage import Result, Store, whose
from ablate.study import Trial


@dataclass
class Outcome:
    """What one run came to."""

    planned: list[Trial]
    ran: dict[str, str] = field(default_factory=dict)  # trial id -> how it ended: see Listener.ended
    stopped: str = ""  # by whom, in words
    status: int = 0  # the exit status that says so
    mirror_trouble: str = ""

    def add(self, part: "Outcome") -> None:
        """Take in what the trials up to the next look came to."""
        self.planned += part.planned
        self.ran |= part.ran
        self.stopped, self.status = part.stopped, part.status
        self.mirror_trouble = part.mirror_trouble

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


def reached(evidence: Evidence, trials: Collection[Trial]) -> list[str]:
    """What a look has decided, and how many of these trials are not needed, in sentences."""
    compared = evidence.comparisons_in(evidence.primary)
    look = max((found.look or 0 for found in compared), default=0)
    said = [
        f"{found.arm}: {'going on is futile' if found.futile else found.verdict}"
        for found in compared
        if found.look == look and look
    ]
    lines = [f"look at {look} seeds: {', '.join(said)}"] if said else []
    if any(found.verdict == "undecided" for found in compared):
        return lines
    spared = sum(trial.id not in evidence.results for trial in trials)
    return [*lines, f"all is decided: {spared} of {len(trials)} trials are not needed"]


def dead(store: Store, trial: Trial, reason: str, *, owner: str = "") -> str:
    """Store that a trial failed whose process is gone; what is stored, or held by another process, stands.

    Returns how it ended: see `Listener.ended`.
    """
    with store.lock(trial.id, owner=owner, wait=False) as hold:
        status = _stored(store, trial) or ("failed" if hold else "busy")
        if hold and not _stored(store, trial):
            finished = datetime.now(UTC).isoformat(timespec="seconds")
            env = {**origin.provenance(), "device": store.kind or "cpu"}
            result = Result(**whose(trial), status="failed", reason=reason, env=env, finished=finished)
            store.put(result, {}, hold=hold, keep=True)
    return status


def _stored(store: Store, trial: Trial) -> str:
    with suppress(DamagedError):
        result = store.get(trial.id)
        return result.status if result else ""
    return ""


def failures(store: Store, trials: Iterable[Trial]) -> list[str]:
    """The failed results of these trials, of this run or an earlier one, a line each that tells of other code."""
    results = store.read().results
    return [
        f"{result.id} failed{_of_other_code(result)}: {result.reason}"
        for trial in trials
        if (result := results.get(trial.id)) and result.status == "failed"
    ]


def _of_other_code(result: Result) -> str:
    if all(result.env.get(fact) == value for fact, value in origin.revision().items()):
        return ""
    changed = result.env.get("dirty", "no") not in ("no", "unknown")
    revision = result.env.get("revision", "unknown")[:12]
    return f" with other code than today's (revision {revision}{' with changes' if changed else ''})"
