"""The first run of a study keeps its plan with the results; later ones add to it only what changed."""

import json

from small_studies import write_study

from ablate.storage import Store, kept_plans


def answers(called, study) -> str:
    status, out, err = called("report", study, "--format", "md", "--json")
    assert status == 0, err
    return " ".join(json.loads(out)["answer"])


def test_a_run_keeps_the_plan_and_seeds_that_are_added_are_told_for_ever(called, tmp_path):
    study = write_study(tmp_path, seeds=2)
    assert called("run", study, "--local")[0] == 0
    assert called("run", study, "--local")[0] == 0
    (plan,), _ = kept_plans.read(Store(tmp_path / "results"), "small")
    assert (plan.seeds, plan.metric, plan.known, list(plan.arms)) == ([0, 1], "closeness", 0, ["depth=1", "depth=2"])
    assert "no plan" not in answers(called, study).lower()
    assert "departs" not in answers(called, study).lower()
    assert called("run", write_study(tmp_path, seeds=4), "--local")[0] == 0
    text = answers(called, study)
    assert "seeds 2 to 3 were added" in text
    assert "Verdicts rest on the seeds 2 to 3 alone" in text
    assert "From all seeds: depth=2 (" in text
    assert called("gc", "--all")[0] == 0
    assert answers(called, study) == text


def test_results_that_are_published_take_their_plan_along(called, tmp_path):
    study = write_study(tmp_path)
    assert called("run", study, "--local")[0] == 0
    assert called("report", study, "--to", "out", "--publish", "--format", "md")[0] == 0
    assert called("import", "out", "--results", "other", "--plugin", "small_parts")[0] == 0
    kept = [kept_plans.read(Store(tmp_path / place), "small")[0] for place in ("results", "other")]
    assert len(kept[0]) == 1
    assert kept[0] == kept[1]
