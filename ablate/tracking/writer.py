"""The thread that mirrors while trials train: it takes what the driver hears, and writes when the tracker lets it.

Only the end of a run waits for the tracker, and writes whatever it lacks. What is still missing then, `ablate track`
writes later.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from ablate.errors import StoreError, one_line
from ablate.storage import Epoch, Result, Store
from ablate.study import Trial
from ablate.tracking.experiment import answering
from ablate.tracking.mirror import Mirror

PAUSE = 1.0  # seconds between two rounds of writing, so that epochs gather
LONGEST = 60.0  # seconds between two tries while the tracker is away
LITTLE = 5.0  # seconds that the end of a run waits for a tracker that failed last time
PATIENCE = 120.0  # seconds that it waits for another, whose tables may have to be made first


@dataclass
class News:
    """What was heard of one trial, and whether the tracker lacks some of it."""

    trial: Trial
    rows: dict[int, tuple[Epoch, int]] = field(default_factory=dict)  # by epoch; with its time, ms since 1970
    ended: bool = False
    due: bool = True


class Writer:
    """A listener whose thread mirrors: it keeps what it cannot write yet, and tries again, later and later."""

    def __init__(self, store: Store, open_mirror: Callable[[], Mirror], uri: str) -> None:
        self._store, self._open, self._uri = store, open_mirror, uri
        self._news: dict[str, News] = {}
        self._lock, self._awake = threading.Lock(), threading.Event()
        self._end = ""  # the parent's last status, once the run has ended
        self._in_hurry = self._stopped = False
        self._trouble = ""  # why the last try failed
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def started(self, trial: Trial) -> None:
        """Its run begins with its first epoch. Returns at once, as all but `close` do."""

    def epoch(self, trial: Trial, row: Epoch) -> None:
        """It is shown while the trial trains."""
        with self._lock:
            news = self._news.setdefault(trial.id, News(trial))
            news.rows[row.epoch], news.due = (row, int(time.time() * 1000)), True

    def ended(self, trial: Trial, status: str) -> None:
        """What is shown is what is stored."""
        with self._lock:
            self._news[trial.id] = News(trial, ended=True)

    def noticed(self, remark: str) -> None:
        """It is said before any run is opened."""

    def waits(self, trial: Trial, whom: str) -> None:
        """The driver that trains it mirrors it."""

    def retried(self, trial: Trial, reason: str) -> None:
        """Its curve goes on."""

    def died(self, trial: Trial, reason: str) -> None:
        """Its end follows."""

    def close(self, status: str, *, hurry: bool = False) -> str:
        """End the session with its parent's status; returns why the tracker lacks something, or an empty text.

        In a hurry, and where the tracker failed last time, it waits for seconds only.
        """
        self._end, self._in_hurry = status, hurry
        self._awake.set()
        self._thread.join(LITTLE)
        if not (hurry or self._trouble):
            self._thread.join(PATIENCE)
        self._stopped = True
        return self._trouble or ("it is slow" if self._thread.is_alive() else "")

    def _work(self) -> None:
        mirror, pause = None, PAUSE
        while not self._stopped:
            try:
                with answering(self._uri):
                    mirror = mirror or self._open()
                    if self._trouble:
                        mirror.resume()
                    if self._end:
                        self._trouble = self._last(mirror)
                        return
                    self._round(mirror)
                self._trouble, pause = "", PAUSE
            except Exception as error:  # whatever the tracker does, training goes on
                self._trouble, pause = one_line(error), PAUSE if self._end else min(LONGEST, 2 * pause)
            self._awake.wait(pause)
            self._awake.clear()

    def _round(self, mirror: Mirror) -> None:
        """Write what there is; what fails comes last in the next round."""
        mirror.beat()
        for trial_id in list(self._news):
            with self._lock:
                news = self._news[trial_id] = self._news.pop(trial_id)
                due, news.due, rows = news.due, False, [news.rows[epoch] for epoch in sorted(news.rows)]
            try:
                if due and not news.ended:
                    mirror.epochs(news.trial, rows)
                elif due and (result := self._stored(news.trial)):
                    mirror.ended(news.trial, result)
            except Exception:
                news.due = True
                raise
            if news.ended:
                self._news.pop(trial_id)

    def _last(self, mirror: Mirror) -> str:
        trouble = ""
        try:
            self._round(mirror)
        except Exception as error:  # of one trial; another try follows
            trouble = one_line(error)
        if not self._in_hurry:
            trouble = mirror.fill()[2]
        mirror.close(self._end)
        return trouble

    def _stored(self, trial: Trial) -> Result | None:
        with suppress(StoreError):  # damaged: named by whoever reads the folder for its numbers
            return self._store.get(trial.id)
        return None
