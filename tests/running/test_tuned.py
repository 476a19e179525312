"""A study that tunes its arms: tries first, then the verdict's trials with what they chose; killed in between."""

import json

import pytest
from small_studies import write_study

from ablate.analysis import gather
from ablate.beside import speeds
from ablate.planning.open_study import opened
from ablate.storage import Store

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


def test_tries_are_scored_on_training_images_alone(called, tmp_path):
    file = write_study(tmp_path, tune=TUNE, seeds=2)
    assert called("run", file, "--local")[0] == 0
    store = Store(tmp_path / "results")
    for result in store.read().results.values():
        images = store.statistics(result.id)["closeness/image_ids"]
        assert len(images) == (5 if result.recipe.train.held_out else 8)  # of 20 training and of 8 test images


def test_arms_whose_tries_all_fail_stand_by_the_first(called, tmp_path):
    factors = {"fault": {"at": "model.fault", "levels": ["", "nan"]}}
    file = write_study(tmp_path, tune=TUNE, seeds=2, factors=factors)
    called("run", file, "--local")
    found = gather(opened(file, scale=None, results=tmp_path / "results"), Store(tmp_path / "results"))
    assert found.choices["nan"].label == "lr 10.0"
    assert len(found.failures) == 2
    report = (tmp_path / "results/reports/small/report.md").read_text()
    assert "No try of nan has a score: the first one stands for it." in report


def test_a_killed_run_goes_on_where_it_was(called, tmp_path):
    """Stopped after the first epochs; the second run trains the rest of the tries and then what they chose."""
    file = write_study(tmp_path, tune=TUNE, seeds=2)
    status, _, err = called("run", file, "--local", "--minutes", "0.00001")
    assert status == 124, err
    before = ended(tmp_path)
    assert not any(not tried for tried, _ in before)
    status, _, err = called("run", file, "--local")
    assert status == 0, err
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
