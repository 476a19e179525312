"""A sign of life from training and evaluation: given at every step, watched by a thread of the same process.

A step may take long; a process that finishes none is of no use to anyone, and nobody outside can tell the two apart.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SLICE = 10.0  # seconds; a watcher that sleeps much longer was itself stopped
_last = time.monotonic()


def beat() -> None:
    """A step, or a batch of an evaluation, is done. Costs a tenth of a microsecond."""
    global _last  # noqa: PLW0603  one heart a process
    _last = time.monotonic()


@contextmanager
def watched(minutes: float, end: Callable[[str], None]) -> Iterator[None]:
    """Call `end`, from another thread, with a sentence on what happened once no beat came for so many minutes.

    0 minutes watch nothing. `end` is to end the process: what hangs cannot be stopped in any other way.
    """
    if not minutes:
        yield
        return
    beat()
    finished = threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(60 * minutes, finished, threading.get_ident(), end), name="watchdog", daemon=True
    )
    watcher.start()
    try:
        yield
    finally:
        finished.set()


def _watch(seconds: float, finished: threading.Event, watched_thread: int, end: Callable[[str], None]) -> None:
    while True:
        slept, pause = time.monotonic(), min(SLICE, max(0.01, _last + seconds - time.monotonic()))
        if finished.wait(pause):
            return
        if time.monotonic() - slept > pause + SLICE:
            beat()  # this process was stopped, by Ctrl-Z or its batch system; that is no hang
        elif time.monotonic() - _last >= seconds:
            end(
                f"no training step or evaluation batch ended for {seconds / 60:g} minutes{_whereabouts(watched_thread)}"
            )
            return


def _whereabouts(thread: int) -> str:
    """Where a thread is, in words; nothing when that cannot be told."""
    frame = sys._current_frames().get(thread)
    return f" (in {Path(frame.f_code.co_filename).name}, line {frame.f_lineno})" if frame else ""
