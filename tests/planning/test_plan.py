"""The price list: known before anything is spent, from a laptop, without data."""

import dataclasses
import json
import math

import numpy as np
import pytest
from scipy.special import stdtrit
from small_studies import TESTS, small_study, write_study

from ablate.analysis import sequential, stats
from ablate.errors import StudyError
from ablate.planning import plan as planning
from ablate.planning.arm_costs import arm_prices
from ablate.planning.match import solve
from ablate.planning.plan import forecast_on, plan
from ablate.planning.power import power
from ablate.storage import Result, Shelf, Store, kept_plans, whose
from ablate.study import Design, check_study, load
from ablate.training.run_trial import run_trial
from ablate.training.site import Site

STUDIES = sorted((TESTS.parent / "studies").glob("*.yaml"))


def made(tmp_path, **changes):
    return plan(Design(load(write_study(tmp_path, **changes))), Store(tmp_path / "results"))


def said_by(design: Design, shelf: Shelf) -> list[str]:
    """What the seeds can show, of a study without a kept plan."""
    return power(design, shelf, kept_plans.standing(design, [], shelf.results))


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
    assert said_by(Design(study), Shelf())[0] == sentence


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
    said = said_by(Design(study), shelf)[2]
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
    said = said_by(design, shelf)
    assert said[1].startswith("In the noisiest comparisons, the interactions, they detect with 80 % power ")
    assert said[2].startswith(f"One point (0.01) would take {needed} seeds; ")


CROSSED = {at: {"at": f"model.{at}", "levels": levels} for at, levels in (("depth", [1, 2]), ("width", [2, 4]))}


def luck(design: Design, *, of: int, seeds: int) -> tuple[Shelf, np.ndarray]:
    """Results of all trials, and their scores by data set, depth, width and seed."""
    scores, shelf = 0.5 + np.random.default_rng(0).normal(0, 0.01, (of, 2, 2, seeds)), Shelf()
    for trial in design.trials:
        at = design.sets.index(trial.arm.get("dataset", ""))
        score = scores[at, int(trial.arm["depth"]) - 1, int(trial.arm["width"]) // 2 - 1, trial.seed]
        shelf.add(Result(**whose(trial), status="done", scores={"closeness": score}))
    return shelf, scores


@pytest.mark.usefixtures("small_shelf")
def test_of_a_factorial_on_several_sets_the_noisiest_comparisons_count_on_each_and_over_all(tmp_path):
    sets = {"one": {}, "two": {"dataset.val": 12}}
    document = {"seeds": 8, "factors": CROSSED, "design": "full_factorial", "datasets": sets, "test": "t"}
    design = Design(load(write_study(tmp_path, **document)))
    shelf, scores = luck(design, of=2, seeds=8)
    interactions = scores[:, 1, 1] - scores[:, 1, 0] - scores[:, 0, 1] + scores[:, 0, 0]
    said = said_by(design, shelf)
    which = "in the noisiest comparisons, the interactions, they detect with 80 % power a difference of"
    (one,) = (line for line in said if line.startswith(f"On one data set, {which}"))
    (over,) = (line for line in said if line.startswith(f"Over all 2 of them, {which}"))
    assert f"so far: {math.sqrt(interactions.var(axis=1, ddof=1).mean()):.4f})" in one
    assert f"so far: {interactions.mean(axis=0).std(ddof=1):.4f})" in over


@pytest.mark.usefixtures("small_shelf")
@pytest.mark.parametrize(
    ("factors", "design", "norm", "where"),
    [
        ({"depth": CROSSED["depth"]}, "one_at_a_time", math.sqrt(2), ""),
        (CROSSED, "full_factorial", 2, " in the noisiest comparisons"),  # an interaction is a sum of four arms
    ],
)
def test_a_look_says_which_gap_of_its_comparisons_is_decided(tmp_path, factors, design, norm, where):
    study = write_study(tmp_path, seeds=16, looks=[8, 16], factors=factors, design=design)
    made_of = Design(load(study))
    (line,) = (line for line in said_by(made_of, Shelf()) if line.startswith("Look at 16 seeds"))
    level = sequential.levels(0.05 / len(made_of.contrasts), (8, 16))[1]
    gap = -stdtrit(15, level / 2) * norm / 4
    assert f"; a gap of {gap:.2g} standard deviations of an arm{where} is decided here as often as not" in line


@pytest.mark.usefixtures("small_shelf")
def test_of_too_few_seeds_each_test_has_a_way_out_of_its_own(tmp_path):
    factors = {"width": {"at": "model.width", "levels": [2, 4, 6]}}

    def ends(test: str) -> str:
        return said_by(Design(load(write_study(tmp_path, seeds=5, factors=factors, test=test))), Shelf())[-1]

    assert ends("sign_flip") == "Sign flips of so few seeds cannot reach the level; test: t can."
    assert ends("e_value") == "Further seeds may be added at any time: an e-value goes on from these."


@pytest.mark.usefixtures("small_shelf")
def test_only_the_seeds_that_decide_are_planned_with(called, tmp_path):
    """Two seeds that were added once eight were known show nothing, however many there are."""
    first = Design(load(write_study(tmp_path, seeds=8, test="t")))
    store = Store(tmp_path / "results")
    store.create()
    kept_plans.keep(store, first, {})
    for trial in first.trials:
        score = 0.5 + 0.01 * trial.seed * (trial.arm["depth"] == "2")
        store.put(Result(**whose(trial), status="done", scores={"closeness": score, "near": 0.5}), {})
    assert made(tmp_path, seeds=8, test="t").power[0].startswith("8 seeds and 1 comparison are testable")
    said = made(tmp_path, seeds=14, test="t").power
    assert any(line.startswith("Verdicts rest on the seeds 8 to 13 alone") for line in said)
    assert "6 seeds and 1 comparison are testable by paired t tests." in said
    write_study(tmp_path, seeds=14, test="t")
    _, out, _ = called("plan", "small.yaml", "--json")
    assert json.loads(out)["power"]["seeds"] == 6
    looks = made(tmp_path, looks=[10, 14], seeds=14)
    assert [line.partition(":")[0] for line in looks.power if line.startswith("Look")] == [
        "Look at 2 seeds",
        "Look at 6 seeds",
    ]


@pytest.mark.usefixtures("small_shelf")
@pytest.mark.parametrize(
    ("epochs", "why"),
    [
        (2, "2 epochs are too few for two evaluations in the last quarter of training."),
        (3, "3 epochs are too few for two evaluations in the last quarter of training."),
        (4, "budget.evaluate_every: 1 would evaluate twice in the last quarter of training."),
    ],
)
def test_what_would_tell_whether_scores_still_rise(tmp_path, epochs, why):
    recipe = small_study()["recipe"]
    recipe["train"]["epochs"] = epochs
    found = made(tmp_path, recipe=recipe, budget={"evaluate_every": 5})
    assert found.curves == f"Whether scores still rise at the end will not be known: {why}"


@pytest.mark.usefixtures("small_shelf")
def test_all_is_done_once_tries_and_trials_are(called, tmp_path):
    tune = {"train.lr": [0.1, 0.01, 0.001]}
    found = made(tmp_path, seeds=4, tune=tune)
    tries = found.tuning
    assert tries is not None
    for count in (1, 2):
        apart = [sum(arm.seconds * arm.planned for arm in step.arms) for step in (tries, found)]
        whole = forecast_on(found, devices=count)
        assert whole is not None
        assert sum(apart) / count <= whole.seconds * 1.01 <= sum(apart) * 1.02
        assert (
            whole.seconds
            == forecast_on(tries, devices=count).seconds + forecast_on(alone(found), devices=count).seconds
        )
    status, out, err = called("plan", "small.yaml", "--json", "--devices", "2")
    assert status == 0, err
    time = json.loads(out)["time"]
    assert time["trials"] == 2 * 3 + 2 * 4
    priced = [arm["a trial"] for arm in json.loads(out)["arms"]]
    assert time["device seconds"] > sum(priced) * 4


def alone(made: planning.Plan) -> planning.Plan:
    """The plan of the trials for the verdict, as if nothing were tuned."""
    return dataclasses.replace(made, tuning=None)


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
