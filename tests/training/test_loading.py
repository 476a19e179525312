"""Processes that load data may be killed or told to end: the trial is not at fault, and goes on from its state."""

import errno
import os
import signal
import threading
import time
import traceback
from multiprocessing import connection
from pathlib import Path

import psutil
import pytest
from trained import finish, site, trials

from ablate.errors import LoadingError, StoreError, TeamError
from ablate.storage import Result, Store
from ablate.training.batches import served
from ablate.training.reports import reports
from ablate.training.run_trial import run_trial

pytestmark = pytest.mark.usefixtures("small_shelf")


def hit(number: int, *, after: threading.Event) -> threading.Thread:
    """Sends every loading process of this one the signal, when the event is set and some are there."""

    def strike() -> None:
        after.wait()
        while not (loaders := psutil.Process().children()):
            time.sleep(0.01)
        for loader in loaders:
            os.kill(loader.pid, number)

    thread = threading.Thread(target=strike, daemon=True)
    thread.start()
    return thread


def finish_while(number: int, trial, place) -> Result | None:
    """The trial's result, with the signal sent to its loading processes after the first epoch."""
    first, events = threading.Event(), []
    thread = hit(number, after=first)
    try:
        for event in run_trial(trial, place):
            events.append(event)
            first.set()
    finally:
        first.set()
        thread.join(timeout=20)
    return next((event for event in events if isinstance(event, Result)), None)


def test_a_killed_loader_costs_a_try_and_not_the_trial(tmp_path):
    trial = trials(tmp_path, train={"epochs": 60})[0]
    calm, hard = site(tmp_path, "calm"), site(tmp_path, "hard", workers=2, checkpoint_minutes=0)
    with pytest.raises(TeamError, match="a data-loading process died") as caught:
        finish_while(signal.SIGKILL, trial, hard)
    assert "\n" not in str(caught.value)
    assert Store(hard.results).read().results == {}
    again, undisturbed = (finish(trial, place)[1] for place in (hard, calm))
    assert again.scores == undisturbed.scores
    assert [row.loss for row in again.curve] == [row.loss for row in undisturbed.curve]


def test_a_job_that_is_told_to_end_keeps_its_loaders_for_the_epoch(tmp_path):
    """Batch systems send SIGTERM to every process of a job; this one may go on until its epoch has ended."""
    trial = trials(tmp_path, train={"epochs": 20})[0]
    result = finish_while(signal.SIGTERM, trial, site(tmp_path, workers=2))
    assert result
    assert result.status == "done"
    assert {child.status() for child in psutil.Process().children()} <= {psutil.STATUS_ZOMBIE}


def test_a_state_that_cannot_be_saved_when_a_trial_is_closed_is_said(tmp_path, monkeypatch):
    """The disk is full, and the user stops the run: one line, as StoreErrors are, and no broken generator."""
    trial, place = trials(tmp_path, train={"epochs": 20})[0], site(tmp_path)

    def full(*_, **__):
        raise StoreError("no room left on the disk")

    Store(place.results).create()
    told = reports(trial, place)
    assert "row" in next(told)
    monkeypatch.setattr(Store, "save", full)
    with pytest.raises(StoreError, match="no room left"):
        told.close()


def test_a_worker_that_does_not_see_the_drivers_folder_trains_nothing(tmp_path):
    """A node that came late, without the storage: it would train into its own disk, where nobody looks."""
    trial, place = trials(tmp_path)[0], site(tmp_path)
    (report,) = reports(trial, place)
    assert "store.json: missing here; are the results mounted on " in report["trouble"]
    Store(place.results).create()
    told = reports(trial, place)
    assert "row" in next(told)
    (Path(place.results) / "store.json").unlink()  # it goes while a trial trains
    assert "store.json: missing here" in list(told)[-1]["trouble"]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ESTALE, errno.ENOSPC])
def test_what_the_machine_lacks_is_no_result(tmp_path, monkeypatch, number):
    trial, place = trials(tmp_path)[0], site(tmp_path)

    def fails(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("ablate.training.run_trial.evaluate", fails)
    with pytest.raises(StoreError, match="run again to continue from its last state"):
        finish(trial, place)
    assert Store(place.results).read().results == {}


def test_other_errors_are_left_alone():
    with pytest.raises(RuntimeError, match="shapes"), served():
        raise RuntimeError("shapes do not fit")


def test_torchs_signal_while_a_closed_pipe_is_looked_at_is_the_same_end(monkeypatch):
    def signalled(_):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    ours, theirs = connection.Pipe()
    theirs.close()
    monkeypatch.setattr(traceback, "walk_tb", signalled)
    with pytest.raises(LoadingError, match=r"a data-loading process died .*killed by signal"), served():
        ours.recv()
