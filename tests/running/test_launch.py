"""Real Ray on two processors: all trials end up stored, whatever dies on the way."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from launched import results, small_recipe
from small_studies import COMMAND, small_study, write_study

from ablate.errors import ServiceError
from ablate.running.ray import cluster
from ablate.study import Budget


def test_all_trials_run_on_ray_as_they_run_here(ablate, tmp_path):
    """Two processors, four trials, equal bit for bit to the loop without Ray; the second run has nothing to do."""
    study = write_study(tmp_path)
    run = ablate("run", study)
    assert run.returncode == 0, run.stderr
    assert "4 trials ran, none failed" in run.stderr
    assert len([line for line in run.stderr.splitlines() if "  epoch " in line]) == 12
    assert "Traceback" not in run.stderr
    here = ablate("run", study, "--local", "--results", "here")
    assert here.returncode == 0, here.stderr
    one, other = results(tmp_path / "results"), results(tmp_path / "here")
    assert len(one) == 4
    assert one == other
    assert all(np.isfinite(list(scores.values())).all() for _, scores, _, _ in one.values())
    assert not list((tmp_path / "results" / "trials").glob("*/state"))


@pytest.mark.slow
def test_results_have_the_modes_that_the_user_wants(ablate, tmp_path):
    """Ray is started under a narrow mask, for its token; a lab's shared folder is not to be closed to the others."""
    mask = os.umask(0o027)
    try:
        run = ablate("run", write_study(tmp_path, seeds=1))
    finally:
        os.umask(mask)
    assert run.returncode == 0, run.stderr
    found = list((tmp_path / "results" / "trials").glob("*/result.json"))
    assert {file.stat().st_mode & 0o777 for file in found} == {0o640}
    assert {file.parent.stat().st_mode & 0o777 for file in found} == {0o750}


@pytest.mark.slow
def test_workers_are_kept_between_trials(ablate, tmp_path):
    """Twelve trials in as few processes as run at once, told by the pids that wrote them."""
    trace = tmp_path / "pids"
    run = ablate("run", write_study(tmp_path, seeds=6, budget={"parallel": 1}), env={"SMALL_PARTS_PIDS": str(trace)})
    assert run.returncode == 0, run.stderr
    pids = trace.read_text().split()
    assert len(pids) == 12
    assert len(set(pids)) == 1


@pytest.mark.slow
def test_a_worker_that_dies_once_goes_on_from_its_state(ablate, tmp_path):
    """The second step of the second epoch kills the process; the next one takes up the first epoch's state."""
    calm = ablate("run", write_study(tmp_path, seeds=1), "--results", "calm", "--local")
    assert calm.returncode == 0, calm.stderr
    marker = tmp_path / "marker"
    recipe = small_recipe(fault="kill_once", at=5, marker=str(marker))
    study = write_study(tmp_path, recipe=recipe, seeds=1, budget={"checkpoint_minutes": 0})
    run = ablate("run", study)
    assert run.returncode == 0, run.stderr
    assert marker.exists()
    assert "2 trials ran, none failed" in run.stderr
    assert results(tmp_path / "results") == results(tmp_path / "calm")


@pytest.mark.slow
def test_a_trial_whose_process_always_dies_is_a_failed_result_and_the_others_go_on(ablate, tmp_path):
    factors = {"fault": {"at": "model.fault", "levels": {"none": "", "kill": "kill"}}}
    run = ablate("run", write_study(tmp_path, factors=factors, budget={"retries": 1}))
    assert run.returncode == 1, run.stderr
    assert run.stderr.splitlines()[-1] == "2 trials have failed; --retry trains them again"
    rows = json.loads(ablate("status", "small.yaml", "--json").stdout)
    assert {(row["arm"], row["status"]) for row in rows} == {("none", "done"), ("kill", "failed")}
    assert all(row["reason"] for row in rows if row["arm"] == "kill")
    assert "4 trials ran, 2 failed" in run.stderr
    assert {Path(line).stem for line in run.stdout.splitlines()} == {"report", "interactive"}  # and no remark of Ray's


@pytest.mark.slow
def test_trials_that_fail_or_diverge_are_results(ablate, tmp_path):
    factors = {"fault": {"at": "model.fault", "levels": {"none": "", "nan": "nan", "error": "error", "slip": "slip"}}}
    run = ablate("run", write_study(tmp_path, factors=factors, seeds=1))
    assert run.returncode == 1, run.stderr
    rows = {row["arm"]: row for row in json.loads(ablate("status", "small.yaml", "--json").stdout)}
    assert {arm: row["status"] for arm, row in rows.items()} == {
        "none": "done", "nan": "diverged", "error": "failed", "slip": "failed",
    }  # fmt: skip
    assert rows["nan"]["reason"] == "the loss was nan in epoch 1, step 1 of 3"
    assert rows["error"]["reason"] == "RuntimeError: the dots went astray"
    report = (tmp_path / "results" / "reports" / "small" / "report.md").read_text()
    assert report.count('raise RuntimeError("the dots') == report.count('raise KeyError("dots")') == 1


@pytest.mark.slow
def test_damage_that_only_a_worker_sees_is_one_line(ablate, tmp_path):
    recipe = small_study()["recipe"] | {"dataset": {"name": "noise", "damaged": 3, "unverified": True}}
    run = ablate("run", write_study(tmp_path, recipe=recipe))
    assert run.returncode == 2
    said = [line for line in run.stderr.splitlines() if line.startswith("ablate: ")]
    assert said == ["ablate: noise/3.png: is cut short"]
    assert "Traceback" not in run.stderr
    assert results(tmp_path / "results") == {}


def interrupted(ablate, tmp_path, *flags: str) -> tuple[int, str]:
    """Start a long run, wait for its first epoch, press Ctrl-C."""
    recipe = small_study()["recipe"]
    recipe["train"] |= {"epochs": 10}
    recipe["dataset"] = {"name": "noise", "train": 300}
    write_study(tmp_path, recipe=recipe, budget={"checkpoint_minutes": 0}, seeds=1)
    command = [*COMMAND, "run", "small.yaml", *flags]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=ablate.environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip
    seen = []
    for line in process.stderr:
        seen.append(line)
        if "epoch 1/" in line:
            break
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
    _, rest = process.communicate(timeout=120)
    return process.returncode, "".join(seen) + rest


@pytest.mark.slow
@pytest.mark.parametrize("flags", [["--local"], []], ids=["here", "ray"])
def test_ctrl_c_stops_cleanly_and_the_next_run_goes_on(ablate, tmp_path, flags):
    status, err = interrupted(ablate, tmp_path, *flags)
    assert status == 130, err
    assert "stopped; the same command continues from here" in err
    assert "Traceback" not in err
    states = list((tmp_path / "results" / "trials").glob("*/state"))
    assert states
    rows = json.loads(ablate("status", "small.yaml", "--json").stdout)
    assert "begun" in {row["status"] for row in rows}
    run = ablate("run", "small.yaml", *flags)
    assert run.returncode == 0, run.stderr
    cut = results(tmp_path / "results")
    whole = ablate("run", "small.yaml", "--local", "--results", "whole")
    assert whole.returncode == 0, whole.stderr
    assert cut == results(tmp_path / "whole")


@pytest.mark.slow
def test_two_drivers_share_the_work(ablate, tmp_path):
    """Started together on one folder: no trial is trained twice, and both end well."""
    trace = tmp_path / "pids"
    recipe = small_study()["recipe"] | {"dataset": {"name": "noise", "train": 300}}
    write_study(tmp_path, recipe=recipe, seeds=4)
    environment = ablate.environment | {"SMALL_PARTS_PIDS": str(trace)}
    drivers = [
        subprocess.Popen(
            [*COMMAND, "run", "small.yaml", "--local"], cwd=tmp_path, env=environment,
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    errors = [driver.communicate(timeout=300)[1] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], errors
    assert len(results(tmp_path / "results")) == 8
    assert len(trace.read_text().split()) == 8


@pytest.mark.slow
def test_a_client_address_is_refused_with_advice(ablate, tmp_path):
    run = ablate("run", write_study(tmp_path), "--address", "ray://127.0.0.1:10001")
    assert run.returncode == 2
    last = run.stderr.splitlines()[-1]
    assert last.startswith("ablate: --address ray://127.0.0.1:10001: ")
    assert "--address auto" in last
    assert not list((tmp_path / "results").glob("trials/*/result.json"))


@pytest.mark.slow
@pytest.mark.parametrize("address", ["auto", "PORT", "nonsense", "127.0.0.1:99999", "no.such.host.invalid:6379"])
def test_a_cluster_that_is_not_there_is_one_line(ablate, tmp_path, address):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = address.replace("PORT", f"127.0.0.1:{port}")
    begun = time.monotonic()
    run = ablate("run", write_study(tmp_path), "--address", where)
    assert time.monotonic() - begun < 90
    assert run.returncode == 2, run.stderr
    said = [line for line in run.stderr.splitlines() if line.startswith("ablate: ")]
    assert len(said) == 1
    assert where in said[0]
    assert "Traceback" not in run.stderr


def test_a_trial_that_fits_on_no_node_is_refused():
    node = {"Alive": True, "Resources": {"CPU": 2.0}}
    dead = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
    budget = Budget(cpus=4, gpus=1)
    sizes = [{"Alive": True, "Resources": {"CPU": cpus}} for cpus in (8.0, 64.0, 9.0)]
    with pytest.raises(ServiceError, match="the largest node has 64 CPUs and 0 GPUs"):
        cluster.refuse_unplaceable(sizes, budget)
    with pytest.raises(ServiceError, match="needs 4 CPUs and 1 GPUs, the largest node has 2 CPUs and 0 GPUs"):
        cluster.refuse_unplaceable([node, dead], budget)
    cluster.refuse_unplaceable([node, {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}}], budget)


def test_the_processes_of_a_trial_may_lie_on_several_nodes():
    nodes = [{"Alive": True, "Resources": {"CPU": 5.0}} for _ in range(2)]
    cluster.refuse_unplaceable(nodes, Budget(cpus=2, processes=4))
    with pytest.raises(
        ServiceError, match="5 processes of a trial need 2 CPUs and 0 GPUs each, the largest node has 5"
    ):
        cluster.refuse_unplaceable(nodes, Budget(cpus=2, processes=5))
    with_gpus = [{"Alive": True, "Resources": {"CPU": 5.0, "GPU": gpus}} for gpus in (3.0, 1.0)]
    cluster.refuse_unplaceable(with_gpus, Budget(cpus=1, gpus=4))
    with pytest.raises(ServiceError, match="5 processes of a trial need 1 CPUs and 1 GPUs each"):
        cluster.refuse_unplaceable(with_gpus, Budget(cpus=1, gpus=5))


def test_local_and_address_exclude_each_other(ablate, tmp_path):
    run = ablate("run", write_study(tmp_path), "--local", "--address", "auto")
    assert run.returncode == 2
    assert run.stderr.startswith("ablate: --local and --address")


def test_the_command_is_the_same_as_the_module(ablate):
    script = Path(sys.executable).with_name("ablate")
    found = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("Usage: ablate ")
    assert ablate("--help").stdout.split()[-100:] == found.stdout.split()[-100:]
