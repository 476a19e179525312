"""A clock that stands still while this process is stopped: Ctrl-Z, SIGSTOP, a frozen container, a suspended machine.

Nobody tells a process for how long it was stopped. A thread looks at the time twice a second; when it could not for
much longer, the whole process could not.
"""

import os
import threading
import time

EVERY = 0.5  # seconds between two looks
AWAY = 3.0  # seconds between two looks, from which on the process was stopped; a busy machine delays one by less


class _Clock:
    def __init__(self) -> None:
        self._seen, self._stopped, self._one_at_a_time = time.monotonic(), 0.0, threading.Lock()
        threading.Thread(target=self._look, name="clock", daemon=True).start()

    def now(self) -> float:
        with self._one_at_a_time:
            now = time.monotonic()
            if now - self._seen >= AWAY:
                self._stopped += now - self._seen
            self._seen = now
            return now - self._stopped

    def _look(self) -> None:
        while True:
            time.sleep(EVERY)
            self.now()


_clock: _Clock | None = None


def now() -> float:
    """Seconds, from any start, in which this process could run. The first call starts the clock."""
    global _clock  # noqa: PLW0603  one clock a process
    _clock = _clock or _Clock()
    return _clock.now()


def _forget() -> None:
    global _clock  # noqa: PLW0603
    _clock = None


os.register_at_fork(after_in_child=_forget)  # its thread is not in the child
