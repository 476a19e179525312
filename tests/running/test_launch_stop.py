"""A run that is stopped, by whom ever: states are saved, nothing is left running, the same command goes on."""

import json
import os
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from launched import results
from small_studies import COMMAND, small_study, write_study

BOTH = pytest.mark.parametrize("flags", [["--local"], []], ids=["here", "ray"])
pytestmark = pytest.mark.cluster
SLOW_STATES = """
import time
from ablate import registry
from ablate.training import fit
whole = fit.Training.state
fit.Training.state = lambda training: (time.sleep(15), whole(training))[1]
@registry.model("nothing", meaning=1)
def nothing():
    pass
"""


def long_study(folder, epochs=10, train=300, **budget) -> None:
    """One that saves no state before its last epoch unless it is stopped."""
    recipe = small_study()["recipe"]
    recipe["train"] |= {"epochs": epochs}
    recipe["dataset"] = {"name": "noise", "train": train}
    write_study(folder, recipe=recipe, budget={"checkpoint_minutes": 1000, **budget}, seeds=1)


def started(ablate, tmp_path, *flags: str) -> tuple[subprocess.Popen, list[str]]:
    """A run whose first epoch has ended, in a session of its own."""
    process = subprocess.Popen(
        [*COMMAND, "run", "small.yaml", *flags], cwd=tmp_path, env=ablate.environment, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    seen = []
    for line in process.stderr:
        seen.append(line)
        if "epoch 1/" in line:
            break
    return process, seen


def running(session: int, name: str = "") -> list[str]:
    """The processes of a session, or those that are called so."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            begin, _, rest = stat.read_text().rpartition(")")
            fields = rest.split()
            if int(fields[3]) == session and fields[0] != "Z" and f"({name}" in begin:
                found.append(stat.parent.name)
    return found


def left_behind(session: int) -> list[str]:
    """Processes of a session that are still there after a while."""
    for _ in range(60):
        if not (found := running(session)):
            return []
        time.sleep(1)
    return found


@pytest.fixture
def temporary(ablate):
    """A folder for temporary files whose path is short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="t") as name:
        ablate.environment["TMPDIR"] = name
        yield Path(name)


@BOTH
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGHUP, 129)],
    ids=["term", "usr1", "hup"],
)  # fmt: skip
def test_a_signal_stops_at_the_end_of_the_epoch_with_states_saved(ablate, temporary, tmp_path, flags, number, status):
    long_study(tmp_path)
    process, seen = started(ablate, tmp_path, *flags, "--grace", "120")
    if number == signal.SIGHUP:  # a terminal that closes sends it to all that was started from it
        os.killpg(process.pid, number)
    else:  # a batch system to the driver
        os.kill(process.pid, number)
    _, rest = process.communicate(timeout=300)
    assert process.returncode == status, [*seen, rest]
    assert rest.splitlines()[-1].endswith(": stopped; the same command continues from here")
    assert "Traceback" not in rest
    states = list((tmp_path / "results" / "trials").glob("*/state"))
    assert states  # though none was due
    assert not left_behind(process.pid)
    assert not [path for path in temporary.iterdir() if not path.name.startswith("torch")]  # torch keeps a cache
    run = ablate("run", "small.yaml", *flags)
    assert run.returncode == 0, run.stderr
    whole = ablate("run", "small.yaml", "--local", "--results", "whole")
    assert whole.returncode == 0, whole.stderr
    assert results(tmp_path / "results") == results(tmp_path / "whole")


def test_a_signal_while_ray_starts_is_heard(ablate, tmp_path):
    """Batch systems take a job back at any moment; nothing has begun, so nothing is left."""
    long_study(tmp_path)
    process = subprocess.Popen(
        [*COMMAND, "run", "small.yaml"], cwd=tmp_path, env=ablate.environment, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not running(process.pid, "gcs_server"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    _, rest = process.communicate(timeout=120)
    assert process.returncode == 143, rest
    assert rest.splitlines()[-1].endswith("SIGTERM: stopped; the same command continues from here")
    assert not left_behind(process.pid)


def test_a_large_state_has_all_the_grace_to_be_saved(ablate, tmp_path):
    """Tune kills an actor that takes more than 10 s to stop; a state of a GB on a busy file system does."""
    (tmp_path / "slow_parts.py").write_text(SLOW_STATES)
    ablate.environment["PYTHONPATH"] += f"{os.pathsep}{tmp_path}"
    long_study(tmp_path, epochs=300, parallel=1)
    document = json.loads((tmp_path / "small.yaml").read_text())
    (tmp_path / "small.yaml").write_text(json.dumps(document | {"plugins": ["small_parts", "slow_parts"]}))
    process, _ = started(ablate, tmp_path, "--grace", "60")
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=300)
    assert process.returncode == 143
    assert len(list((tmp_path / "results" / "trials").glob("*/state"))) == 1


@pytest.mark.slow
@BOTH
def test_ctrl_c_twice_is_out_at_once(ablate, tmp_path, flags):
    """Epochs that take long do not hold it up; no process stays, nothing is damaged."""
    long_study(tmp_path, epochs=3, train=4000)
    process, _ = started(ablate, tmp_path, *flags, "--grace", "1000")
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, rest = process.communicate(timeout=120)
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert not left_behind(process.pid)
    assert {row["status"] for row in json.loads(ablate("status", "small.yaml", "--json").stdout)} <= {
        "missing",
        "begun",
    }


@BOTH
def test_the_limit_of_time_ends_a_run_whose_epochs_do_not(ablate, tmp_path, flags):
    long_study(tmp_path, epochs=3, train=2_000_000)
    run = ablate("run", "small.yaml", *flags, "--minutes", "0.3", "--grace", "1")
    assert run.returncode == 124, run.stderr
    assert run.stderr.splitlines()[-1] == "the limit of --minutes: stopped; the same command continues from here"
    assert "Traceback" not in run.stderr


@pytest.mark.slow
@BOTH
def test_one_trial_is_cancelled_and_the_others_go_on(ablate, tmp_path, flags):
    long_study(tmp_path, epochs=60)
    process, seen = started(ablate, tmp_path, *flags)
    trial = next((tmp_path / "results" / "trials").iterdir()).name
    cancel = ablate("cancel", trial[:8] if flags else trial)
    assert cancel.returncode == 0, cancel.stderr
    _, rest = process.communicate(timeout=500)
    assert process.returncode == 0, [*seen, rest]
    assert "1 trials ran, none failed; 1 were cancelled, and the same command trains them" in rest
    rows = {row["id"]: row["status"] for row in json.loads(ablate("status", "small.yaml", "--json").stdout)}
    assert rows.pop(trial) == "begun"
    assert list(rows.values()) == ["done"]
    again = ablate("run", "small.yaml", "--local")
    assert "1 trials ran, none failed\n" in again.stderr
    assert not list((tmp_path / "results" / "trials").glob("*/cancel"))
