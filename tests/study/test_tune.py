"""What a study tunes: the tries, their identities, and how they are written."""

import pytest
from small_studies import small_study, write_study

from ablate import registry
from ablate.errors import StudyError
from ablate.study import Choice, Design, Recipe, Tune, check_study, load
from ablate.study.factor import Factor
from ablate.study.study import _check_tuned

pytestmark = pytest.mark.usefixtures("small_shelf")

TUNE = {"train.lr": [0.001, 0.01, 0.1], "held_out": 0.25}


def design(tmp_path, **changes):
    return Design(load(write_study(tmp_path, **{"tune": TUNE} | changes)))


def test_every_arm_has_the_same_tries(tmp_path):
    made = design(tmp_path, tune=TUNE | {"seeds": 2})
    tries = made.tries
    assert [arm.label for arm in tries.arms] == [
        f"depth={depth}, lr {lr}" for depth in (1, 2) for lr in ("0.001", "0.01", "0.1")
    ]
    found = [(t.recipe.model.knobs["depth"], t.recipe.train.lr, t.recipe.train.held_out, t.seed) for t in tries.trials]
    assert sorted(found) == [(d, lr, 0.25, s) for d in (1, 2) for lr in (0.001, 0.01, 0.1) for s in (10**6, 10**6 + 1)]
    assert not tries.contrasts
    assert tries.study.name == "small_tuning"
    assert made.waiting == list(made.arms)


def test_trials_for_the_verdict_are_those_of_the_chosen_recipe(tmp_path):
    study = load(write_study(tmp_path, tune=TUNE))
    chosen = Choice({"train.lr": 0.1}, "lr 0.1", {})
    made = Design(study, choices={"depth=2": chosen})
    plain = small_study()
    plain["recipe"]["train"]["lr"] = 0.1
    (tmp_path / "plain").mkdir()
    alone = Design(load(write_study(tmp_path / "plain", **plain)))
    assert [t.id for t in made.arms[1].trials] == [t.id for t in alone.arms[1].trials]
    assert [arm.label for arm in made.waiting] == ["depth=1"]
    untuned = Design(load(write_study(tmp_path)))
    assert not {t.id for t in made.arms[0].trials} & {t.id for t in untuned.trials}, "not trained before it is tuned"


def test_a_recipe_that_holds_nothing_out_is_what_it_was():
    recipe = Recipe.model_validate(small_study()["recipe"])
    assert "held_out" not in recipe.model_dump(mode="json")["train"]


def test_tries_are_some_of_all_combinations_and_more_have_the_fewer():
    document = {"train.lr": [1, 2, 3, 4], "train.weight_decay": [0.1, 0.2, 0.3]}
    everything = Tune.model_validate(document).tries
    assert len(everything) == 12
    assert everything["lr 2, weight_decay 0.3"] == {"train.lr": 2, "train.weight_decay": 0.3}
    few, more = (Tune.model_validate(document | {"trials": count}).tries for count in (4, 8))
    assert (len(few), len(more)) == (4, 8)
    assert few.items() <= more.items() <= everything.items()


def test_the_tries_that_are_made_are_said():
    rates, both = {"train.lr": [0.001, 0.01, 0.1]}, {"train.lr": [1, 2], "train.weight_decay": [0.1, 0.2]}
    end = ", 1 seed each, on 20 % of the training images"
    few = Tune.model_validate(rates | {"trials": 2})
    left = " and ".join(f"lr {setting['train.lr']}" for setting in few.tries.values())
    assert left == "lr 0.001 and lr 0.01"
    assert few.said == f"2 tries of train.lr 0.001, 0.01{end}"
    for whole in (rates, rates | {"trials": 3}):
        assert Tune.model_validate(whole).said == f"3 tries of train.lr 0.001, 0.01, 0.1{end}"
    assert Tune.model_validate(both).said == f"4 tries of train.lr 1, 2; train.weight_decay 0.1, 0.2{end}"
    some = Tune.model_validate(both | {"trials": 2})
    assert some.said == f"2 tries of train.lr, train.weight_decay: {'; '.join(some.tries)}{end}"


@pytest.mark.parametrize(
    ("tune", "what"),
    [
        ({"train.lr": [0.1]}, "two values or more"),
        ({"trials": 3}, "tune"),
        ({"train.lr": [0.1, 0.1]}, "two levels are the same"),
        ({"train.lr": [0.1, 0.2], "trials": 3}, "trials: 3; there are 2 combinations"),
        ({"train.lr": [0.1, 0.2], "trails": 2}, "trails"),
        ({"train.rl": [0.1, 0.2]}, "tune: no train.rl; did you mean 'lr'"),
        ({"model.depth": [1, 2]}, "factors.depth and tune both set model.depth"),
        ({"train.held_out": [0.1, 0.2]}, "is how tries are scored"),
        ({"knobs": [1], "train.lr": [0.1, 0.2]}, "knobs: write paths with their values beside the other keys"),
    ],
)
def test_mistakes_are_one_line(tmp_path, tune, what):
    with pytest.raises(StudyError, match=what) as error:
        check_study(design(tmp_path, tune=tune))
    assert "\n" not in str(error.value)
    assert "small.yaml" in str(error.value)


def test_a_scale_may_tune(tmp_path):
    file = write_study(tmp_path, scales={"big": {"tune": TUNE}, "small": {}})
    assert load(file, scale="big").tune.tries.keys() == {"lr 0.001", "lr 0.01", "lr 0.1"}
    assert load(file, scale="small").tune is None
    file = write_study(tmp_path, tune=TUNE, scales={"big": {}, "small": {"tune": None}}, default_scale="small")
    assert load(file, scale="big").tune == load(file, scale="big").at("big").tune
    assert load(file).tune is None


MATCH = {"gmacs": "control", "by": "model.width"}
FOLDS = {
    "name": "label_folder", "set": "own", "images": "img", "labels": "lab/{name}.png",
    "classes": ["a", "b"], "folds": 5,
}  # fmt: skip
POSE = {"task": "pose", "dataset": "figures", "model": {"name": "hrnet", "width": 4}, "train": {"preset": "pose"}}
BOXES = {"evaluation": {"boxes": "detections", "detections": "boxes.json"}}
MAPS = {"task": "segmentation", "model": {"name": "hrnet", "width": 4}, "train": {"preset": "segmentation"}}
FUSIONS = {"fusions": {"at": "model.fusions", "levels": ["within", "final"]}}


def asked(tmp_path, **changes):
    found = Design(load(write_study(tmp_path, **{"factors": FUSIONS, "plugins": []} | changes)))
    check_study(found)
    return found


def refused(tmp_path, what, **changes):
    with pytest.raises(StudyError, match=what) as error:
        asked(tmp_path, **changes)
    assert "\n" not in str(error.value)
    assert "small.yaml" in str(error.value)


def test_tries_see_no_image_that_a_seed_is_tested_on(tmp_path):
    whole = {"recipe": MAPS | {"dataset": FOLDS}, "metrics": ["mIoU"], "tune": TUNE}
    refused(tmp_path, "tune: with folds: 5 tries would see images that other seeds are tested on", **whole)
    assert asked(tmp_path, **whole | {"recipe": MAPS | {"dataset": FOLDS | {"fold": 2}}}).tries
    assert not asked(tmp_path, **whole | {"tune": None}).tries


def test_boxes_of_test_images_are_no_boxes_of_held_out_ones(tmp_path):
    whole = {"recipe": POSE | BOXES, "metrics": ["AP"]}
    refused(tmp_path, "tune: a detector's boxes are of test images", **whole, tune=TUNE)
    held = {"train": {"preset": "pose", "held_out": 0.2}}
    refused(
        tmp_path, "train.held_out: a detector's boxes are of test images", **whole | {"recipe": POSE | BOXES | held}
    )
    asked(tmp_path, **whole)
    asked(tmp_path, metrics=["AP"], recipe=POSE | held)


def test_what_is_tuned_keeps_apart_from_other_keys(tmp_path):
    sets = {"few": {}, "many": {"dataset.train": 40, "train.held_out": 0.5}}
    with pytest.raises(StudyError, match=r"datasets and tune both set train\.held_out"):
        design(tmp_path, datasets=sets)
    with pytest.raises(StudyError, match="no factor is called 'try'"):
        design(tmp_path, factors={"try": {"at": "model.depth", "levels": [1, 2]}})
    matched = {"fusions": FUSIONS["fusions"] | {"match": {"gmacs": "control", "by": "model.width"}}}
    for path in ("model.blocks", "task.size", "task.head"):
        with pytest.raises(StudyError, match=f"tune: {path} changes what an arm costs"):
            load(write_study(tmp_path, recipe=POSE, factors=matched, tune={path: [1, 4]}, plugins=[], metrics=["AP"]))
    load(write_study(tmp_path, recipe=POSE, factors=matched, tune=TUNE, plugins=[], metrics=["AP"]))


COSTLY = {
    "detection": ("box_width", "mask_width", "width", "detector", "proposals", "anchor_ratios", "size"),
    "segmentation": ("ocr_channels", "resize", "head"),
}
FREE = {"detection": ("nms", "anchor_scale", "sampled", "scale"), "pose": ("channels", "sigma", "drawn")}


@pytest.mark.parametrize("task", sorted({*COSTLY, *FREE}))
def test_beside_a_match_no_knob_of_a_task_is_tuned_that_costs(task):
    matched = {"net": Factor.model_validate({"at": "model.fusions", "levels": ["a", "b"], "match": MATCH})}
    for knob in COSTLY.get(task, ()):
        tune = Tune.model_validate({f"task.{knob}": [1, 2]})
        with pytest.raises(ValueError, match=f"task.{knob} changes what an arm costs"):
            _check_tuned(tune, matched, [0])
        _check_tuned(tune, {}, [0])
    for knob in FREE.get(task, ()):
        _check_tuned(Tune.model_validate({f"task.{knob}": [1, 2]}), matched, [0])
    known = {knob.name for knob in registry.describe("task", task).knobs}
    assert {*COSTLY.get(task, ()), *FREE.get(task, ())} <= known
