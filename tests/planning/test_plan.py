"""The price list: known before anything is spent, from a laptop, without data."""

import json
import math

import numpy as np
import pytest
from small_studies import TESTS, write_study

from ablate.analysis import stats
from ablate.errors import StudyError
from ablate.planning import plan as planning
from ablate.planning.arm_costs import arm_prices
from ablate.planning.match import solve
from ablate.planning.plan import plan
from ablate.planning.power import power
from ablate.storage import Result, Shelf, Store, whose
from ablate.study import Design, check_study, load
from ablate.training.run_trial import run_trial
from ablate.training.site import Site

STUDIES = sorted((TESTS.parent / "studies").glob("*.yaml"))


def made(tmp_path, **changes):
    return plan(Design(load(write_study(tmp_path, **changes))), Store(tmp_path / "results"))


@pytest.mark.usefixtures("small_shelf")
def test_a_plan_counts_what_is_there_and_what_is_missing(tmp_path):
    first = made(tmp_path)
    assert [(arm.label, arm.planned, arm.done, arm.failed) for arm in first.arms] == [
        ("depth=1", 2, 0, 0),
        ("depth=2", 2, 0, 0),
    ]
    assert len(first.missing) == 4
    assert first.basis.startswith("one training step of the control timed here")
    assert all(arm.seconds > 0 for arm in first.arms)
    assert not (tmp_path / "results").exists()  # planning writes nothing

    site = Site(results=tmp_path / "results")
    for trial in first.missing[:3]:
        assert isinstance(list(run_trial(trial, site))[-1], Result)
    second = made(tmp_path)
    assert [(arm.done, arm.failed) for arm in second.arms] == [(2, 0), (1, 0)]
    assert [trial.id for trial in second.missing] == [first.missing[3].id]
    assert second.basis == "3 trials of this kind of machine"


@pytest.mark.usefixtures("small_shelf")
def test_a_failed_trial_is_not_planned_again_and_damage_is(tmp_path):
    first = made(tmp_path, recipe=small_faulty())
    results = [list(run_trial(trial, Site(results=tmp_path / "results")))[-1] for trial in first.missing]
    assert [result.status for result in results] == ["failed"] * 4
    second = made(tmp_path, recipe=small_faulty())
    assert [(arm.done, arm.failed) for arm in second.arms] == [(0, 2), (0, 2)]
    assert second.missing == []
    (tmp_path / "results" / "trials" / results[0].id / "result.json").write_text("{")
    third = made(tmp_path, recipe=small_faulty())
    assert [trial.id for trial in third.missing] == [results[0].id]
    assert len(third.damaged) == 1


def small_faulty() -> dict:
    from small_studies import small_study

    recipe = small_study()["recipe"]
    return recipe | {"model": recipe["model"] | {"fault": "error", "at": 5}}


@pytest.mark.usefixtures("small_shelf")
@pytest.mark.parametrize(
    ("seeds", "levels", "sentence"),
    [
        # 2k / 2^n < .05: k comparisons, n seeds
        (3, 2, "3 seeds and 1 comparison are not testable: the smallest corrected p is 0.250; 6 seeds would be."),
        (5, 2, "5 seeds and 1 comparison are not testable: the smallest corrected p is 0.062; 6 seeds would be."),
        (6, 2, "6 seeds and 1 comparison are testable: the smallest corrected p is 0.0312."),
        (6, 3, "6 seeds and 2 comparisons are not testable: the smallest corrected p is 0.062; 7 seeds would be."),
        (7, 3, "7 seeds and 2 comparisons are testable: the smallest corrected p is 0.0312."),
        (7, 7, "7 seeds and 6 comparisons are not testable: the smallest corrected p is 0.094; 8 seeds would be."),
        (8, 7, "8 seeds and 6 comparisons are testable: the smallest corrected p is 0.0469."),
    ],
)
def test_what_the_seeds_can_show_is_said_before(tmp_path, seeds, levels, sentence):
    factors = {"width": {"at": "model.width", "levels": list(range(2, 2 * levels + 2, 2))}}
    study = load(write_study(tmp_path, seeds=seeds, factors=factors))
    assert power(Design(study), Shelf())[0] == sentence


@pytest.mark.usefixtures("small_shelf")
def test_what_one_point_would_take_follows_from_the_spread_so_far(tmp_path):
    study = load(write_study(tmp_path, seeds=6))
    trials = Design(study).trials
    gaps = np.array([0.03, 0.05, 0.04, 0.06, 0.02, 0.04])
    results = [
        Result(
            **whose(trial), status="done",
            scores={"closeness": 0.5 + (gaps[trial.seed] if trial.arm["depth"] == "2" else 0.0)},
        )
        for trial in trials
    ]  # fmt: skip
    shelf = Shelf()
    for result in results:
        shelf.add(result)
    needed = stats.seeds_for(0.01, gaps.std(ddof=1), comparisons=1)
    assert needed is not None
    assert needed > 6  # 1.8 standard deviations of 0.014 is what six seeds detect
    said = power(Design(study), shelf)[2]
    assert said.startswith(f"One point (0.01) would take {needed} seeds; the spread is known roughly: ")


@pytest.mark.usefixtures("small_shelf")
def test_of_a_factorial_the_noisiest_comparisons_count(tmp_path):
    """An interaction has twice the spread of a main effect: pooled, neither's number of seeds would be right."""
    factors = {at: {"at": f"model.{at}", "levels": levels} for at, levels in (("depth", [1, 2]), ("width", [2, 4]))}
    design = Design(load(write_study(tmp_path, seeds=8, factors=factors, design="full_factorial")))
    luck, shelf = np.random.default_rng(0).normal(0, 0.01, (8, 2, 2)), Shelf()
    for trial in design.trials:
        score = 0.5 + luck[trial.seed, int(trial.arm["depth"]) - 1, int(trial.arm["width"]) // 2 - 1]
        shelf.add(Result(**whose(trial), status="done", scores={"closeness": score}))
    interaction = luck[:, 1, 1] - luck[:, 1, 0] - luck[:, 0, 1] + luck[:, 0, 0]
    needed = stats.seeds_for(0.01, interaction.std(ddof=1), comparisons=3)
    said = power(design, shelf)
    assert said[1].startswith("In the noisiest comparisons, the interactions, they detect with 80 % power ")
    assert said[2].startswith(f"One point (0.01) would take {needed} seeds; ")


@pytest.mark.usefixtures("small_shelf")
def test_time_is_shared_among_trials_at_once_but_no_less_than_the_longest(tmp_path, monkeypatch):
    monkeypatch.setattr(planning.os, "cpu_count", lambda: 8)
    eight = made(tmp_path, budget={"parallel": 8, "gpus": 1})
    assert (eight.parallel, made(tmp_path, budget={"gpus": 1}).parallel) == (8, 1)
    alone, shared = (made(tmp_path, budget={"parallel": n}) for n in (1, 2))
    assert (alone.parallel, shared.parallel) == (1, 2)
    for prepared, at_once in ((alone, 1), (shared, 2)):
        seconds = [arm.seconds for arm in prepared.arms for _ in range(2)]
        assert prepared.trial_hours == pytest.approx(sum(seconds) / 3600)
        longest = sorted(seconds, reverse=True)
        ends = [sum(longest)] if at_once == 1 else [longest[0] + longest[3], longest[1] + longest[2]]
        assert prepared.makespan_hours == pytest.approx(max(ends) / 3600, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_every_paper_scale_plans_without_data_or_gpu(tmp_path, monkeypatch, file):
    monkeypatch.delenv("ABLATE_DATA", raising=False)
    study = solve(load(file, scale="paper"))
    prepared = plan(Design(study), Store(tmp_path))
    assert study.budget.gpus >= 1
    assert "assumed" in prepared.basis
    assert all(math.isfinite(arm.seconds) and arm.seconds > 3600 for arm in prepared.arms)
    mobile = 300e6 - 320 * 1280 * 7 * 7  # Sandler et al. 2018, Table 4, without the last convolution: see DECISIONS.md
    for arm in prepared.arms:
        if arm.label == "mobilenetv2":
            assert arm.cost.macs == pytest.approx(mobile, rel=0.01)
        else:
            assert arm.cost.macs > 2**29


@pytest.mark.slow
@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_every_scale_of_every_study_can_be_priced(file):
    scales = load(file).scales
    assert "demo" in scales
    assert len(scales) > 1
    for name in scales:
        study = solve(load(file, scale=name))
        design = Design(study)
        assert len(arm_prices(design)) == len(design.arms) >= 2


def test_a_study_may_ask_for_the_score_of_a_class():
    study = load(TESTS.parent / "studies" / "fusion_count_segmentation.yaml")
    check_study(Design(study.model_copy(update={"metrics": ["mIoU", "IoU/head"]})))
    with pytest.raises(StudyError, match="has no 'IoU/heads'; did you mean 'IoU/head'"):
        check_study(Design(study.model_copy(update={"metrics": ["IoU/heads"]})))


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_all_but_demos_have_the_seeds_for_a_verdict(file):
    for scale in load(file).scales.keys() - {"demo"}:
        study = load(file, scale=scale)
        matched = [factor for factor in study.factors.values() if factor.match]
        most = len(Design(study.model_copy(update={"factors": {
            name: factor.model_copy(update={"match": None}) for name, factor in study.factors.items()
        }})).contrasts) * (2 if any(factor.match.raw for factor in matched) else 1)  # fmt: skip
        assert 2 * most / 2 ** len(study.seeds) < 0.05, f"{scale}: {most} comparisons"


def test_the_papers_fusion_study_costs_what_the_paper_says(tmp_path):
    study = load(TESTS.parent / "studies" / "fusion_count.yaml", scale="paper")
    arms = {arm.label: arm.cost for arm in plan(Design(study), Store(tmp_path)).arms}
    assert list(arms) == ["within", "across", "final"]
    assert arms["within"].macs / 2**30 == pytest.approx(7.12, abs=0.01)  # recounted from the official code
    assert arms["within"].parameters == 28_536_113
    assert arms["within"].macs > arms["across"].macs > arms["final"].macs


@pytest.mark.usefixtures("small_shelf")
def test_a_study_that_cannot_be_is_refused_before_anything_is_built(tmp_path):
    with pytest.raises(StudyError, match="metrics: the task 'brightness' has no 'AP'"):
        made(tmp_path, metrics=["AP"])
    with pytest.raises(StudyError, match="width: 3 is odd"):
        made(tmp_path, factors={"w": {"at": "model.width", "levels": [2, 3]}})


def test_the_readmes_demo_is_small(tmp_path):
    """Three arms and three seeds, and it says that they are too few."""
    study = load(TESTS.parent / "studies" / "fusion_count.yaml")
    assert (study.scale, len(study.seeds), len(study.factors["fusions"].levels)) == ("demo", 3, 3)
    prepared = plan(Design(study), Store(tmp_path))
    assert "not testable" in prepared.power[0]
    assert json.loads(study.model_dump_json())["recipe"]["dataset"]["name"] == "figures"


def test_a_plan_says_which_networks_are_lopsided():
    """W8 with the published stem: 76 % of the multiply-adds before its first fusion were counted elsewhere."""

    def said(scale: str, **model: object) -> str:
        study = load(TESTS.parent / "studies" / "fusion_count.yaml", scale=scale)
        part, task = study.recipe.model, study.recipe.task
        larger = task.model_copy(update={"knobs": task.knobs | ({"size": [128, 96]} if scale == "laptop" else {})})
        changed = {"task": larger, "model": part.model_copy(update={"knobs": part.knobs | model})}
        recipe = study.recipe.model_copy(update=changed)
        return plan(Design(study.model_copy(update={"recipe": recipe})), Store("nowhere")).lopsided

    assert said("laptop", width=8, stem_width=64, stage1_planes=64) == (
        "Lopsided networks: the stem and stage 1 take 76 to 78 % of the multiply-adds of within, across, final; "
        "14 outputs are computed from 8 channels in within, across, final. See docs/laptop.md."
    )
    assert said("laptop") == said("laptop", width=18, stem_width=36, stage1_planes=36) == ""
    assert said("paper") == ""
