"""A process without a sign of life is told from one that is slow."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from ablate.machine import beat
from ablate.machine.watchdog import watched


def test_what_hangs_is_ended_and_says_where():
    ended, said = threading.Event(), []

    def end(reason):
        said.append(reason)
        ended.set()

    with watched(0.005, end):
        assert ended.wait(60)
    assert said[0].startswith("no training step or evaluation batch ended for 0.005 minutes (in ")


@pytest.mark.parametrize("minutes", [0, 0.05])
def test_what_is_slow_is_left_alone(minutes):
    """Longer than the limit in all, and every step well below it."""
    said = []
    with watched(minutes, said.append):
        for _ in range(60):
            time.sleep(0.06)
            beat()
    assert not said


def test_an_ended_watch_ends_nobody():
    said = []
    with watched(0.005, said.append):
        pass
    time.sleep(1)
    assert not said


STOPPED = """
import time
from ablate.machine import watchdog
watchdog.SLICE = 0.2
with watchdog.watched(1.5 / 60, lambda reason: print("ended", flush=True)):
    print("begun", flush=True)
    time.sleep(1)
"""


def test_a_process_that_was_stopped_for_long_is_not_taken_for_hanging():
    """Ctrl-Z and `fg`, or a batch system that suspends jobs."""
    with subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(3)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read() == ""
