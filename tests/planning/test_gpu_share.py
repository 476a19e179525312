"""Fractions of a GPU by predicted memory."""

import pytest
from small_studies import write_study

from ablate.network import cost
from ablate.planning import gpu_share
from ablate.study import Design, load

GIB = 2**30


@pytest.fixture
def trials(tmp_path, small_shelf):
    return Design(load(write_study(tmp_path))).trials


@pytest.mark.parametrize(
    ("estimate", "device", "parts"),
    [(10, 80, 6), (10, 25.6, 2), (10, 25.4, 1), (60, 80, 1), (100, 80, 1), (0.001, 80, gpu_share.MOST)],
)
def test_as_many_fit_as_have_room_with_the_margin(trials, monkeypatch, estimate, device, parts):
    """10 GiB estimated are 12.75 needed: a fifth more, and 3/4 for the process."""
    monkeypatch.setattr(cost, "training_memory", lambda recipe: int(estimate * GIB))
    assert gpu_share.parts(trials[0].recipe, int(device * GIB)) == parts


def test_arms_get_their_own_fractions(trials, monkeypatch):
    deep = {1: 10 * GIB, 2: 30 * GIB}
    monkeypatch.setattr(cost, "training_memory", lambda recipe: deep[recipe.model.knobs["depth"]])
    got = gpu_share.shares(trials, 80 * GIB)
    assert {(trial.arm["depth"], got[trial.id]) for trial in trials} == {("1", 1 / 6), ("2", 1 / 2)}
    assert gpu_share.in_words(trials) == (
        "GPUs are shared by predicted memory, 1.2 times the estimate and 0.75 GiB each: of 80 GiB, assumed here and "
        "asked of the nodes in a run, 2 trials get 1/2, 2 trials get 1/6."
    )


def test_the_plan_says_the_fractions_on_a_machine_without_gpus(called, tmp_path):
    study = write_study(tmp_path, budget={"gpus": 1.0, "share": True})
    status, out, err = called("plan", study)
    assert status == 0, err
    assert "assumed here and asked of the nodes in a run, 4 trials get 1/8." in out


def test_a_fraction_of_what_is_no_device_is_refused(called, tmp_path):
    status, _, err = called("plan", write_study(tmp_path, budget={"share": True}))
    assert status == 2
    assert err.endswith("small.yaml: budget.share: needs gpus: 1, of which every trial gets a fraction\n")


@pytest.mark.slow
def test_a_run_without_gpus_is_one_line(ablate, tmp_path):
    run = ablate("run", write_study(tmp_path, budget={"gpus": 1.0, "share": True}))
    assert run.returncode == 2
    said = [line for line in run.stderr.splitlines() if line.startswith("ablate: ")]
    assert len(said) == 1
    assert "a trial needs 1 CPUs and 1 GPUs, the largest node has" in said[0]
