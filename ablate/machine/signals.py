"""How a run ends before its trials do: Ctrl-C, a batch system's signal or a limit of time, each once or twice.

Asked once, trials end with their current epoch and save their state; a step inside an epoch is no place to go on from
bit for bit. Asked again, or when the epochs take longer than the grace, the run ends at once, and what it goes on from
is the last saved state.
"""

import math
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

GRACE = 20.0  # seconds: batch systems and Kubernetes kill 30 s after SIGTERM
LONGEST = 1e8  # seconds, three years: timers take no more than a few times that
REASONS = {
    signal.SIGINT: ("Ctrl-C", 130),
    signal.SIGTERM: ("SIGTERM", 143),
    signal.SIGUSR1: ("SIGUSR1", 138),
    signal.SIGHUP: ("SIGHUP", 129),  # the terminal is gone
    signal.SIGALRM: ("the limit of --minutes", 124),  # as of timeout(1)
}


class Stop:
    """Listens for a wish to stop, in the main thread, while it is entered; in another thread there are no signals.

    Raises:
        KeyboardInterrupt: asked twice, or the grace is over; from wherever the main thread is.
    """

    def __init__(self, *, minutes: float = math.inf, grace: float = GRACE) -> None:
        self.minutes, self.grace = minutes, grace
        self.asked, self.status = "", 0  # by whom, in words, and the exit status that says so
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in REASONS}
            self.listen()
            if self.minutes < math.inf:
                _alarm(60 * self.minutes)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, before in self._before.items():
            signal.signal(number, before)

    def listen(self) -> None:
        """Take the signals; again after a library took one of them for itself."""
        for number in self._before:
            if number != signal.SIGHUP or self._before[number] != signal.SIG_IGN:  # as nohup wants it
                signal.signal(number, self._heard)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for other in REASONS:
                signal.signal(other, signal.SIG_IGN)  # the way out is short, and is not to be left half-way
            raise KeyboardInterrupt
        self.asked, self.status = REASONS[signal.Signals(number)]
        _alarm(self.grace)


def _alarm(seconds: float) -> None:
    signal.setitimer(signal.ITIMER_REAL, min(max(0.001, seconds), LONGEST))
