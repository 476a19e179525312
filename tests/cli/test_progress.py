"""The lines of a run in a pipe."""

import pytest
from small_studies import write_study

from ablate.cli import progress
from ablate.planning.open_study import opened
from ablate.storage import Epoch, Store


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is set."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.usefixtures("small_shelf")
def test_epochs_of_before_say_nothing_about_the_time_left(tmp_path, clock, capsys):
    """A trial that goes on tells its first epochs again, within a moment; only the third was trained now."""
    design = opened(write_study(tmp_path), scale=None, results=tmp_path / "results", data=tmp_path)
    first = design.trials[0]
    with progress.Progress(design, design.trials, Store(tmp_path / "results")) as shown:
        shown.started(first)
        for number in (1, 2, 3):
            clock[0] += 60.0 if number == 3 else 0.1
            shown.epoch(first, Epoch(epoch=number, loss=1.0, lr=0.1, seconds=55.0, images_per_second=9.0))
    told = capsys.readouterr().err.splitlines()
    assert [line.rsplit("img/s  ")[1] for line in told[1:]] == ["time left unknown"] * 2 + ["9 min left"]
