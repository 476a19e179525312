"""What is seen while a study runs: a live table on a terminal, plain lines in a pipe."""

import math
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from ablate.cli.tables import cell, duration
from ablate.cli.talk import say
from ablate.errors import StoreError
from ablate.storage import Epoch, Store
from ablate.study import Design, Trial

LOST = (OSError, SystemExit)  # what rich raises when the terminal is gone
SHOWN = 12  # rows of the live table: running trials and the latest ended ones


class Progress:
    """A listener that shows; everything goes to stderr."""

    def __init__(self, design: Design, trials: list[Trial], store: Store) -> None:
        self.design, self.study, self.trials, self.store = design, design.study, list(trials), store
        shelf = store.read()
        self.waiting = {trial.id for trial in store.missing(trials, shelf=shelf)}
        self.damaged = shelf.damaged
        self.rows: dict[str, Epoch | None] = {}
        self.ends: dict[str, str] = {}
        self.scores: dict[str, float] = {}  # of the primary metric, the latest
        self.begun = time.monotonic()
        self.epochs_seen = 0  # trained here; a trial that goes on tells those of before, too
        self.since: dict[str, float] = {}  # of each trial, when it started
        self.trained: dict[str, float] = {}  # and the seconds of its epochs that were trained here
        self.console = Console(stderr=True)
        self.live = Live(console=self.console, refresh_per_second=2, transient=False) if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        done = len(self.trials) - len(self.waiting)
        self._line(f"{self.study.name}: {len(self.waiting)} trials to run, {done} done already")
        for line in self.damaged:
            self._line(f"damaged, so it counts as missing: {line}")
        if self.live and self.waiting:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live and self.live.is_started:
            with suppress(*LOST):
                self.live.update(self._table())
                self.live.stop()

    def noticed(self, remark: str) -> None:
        self._line(f"remark: {remark}")

    def started(self, trial: Trial) -> None:
        if trial.id not in self.waiting:  # its arm has been tuned since, and so it has another id
            at = next(at for at, one in enumerate(self.trials) if (one.arm, one.seed) == (trial.arm, trial.seed))
            self.waiting = self.waiting - {self.trials[at].id} | {trial.id}
            self.trials[at] = trial
        self.rows.setdefault(trial.id, None)
        self.since[trial.id], self.trained[trial.id] = time.monotonic(), 0.0
        self._refresh()

    def epoch(self, trial: Trial, row: Epoch) -> None:
        self.rows[trial.id] = row
        trained = self.trained[trial.id] + row.seconds
        if trained <= time.monotonic() - self.since[trial.id]:  # else it is an epoch of before, told again
            self.trained[trial.id] = trained
            self.epochs_seen += 1
        if not self.live:
            scores = "".join(
                f"  {name} {row.scores[name]:.3f}" for name in self.study.metrics[:1] if name in row.scores
            )
            self._line(
                f"{self._name(trial)}  epoch {row.epoch}/{trial.recipe.train.epochs}  loss {row.loss:.5f}{scores}"
                f"  {row.images_per_second:.0f} img/s  {self._until_done()}"
            )
        self._refresh()

    def ended(self, trial: Trial, status: str) -> None:
        self.ends[trial.id] = status
        with suppress(StoreError):  # a score on the screen is not worth a run
            result = self.store.get(trial.id)
            self._score(trial, result.scores if result else {})
        if not self.live:
            self._line(f"{self._name(trial)}  {status}{self._shown(trial)}  ({len(self.ends)} of {len(self.waiting)})")
        self._refresh()

    def waits(self, trial: Trial, whom: str) -> None:
        self._line(f"{self._name(trial)}  waits for {whom}")

    def retried(self, trial: Trial, reason: str) -> None:
        self._line(f"{self._name(trial)}  {reason}; it is tried again")

    def died(self, trial: Trial, reason: str) -> None:
        self._line(f"{self._name(trial)}  {reason}")

    def _score(self, trial: Trial, scores: dict[str, float]) -> None:
        if self.study.metrics[0] in scores:
            self.scores[trial.id] = scores[self.study.metrics[0]]

    def _shown(self, trial: Trial) -> str:
        return f"  {self.study.metrics[0]} {self.scores[trial.id]:.3f}" if trial.id in self.scores else ""

    def _until_done(self) -> str:
        left = self._left()
        return "time left unknown" if math.isnan(left) else f"{duration(left)} left"

    def _left(self) -> float:
        """Seconds until all trials are done, at the pace of the epochs so far."""
        if not self.epochs_seen:
            return float("nan")
        todo = sum(
            t.recipe.train.epochs - (row.epoch if (row := self.rows.get(t.id)) else 0)
            for t in self.trials
            if t.id in self.waiting and t.id not in self.ends
        )
        return (time.monotonic() - self.begun) / self.epochs_seen * todo

    def _name(self, trial: Trial) -> str:
        return f"{self.design.arm(trial).label} seed {trial.seed}"

    def _line(self, text: str) -> None:
        if not self.live:
            say(text)
            return
        with suppress(*LOST):
            self.console.print(cell(text), markup=False, highlight=False, soft_wrap=True)

    def _refresh(self) -> None:
        if self.live:
            self.live.update(self._table())

    def _table(self) -> Table:
        title = f"{len(self.ends)} of {len(self.waiting)} trials, {self._until_done()}"
        table = Table(box=box.SIMPLE, pad_edge=False, caption=title, caption_justify="left")
        for name in ("trial", "epoch", "loss", self.study.metrics[0], "img/s", "status"):
            table.add_column(escape(cell(name)), justify="left" if name in ("trial", "status") else "right")
        begun = [trial for trial in self.trials if trial.id in self.rows]
        for trial in sorted(begun, key=lambda t: t.id not in self.ends)[-SHOWN:]:
            table.add_row(*(escape(cell(text)) for text in self._cells(trial)))
        return table

    def _cells(self, trial: Trial) -> list[str]:
        row, epochs = self.rows[trial.id], trial.recipe.train.epochs
        status = self.ends.get(trial.id, "running")
        if row is None:
            return [self._name(trial), f"0/{epochs}", "", "", "", status]
        shown = f"{self.scores[trial.id]:.3f}" if trial.id in self.scores else ""
        rate = f"{row.images_per_second:.0f}"
        return [self._name(trial), f"{row.epoch}/{epochs}", f"{row.loss:.5f}", shown, rate, status]
