"""One question on several data sets: arms, comparisons and identities, worked out by hand."""

import pytest
from small_studies import small_study, write_study

from ablate.errors import PartError, StudyError
from ablate.study import Design, check_study, load

pytestmark = pytest.mark.usefixtures("small_shelf")

SETS = {"few": {}, "many": {"dataset.train": 40, "train.epochs": 4}}


def design(tmp_path, **changes):
    return Design(load(write_study(tmp_path, **{"datasets": SETS} | changes)))


def test_every_arm_is_on_every_set(tmp_path):
    made = design(tmp_path, seeds=[3])
    assert [arm.label for arm in made.arms] == [
        "depth=1 on few",
        "depth=2 on few",
        "depth=1 on many",
        "depth=2 on many",
    ]
    found = [
        (t.recipe.dataset.knobs["train"], t.recipe.train.epochs, t.recipe.model.knobs["depth"]) for t in made.trials
    ]
    assert found == [(20, 3, 1), (20, 3, 2), (40, 4, 1), (40, 4, 2)]
    assert [made.control_of(arm).label for arm in made.arms] == ["depth=1 on few"] * 2 + ["depth=1 on many"] * 2
    assert [arm.label for arm in made.others] == ["depth=2 on few", "depth=2 on many"]
    assert [arm.bare for arm in made.arms] == [("1",), ("2",)] * 2


def test_trials_are_those_of_studies_of_one_set(tmp_path):
    several = design(tmp_path)
    apart = small_study()
    apart["recipe"]["dataset"] = {"name": "noise", "train": 40}
    apart["recipe"]["train"]["epochs"] = 4
    (tmp_path / "apart").mkdir()
    alone = Design(load(write_study(tmp_path / "apart", **apart)))
    ids = [[trial.id for trial in arm.trials] for arm in several.on("many")]
    assert ids == [[trial.id for trial in arm.trials] for arm in alone.arms]
    assert [t.id for t in several.on("few")[0].trials] == [t.id for t in design(tmp_path, datasets=None).control.trials]


def test_comparisons_are_on_each_set_and_over_all(tmp_path):
    found = [(one.label, one.reference, one.weights) for one in design(tmp_path).contrasts]
    assert found == [
        ("depth=2 on few", "depth=1 on few", {"depth=1 on few": -1, "depth=2 on few": 1}),
        ("depth=2 on many", "depth=1 on many", {"depth=1 on many": -1, "depth=2 on many": 1}),
        (
            "depth=2 over all data sets",
            "depth=1 over all data sets",
            {"depth=1 on few": -0.5, "depth=2 on few": 0.5, "depth=1 on many": -0.5, "depth=2 on many": 0.5},
        ),
    ]


def test_main_effects_are_on_each_set_and_over_all(tmp_path):
    factors = {"depth": {"at": "model.depth", "levels": [1, 2]}, "width": {"at": "model.width", "levels": [4, 8]}}
    made = design(tmp_path, factors=factors, design="full_factorial")
    assert len(made.arms) == 8
    assert [one.label for one in made.contrasts][:3] == [
        "depth=2 on average on few", "width=8 on average on few", "depth=2 × width=8 on few",
    ]  # fmt: skip
    assert [one.label for one in made.contrasts][6:] == [
        "depth=2 on average over all data sets",
        "width=8 on average over all data sets",
        "depth=2 × width=8 over all data sets",
    ]
    whole = made.contrasts[6].weights
    assert whole == {arm.label: (0.25 if arm.levels["depth"] == "2" else -0.25) for arm in made.arms}
    within = design(tmp_path, factors=factors, design="full_factorial", compare="within width")
    assert [(one.label, one.reference) for one in within.contrasts] == [
        ("depth=2 on few", "depth=1 + width=4 on few"),
        ("depth=2 + width=8 on few", "width=8 on few"),
        ("depth=2 on many", "depth=1 + width=4 on many"),
        ("depth=2 + width=8 on many", "width=8 on many"),
        ("depth=2 over all data sets", "depth=1 + width=4 over all data sets"),
        ("depth=2 + width=8 over all data sets", "width=8 over all data sets"),
    ]


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        ("depth=2", ["depth=2 on few", "depth=2 on many"]),
        ("depth=2 on many", ["depth=2 on many"]),
        ("dataset=many", ["depth=1 on many", "depth=2 on many"]),
        ("few", ["depth=1 on few", "depth=2 on few"]),
    ],
)
def test_arms_are_chosen_by_their_labels(tmp_path, choice, chosen):
    assert [arm.label for arm in design(tmp_path).chosen([choice], flag="--only")] == chosen


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"datasets": {"few": {}}}, "datasets: are two or more"),
        ({"datasets": {"": {}, "b": {"dataset.train": 40}}}, "datasets: '': a data set's name is made of"),
        ({"datasets": {"a": {}, "b on a": {"dataset.train": 40}}}, "'b on a': a data set's name is made of"),
        ({"datasets": SETS, "factors": {"dataset": {"at": "model.depth", "levels": [1, 2]}}}, "no factor is called"),
        ({"datasets": {"few": {}, "same": {}}}, "are the same trial"),
        (
            {"datasets": {"few": {}, "many": {"dataset.trian": 40}}},
            r"datasets.many: dataset.trian: .*no such knob; did you mean 'train'",
        ),
        ({"datasets": {"few": {}, "many": {"data.train": 40}}}, "datasets.many: no 'data' in a recipe"),
        ({"datasets": {"few": {}, "many": {"model.depth": 2}}}, "factors.depth and datasets both set model.depth"),
    ],
)
def test_mistakes_are_one_line(tmp_path, changes, what):
    with pytest.raises((StudyError, PartError), match=what) as error:
        check_study(design(tmp_path, **changes))
    assert "\n" not in str(error.value)
    assert "small.yaml" in str(error.value)


def test_a_scale_may_have_sets_of_its_own(tmp_path):
    file = write_study(tmp_path, scales={"both": {"datasets": SETS}, "one": {}})
    assert Design(load(file, scale="both")).sets == ("few", "many")
    assert Design(load(file, scale="one")).sets == ("",)


def test_a_scale_may_take_them_away(tmp_path):
    file = write_study(tmp_path, datasets=SETS, scales={"demo": {"datasets": None}, "all": {}})
    assert load(file, scale="demo").datasets is None
    assert load(file, scale="all").datasets == SETS
