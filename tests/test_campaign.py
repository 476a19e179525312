"""The fault campaign judges rightly by hand-made traces, and a tiny one really runs."""

import json
import os
import subprocess
import sys
import time

import pytest
from campaign import judge, report
from campaign.faults import Hit
from campaign.observation import Ledger, Line, finished
from campaign.study import CHECKPOINT_SECONDS
from small_studies import TESTS

A, B = "aaaa", "bbbb"


def trace(*lines: tuple[str, int, int, float]) -> list[Line]:
    return [Line(*line) for line in lines]


CALM = trace((A, 1, 7, 0.0), (A, 2, 7, 2.0), (A, 0, 7, 4.0), (B, 1, 7, 5.0), (B, 2, 7, 7.0), (B, 0, 7, 9.0))
# Process 7 dies in the second epoch of A; 8 starts again from the first, for no state was saved yet.
KILLED = trace((A, 1, 7, 0.0), (A, 2, 7, 2.0), (A, 1, 8, 10.0), (A, 2, 8, 12.0), (A, 0, 8, 14.0))


def test_an_epoch_is_finished_when_its_process_goes_on_with_the_trial():
    assert [(end.trial, end.epoch, end.time) for end in finished(CALM)] == [
        (A, 1, 2.0),
        (A, 2, 4.0),
        (B, 1, 7.0),
        (B, 2, 9.0),
    ]
    assert [(end.pid, end.epoch) for end in finished(KILLED)] == [(7, 1), (8, 1), (8, 2)]


def test_repeated_epochs_are_those_trained_to_their_end_twice():
    assert judge.repeated(CALM, {A, B}) == 0
    assert judge.repeated(KILLED, {A, B}) == 1
    assert judge.repeated(KILLED, {B}) == 0


def test_the_interval_is_as_many_epochs_as_it_can_hold():
    apart = CHECKPOINT_SECONDS * 0.4  # between epochs
    assert judge.interval(trace((A, 1, 7, 0.0), (A, 2, 7, 9.0), (A, 0, 7, 9.0 + apart))) == 3
    assert judge.interval(CALM) == 1


@pytest.fixture
def ledger(tmp_path):
    watch = Ledger(tmp_path)
    yield watch
    watch.close()


def store(folder, trial: str, content: str, status: str = "done") -> None:
    place = folder / "trials" / trial
    place.mkdir(parents=True, exist_ok=True)
    (place / "per_image.npz").write_text(content)
    (place / "result.json").write_text(json.dumps({"result": {"status": status}, "content": content}))


def test_a_result_that_changes_or_goes_is_lost(ledger, tmp_path):
    store(tmp_path, A, "one")
    store(tmp_path, B, "one", status="failed")
    ledger.look()
    assert judge.lost(ledger) == 0
    store(tmp_path, B, "another")  # a failure that was tried again loses nothing
    ledger.look()
    assert judge.lost(ledger) == 0
    store(tmp_path, A, "another")
    ledger.look()
    assert judge.lost(ledger) == 1


def test_a_result_that_the_campaign_damaged_itself_is_not_lost(ledger, tmp_path):
    store(tmp_path, A, "one")
    ledger.look()
    (tmp_path / "trials" / A / "result.json").write_text("{")
    ledger.forget(A)
    store(tmp_path, A, "another")
    ledger.look()
    assert judge.lost(ledger) == 0
    (tmp_path / "trials" / A / "result.json").unlink()
    ledger.look()
    assert judge.lost(ledger) == 1


def test_a_trial_is_run_twice_when_it_is_trained_after_its_result(ledger, tmp_path):
    store(tmp_path, A, "one")
    ledger.look()
    now = time.time()
    assert judge.twice(ledger, trace((A, 2, 7, now - 60), (A, 0, 7, now + 60))) == 0  # to evaluate is not to train
    assert judge.twice(ledger, trace((A, 2, 7, now - 60), (A, 1, 8, now + 60))) == 1


def test_it_resumes_when_a_stopped_trial_ends_an_epoch_elsewhere(ledger):
    both = sorted([*KILLED, *trace((B, 1, 9, 3.0), (B, 2, 9, 5.0))], key=lambda line: line.time)
    assert judge.seconds_to_resume(Hit(3.0, {7: A}), both, ledger) == 9.0
    assert judge.seconds_to_resume(Hit(3.0), both, ledger) == 2.0  # nobody was stopped: any epoch counts
    assert judge.seconds_to_resume(Hit(20.0, {8: A}), both, ledger) is None


def test_what_drivers_say_is_sorted(tmp_path):
    log = tmp_path / "run1.log"
    log.write_text(
        "control seed 0  epoch 1/5  loss 0.5\n[2026-01-01 00:00:00,000 E 1 1] core.cc:1: gone\n"
        f"Traceback (most recent call last):\nablate: {tmp_path}/results/state: damaged\n"
    )
    found = judge.said([log])
    assert (found["tracebacks"], found["noise"]) == (1, 1)
    assert found["said"] == ["ablate: results/state: damaged"]


ROW = {
    "complete": True, "lost": 0, "twice": 0, "repeated": 1, "repeated_of_damaged": 0, "interval": 2, "equal": True,
    "resume_seconds": 12.4, "statuses": [-9, 0], "tracebacks": 0, "noise": 0, "said": [], "orphans": 0, "notes": [],
    "mlflow": {"track": 0, "running": 0, "wrong": 0, "doubled": 0},
}  # fmt: skip


def test_the_page_holds_the_numbers_of_the_rows():
    from campaign.__main__ import about, sound

    rows = [{**ROW, "fault": "driver"}, {**ROW, "fault": "driver", "repeated": 2, "resume_seconds": 20.0, "lost": 1}]
    document = {"about": {**about(0), "minutes": 3}, "rows": rows}
    page = report.markdown(document)
    line = next(line for line in page.splitlines() if line.startswith("| SIGKILL the driver"))
    assert line == "| SIGKILL the driver | 2 | 1 | 0 | 2 | 2 | 2 of 2 | 16 | 20 | 2 runs at most |"
    assert [sound(row) for row in rows] == [True, False]


@pytest.mark.cluster
def test_a_tiny_campaign_keeps_its_promises(tmp_path):
    """A worker and a driver are killed; nothing is lost, nothing run twice, nothing left behind."""
    command = [sys.executable, "-m", "campaign", "--only", "worker", "--only", "driver", "--injections", "2"]
    environment = os.environ | {"PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
    run = subprocess.run(
        [*command, "--to", str(tmp_path)], env=environment, capture_output=True, text=True, timeout=3000, check=False
    )
    assert run.returncode == 0, run.stderr
    rows = json.loads((tmp_path / "reliability.json").read_text())["rows"]
    assert [row["fault"] for row in rows] == ["worker", "driver"]
    assert all(row["equal"] and not row["lost"] and not row["twice"] for row in rows)
    assert (tmp_path / "reliability.md").read_text().startswith("# Reliability")
