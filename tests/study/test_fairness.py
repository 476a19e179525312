"""What a reader is told of arms that do not start or train alike: in the plan and in the report, unasked."""

import json

import pytest
from small_studies import TESTS, small_study, write_study

from ablate import registry, report
from ablate.analysis import gather
from ablate.errors import StudyError
from ablate.planning.match import solve
from ablate.report.blocks import Table, Text
from ablate.storage import Store
from ablate.study import (
    Design,
    load,
    one_recipe,
    presets,
    refuse_different_protocols,
    starts_from,
    unlike_starts,
)

pytestmark = pytest.mark.usefixtures("small_shelf")
ONE, OTHER = ({"file": f"checkpoints/{name}.pth", "sha256": name * 64} for name in "ab")
MIXED = {"net": {"levels": {"shallow": {"model.depth": 1, "weights": ONE}, "deep": {"model.depth": 2}}}}


def said(tmp_path, what, **changes) -> str:
    study = load(write_study(tmp_path, **changes))
    return what(Design(study))


def recipe(**changes) -> dict:
    return small_study()["recipe"] | changes


# -- starting weights ------------------------------------------------------------------------------------------


def test_a_start_is_a_name_and_a_digest(tmp_path):
    control, level = Design(load(write_study(tmp_path, factors=MIXED))).trials[:2]
    assert (starts_from(control.recipe), starts_from(level.recipe)) == ("a.pth (aaaaaaaa)", "scratch")


def test_scratch_against_pretrained_is_said(tmp_path):
    line = said(tmp_path, unlike_starts, factors=MIXED)
    assert line.startswith(
        "Not alike at the start: shallow, the control, starts from a.pth (aaaaaaaa); deep from scratch."
    )


def test_two_checkpoints_are_said(tmp_path):
    levels = {"shallow": {"model.depth": 1, "weights": ONE}, "deep": {"model.depth": 2, "weights": OTHER}}
    line = said(tmp_path, unlike_starts, factors={"net": {"levels": levels}})
    assert "starts from a.pth (aaaaaaaa); deep from b.pth (bbbbbbbb)." in line


ALIKE = {
    "nobody has weights": {},
    "all have the same": {"recipe": recipe(weights=ONE)},
    "weights are the question": {"factors": {"start": {"at": "weights", "levels": {"scratch": None, "a": ONE}}}},
    "weights are one of the questions": {
        "factors": {
            "depth": {"at": "model.depth", "levels": [1, 2]},
            "start": {"at": "weights", "levels": {"scratch": None, "a": ONE, "b": OTHER}},
        },
        "design": "full_factorial",
    },
}


@pytest.mark.parametrize("changes", ALIKE.values(), ids=ALIKE)
def test_nothing_is_said_where_arms_start_alike_or_that_is_asked(tmp_path, changes):
    assert said(tmp_path, unlike_starts, **changes) == ""


# -- the training ----------------------------------------------------------------------------------------------


def test_one_recipe_is_named_by_its_preset_and_what_departs_from_it(tmp_path):
    train = {"preset": "pose", "epochs": 20, "batch": 32}
    line = said(tmp_path, one_recipe, recipe=recipe(train=train))
    assert line == "One training recipe for all arms: preset pose with epochs 20, batch 32."
    whole = said(tmp_path, one_recipe, recipe=recipe(train={"preset": "pose"}))
    assert whole == "One training recipe for all arms: preset pose."


def test_every_preset_is_recognised(tmp_path):
    for name in presets.presets():
        assert said(tmp_path, one_recipe, recipe=recipe(train={"preset": name})).endswith(f": preset {name}.")


def test_a_recipe_of_ones_own_is_spelt_out(tmp_path):
    line = said(tmp_path, one_recipe)
    assert line == (
        "One training recipe for all arms: adam, learning rate 0.01 (constant), 3 epochs, batch 8, "
        "torch initialisation."
    )


def test_a_recipe_that_changes_with_the_network_is_said(tmp_path):
    levels = {"shallow": {"model.depth": 1}, "deep": {"model.depth": 2, "train.lr": 0.02, "evaluation.flip": True}}
    line = said(tmp_path, one_recipe, factors={"net": {"levels": levels}})
    assert line.startswith(
        "The arms' training recipes differ: train.lr 0.01 (shallow), 0.02 (deep); "
        "evaluation.flip False (shallow), True (deep). The control's: adam,"
    )


def test_a_recipe_that_is_the_question_is_one_recipe_but_for_that(tmp_path):
    line = said(tmp_path, one_recipe, factors={"rate": {"at": "train.lr", "levels": [0.01, 0.1]}})
    assert line.startswith("One training recipe for all arms: adam")
    assert line.endswith(", but for what is asked about: train.lr 0.01 (rate=0.01), 0.1 (rate=0.1).")


def test_a_budget_of_learning_rates_is_said(tmp_path):
    factors = {
        "depth": {"at": "model.depth", "levels": [1, 2]}, "rate": {"at": "train.lr", "levels": [0.01, 0.02, 0.04]},
    }  # fmt: skip
    line = said(tmp_path, one_recipe, factors=factors, design="full_factorial")
    assert line.endswith(" Each was trained with the same 3 learning rates.")


def steps(epochs: int, *milestones: float) -> dict:
    return {"epochs": epochs, "batch": 8, "lr": 0.01, "schedule": "step", "milestones": list(milestones)}


FALLS = {
    "the last one at the end": (steps(10, 0.8, 0.96), "1 time of 2: with 10 epochs the fall at 0.96 comes at the end"),
    "the only one at the end": (steps(1, 0.75), "0 times of 1: with 1 epoch the fall at 0.75 comes at the end"),
    "both at the end": (steps(3, 0.9, 0.95), "0 times of 2: with 3 epochs the falls at 0.9 and 0.95 come at the end"),
    "one at either end": (
        steps(5, 0.05, 0.6, 0.95),
        "1 time of 3: with 5 epochs the fall at 0.05 comes at the start of training "
        "and the fall at 0.95 comes at the end",
    ),
}


@pytest.mark.parametrize(("train", "line"), FALLS.values(), ids=FALLS)
def test_falls_of_the_learning_rate_that_never_come_are_said(tmp_path, train, line):
    assert said(tmp_path, one_recipe, recipe=recipe(train=train)).endswith(
        f". The learning rate falls {line} of training."
    )


def test_falls_that_come_together_are_said(tmp_path):
    assert said(tmp_path, one_recipe, recipe=recipe(train=steps(4, 0.7, 0.75))).endswith(
        " The learning rate falls 1 time of 2: with 4 epochs the falls at 0.7 and 0.75 come together, after epoch 3."
    )
    demo = steps(10, 0.80952381, 0.95238095)
    assert "the fall at 0.952381 comes at the end" in said(tmp_path, one_recipe, recipe=recipe(train=demo))


def test_arms_whose_learning_rate_falls_less_often_are_named(tmp_path):
    short, whole = steps(10, 0.8, 0.96), steps(30, 0.8, 0.96)
    lengths = {"epochs": {"at": "train.epochs", "levels": [30, 10]}}
    line = said(tmp_path, one_recipe, recipe=recipe(train=whole), factors=lengths)
    lost = "1 time of 2: with 10 epochs the fall at 0.96 comes at the end of training"
    assert line.endswith(f" The learning rate of epochs=10 falls {lost}.")
    assert "falls" not in said(tmp_path, one_recipe, recipe=recipe(train=whole))
    sets = {"one": {}, "two": {"train.epochs": 10}}
    line = said(tmp_path, one_recipe, recipe=recipe(train=whole), datasets=sets)
    assert line.count("falls") == 1
    assert line.index("On two:") < line.index("The learning rate falls 1 time of 2")
    differ = {"net": {"levels": {"shallow": {"model.depth": 1}, "deep": {"model.depth": 2, "train.epochs": 10}}}}
    line = said(tmp_path, one_recipe, recipe=recipe(train=short | {"epochs": 30}), factors=differ)
    assert line.startswith("The arms' training recipes differ")
    assert "The learning rate of deep falls 1 time of 2" in line


# -- where it is read ------------------------------------------------------------------------------------------


def evidence(tmp_path, **changes):
    return gather(Design(load(write_study(tmp_path, **changes))), Store(tmp_path / "results"))


def main_table(found) -> Table:
    return next(block for block in registry.build("section", "table", {})(found) if isinstance(block, Table))


def test_the_report_warns_before_any_table_and_has_a_column(tmp_path):
    found = evidence(tmp_path, factors=MIXED)
    blocks = report.blocks(found)
    first_table = next(place for place, block in enumerate(blocks) if isinstance(block, Table))
    warnings = [block.text for block in blocks[:first_table] if isinstance(block, Text) and block.style == "warning"]
    assert any(text.startswith("Not alike at the start:") for text in warnings)
    table = main_table(found)
    assert table.columns[1].title == "Starts from"
    assert [row[1].text for row in table.rows] == ["a.pth (aaaaaaaa)", "scratch"]
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_the_report_says_which_recipe_and_no_more_where_nothing_has_weights(tmp_path):
    table = main_table(evidence(tmp_path))
    assert table.columns[1].title == "n"
    assert any(note.startswith("One training recipe for all arms:") for note in table.notes)


def test_the_plan_needs_no_checkpoint_and_says_the_same(called, tmp_path):
    status, out, _ = called("plan", write_study(tmp_path, factors=MIXED))
    assert status == 0
    assert out.index("Not alike at the start:") < out.index("starts from  ") < out.index("One training recipe")
    status, out, err = called("plan", tmp_path / "small.yaml", "--json")
    assert [row["starts from"] for row in json.loads(out)["arms"]] == ["a.pth (aaaaaaaa)", "scratch"]
    assert "Not alike at the start:" in err
    assert "starts from" not in called("plan", write_study(tmp_path))[1]


def test_lists_say_which_family_has_imagenet_weights(called):
    rows = {row["name"]: row["ImageNet weights"] for row in json.loads(called("list", "models", "--json")[1])}
    assert rows["hrnet"].startswith("github.com/HRNet/HRNet-Image-Classification")
    assert rows["dots"] == "none known"


def test_networks_that_are_trained_on_more_outputs_are_named():
    """Of the baselines of pose estimation, the hourglasses and CPN; SimpleBaseline and HRNet have one output."""
    study = solve(load(TESTS.parent / "studies" / "pose_baselines.yaml", scale="demo"))
    said = one_recipe(Design(study))
    assert said.endswith(" The loss of hourglass matched, cpn matched also counts outputs between.")
    alike = load(TESTS.parent / "studies" / "fusion_count.yaml", scale="demo")
    assert "outputs between" not in one_recipe(Design(alike))


# -- what is true and how it is scored ---------------------------------------------------------------------------


PLAIN = {"name": "label_folder", "set": "mine", "classes": ["a", "b", "c"]}
PEOPLE = {"name": "coco_pose", "set": "mine"}


@pytest.mark.parametrize(
    ("task", "data", "levels", "what"),
    [
        ("segmentation", PLAIN, [{"dataset.classes": ["a", "b", "c"]}, {"dataset.classes": ["a", "b"]}], "classes"),
        ("segmentation", PLAIN, [{}, {"dataset.label_ids": [2, 1, 0]}], "numbers of classes"),
        ("segmentation", PLAIN, [{}, {"dataset.ignored": [255, 9]}], "dataset.ignored"),
        ("segmentation", PLAIN, [{}, {"dataset.categories": ["x", "x", "y"]}], "categories of classes"),
        ("segmentation", PLAIN, [{}, {"dataset.labels": "other/{split}/{name}.png"}], "dataset.labels"),
        ("segmentation", PLAIN, [{}, {"dataset.images": "other/{split}"}], "dataset.images"),
        ("segmentation", PLAIN, [{}, {"dataset.test": "held_out"}], "dataset.test"),
        ("segmentation", {"name": "cityscapes"}, [{}, {"dataset.test": "test"}], "so many test samples"),
        ("pose", PEOPLE, [{}, {"dataset.joints": "lsp14"}], "joints"),
        ("pose", PEOPLE, [{}, {"dataset.set": "other"}], "data set"),
    ],
)
def test_a_factor_changes_nothing_that_scores_are_measured_against(tmp_path, task, data, levels, what):
    shared = {"task": {"name": task, "size": [32, 32]}, "dataset": data, "model": "hrnet", "train": {"epochs": 1}}
    factors = {"f": {"levels": {"one": levels[0], "other": levels[1]}}}
    study = write_study(tmp_path, recipe=shared, factors=factors, metrics=["AP" if task == "pose" else "mIoU"])
    with pytest.raises(StudyError, match=rf"arm other is evaluated with {what} .*these are not scores of one table"):
        refuse_different_protocols(Design(load(study)))


@pytest.mark.parametrize(
    ("task", "data", "level"),
    [
        ("segmentation", PLAIN, {"dataset.train": "train_small"}),
        ("segmentation", {"name": "figures"}, {"dataset.train": 50}),
        ("pose", {"name": "figures"}, {"task.size": [64, 64]}),
        ("pose", {"name": "figures"}, {"evaluation.flip": False}),
    ],
)
def test_what_is_trained_on_and_how_pictures_are_seen_may_be_a_factor(tmp_path, task, data, level):
    shared = {"task": {"name": task, "size": [32, 32]}, "dataset": data, "model": "hrnet", "train": {"epochs": 1}}
    factors = {"f": {"levels": {"one": {}, "other": level}}}
    study = write_study(tmp_path, recipe=shared, factors=factors, metrics=["AP" if task == "pose" else "mIoU"])
    refuse_different_protocols(Design(load(study)))


WHOLE, CROP = {"name": "bottom_up_pose", "size": [64, 64]}, {"name": "pose", "size": [32, 32], "sigma": 1.0}


def of_tasks(tmp_path, first, other, *, metrics=("AP",), **level):
    shared = {"task": first, "dataset": "figures", "model": "hrnet", "train": {"epochs": 1}}
    factors = {"approach": {"levels": {"one": {}, "other": {"task": other} | level}}}
    return Design(load(write_study(tmp_path, recipe=shared, factors=factors, metrics=list(metrics))))


def test_tasks_that_predict_the_same_may_be_compared_each_by_its_own_protocol(tmp_path):
    design = of_tasks(tmp_path, WHOLE, CROP, **{"evaluation.oks_nms": 0.8})
    refuse_different_protocols(design)
    assert [arm.recipe.evaluation.get("oks_nms") for arm in design.arms] == [None, 0.8]
    said = one_recipe(design)
    assert said.startswith("One training recipe for all arms")
    assert "task.name bottom_up_pose (one), pose (other)" in said
    assert "task.size 64x64 (one), 32x32 (other)" in said
    assert "oks_nms" not in said  # one of the tasks has nothing of the kind
    assert "None" not in said


def test_tasks_that_predict_something_else_are_not_scores_of_one_table(tmp_path):
    design = of_tasks(tmp_path, CROP, {"name": "detection", "size": [64, 64]})
    with pytest.raises(StudyError, match="arm other is evaluated with task 'detection', the control with 'people'"):
        refuse_different_protocols(design)
