"""Which trial is tried next, and when one has failed: the list's order, deaths by their cause, other drivers' trials.

Knows no Ray. Deaths that are the trial's own use up its retries; its nodes may go away much more often, for machines
that come and go are no fault of a trial's; and a trial that ran out of memory beside others is tried again alone.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ablate.errors import StoreError
from ablate.running.outcome import dead
from ablate.storage import Store
from ablate.study import Trial
from ablate.training.reports import Listener

NODE_LOSSES = 100  # that a trial survives: a bound only so that nothing goes on for ever
REST = 60.0  # seconds from a trouble with the place until the trial is tried again
TROUBLES = 5  # of one trial, after which the place is given up if nothing trains
PATIENCE = 3  # looks at a trial that another process is at, after which it is told whom the run waits for
LOOK_AGAIN = 5.0  # seconds between two looks at a trial that another process is at


@dataclass
class Attempt:
    """A trial with what befell it so far."""

    trial: Trial
    alone: bool = False  # is to have a device of its own
    deaths: list[frozenset[str]] = field(default_factory=list)  # the nodes it was on; none when that is not known
    losses: int = 0  # deaths that were certainly a node's
    troubles: int = 0  # with the results folder or the data, where it ran
    looks: int = 0  # at another process that is at it


class Attempts:
    """All trials of a run, each waiting, running, at another process, or over."""

    def __init__(
        self,
        trials: list[Trial],
        store: Store,
        listeners: Sequence[Listener],
        *,
        owner: str = "",
        retries: int = 0,
        wait: bool = True,
        nodes: Callable[[], Collection[str]] = lambda: (),
    ) -> None:
        self.store, self.listeners, self.owner = store, listeners, owner
        self.retries, self.wait, self.nodes = retries, wait, nodes
        self.waiting = deque(Attempt(trial) for trial in trials)
        self.running: dict[str, Attempt] = {}
        self.elsewhere: list[Attempt] = []  # another process is at them
        self.resting: deque[tuple[float, Attempt]] = deque()  # until when, and what
        self._looked = -LOOK_AGAIN
        self._named: set[str] = set()  # processes that are waited for, and were told

    @property
    def over(self) -> bool:
        """Nothing is left to do."""
        return not (self.waiting or self.running or self.elsewhere or self.resting)

    def take(self) -> Attempt | None:
        """The next one to try; None when there is none at the moment."""
        self._look_elsewhere()
        while self.resting and self.resting[0][0] <= time.monotonic():
            self.waiting.append(self.resting.popleft()[1])
        while self.waiting:
            attempt = self.waiting.popleft()
            if self._stored(attempt.trial):
                self._ended(attempt.trial, "elsewhere")
                continue
            self.running[attempt.trial.id] = attempt
            return attempt
        return None

    def ended(self, trial: Trial, status: str) -> None:
        """It came to an end: see `Listener.ended`."""
        attempt = self.running.pop(trial.id)
        if status == "busy" and self.wait:
            self.elsewhere.append(attempt)
        else:
            self._ended(trial, status)

    def crowded_out(self, trial: Trial, reason: str) -> None:
        """It ran out of memory beside others."""
        attempt = self.running.pop(trial.id)
        attempt.alone = True
        self._retried(trial, f"{reason}; at the end it has a device alone")
        self.waiting.append(attempt)  # an empty device is long to wait for while others still share them

    def troubled(self, trial: Trial, reason: str) -> bool:
        """Where it ran, the results or the data could not be reached: it rests. False: that was once too often."""
        attempt = self.running.pop(trial.id)
        attempt.troubles += 1
        if attempt.troubles > TROUBLES and not self.running:  # it may be one node's, while others train
            return False
        self._retried(trial, reason)
        self.resting.append((time.monotonic() + REST, attempt))
        return True

    def died(self, trial: Trial, reason: str, *, nodes: Collection[str] = (), with_node: bool = False) -> None:
        """A process of it died, on one of these nodes where they are known, perhaps with the node."""
        attempt = self.running.pop(trial.id)
        attempt.losses += with_node
        attempt.deaths += [] if with_node else [frozenset(nodes)]
        # Processes of a machine that goes away often die before it, so earlier deaths are judged by the nodes of now.
        alive = set(self.nodes())
        own = sum(not alive or its_nodes <= alive for its_nodes in attempt.deaths)
        lost = attempt.losses + len(attempt.deaths) - own
        if own <= self.retries and lost <= NODE_LOSSES:
            self._retried(trial, reason)
            self.waiting.appendleft(attempt)
        else:
            reason = f"tried {own + lost} times: {reason}"
            for listener in self.listeners:
                listener.died(trial, reason)
            self._ended(trial, dead(self.store, trial, reason, owner=self.owner))

    def _ended(self, trial: Trial, status: str) -> None:
        for listener in self.listeners:
            listener.ended(trial, status)

    def _retried(self, trial: Trial, reason: str) -> None:
        for listener in self.listeners:
            listener.retried(trial, reason)

    def _look_elsewhere(self) -> None:
        """Take back what the other process left, finished or not."""
        if not self.elsewhere or time.monotonic() - self._looked < LOOK_AGAIN:
            return
        self._looked = time.monotonic()
        with suppress(StoreError):  # out of reach: the next look may tell
            for attempt in list(self.elsewhere):
                if not self.store.place.is_held(self.store.name(attempt.trial.id)):
                    self.elsewhere.remove(attempt)
                    self.waiting.append(attempt)
                    continue
                attempt.looks += 1
                holder = self.store.holder(attempt.trial.id) if attempt.looks == PATIENCE else ""
                if holder and holder not in self._named:
                    self._named.add(holder)
                    for listener in self.listeners:
                        listener.waits(attempt.trial, holder)

    def _stored(self, trial: Trial) -> bool:
        with suppress(StoreError):  # a damaged one is trained again
            return self.store.get(trial.id) is not None
        return False
