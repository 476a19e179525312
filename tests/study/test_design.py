"""From a study to its trials, worked out by hand."""

import pytest
from small_studies import small_study, write_study

from ablate.errors import StudyError
from ablate.study import arms, check_study, contrasts, expand, label, load

pytestmark = pytest.mark.usefixtures("small_shelf")

FACTORS = {
    "depth": {"at": "model.depth", "levels": [1, 2]},
    "width": {"at": "model.width", "levels": [4, 8, 2]},
}


def study(tmp_path, **changes):
    return load(write_study(tmp_path, factors=FACTORS, **changes))


def test_one_at_a_time(tmp_path):
    chosen = study(tmp_path, seeds=[5, 3])
    assert arms(chosen) == [
        {"depth": "1", "width": "4"},
        {"depth": "2", "width": "4"},
        {"depth": "1", "width": "8"},
        {"depth": "1", "width": "2"},
    ]
    trials = expand(chosen)
    found = [(t.seed, t.recipe.model.knobs["depth"], t.recipe.model.knobs["width"]) for t in trials]
    # Seeds outermost: after any prefix the arms are compared on equal terms.
    assert found == [(seed, *arm) for seed in (5, 3) for arm in ((1, 4), (2, 4), (1, 8), (1, 2))]
    assert len({t.id for t in trials}) == 8


def test_full_factorial(tmp_path):
    chosen = study(tmp_path, design="full_factorial", seeds=1)
    found = [(t.recipe.model.knobs["depth"], t.recipe.model.knobs["width"]) for t in expand(chosen)]
    assert found == [(1, 4), (1, 8), (1, 2), (2, 4), (2, 8), (2, 2)]


def test_every_arm_is_compared_with_the_control(tmp_path):
    single, full = study(tmp_path), study(tmp_path, design="full_factorial")
    assert single.control == full.control == {"depth": "1", "width": "4"}
    assert [label(single, arm) for arm in contrasts(single)] == ["depth=2", "8", "width=2"]
    assert [label(full, arm) for arm in contrasts(full)] == [
        "8", "width=2", "depth=2", "depth=2 + 8", "depth=2 + width=2",
    ]  # fmt: skip


def test_labels_name_what_differs_and_the_factor_where_a_level_alone_would_not(tmp_path):
    made = study(tmp_path)
    assert label(made, {"depth": "1", "width": "4"}) == "1 + 4"
    assert label(made, {"depth": "1", "width": "8"}) == "8"
    assert label(made, {"depth": "2", "width": "8"}) == "depth=2 + 8"  # a width is called 2, too


def test_a_level_can_change_the_training_and_the_protocol(tmp_path):
    levels = {
        "short": {"train.epochs": 2, "evaluation.flip": True},
        "sgd": {"train.optimizer": "sgd", "train.momentum": 0.9},
    }
    trials = expand(load(write_study(tmp_path, factors={"how": {"levels": levels}}, seeds=1)))
    assert [(t.recipe.train.epochs, t.recipe.evaluation["flip"]) for t in trials] == [(2, True), (3, False)]
    assert (trials[1].recipe.train.optimizer, trials[1].recipe.train.momentum) == ("sgd", 0.9)


def test_a_level_can_be_another_part(tmp_path):
    levels = [{"name": "dots", "width": 2}, {"name": "hrnet", "width": 4}]
    factors = {"network": {"at": "model", "levels": {"dots": levels[0], "hrnet": levels[1]}}}
    trials = expand(load(write_study(tmp_path, factors=factors, seeds=1)))
    assert [(t.recipe.model.name, t.recipe.model.knobs["width"]) for t in trials] == [("dots", 2), ("hrnet", 4)]


def test_the_control_recipe_is_not_changed_by_expanding(tmp_path):
    chosen = study(tmp_path)
    before = chosen.model_dump_json()
    expand(chosen)
    assert chosen.model_dump_json() == before
    assert small_study()["recipe"]["model"] == {"name": "dots", "width": 4}


def test_studies_share_trials(tmp_path):
    """The same recipe and seed under another name, scale and design is the same trial."""
    one = {t.id for t in expand(study(tmp_path, seeds=3))}
    other = {t.id for t in expand(study(tmp_path, seeds=2, name="other", design="full_factorial"))}
    assert len(one & other) == 8  # four of one study's arms are among the other's six, with seeds 0 and 1


def models(tmp_path, **changes):
    return [trial.recipe.model for trial in expand(load(write_study(tmp_path, seeds=1, **changes)))]


def test_a_bare_name_is_the_recipes_own_part(tmp_path):
    recipe = small_study()["recipe"] | {"model": {"name": "dots", "width": 8}}
    levels = {"plain": {"model": "dots"}, "deep": {"model": {"name": "dots", "depth": 2}}}
    found = models(tmp_path, recipe=recipe, factors={"net": {"levels": levels}})
    assert [(model.knobs["width"], model.knobs["depth"]) for model in found] == [(8, 1), (8, 2)]


def test_a_part_is_set_before_its_knobs_whatever_their_order(tmp_path):
    levels = {"plain": {"model.width": 4}, "other": {"model.least": 2, "model": {"name": "scaled"}}}
    plain, other = models(tmp_path, factors={"net": {"levels": levels}}, plugins=["small_parts", "match_parts"])
    assert (plain.knobs["width"], other.name, other.knobs["least"]) == (4, "scaled", 2)


def test_two_arms_of_one_name_are_refused(tmp_path):
    factors = {
        "f": {"levels": {"a": {"model.depth": 1}, "b": {"model.depth": 2}, "b + d": {"model.dropout": 0.5}}},
        "g": {"levels": {"c": {"model.width": 4}, "d": {"model.width": 8}}},
    }
    with pytest.raises(StudyError, match=r"small.yaml: factors: two arms would both be called 'b \+ d'"):
        expand(load(write_study(tmp_path, factors=factors, design="full_factorial")))


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"power": 0.5}, "power has no effect with schedule 'constant'"),
        ({"schedule": "poly", "gamma": 0.5}, "gamma has no effect with schedule 'poly'"),
        ({"schedule": "step"}, "schedule 'step' needs milestones"),
    ],
)
def test_a_knob_of_another_schedule_is_refused(tmp_path, train, said):
    recipe = small_study()["recipe"]
    with pytest.raises(StudyError, match=f"small.yaml: recipe.train: {said}"):
        load(write_study(tmp_path, recipe=recipe | {"train": recipe["train"] | train}))


def test_levels_on_other_test_images_are_refused_before_any_training(tmp_path):
    factors = {"images": {"at": "dataset.val", "levels": [8, 6]}}
    with pytest.raises(StudyError, match=r"arm 6 is evaluated with so many test samples 6, the control with 8"):
        check_study(load(write_study(tmp_path, factors=factors)))
    check_study(load(write_study(tmp_path, factors={"size": {"at": "dataset.train", "levels": [20, 12]}})))
