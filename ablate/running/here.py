"""Trials one after the other in this process, without Ray."""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing

from ablate.errors import AblateError, printable
from ablate.machine import Stop, watchdog
from ablate.running.attempts import Attempts
from ablate.storage import Store
from ablate.study import Trial
from ablate.training.reports import Listener, reports, row
from ablate.training.site import Site


def run_here(trials: list[Trial], site: Site, listeners: Sequence[Listener], *, stop: Stop, wait: bool = True) -> None:
    """One trial after the other in this process, without Ray.

    A trial that hangs ends the whole process, with one line and exit status 2: there is no other process to go on in.

    Raises:
        AblateError: what is wrong with the data or the results folder.
    """
    attempts = Attempts(trials, Store(site.results, site.kind), listeners, wait=wait)
    while not (stop.asked or attempts.over):
        attempt = attempts.take()
        if attempt is None:
            time.sleep(1)  # the rest is at another process
            continue
        for listener in listeners:
            listener.started(attempt.trial)
        with closing(reports(attempt.trial, site)) as events, watchdog.watched(site.budget.hang_minutes, _give_up):
            for report in events:
                if "trouble" in report:
                    raise AblateError(report["trouble"])
                if "row" in report:
                    for listener in listeners:
                        listener.epoch(attempt.trial, row(report))
                else:
                    attempts.ended(attempt.trial, str(report["status"]))
                if stop.asked:
                    break


def _give_up(reason: str) -> None:
    try:
        sys.stderr.write(f"ablate: {printable(reason)}; stopped; the same command continues from the last state\n")
        sys.stderr.flush()
    finally:
        os._exit(2)
