"""Workers' signs of life, for what hangs so that it cannot end itself: a stopped process, a call that keeps the GIL.

A thread of every worker writes down in Ray's head, every few seconds, which process has which trial; a thread of the
driver reads it, and has a process killed on its node when what it wrote stands still for too long.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ablate.machine import process

EVERY = 10.0  # seconds between two signs
ROOM = "ablate"  # of Ray's key-value store


class Pulse:
    """The worker's side: a thread that says again and again that this process runs, and what it is at."""

    def __init__(self, node: str) -> None:
        self.node, self.trial, self.count = node, "", 0
        threading.Thread(target=self._work, name="pulse", daemon=True).start()

    def at(self, trial_id: str) -> None:
        """From now on it is at that trial, or at none."""
        self.trial = trial_id
        self._sign()

    def _work(self) -> None:
        while True:
            time.sleep(EVERY)
            self._sign()

    def _sign(self) -> None:
        from ray.experimental import internal_kv

        self.count += 1
        if not self.trial:
            return
        with suppress(Exception):  # a head that does not answer is the driver's business
            said = json.dumps([self.node, process.own(), self.count])
            internal_kv._internal_kv_put(self.trial, said, overwrite=True, namespace=ROOM)


@contextmanager
def watched(
    ray: Any, minutes: float, running: Callable[[], Collection[str]], end: Callable[[str, str], None]
) -> Iterator[None]:
    """Have the process of a running trial killed that gave no sign for so many minutes; 0 watch nothing.

    `end` is called before, from another thread, with the trial's id and a sentence.
    """
    if not minutes:
        yield
        return
    finished = threading.Event()
    threading.Thread(
        target=_watch, args=(ray, 60 * minutes + 2 * EVERY, running, end, finished), name="pulses", daemon=True
    ).start()
    try:
        yield
    finally:
        finished.set()


def _watch(
    ray: Any,
    seconds: float,
    running: Callable[[], Collection[str]],
    end: Callable[[str, str], None],
    finished: threading.Event,
) -> None:
    heard: dict[str, tuple[bytes | None, float]] = {}  # the last sign of a trial's process, and since when
    looked = time.monotonic()
    while not finished.wait(EVERY):
        now = time.monotonic()
        if now - looked > 3 * EVERY:
            heard = {}  # this process was stopped itself
        looked, ids = now, set(running())
        heard = {trial_id: last for trial_id, last in heard.items() if trial_id in ids}
        for trial_id in ids:
            said = _read(trial_id)
            last, since = heard.setdefault(trial_id, (said, now))
            if said != last:
                heard[trial_id] = said, now
            elif said and now - since > seconds:
                end(trial_id, f"its process gave no sign of life for {seconds / 60:.3g} minutes")
                _kill_there(ray, said)
                heard[trial_id] = said, now


def _read(trial_id: str) -> bytes | None:
    from ray.experimental import internal_kv

    with suppress(Exception):  # see `cluster.watched`
        said: bytes | None = internal_kv._internal_kv_get(trial_id, namespace=ROOM)
        return said
    return None


def _kill_there(ray: Any, said: bytes) -> None:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node, mark, _ = json.loads(said)
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    with suppress(Exception):  # a node that is gone has taken the process with it
        ray.remote(_kill).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(mark)


def _kill(mark: str) -> None:
    """Kill the process of that mark, if it is still that process."""
    if process.lives(mark, 0):
        os.kill(int(mark.split("/")[1]), signal.SIGKILL)
