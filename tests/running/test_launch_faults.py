"""What dies on the way, on real Ray: trials that hang, run out of memory, or lose their node; the head of a cluster."""

import json
import subprocess
import time

import pytest
from launched import results, small_recipe
from small_cluster import small_cluster
from small_studies import COMMAND, small_study, write_study

pytestmark = pytest.mark.cluster
TINY = 0.5  # minutes: much longer than a step of these trials, also on a busy machine


def rows(ablate) -> dict[str, dict]:
    return {row["arm"]: row for row in json.loads(ablate("status", "small.yaml", "--json").stdout)}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("hang_once", "no training step or evaluation batch ended for 0.5 minutes (in "),
        ("stop_once", "its process gave no sign of life for 0.833 minutes"),
    ],
)
def test_a_trial_that_hangs_is_ended_and_goes_on_from_its_state(ablate, tmp_path, fault, said):
    calm = ablate("run", write_study(tmp_path, seeds=1), "--results", "calm", "--local")
    assert calm.returncode == 0, calm.stderr
    recipe = small_recipe(fault=fault, at=5, marker=str(tmp_path / "marker"))
    study = write_study(tmp_path, recipe=recipe, seeds=1, budget={"checkpoint_minutes": 0, "hang_minutes": TINY})
    run = ablate("run", study)
    assert run.returncode == 0, run.stderr
    assert said in run.stderr
    assert "2 trials ran, none failed" in run.stderr
    assert results(tmp_path / "results") == results(tmp_path / "calm")


def test_a_trial_that_always_hangs_is_a_failed_result_that_says_so(ablate, tmp_path):
    factors = {"fault": {"at": "model.fault", "levels": {"none": "", "hang": "hang"}}}
    run = ablate("run", write_study(tmp_path, factors=factors, seeds=1, budget={"retries": 1, "hang_minutes": TINY}))
    assert run.returncode == 1, run.stderr
    found = rows(ablate)
    assert found["none"]["status"] == "done"
    assert found["hang"]["status"] == "failed"
    assert found["hang"]["reason"].startswith("tried 2 times: no training step or evaluation batch ended for 0.5 min")


def test_a_hang_without_ray_ends_the_run_with_one_line(ablate, tmp_path):
    recipe = small_recipe(fault="hang", at=5)
    study = write_study(tmp_path, recipe=recipe, seeds=1, budget={"checkpoint_minutes": 0, "hang_minutes": TINY})
    run = ablate("run", study, "--local")
    assert run.returncode == 2
    last = run.stderr.splitlines()[-1]
    assert last.startswith("ablate: no training step or evaluation batch ended for 0.5 minutes (in ")
    assert last.endswith("; stopped; the same command continues from the last state")
    assert not list((tmp_path / "results").glob("trials/*/result.json"))


ON_A_SHARED_DEVICE = """
import sys
from dataclasses import replace
from ablate.running import drive
run_on_ray = drive.run_on_ray
def without_gpu(site):
    return replace(site, budget=site.budget.model_copy(update={"gpus": 0.0}))
# Ray counts a GPU that torch does not see: trials run on the CPU.
drive.run_on_ray = lambda trials, site, *rest, **more: run_on_ray(trials, without_gpu(site), *rest, **more)
from ablate.cli import main
main()
"""


@pytest.mark.parametrize(("fault", "status"), [("oom_once", "done"), ("oom", "failed"), ("cublas_once", "done")])
def test_who_runs_out_of_memory_beside_others_is_tried_again_alone(ablate, tmp_path, fault, status):
    recipe = small_recipe(fault=fault, at=2, marker=str(tmp_path / "marker"))
    write_study(tmp_path, recipe=recipe, seeds=1, budget={"gpus": 0.5, "retries": 0})
    with small_cluster(ablate.environment, {"num_cpus": 2, "num_gpus": 1}) as cluster:
        run = subprocess.run(
            [COMMAND[0], "-c", ON_A_SHARED_DEVICE, "run", "small.yaml", "--address", cluster.address],
            cwd=tmp_path, env=ablate.environment, capture_output=True, text=True, timeout=500, check=False,
        )  # fmt: skip
    assert run.returncode == 0, run.stderr
    said = "CUBLAS_STATUS_ALLOC_FAILED when calling a toy" if "cublas" in fault else "Tried to allocate a toy."
    assert f"{said}; at the end it has a device alone" in run.stderr
    found = rows(ablate)
    assert status in {row["status"] for row in found.values()}
    if fault == "oom":
        reasons = {row["reason"] for row in found.values()}
        assert reasons == {"OutOfMemoryError: CUDA out of memory. Tried to allocate a toy."}


def driver(ablate, tmp_path, address: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*COMMAND, "run", "small.yaml", "--address", address], cwd=tmp_path, env=ablate.environment,
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def long_study(folder, epochs: int) -> None:
    recipe = small_study()["recipe"]
    recipe["train"] |= {"epochs": epochs}
    recipe["dataset"] = {"name": "noise", "train": 300}
    write_study(folder, recipe=recipe, seeds=1, budget={"checkpoint_minutes": 0, "retries": 0})


def until_first_epoch(process: subprocess.Popen) -> None:
    for line in process.stderr:
        if "epoch 1/" in line:
            return
    raise AssertionError("no epoch ended")


@pytest.mark.slow
def test_a_node_that_dies_uses_up_no_retries(ablate, tmp_path):
    """With none allowed, trials whose node is killed go on elsewhere, from their state."""
    long_study(tmp_path, epochs=60)
    labels = {"labels": {"gpu-type": "toy"}}
    with small_cluster(ablate.environment, {"num_cpus": 2, **labels}) as cluster:
        process = driver(ablate, tmp_path, cluster.address)
        until_first_epoch(process)
        cluster.kill_node(0)
        cluster.add(num_cpus=2, **labels)
        _, rest = process.communicate(timeout=500)
    assert process.returncode == 0, rest
    assert "it is tried again" in rest
    assert "2 trials ran, none failed" in rest
    whole = ablate("run", "small.yaml", "--local", "--results", "whole")
    assert whole.returncode == 0, whole.stderr
    assert results(tmp_path / "results") == results(tmp_path / "whole")


def test_a_head_that_dies_ends_the_driver_with_one_line(ablate, tmp_path):
    long_study(tmp_path, epochs=100_000)
    with small_cluster(ablate.environment, {"num_cpus": 2}) as cluster:
        process = driver(ablate, tmp_path, cluster.address)
        until_first_epoch(process)
        cluster.kill_head()
        begun = time.monotonic()
        _, rest = process.communicate(timeout=300)
    assert time.monotonic() - begun < 300
    assert process.returncode == 2, rest
    said = [line for line in rest.splitlines() if line.startswith("ablate: ")]
    assert len(said) == 1
    assert cluster.address in said[0]
    assert "Traceback" not in rest
    assert not list((tmp_path / "results").glob("trials/*/result.json"))


def test_trials_go_where_the_labels_say(ablate, tmp_path):
    recipe = small_recipe()
    write_study(tmp_path, recipe=recipe, seeds=1, budget={"labels": {"gpu-type": "a100"}})
    plain, labelled = {"num_cpus": 2}, {"num_cpus": 1, "labels": {"gpu-type": "a100"}}
    with small_cluster(ablate.environment, plain) as cluster:
        refused = ablate("run", "small.yaml", "--address", cluster.address)
        cluster.add(**labelled)
        run = ablate("run", "small.yaml", "--address", cluster.address)
    assert refused.returncode == 2
    assert "budget.labels: no node has the labels gpu-type=a100" in refused.stderr
    assert run.returncode == 0, run.stderr
    assert "2 trials ran, none failed" in run.stderr
