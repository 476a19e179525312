"""A run is asked to stop by real signals to this process: once it is told, twice or too late it is thrown out."""

import os
import signal
import time

import pytest

from ablate.machine import Stop


def wait() -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGHUP, 129)],
    ids=str,
)
def test_the_first_signal_asks_and_the_second_throws(number, status):
    before = signal.getsignal(number)
    with Stop(grace=60) as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked
        assert stop.status == status
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # the way out is not left half-way
    assert signal.getsignal(number) == before


def test_what_nohup_started_outlives_its_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop(grace=60) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_grace_ends():
    with Stop(grace=0.2) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            wait()
    assert (stop.asked, stop.status) == ("SIGTERM", 143)


def test_the_limit_of_time_asks_then_throws():
    with Stop(minutes=0.001, grace=0.2) as stop, pytest.raises(KeyboardInterrupt):
        wait()
    assert (stop.asked, stop.status) == ("the limit of --minutes", 124)


def test_no_alarm_is_left_behind():
    with Stop(minutes=0.01):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_signal_that_a_library_took_is_taken_back():
    with Stop(grace=60) as stop:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        stop.listen()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.asked
