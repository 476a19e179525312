"""A study with looks is trained from look to look, and no further than what is undecided asks."""

import json
import shutil

import numpy as np
import pytest
from small_studies import small_study

from ablate.storage import Cost, Result, Store, kept_plans, whose
from ablate.study import Design, load

FACTORS = {"model": {"levels": {"plain": {}, "deep": {"model.depth": 2}, "wide": {"model.width": 8}}}}
GAPS = {"plain": 0.0, "deep": 0.3, "wide": 0.004}


@pytest.fixture
def study(tmp_path, small_shelf):
    """Looks at 4 and 6 seeds; the first four are there, of which the deep arm is far away and the wide one is not."""
    document = {key: value for key, value in small_study(factors=FACTORS, looks=[4, 6]).items() if key != "seeds"}
    file = tmp_path / "small.yaml"
    file.write_text(json.dumps(document))
    store, design = Store(tmp_path / "results"), Design(load(file))
    kept_plans.keep(store, design, {})
    for trial in design.trials:
        if trial.seed < 4:
            arm = trial.arm["model"]
            luck = np.random.default_rng([trial.seed, len(arm)]).normal(0, 0.004)
            cost = Cost(parameters=1, used_parameters=1, macs=1)
            scores = {"closeness": 0.5 + GAPS[arm] + luck, "near": 0.5}
            arrays = {"closeness/image_ids": np.arange(1, 9), "closeness/error": np.linspace(0, 1, 8)}
            store.put(Result(**whose(trial), status="done", scores=scores, cost=cost), arrays)
    return file


def trained(folder) -> dict[str, int]:
    found = {"plain": 0, "deep": 0, "wide": 0}
    for result in Store(folder).read().results.values():
        knobs = result.recipe.model.knobs
        found["deep" if knobs["depth"] == 2 else "wide" if knobs["width"] == 8 else "plain"] += 1
    return found


def test_what_is_decided_is_trained_no_further(called, study, tmp_path):
    assert trained(tmp_path / "results") == {"plain": 4, "deep": 4, "wide": 4}
    status, _, err = called("run", study, "--local")
    assert status == 0, err
    assert trained(tmp_path / "results") == {"plain": 6, "deep": 4, "wide": 6}
    assert "4 trials ran, none failed" in err
    assert "all is decided: 2 of 18 trials are not needed" in err
    status, _, err = called("run", study, "--local")
    assert status == 0, err
    assert "0 trials ran" in err
    status, out, err = called("status", study, "--json")
    assert "2 are not needed: a look has decided their comparisons" in err
    assert [row["arm"] for row in json.loads(out) if row["status"] == "not needed"] == ["deep", "deep"]
    status, out, _ = called("report", study, "--format", "md", "--json")
    text = " ".join(json.loads(out)["answer"])
    assert "higher with deep" in text
    assert "Stopped early, by the planned looks: deep at 4 of 6 seeds." in text


def test_of_some_arms_the_trials_that_are_not_needed_are_theirs(called, study, tmp_path):
    status, _, err = called("run", study, "--local", "--only", "wide")
    assert status == 0, err
    assert trained(tmp_path / "results") == {"plain": 6, "deep": 4, "wide": 6}
    assert "all is decided: 0 of 12 trials are not needed" in err


def test_before_a_look_nothing_is_decided(called, study, tmp_path):
    store = Store(tmp_path / "results")
    for result in store.read().results.values():
        if result.seed >= 2:
            shutil.rmtree(tmp_path / "results" / "trials" / result.id)
    status, out, err = called("status", study, "--json")
    assert status == 0, err
    assert "not needed" not in err
    assert {row["status"] for row in json.loads(out)} == {"done", "missing"}


def test_looks_are_planned_in_words(called, study):
    _, out, _ = called("plan", study)
    assert "6 seeds and 2 comparisons are testable by paired t tests." in out
    assert "Look at 4 seeds: p below 0.011" in out  # a half of .05 times (4 / 6)^2
    assert "sign flips, the cross-check, give no p below 0.12 and cannot decide here" in out
    assert "at the last look a difference of" in out
