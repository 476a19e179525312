"""From a study to its trials, worked out by hand."""

import pytest
from small_studies import small_study, write_study

from ablate.errors import StudyError
from ablate.study import Design, check_study, load

pytestmark = pytest.mark.usefixtures("small_shelf")

FACTORS = {
    "depth": {"at": "model.depth", "levels": [1, 2]},
    "width": {"at": "model.width", "levels": [4, 8, 2]},
}


def study(tmp_path, **changes):
    return load(write_study(tmp_path, factors=FACTORS, **changes))


def test_one_at_a_time(tmp_path):
    chosen = study(tmp_path, seeds=[5, 3])
    assert [arm.levels for arm in Design(chosen).arms] == [
        {"depth": "1", "width": "4"},
        {"depth": "2", "width": "4"},
        {"depth": "1", "width": "8"},
        {"depth": "1", "width": "2"},
    ]
    trials = Design(chosen).trials
    found = [(t.seed, t.recipe.model.knobs["depth"], t.recipe.model.knobs["width"]) for t in trials]
    # Seeds outermost: after any prefix the arms are compared on equal terms.
    assert found == [(seed, *arm) for seed in (5, 3) for arm in ((1, 4), (2, 4), (1, 8), (1, 2))]
    assert len({t.id for t in trials}) == 8


def test_full_factorial(tmp_path):
    chosen = study(tmp_path, design="full_factorial", seeds=1)
    found = [(t.recipe.model.knobs["depth"], t.recipe.model.knobs["width"]) for t in Design(chosen).trials]
    assert found == [(1, 4), (1, 8), (1, 2), (2, 4), (2, 8), (2, 2)]


def test_every_arm_is_compared_with_the_control(tmp_path):
    single, full = Design(study(tmp_path)), Design(study(tmp_path, design="full_factorial"))
    assert single.control.levels == full.control.levels == {"depth": "1", "width": "4"}
    assert [arm.label for arm in single.others] == [contrast.label for contrast in single.contrasts]
    assert [arm.label for arm in single.others] == ["depth=2", "width=8", "width=2"]
    assert [arm.label for arm in full.others] == [
        "width=8", "width=2", "depth=2", "depth=2 + width=8", "depth=2 + width=2",
    ]  # fmt: skip
    assert [trial.arm for trial in single.first] == [arm.levels for arm in single.arms]
    assert all(single.arm(trial) is arm for arm in single.arms for trial in arm.trials)


@pytest.mark.parametrize(
    ("levels", "shown"),
    [
        ([1, 2], ["f=1", "f=2"]),
        ([2.5, 0.0], ["f=2.5", "f=0.0"]),
        (["yes", "no"], ["f=yes", "f=no"]),  # as a factor calls true and false
        (["1/4", "1/32"], ["f=1/4", "f=1/32"]),
        (["within", "final"], ["within", "final"]),
        (["64x48", "96x72"], ["64x48", "96x72"]),
        (["w18", "w32"], ["w18", "w32"]),
    ],
)
def test_a_level_has_its_factors_name_where_it_would_not_say_what_it_is(tmp_path, levels, shown):
    factors = {"f": {"levels": {str(level): {"model.depth": at} for at, level in enumerate(levels, 1)}}}
    assert [arm.label for arm in Design(load(write_study(tmp_path, factors=factors))).arms] == shown


def test_a_level_that_two_factors_have_is_told_apart(tmp_path):
    factors = {
        "one": {"levels": {"plain": {}, "other": {"model.depth": 2}}},
        "two": {"levels": {"usual": {}, "other": {"model.width": 8}}},
    }
    design = Design(load(write_study(tmp_path, factors=factors, seeds=1, design="full_factorial")))
    assert [arm.label for arm in design.arms] == ["plain + usual", "two=other", "one=other", "one=other + two=other"]


@pytest.mark.parametrize("design", ["one_at_a_time", "full_factorial"])
def test_a_path_belongs_to_one_factor(tmp_path, design):
    factors = {
        "a": {"levels": {"narrow": {"model.width": 4}, "wide": {"model.width": 8, "model.depth": 2}}},
        "b": {"levels": {"plain": {}, "widest": {"model.width": 16}}},
    }
    with pytest.raises(StudyError, match=r"factors\.a and factors\.b both set model\.width"):
        Design(load(write_study(tmp_path, factors=factors, design=design)))


# -- choosing arms ---------------------------------------------------------------------------------------------


def labels(arms) -> list[str]:
    return [arm.label for arm in arms]


def test_every_label_chooses_its_own_arm(tmp_path):
    for made in (study(tmp_path), study(tmp_path, design="full_factorial")):
        design = Design(made)
        for arm in design.arms:
            assert design.study.control | design.levels_of(arm.label, flag="--arm") == arm.levels


def test_bare_names_choose_too(tmp_path):
    design = Design(study(tmp_path, design="full_factorial"))
    assert labels(design.chosen(["8"], flag="--only")) == ["width=8", "depth=2 + width=8"]
    assert labels(design.chosen(["depth=2 + 8", "4"], flag="--only")) == [
        "depth=1 + width=4",
        "depth=2",
        "depth=2 + width=8",
    ]
    assert design.chosen([], flag="--only") == []


@pytest.mark.parametrize(
    ("choice", "line"),
    [
        ("2", "--only 2: depth and width have this level; write depth=2"),
        ("depht=2", "--only depht=2: no factor 'depht'; did you mean 'depth'?"),
        ("width=9", "--only width=9: no level '9'; choose from 2, 4, 8"),
        ("16", "--only 16: no level '16'; did you mean '1'?"),
        ("8 + depth=3", "--only 8 + depth=3: no level '3'; choose from 1, 2"),
    ],
)
def test_a_wrong_choice_is_one_line(tmp_path, choice, line):
    with pytest.raises(StudyError) as caught:
        Design(study(tmp_path)).chosen([choice], flag="--only")
    assert str(caught.value).endswith(line)


def test_a_levels_name_may_hold_what_joins_levels(tmp_path):
    factors = {"f": {"levels": {"a": {}, "b + c": {"model.depth": 2}, "d=e": {"model.width": 8}}}}
    design = Design(load(write_study(tmp_path, factors=factors)))
    assert (
        labels(design.chosen(["b + c"], flag="--arm")) == labels(design.chosen(["f=b + c"], flag="--arm")) == ["b + c"]
    )
    assert labels(design.chosen(["d=e"], flag="--arm")) == ["d=e"]


def test_a_level_can_change_the_training_and_the_protocol(tmp_path):
    levels = {
        "short": {"train.epochs": 2, "evaluation.flip": True},
        "sgd": {"train.optimizer": "sgd", "train.momentum": 0.9},
    }
    trials = Design(load(write_study(tmp_path, factors={"how": {"levels": levels}}, seeds=1))).trials
    assert [(t.recipe.train.epochs, t.recipe.evaluation["flip"]) for t in trials] == [(2, True), (3, False)]
    assert (trials[1].recipe.train.optimizer, trials[1].recipe.train.momentum) == ("sgd", 0.9)


def test_a_level_can_be_another_part(tmp_path):
    levels = [{"name": "dots", "width": 2}, {"name": "hrnet", "width": 4}]
    factors = {"network": {"at": "model", "levels": {"dots": levels[0], "hrnet": levels[1]}}}
    trials = Design(load(write_study(tmp_path, factors=factors, seeds=1))).trials
    assert [(t.recipe.model.name, t.recipe.model.knobs["width"]) for t in trials] == [("dots", 2), ("hrnet", 4)]


def test_the_control_recipe_is_not_changed_by_expanding(tmp_path):
    chosen = study(tmp_path)
    before = chosen.model_dump_json()
    Design(chosen)
    assert chosen.model_dump_json() == before
    assert small_study()["recipe"]["model"] == {"name": "dots", "width": 4}


def test_studies_share_trials(tmp_path):
    """The same recipe and seed under another name, scale and design is the same trial."""
    one = {t.id for t in Design(study(tmp_path, seeds=3)).trials}
    other = {t.id for t in Design(study(tmp_path, seeds=2, name="other", design="full_factorial")).trials}
    assert len(one & other) == 8  # four of one study's arms are among the other's six, with seeds 0 and 1


def models(tmp_path, **changes):
    return [trial.recipe.model for trial in Design(load(write_study(tmp_path, seeds=1, **changes))).trials]


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
        Design(load(write_study(tmp_path, factors=factors, design="full_factorial")))


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
    with pytest.raises(StudyError, match=r"arm images=6 is evaluated with so many test samples 6, the control with 8"):
        check_study(Design(load(write_study(tmp_path, factors=factors))))
    check_study(Design(load(write_study(tmp_path, factors={"size": {"at": "dataset.train", "levels": [20, 12]}}))))
