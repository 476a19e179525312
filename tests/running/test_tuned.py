"""A study that tunes its arms: tries first, then the verdict's trials with what they chose; killed in between."""

import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest
from small_studies import COMMAND, TESTS, small_study, write_study

from ablate import registry
from ablate.analysis import gather
from ablate.beside import speeds
from ablate.errors import StoreError
from ablate.planning.open_study import opened
from ablate.storage import Result, Store, kept_plans, whose
from ablate.study import Design, load
from ablate.training import batches

pytestmark = pytest.mark.usefixtures("small_shelf")

TUNE = {"train.lr": [10.0, 0.01], "held_out": 0.25}


def ended(folder):
    """By seed and rate how many results there are."""
    found: dict[tuple[bool, float], int] = {}
    for result in Store(folder / "results").read().results.values():
        key = result.recipe.train.held_out > 0, result.recipe.train.lr
        found[key] = found.get(key, 0) + 1
    return found


def test_tries_come_first_and_choose(called, tmp_path):
    file = write_study(tmp_path, tune=TUNE, seeds=3)
    _, out, _ = called("plan", file)
    tries = "each by 2 tries of train.lr 10.0, 0.01, 1 seed each, on 25 % of the training images"
    assert f"Tuned first: 2 arms, {tries}: 4 of 4 to run" in out
    status, _, err = called("trial", file, "--arm", "depth=2", "--seed", "0")
    assert status == 2
    assert "tune: depth=2 is not tuned yet" in err
    status, _, err = called("run", file, "--local", "--only", "depth=2")
    assert status == 0, err
    assert ended(tmp_path) == {(True, 10.0): 2, (True, 0.01): 2, (False, 0.01): 6}
    status, _, err = called("run", file, "--local")
    assert status == 0, err
    assert "0 trials ran" in err
    report = (tmp_path / "results/reports/small/report.md").read_text()
    table = report.partition("of each try on held-out training images.")[0].rpartition("## Tuning")[2]
    assert "Try" in report
    assert "no try saw the test images" in report
    assert "lr: 10.0" not in table
    status, out, err = called("status", file, "--json")
    rows = json.loads(out)
    assert [row["arm"] for row in rows][:4] == [
        "depth=1, lr 10.0",
        "depth=1, lr 0.01",
        "depth=2, lr 10.0",
        "depth=2, lr 0.01",
    ]
    assert len(rows) == 10
    assert {row["status"] for row in rows} == {"done"}


@pytest.mark.slow
def test_the_best_mean_score_is_chosen_and_shown(called, tmp_path):
    file = write_study(tmp_path, tune=TUNE | {"seeds": 2}, seeds=2)
    assert called("run", file, "--local")[0] == 0
    store = Store(tmp_path / "results")
    found = gather(opened(file, scale=None, results=tmp_path / "results"), store)
    results = store.read().results
    tries = opened(file, scale=None, results=tmp_path / "results").tries
    for arm, choice in found.choices.items():
        own = {
            label: [results[t.id].scores["closeness"] for t in tries.trials if tries.arm(t).label == f"{arm}, {label}"]
            for label in choice.scores
        }
        assert {label: list(scores) for label, scores in choice.scores.items()} == own
        assert choice.label == max(own, key=lambda label: sum(own[label]))
        assert choice.setting == {"train.lr": float(choice.label.removeprefix("lr "))}
    asked = [json.loads(path.read_text()) for path in (tmp_path / "results/asked/small").iterdir()]
    assert [plan["plan"]["rule"]["tune"] for plan in asked] == [found.study.tune.said]
    assert (tmp_path / "results/asked/small_tuning").is_dir()


@pytest.mark.slow
def test_tries_are_scored_on_training_images_alone(called, tmp_path):
    file = write_study(tmp_path, tune=TUNE, seeds=2)
    assert called("run", file, "--local")[0] == 0
    store = Store(tmp_path / "results")
    for result in store.read().results.values():
        images = store.statistics(result.id)["closeness/image_ids"]
        assert len(images) == (5 if result.recipe.train.held_out else 8)  # of 20 training and of 8 test images


@pytest.mark.slow
def test_arms_whose_tries_all_fail_stand_by_the_first(called, tmp_path):
    factors = {"fault": {"at": "model.fault", "levels": ["", "nan"]}}
    file = write_study(tmp_path, tune=TUNE, seeds=2, factors=factors)
    called("run", file, "--local")
    found = gather(opened(file, scale=None, results=tmp_path / "results"), Store(tmp_path / "results"))
    assert found.choices["nan"].label == "lr 10.0"
    assert len(found.failures) == 2
    report = (tmp_path / "results/reports/small/report.md").read_text()
    assert "No try of nan has a score: the first one stands for it." in report


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(called, tmp_path):
    """Stopped after the first epochs; the second run trains the rest of the tries and then what they chose."""
    file = write_study(tmp_path, tune=TUNE, seeds=2)
    status, _, err = called("run", file, "--local", "--minutes", "0.00001")
    assert status == 124, err
    before = ended(tmp_path)
    assert not any(not tried for tried, _ in before)
    for name in ("small", "small_tuning"):  # what is asked is stored before anything is trained
        (plan,), _ = kept_plans.read(Store(tmp_path / "results"), name)
        assert plan.known == 0
    status, _, err = called("run", file, "--local")
    assert status == 0, err
    assert len(kept_plans.read(Store(tmp_path / "results"), "small")[0]) == 1
    assert sum(count for (tried, _), count in ended(tmp_path).items() if tried) == 4
    assert sum(count for (tried, _), count in ended(tmp_path).items() if not tried) == 4


@pytest.mark.slow
def test_speeds_are_of_the_networks_that_the_tries_chose(called, tmp_path):
    file = write_study(
        tmp_path,
        tune={"model.width": [2, 16], "held_out": 0.25},
        factors={"rate": {"at": "train.lr", "levels": [0.01, 10.0]}},
        seeds=1,
    )
    assert called("run", file, "--local")[0] == 0
    status, _, err = called("cost", file, "--measure", "--results", "results")
    assert status == 0, err
    arms = {arm.label: arm.recipe for arm in opened(file, scale=None, results=tmp_path / "results").arms}
    assert {recipe.model.knobs["width"] for recipe in arms.values()} == {2, 16}  # not the first try of each
    found, _ = speeds.of_arms(Store(tmp_path / "results").place, arms)
    assert {label for label, _ in found} == set(arms)


@pytest.mark.slow
def test_an_arm_with_a_failed_try_waits(called, tmp_path):
    """Out of memory says nothing of a rate: the arm is trained once --retry has given the try a score."""
    file = write_study(tmp_path, tune=TUNE, seeds=2)
    store = Store(tmp_path / "results")
    store.create()
    lost = next(trial for trial in opened(file, scale=None, results=tmp_path / "results").tries.trials)
    store.put(Result(**whose(lost), status="failed", reason="OutOfMemoryError: CUDA out of memory"), {})
    status, _, err = called("run", file, "--local")
    assert status == 1, err
    assert "depth=1 waits, for a try of it has failed: --retry trains that again" in err
    assert ended(tmp_path) == {(True, 10.0): 2, (True, 0.01): 2, (False, 0.01): 2}
    _, _, err = called("status", file, "--results", "results")
    again = f"ablate run {file} --results results --retry"
    assert f"1 of 2 arms are not tuned yet; 1 tries have failed; to train them again: {again}" in err
    assert called("run", file, "--local", "--retry")[0] == 0
    assert ended(tmp_path) == {(True, 10.0): 2, (True, 0.01): 2, (False, 0.01): 4}
    assert not gather(opened(file, scale=None, results=tmp_path / "results"), store).standing.sentences


def test_tries_on_different_images_are_refused(tmp_path):
    file = write_study(tmp_path, tune=TUNE, seeds=2)
    store = Store(tmp_path / "results")
    store.create()
    for trial in opened(file, scale=None, results=None).tries.trials:
        digests = {"train": "aa" * 8, "val": ("bb" if trial.arm["depth"] == "1" else "cc") * 8}
        scores = {"closeness": 0.5, "near": 0.5}
        store.put(Result(**whose(trial), status="done", scores=scores, data_digest=digests), {})
    with pytest.raises(StoreError, match="used different files as val split"):
        opened(file, scale=None, results=tmp_path / "results")


def test_tuning_anew_is_told(tmp_path):
    """The arms are the same, whatever they choose; what is tried is a part of the rule."""
    old, new = (Design(load(write_study(tmp_path, tune={"train.lr": rates}))) for rates in ([10.0, 0.01], [0.1, 0.2]))
    store = Store(tmp_path / "results")
    kept_plans.keep(store, old, {})
    plans, _ = kept_plans.read(store, "small")
    assert kept_plans.standing(old, plans, {}).sentences == []
    (said,) = kept_plans.standing(new, plans, {}).sentences
    assert "tune was 2 tries of train.lr 10.0, 0.01" in said
    assert "and is 2 tries of train.lr 0.1, 0.2" in said
    untuned = Design(load(write_study(tmp_path)))
    assert "and is none" in kept_plans.standing(untuned, plans, {}).sentences[0]


def test_a_try_trains_on_training_images_that_it_is_not_scored_on(tmp_path):
    recipe = {
        "task": "pose",
        "dataset": {"name": "figures", "train": 12, "val": 4},
        "model": {"name": "hrnet", "width": 4},
    }
    fusions = {"fusions": {"at": "model.fusions", "levels": ["within", "final"]}}
    file = write_study(tmp_path, recipe=recipe, factors=fusions, metrics=["AP"], tune=TUNE, plugins=[])
    whole = registry.build("dataset", "figures", {"train": 12, "val": 4}).open("train", None)
    parts = set()
    for trial in Design(load(file)).tries.trials:
        splits, _ = batches.opened(trial.recipe, None, seed=trial.seed)
        trained, scored = splits["train"].image_ids(), splits["val"].image_ids()
        assert sorted([*trained, *scored]) == sorted(whole.image_ids())
        assert all(np.array_equal(splits["train"].image(one), whole.image(one)) for one in trained)
        parts.add((tuple(trained), tuple(scored)))
    ((trained, scored),) = parts  # the same for all arms
    assert (len(trained), len(scored)) == (8, 2)  # a quarter of ten images


def test_a_study_that_is_refused_keeps_no_plan(called, tmp_path):
    recipe = small_study()["recipe"] | {"weights": {"file": "gone.pth", "sha256": "a" * 64}}
    status, _, err = called("run", write_study(tmp_path, tune=TUNE, recipe=recipe), "--local")
    assert status == 2, err
    assert not (tmp_path / "results/asked").exists()


@pytest.mark.slow
def test_a_run_that_is_killed_after_its_tries_goes_on(called, tmp_path):
    """SIGKILL as soon as the last try is stored: none is trained again, and the arms have what they would have had."""
    file = write_study(tmp_path, tune=TUNE, seeds=2)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]), "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen([*COMMAND, "run", str(file), "--local"], cwd=tmp_path, env=environment)
    while run.poll() is None and len(list(tmp_path.glob("results/trials/*/result.json"))) < 4:
        time.sleep(0.01)
    run.kill()
    assert run.wait() == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("results/trials/*/result.json")}
    assert 4 <= len(before) < 8
    status, _, err = called("run", file, "--local")
    assert status == 0, err
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert ended(tmp_path) == {(True, 10.0): 2, (True, 0.01): 2, (False, 0.01): 4}
    assert "Departs" not in (tmp_path / "results/reports/small/report.md").read_text()
