"""What was planned is kept, and what departs from it is said; seeds that are added decide alone."""

import json

import made_up
import pytest

from ablate import registry
from ablate.analysis import gather
from ablate.storage import Store, imported, kept_plans
from ablate.study import Design

RENAMED = {"within": "within", "across": "across", "last": "final"}


def said(store, study) -> str:
    return " ".join(gather(Design(study), store, images=False).standing.sentences)


def results(study, first=None) -> dict:
    """Those of its first trials, by their ids."""
    return {trial.id: made_up.result(trial)[0] for trial in Design(study).trials[:first]}


def run(store, study, *, known=0) -> None:
    """What a run leaves: the plan, then results."""
    kept_plans.keep(store, Design(study), results(study, known))
    made_up.fill(store, study)


def dated(store, study, when, *, known=None) -> None:
    """The study's plan as if it had been stored then; `known` are the results that there were."""
    plan = kept_plans.asked(Design(study), results=known or {}).model_copy(update={"when": when})
    name = f"asked/{study.name}/{plan.digest}.json"
    store.place.write(name, kept_plans._sealed(plan))


def test_results_without_a_plan_say_so(tmp_path):
    made_up.fill(Store(tmp_path), made_up.study())
    assert said(Store(tmp_path), made_up.study()).startswith("No plan is stored")


def test_a_study_as_planned_has_nothing_to_say(tmp_path):
    store = Store(tmp_path)
    run(store, made_up.study())
    run(store, made_up.study(), known=24)  # again, as after gc
    assert said(store, made_up.study()) == ""
    assert said(store, made_up.study(seeds=[3, 1, 2, 0, 4, 5, 6, 7])) == ""
    plans, damaged = kept_plans.read(store, "fusion_count")
    assert (len(plans), damaged, plans[0].known) == (1, [], 0)
    evidence = gather(Design(made_up.study()), store, images=False)
    assert f"The plan {plans[0].digest} was stored on" in evidence.standing.planned


def test_seeds_that_are_added_decide_alone(tmp_path):
    store, more = Store(tmp_path), made_up.study(seeds=20)
    dated(store, made_up.study(), "2026-01-01T00:00:00.000+00:00")
    made_up.fill(store, more)
    evidence = gather(Design(more), store, images=False)
    text = " ".join(evidence.standing.sentences)
    assert "Departs from the plan of 2026-01-01 00:00 UTC: seeds 8 to 19 were added." in text
    assert "Verdicts rest on the seeds 8 to 19 alone" in text
    final = next(c for c in evidence.comparisons_in("AP") if c.arm == "final")
    scores = {row.label: row.scores["AP"] for row in evidence.rows}
    new, both = range(8, 20), range(20)
    assert final.effect.n == 12
    assert final.effect.diff == pytest.approx(sum(scores["final"][s] - scores["within"][s] for s in new) / 12)
    assert final.pooled.diff == pytest.approx(sum(scores["final"][s] - scores["within"][s] for s in both) / 20)
    assert next(c for c in evidence.comparisons_in("AR") if c.arm == "final").effect.n == 20
    # The first eight are still what was planned, and the later plan is told of once it is stored.
    kept_plans.keep(store, Design(more), results(made_up.study()))
    first = gather(Design(made_up.study()), store, images=False)
    assert first.standing.seeds == tuple(range(8))
    assert "Another plan was made on" in first.standing.sentences[0]
    assert "seeds 8 to 19 were added" in first.standing.sentences[0]


def test_what_was_planned_and_not_trained_is_not_known(tmp_path):
    """8 seeds are run, the file is set to 32, stopped at once, and set to 16: the first 8 are known, and no others."""
    store, eight, sixteen = Store(tmp_path), made_up.study(), made_up.study(seeds=16)
    dated(store, eight, "2026-01-01T00:00:00.000+00:00")
    dated(store, made_up.study(seeds=32), "2026-01-02T00:00:00.000+00:00", known=results(eight))
    dated(store, sixteen, "2026-01-03T00:00:00.000+00:00", known=results(eight))
    made_up.fill(store, sixteen)
    found = gather(Design(sixteen), store, images=False).standing
    assert found.seeds == tuple(range(8, 16))
    assert any("Verdicts rest on the seeds 8 to 15 alone" in line for line in found.sentences)


def test_a_plan_of_before_seeds_were_stored_takes_all_that_were_planned_as_known(tmp_path):
    store, more = Store(tmp_path), made_up.study(seeds=12)
    dated(store, made_up.study(), "2026-01-01T00:00:00.000+00:00")
    plan = kept_plans.asked(Design(more), results=results(made_up.study()))
    plan = plan.model_copy(update={"known_seeds": None, "when": "2026-01-02T00:00:00.000+00:00"})
    store.place.write(f"asked/fusion_count/{plan.digest}.json", kept_plans._sealed(plan))
    made_up.fill(store, more)
    assert gather(Design(more), store, images=False).standing.seeds == tuple(range(8, 12))


def test_until_added_seeds_are_trained_the_answer_says_that_they_are_not(tmp_path):
    store = Store(tmp_path)
    run(store, made_up.study())
    evidence = gather(Design(made_up.study(seeds=12)), store, images=False)
    text = " ".join(b.text for b in registry.build("section", "answer", {})(evidence) if b.style == "answer")
    assert "Nothing can be said yet of across and final: of the seeds that decide none has a score" in text
    assert "Verdicts rest on the seeds 8 to 11 alone" in text
    assert "From all seeds: across (" in text


@pytest.mark.parametrize("change", [{"test": "t"}, {"seeds": 12}, {"metrics": ["AP", "AR"]}, {"scale": "other"}])
def test_after_seeds_were_added_further_changes_do_not_bring_the_first_back(tmp_path, change):
    store, first, more = Store(tmp_path), made_up.study(), made_up.study(seeds=16)
    dated(store, first, "2026-01-01T00:00:00.000+00:00")
    dated(store, more, "2026-01-02T00:00:00.000+00:00", known=results(first))
    changed = made_up.study(**{"seeds": 16} | change)
    made_up.fill(store, more)
    made_up.fill(store, changed)
    dated(store, changed, "2026-01-03T00:00:00.000+00:00", known=results(more))
    found = gather(Design(changed), store, images=False)
    assert found.standing.seeds == tuple(range(8, change.get("seeds", 16)))
    assert "Verdicts rest on" in " ".join(found.standing.sentences)
    assert {one.effect.n for one in found.comparisons_in("AP")} == {len(found.standing.seeds)}
    assert found.comparisons_in("AP")[0].pooled is not None


def test_seeds_that_were_scored_by_other_metrics_are_known(tmp_path):
    """A metric that is only measured when it is asked for gives trials another id, and no other scores."""
    first, more = made_up.study(), made_up.study(seeds=16)
    before = {f"{at:016x}": result for at, result in enumerate(results(first).values())}
    assert kept_plans.asked(Design(more), results=before).known_seeds == list(range(8))


def test_a_result_whose_recipe_lacks_a_knob_of_today_is_known(tmp_path):
    """A knob that came later, with the old behaviour as its default, makes no other trial of it."""
    first, more, before = made_up.study(), made_up.study(seeds=16), {}
    for trial in Design(first).trials:
        made = made_up.result(trial)[0]
        bare = {
            knob: value for knob, value in made.recipe.evaluation.items() if knob != next(iter(made.recipe.evaluation))
        }
        assert bare != made.recipe.evaluation
        before[trial.id[::-1]] = made.model_copy(update={"recipe": made.recipe.model_copy(update={"evaluation": bare})})
    assert kept_plans.asked(Design(more), results=before).known_seeds == list(range(8))


def test_results_of_other_code_are_not_known():
    made = made_up.study()
    for changed in ({"meanings": {"task": 2}}, {"plugins": {}}, {"data_version": "other"}):
        others = {trial.id[::-1]: made_up.result(trial, **changed)[0] for trial in Design(made).trials}
        assert kept_plans.asked(Design(made), results=others).known == 0


@pytest.mark.parametrize("other", [{"train.weight_decay": [0.0, 0.001]}, None])
def test_where_another_tuning_was_planned_its_seeds_count_as_known(tmp_path, other):
    """Of paths that are not tuned any more nothing tells which values the trials had."""
    store, one = Store(tmp_path), made_up.study(tune={"train.lr": [0.0001, 0.001]})
    dated(store, one, "2026-01-01T00:00:00.000+00:00")
    more = made_up.study(tune=other, seeds=16)
    plans, _ = kept_plans.read(store, "fusion_count")
    assert kept_plans.standing(Design(more), plans, {}).seeds == tuple(range(8, 16))


@pytest.mark.parametrize("change", [{"seeds": 16}, {"test": "t"}, {"metrics": ["AR", "AP"]}])
def test_a_change_that_adds_no_seed_leaves_the_verdict_to_those_that_were_planned(tmp_path, change):
    store, first = Store(tmp_path), made_up.study(seeds=32)
    changed = made_up.study(**{"seeds": 32} | change)
    dated(store, first, "2026-01-01T00:00:00.000+00:00")
    known = {trial: one for trial, one in results(first).items() if one.seed < 12}
    dated(store, changed, "2026-01-02T00:00:00.000+00:00", known=known)
    made_up.fill(store, changed)
    found = gather(Design(changed), store, images=False).standing
    assert found.seeds == tuple(range(len(changed.seeds)))
    assert "Departs from the plan" in found.sentences[0]
    assert "before any result" not in found.sentences[0]


SEQUENCES = {  # (seeds, how many were known) of each plan -> the seeds that decide under the last one
    "a larger plan that was never trained": ([(32, 0), (8, 0), (16, 8)], range(8, 16)),
    "dropped, then added": ([(32, 0), (12, 12), (24, 12)], range(12, 24)),
    "added, dropped, added": ([(8, 0), (16, 8), (7, 16), (15, 16)], range(8, 15)),
    "added, then fewer": ([(8, 0), (16, 8), (15, 16)], range(8, 15)),
    "the first ones again": ([(8, 0), (16, 8), (7, 16)], range(7)),
    "added twice": ([(8, 0), (16, 8), (24, 16)], range(16, 24)),
}


@pytest.mark.parametrize(("plans", "deciding"), SEQUENCES.values(), ids=SEQUENCES)
def test_of_many_plans_known_seeds_never_decide_with_added_ones(tmp_path, plans, deciding):
    store, known = Store(tmp_path), results(made_up.study(seeds=32))
    for day, (seeds, there) in enumerate(plans, start=1):
        had = {trial: one for trial, one in known.items() if one.seed < there}
        dated(store, made_up.study(seeds=seeds), f"2026-01-{day:02}T00:00:00.000+00:00", known=had)
    last = made_up.study(seeds=plans[-1][0])
    assert kept_plans.standing(Design(last), kept_plans.read(store, last.name)[0], known).seeds == tuple(deciding)


def test_the_same_seeds_by_another_test_and_back_stay_apart(tmp_path):
    store, known = Store(tmp_path), results(made_up.study(seeds=16))
    for day, (seeds, test, there) in enumerate([(8, None, 0), (16, None, 8), (8, "t", 16), (16, "t", 16)], start=1):
        had = {trial: one for trial, one in known.items() if one.seed < there}
        dated(store, made_up.study(seeds=seeds, test=test), f"2026-01-{day:02}T00:00:00.000+00:00", known=had)
    last = made_up.study(seeds=16, test="t")
    found = kept_plans.standing(Design(last), kept_plans.read(store, last.name)[0], known)
    assert found.seeds == tuple(range(8, 16))


def test_seeds_that_were_known_before_another_tuning_are_known(tmp_path):
    store, tunes = Store(tmp_path), [{"train.lr": [0.0001, 0.001]}, {"train.lr": [0.01, 0.1]}]
    one, other, more = (made_up.study(tune=tunes[at], seeds=seeds) for at, seeds in ((0, 8), (1, 8), (1, 16)))
    chosen = {trial.id: made_up.result(trial)[0] for trial in Design(one).trials}
    for trial, result in chosen.items():
        train = result.recipe.train.model_copy(update={"lr": 0.0005})
        recipe = result.recipe.model_copy(update={"train": train})
        chosen[trial] = result.model_copy(update={"recipe": recipe, "meanings": recipe.meanings()})
    dated(store, one, "2026-01-01T00:00:00.000+00:00")
    dated(store, other, "2026-01-02T00:00:00.000+00:00", known=chosen)
    plans, _ = kept_plans.read(store, "fusion_count")
    assert (plans[1].known, plans[1].known_seeds) == (24, list(range(8)))
    found = kept_plans.standing(Design(other), plans, chosen)
    assert "before any result" not in " ".join(found.sentences)
    assert "tune was" in found.sentences[0]
    assert kept_plans.standing(Design(more), plans, chosen).seeds == tuple(range(8, 16))


def test_seeds_added_by_another_scale_with_the_same_arms_decide_alone(tmp_path):
    """A longer list of seeds is no other question because it has another name."""
    store, more = Store(tmp_path), made_up.study(seeds=16, scale="more")
    dated(store, made_up.study(), "2026-01-01T00:00:00.000+00:00")
    dated(store, more, "2026-01-02T00:00:00.000+00:00", known=results(made_up.study()))
    made_up.fill(store, more)
    found = gather(Design(more), store, images=False).standing
    assert found.seeds == tuple(range(8, 16))
    assert "the scale was laptop and is more; seeds 8 to 15 were added." in found.sentences[0]
    recipe = more.recipe.model_dump() | {"train": {"epochs": 24}}
    longer = made_up.study(seeds=16, scale="more", recipe=recipe)
    assert gather(Design(longer), store, images=False).standing.sentences[0].startswith("No plan is stored")


def test_looks_at_added_seeds_are_those_that_are_still_to_come(tmp_path):
    """Planned at 8 and 16 seeds, which all ended; then one at 24 more was planned: it is at 8 seeds of its own."""
    store, more = Store(tmp_path), made_up.study(looks=[8, 16, 24], seeds=24)
    run(store, made_up.study(looks=[8, 16], seeds=16))
    kept_plans.keep(store, Design(more), results(made_up.study(looks=[8, 16], seeds=16)))
    made_up.fill(store, more)
    found = gather(Design(more), store, images=False)
    assert found.rule.looks == (8,)
    assert {(one.effect.n, one.look) for one in found.comparisons_in("AP")} == {(8, 8)}
    assert not found.missing
    assert "undecided" not in {one.verdict for one in found.comparisons_in("AP")}


def test_a_plan_that_changed_before_any_result_may_decide_with_all_seeds(tmp_path):
    store, more = Store(tmp_path), made_up.study(seeds=12)
    dated(store, made_up.study(), "2026-01-01T00:00:00.000+00:00")
    run(store, more)
    found = gather(Design(more), store, images=False).standing
    assert found.seeds == tuple(range(12))
    assert "before any result of the new plan was known: seeds 8 to 11 were added." in found.sentences[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"levels": ("within", "final")}, "the arm across was dropped"),
        ({"levels": ("within", "across", "final", "every_second_module")}, "the arm every_second_module was added"),
        ({"metrics": ["AP50", "AP"]}, "the primary metric was AP and is AP50"),
        ({"seeds": [0, 1, 2, 3, 5, 7]}, "seeds 4 and 6 were dropped"),
        ({"levels": ("final", "across", "within")}, "the control was within and is final; compared were "),
        ({"levels": ("within", "final", "across")}, ": the order of its parts changed."),
        (
            {"factors": {"fusions": {"levels": {n: {"model.fusions": f} for n, f in RENAMED.items()}}}},
            ": the arm final is called last.",
        ),
    ],
)
def test_every_departure_is_in_words(tmp_path, changes, words):
    store = Store(tmp_path)
    run(store, made_up.study())
    changed = made_up.study(**changes)
    made_up.fill(store, changed)
    assert words in said(store, changed)


def test_another_question_under_the_same_name_is_no_departure(tmp_path):
    store, other = Store(tmp_path), made_up.study()
    run(store, other)
    recipe = other.recipe.model_dump(exclude_unset=True)
    longer = made_up.study(recipe=recipe | {"train": recipe["train"] | {"epochs": 24}})
    run(store, longer)
    assert said(store, longer) == ""
    assert len(kept_plans.read(store, "fusion_count")[0]) == 2


def test_a_plan_that_came_after_results_says_so(tmp_path):
    store = Store(tmp_path)
    run(store, made_up.study(), known=5)
    assert said(store, made_up.study()) == "The plan was stored when 5 of its 24 trials already had a result."


def test_a_damaged_plan_is_named_and_counts_as_none(tmp_path):
    store = Store(tmp_path)
    run(store, made_up.study())
    (file,) = (tmp_path / "asked/fusion_count").glob("*.json")
    document = json.loads(file.read_text())
    document["plan"]["seeds"] = [0, 1]
    file.write_text(json.dumps(document))
    evidence = gather(Design(made_up.study()), store, images=False)
    assert evidence.standing.sentences[0].startswith("No plan is stored")
    assert any("asked/fusion_count" in line for line in evidence.damaged)


def test_plans_travel_with_results(tmp_path):
    theirs, mine = Store(tmp_path / "theirs"), Store(tmp_path / "mine")
    run(theirs, made_up.study())
    imported(tmp_path / "theirs", mine)
    assert kept_plans.read(mine, "fusion_count")[0] == kept_plans.read(theirs, "fusion_count")[0]
