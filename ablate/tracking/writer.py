"""The thread that mirrors while trials train: it takes what the driver hears, and writes when the tracker lets it.

Nothing here waits for the tracker but the end of a run, and that for seconds. What it has not taken by then is left to
`ablate track`.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from ablate.errors import StoreError, one_line
from ablate.machine import HEARTBEAT
from ablate.storage import Epoch, Result, Store
from ablate.study import Trial
from ablate.tracking.mirror import Mirror

PAUSE = 1.0  # seconds between two rounds of writing, so that epochs gather
LONGEST = 60.0  # seconds between two tries while the tracker is away
LITTLE = 5.0  # seconds that the end of a run waits for a tracker that failed last time
ROUND = 100  # trials in one round, those that train first
TRIES = 5  # for one trial, at a tracker that answers


@dataclass
class News:
    """What the tracker does not have yet of one trial. Of one that ended, the results folder has the rest."""

    trial: Trial
    rows: dict[int, tuple[Epoch, int]] = field(default_factory=dict)  # by epoch; with its time, ms since 1970
    ended: bool = False
    failures: int = 0


class Writer:
    """A thread that mirrors: it keeps what it cannot write yet, and tries again, later and later."""

    def __init__(
        self, store: Store, open_mirror: Callable[[], Mirror], beat: Callable[[], None] = lambda: None
    ) -> None:
        """`beat` is called about once a minute, whether the tracker answers or not."""
        self._store, self._open, self._beat = store, open_mirror, beat
        self._news: dict[str, News] = {}
        self._lock = threading.Lock()
        self._hurry = threading.Event()
        self._end = ""  # the parent's last status, once the run has ended
        self._stopped = False
        self._down = ""  # why the last try failed
        self._answers = True  # whether it opened last time
        self._lost = ""  # why something will not be tried again
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def started(self, trial: Trial) -> None:
        """A worker took up the trial. Returns at once, as all but `close` do."""
        self._tell(News(trial))

    def epoch(self, trial: Trial, row: Epoch) -> None:
        """An epoch ended."""
        self._tell(News(trial, {row.epoch: (row, int(time.time() * 1000))}))

    def ended(self, trial: Trial) -> None:
        """The trial has a result, or another driver has the trial."""
        self._tell(News(trial, ended=True))

    def close(self, status: str, patience: float) -> str:
        """End the session with its parent's status; returns why the tracker lacks something, or an empty text.

        Waits at most `patience` seconds; a few, if the tracker was away and still is.
        """
        self._end = status
        self._hurry.set()
        self._thread.join(LITTLE)
        if self._answers:
            self._thread.join(patience - LITTLE)
        self._stopped = True
        return (self._down or "it is slow") if self._thread.is_alive() else self._lost

    def _tell(self, news: News) -> None:
        with self._lock:
            older = self._news.setdefault(news.trial.id, news)
            if older is not news:
                _merge(older, news)

    def _work(self) -> None:
        mirror, pause, beaten = None, 0.0, time.monotonic()
        while not self._stopped:
            due = time.monotonic() - beaten > HEARTBEAT
            beaten = time.monotonic() if due else beaten
            try:
                if due:
                    self._beat()
                mirror = mirror or self._open()
                self._answers = True
                self._round(mirror)
                if self._end and not self._news:
                    mirror.close(self._end)
                    return
                if due:
                    mirror.beat()
                self._down, pause = "", 0.0 if self._end else PAUSE
            except Exception as error:  # whatever the tracker does, training goes on
                self._down, self._answers = _line(error), mirror is not None
                mirror, pause = None, min(PAUSE if self._end else LONGEST, 2 * pause or PAUSE)
            self._hurry.wait(pause)
            self._hurry.clear()

    def _round(self, mirror: Mirror) -> None:
        """Write what there is, in as many threads as the tracker takes.

        Raises:
            Exception: the first that a write raised, when all have ended; what failed is kept.
        """
        with self._lock:
            waiting = sorted(self._news, key=lambda trial_id: self._news[trial_id].ended)[:ROUND]
        waiting.reverse()
        errors: list[Exception] = []
        lanes = [
            threading.Thread(target=self._lane, args=(mirror, waiting, errors), daemon=True)
            for _ in range(min(mirror.experiment.lanes, len(waiting)))
        ]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
        if errors:
            raise errors[0]

    def _lane(self, mirror: Mirror, waiting: list[str], errors: list[Exception]) -> None:
        while waiting and not errors and not self._stopped:
            try:
                trial_id = waiting.pop()
            except IndexError:
                return
            with self._lock:
                news = self._news.pop(trial_id)
            try:
                self._write(mirror, news)
            except Exception as error:  # of any kind, see `_work`
                self._keep(news, error)
                errors.append(error)

    def _write(self, mirror: Mirror, news: News) -> None:
        if not news.ended:
            if news.rows:
                mirror.epochs(news.trial, news.rows.values())
            else:
                mirror.started(news.trial)
        elif mirror.is_done(news.trial):
            return
        elif result := self._result(news.trial):
            mirror.ended(news.trial, result)
        else:
            mirror.busy(news.trial)

    def _keep(self, news: News, error: Exception) -> None:
        """For the next round, unless it was this trial alone that failed several times."""
        news.failures += 1
        if news.failures >= TRIES:
            self._lost = _line(error)
            return
        with self._lock:
            newer = self._news.get(news.trial.id)
            self._news[news.trial.id] = news
            if newer:
                _merge(news, newer)

    def _result(self, trial: Trial) -> Result | None:
        with suppress(StoreError):  # damaged: named by whoever reads the folder for its numbers
            return self._store.get(trial.id)
        return None


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"


def _merge(news: News, newer: News) -> None:
    """The latest word counts; the time of an epoch is the first that was noted, for it may be written already."""
    news.rows = {} if newer.ended else newer.rows | news.rows
    news.ended = newer.ended
