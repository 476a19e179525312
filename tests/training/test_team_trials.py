"""Trials that several processes train: the numbers of one process, and nothing lost when one of them dies."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from launched import results
from small_studies import COMMAND, small_study, write_study
from trained import at

from ablate.errors import DataError, StoreError, TeamError
from ablate.machine import origin
from ablate.storage import Result, Store
from ablate.study import Part, Recipe, TrainSpec, Trial
from ablate.training.run_trial import run_trial

pytestmark = pytest.mark.slow

TASKS = {"pose": {"size": [64, 64], "sigma": 1.0}, "segmentation": {"size": [64, 64]}}
UNET, HRNET = ("unet", {"width": 4}), ("hrnet", {"width": 4, "blocks": 1, "stage1_blocks": 1})
ADAM = {"optimizer": "adam", "lr": 1e-4}
SGD = {"optimizer": "sgd", "momentum": 0.9, "lr": 1e-2, "weight_decay": 1e-3}
# Small steps for HRNet: at this width rounding alone drives two runs of one process apart, see DECISIONS.md.
CAREFUL_POSE = {"optimizer": "adam", "lr": 1e-5}
CAREFUL_MAPS = {"optimizer": "sgd", "lr": 1e-4, "init": "normal"}


def drawn_trial(task: str, model: tuple[str, dict], *, size: int = 64, train: int = 20, **spec) -> Trial:
    """Drawn people in batches of 9: 20 of them leave 2 for the last batch, 23 leave 5."""
    return built(
        Part(name=task, knobs=TASKS[task] | {"size": [size, size]}),
        Part(name="figures", knobs={"train": train, "val": 7}),
        Part(name=model[0], knobs=model[1]),
        **({"batch": 9, "epochs": 3, "memory_format": "contiguous"} | spec),
    )


def dots(train: int = 18, epochs: int = 3, *, data: dict = {}, **model) -> Trial:  # noqa: B006
    return built(
        Part(name="brightness"), Part(name="noise", knobs={"train": train} | data), Part(name="dots", knobs=model),
        epochs=epochs, batch=8, lr=0.01,
    )  # fmt: skip


def built(task: Part, dataset: Part, model: Part, **spec) -> Trial:
    train = TrainSpec(**({"precision": "fp32"} | spec))
    recipe = Recipe(task=task, dataset=dataset, model=model, train=train).settled(on_gpu=False)
    return Trial(arm={}, seed=0, recipe=recipe, meanings=recipe.meanings())


def finish(trial: Trial, folder: Path, processes: int = 1, **site) -> Result:
    *_, last = run_trial(trial, at(folder, processes=processes, **site))
    assert isinstance(last, Result)
    return last


def losses(result: Result) -> list[float]:
    assert result.status == "done", result.reason
    return [row.loss for row in result.curve]


# --- the same numbers


@pytest.mark.parametrize(
    ("trial", "most"),
    [
        (drawn_trial("pose", UNET, **ADAM), 3),
        (drawn_trial("segmentation", UNET, train=23, **SGD), 3),
        (drawn_trial("pose", HRNET, size=96, train=23, **CAREFUL_POSE | {"epochs": 2}), 2),
        (drawn_trial("segmentation", HRNET, train=23, **CAREFUL_MAPS), 2),
    ],
    ids=["pose, U-Net", "segmentation, U-Net", "pose, HRNet", "segmentation, HRNet"],
)
def test_processes_together_give_the_loss_curve_of_one(tmp_path, trial, most):
    """To 1e-4 on equal batches, which do not divide among them, and whose last one is smaller."""
    alone = finish(trial, tmp_path / "1")
    for processes in range(2, most + 1):
        together = finish(trial, tmp_path / str(processes), processes)
        assert losses(together) == pytest.approx(losses(alone), rel=1e-4)
        assert together.env["processes"] == str(processes)
        assert losses(together) != losses(alone)  # or nothing was shared


def test_processes_together_do_all_that_a_recipe_asks_for(tmp_path):
    """Clipping, rates of their own, frozen modules and the running average: the losses and scores of one process."""
    asked = {
        "optimizer": "sgd", "lr": 1e-2, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3, "clip_norm": 0.5,
        "weight_decay_on": "weights", "warmup": "linear", "warmup_steps": 4, "head_lr": 2.0, "layer_decay": 0.9,
        "norm_momentum": 0.2, "ema": 0.6, "score_over": 2,
    }  # fmt: skip
    for more in ({}, {"frozen_norms": True}):
        trial = drawn_trial("segmentation", UNET, train=23, **asked | more)
        alone, together = (finish(trial, tmp_path / f"{n} {len(more)}", n) for n in (1, 2))
        assert losses(together) == pytest.approx(losses(alone), rel=1e-4)
        assert together.scores["mIoU"] == pytest.approx(alone.scores["mIoU"], abs=1e-3)


@pytest.mark.parametrize("task", TASKS)
def test_a_network_of_one_process_is_scored_exactly_alike_by_two(tmp_path, task):
    """Its state is taken up after the last epoch; scores and per-image statistics are equal bit for bit."""
    trial, found, state = drawn_trial(task, UNET, epochs=1, batch=3), [], b""
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        if processes == 2:
            Store(folder).folder(trial.id).mkdir(parents=True)
            (Store(folder).folder(trial.id) / "state").write_bytes(state)
        events = run_trial(trial, at(folder, processes=processes, checkpoint_minutes=0))
        next(events)
        state = (Store(folder).folder(trial.id) / "state").read_bytes()
        *_, result = events
        arrays = {name: value.tobytes() for name, value in Store(folder).statistics(trial.id).items()}
        found.append((repr(result.scores), arrays))
    assert found[0] == found[1]


@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
def test_a_state_is_taken_up_by_another_number_of_processes(tmp_path, first, then):
    trial = drawn_trial("pose", UNET, **ADAM)
    alone = finish(trial, tmp_path / "alone")
    events = run_trial(trial, at(tmp_path, processes=first, checkpoint_minutes=0))
    begun = next(events)
    events.close()
    result = finish(trial, tmp_path, then)
    assert result.curve[0] == begun
    assert losses(result) == pytest.approx(losses(alone), rel=1e-4)


def test_loader_processes_and_points_of_the_curve_change_nothing(small_shelf, tmp_path):
    plain = finish(dots(), tmp_path / "plain", 2)
    busy = finish(dots(), tmp_path / "busy", 2, workers=1, evaluate_every=1)
    assert losses(busy) == losses(plain)
    assert busy.scores == plain.scores
    assert [sorted(row.scores) for row in busy.curve] == [["closeness", "near"], ["closeness", "near"], []]


# --- what goes wrong


def test_a_process_that_dies_costs_no_more_than_an_epoch(small_shelf, tmp_path):
    """Without Ray: one line, and the next run ends like one that nothing befell, bit for bit."""
    calm = finish(dots(), tmp_path / "calm", 2)
    trial = dots(fault="kill_follower_once", at=5, marker=str(tmp_path / "marker"))
    with pytest.raises(TeamError, match=f"^trial {trial.id}: process 1 of 0 to 1 was killed by SIGKILL; run again"):
        finish(trial, tmp_path, 2, checkpoint_minutes=0)
    assert Store(tmp_path).get(trial.id) is None
    again = finish(trial, tmp_path, 2)
    assert losses(again) == losses(calm)
    assert again.scores == calm.scores


def test_faults_of_the_trial_are_results_and_faults_of_the_place_are_not(small_shelf, tmp_path):
    diverged, failed = (finish(dots(fault=fault, at=2), tmp_path, 2) for fault in ("nan", "error"))
    assert (diverged.status, diverged.reason) == ("diverged", "the loss was nan in epoch 1, step 2 of 3")
    assert (failed.status, failed.reason) == ("failed", "RuntimeError: the dots went astray")
    for damaged in range(2):  # one of the two is in the other process's share, if not both
        with pytest.raises(DataError, match=rf"^noise/{damaged}\.png: is cut short$"):
            finish(dots(train=2, data={"damaged": damaged, "unverified": True}), tmp_path, 2)


def test_a_further_process_with_other_code_trains_nothing(small_shelf, tmp_path, monkeypatch):
    monkeypatch.setattr(origin, "code", lambda: "what the driver began with")
    with pytest.raises(StoreError, match="other code of ablate, or other packages, than the driver began with"):
        finish(dots(), tmp_path, 2)
    assert not list(tmp_path.glob("trials/*/result.json"))


def test_when_the_first_process_is_killed_the_others_end(tmp_path):
    """A long training is shot in the head; whatever bears its mark is gone soon after."""
    recipe = small_study()["recipe"]
    study = write_study(tmp_path, recipe=recipe | {"train": recipe["train"] | {"epochs": 100000}}, seeds=1)
    text = json.loads(study.read_text()) | {"budget": {"processes": 2}}
    study.write_text(json.dumps(text))
    mark = f"mark-{os.getpid()}-{time.time_ns()}"
    environment = os.environ | {"TEAM_MARK": mark, "PYTHONPATH": os.pathsep.join(map(str, PATHS))}
    command = [*COMMAND, "trial", str(study), "--seed", "0", "--results", str(tmp_path / "results")]
    with (tmp_path / "said").open("w") as said:
        first = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=said, stderr=said)
    wait_until(lambda: "epoch" in (tmp_path / "said").read_text())
    assert len(marked(mark)) >= 2
    first.send_signal(signal.SIGKILL)
    first.wait()
    wait_until(lambda: not marked(mark))


PATHS = (Path(__file__).parents[2], Path(__file__).parents[1])


def marked(mark: str) -> list[int]:
    """Live processes that have the mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def wait_until(condition, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


# --- under Ray


def test_on_ray_a_trial_has_its_processes_and_their_numbers(ablate, tmp_path):
    """Two trials one after the other in a worker that is kept, equal bit for bit to the loop without Ray."""
    study = write_study(tmp_path, seeds=1, budget={"processes": 2, "across_nodes": False})
    run = ablate("run", study, timeout=1800)
    assert run.returncode == 0, run.stderr
    assert "2 trials ran, none failed" in run.stderr
    here = ablate("run", study, "--local", "--results", "here", timeout=1800)
    assert here.returncode == 0, here.stderr
    one, other = results(tmp_path / "results"), results(tmp_path / "here")
    assert len(one) == 2
    assert one == other
    stored = [Store(tmp_path / "results").find(path.parent.name) for path in results_of(tmp_path)]
    assert {result.env["processes"] for result in stored} == {"2"}


def results_of(folder: Path) -> list[Path]:
    return list((folder / "results" / "trials").glob("*/result.json"))


@pytest.mark.parametrize("who", ["follower", "leader"])
def test_on_ray_a_trial_outlives_each_of_its_processes(ablate, tmp_path, who):
    """Killed in the second epoch, it is tried again, goes on from the first, and ends as if nothing had happened."""
    calm = ablate(
        "run", write_study(tmp_path, seeds=1, budget={"processes": 2}), "--results", "calm", "--local", timeout=1800
    )
    assert calm.returncode == 0, calm.stderr
    recipe, marker = small_study()["recipe"], tmp_path / "marker"
    fault = {"fault": f"kill_{who}_once", "at": 5, "marker": str(marker)}
    budget = {"processes": 2, "checkpoint_minutes": 0}
    study = write_study(tmp_path, recipe=recipe | {"model": recipe["model"] | fault}, seeds=1, budget=budget)
    run = ablate("run", study, timeout=1800)
    assert run.returncode == 0, run.stderr
    assert marker.exists()
    assert "2 trials ran, none failed" in run.stderr
    assert results(tmp_path / "results") == results(tmp_path / "calm")
    assert all(np.isfinite(list(scores.values())).all() for _, scores, _, _ in results(tmp_path / "results").values())


TWO_NODES = """
import os, sys, warnings
warnings.simplefilter("ignore")
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


def test_a_trial_is_spread_over_nodes_when_asked(ablate, tmp_path):
    """Two nodes of one processor each on this machine, whose processes meet at the machine's own address."""
    nodes = subprocess.Popen(
        [sys.executable, "-c", TWO_NODES], env=ablate.environment, text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        address = next(line.strip() for line in nodes.stdout if ":" in line)
        study = write_study(tmp_path, seeds=1, budget={"processes": 2, "across_nodes": True})
        run = ablate("run", study, "--address", address, timeout=1800)
    finally:
        nodes.communicate("", timeout=600)
    assert run.returncode == 0, run.stderr
    assert "2 trials ran, none failed" in run.stderr
    here = ablate("run", study, "--local", "--results", "here", timeout=1800)
    assert here.returncode == 0, here.stderr
    assert results(tmp_path / "results") == results(tmp_path / "here")
