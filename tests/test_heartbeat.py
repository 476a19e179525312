"""A process without a sign of life is told from one that is slow."""

import threading
import time

import pytest

from ablate.heartbeat import beat, watched


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
