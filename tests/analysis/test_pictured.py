"""Test images that are shown: chosen by their scores alone, with truth and prediction, where that is allowed."""

import math

import cv2
import numpy as np
import pytest

from ablate import registry
from ablate.analysis.breakdown import Read, pictured
from ablate.datasets import build_dataset
from ablate.errors import PartError, StoreError
from ablate.metrics import build_metric
from ablate.study import Part, Recipe
from ablate.tasks import build_task


def recipe(task: str, **dataset) -> Recipe:
    document = {
        "task": {"name": task, "size": [64, 64]},
        "dataset": {"name": "figures", "train": 5, "val": 5} | dataset,
    }
    return Recipe.model_validate(document | {"model": {"name": "hrnet"}, "train": {"epochs": 1}})


def left(chosen: Recipe, metric: str, wrong: dict[str, set[int]]) -> Read:
    """What trials leave that predict the truth, but for nothing (no people, class 0) in the images that are named."""
    samples = build_dataset(chosen.dataset).open("val", None)
    truth, predictions = build_task(chosen.task).ground_truth(samples), {}
    for trial, images in wrong.items():
        if metric == "mean_iou":
            rows = [{"image_id": at, "labels": samples.labels(at) * (at not in images)} for at in samples.image_ids()]
        else:
            rows = [person | {"score": 1.0} for person in truth["annotations"] if person["image_id"] not in images]
        predictions[trial] = rows
    part, info = build_metric(metric), samples.info
    statistics = {
        trial: {f"{metric}/{key}": array for key, array in part.per_image(rows, truth, info).items()}
        for trial, rows in predictions.items()
    }
    return Read(statistics.__getitem__, predictions.get)


@pytest.mark.parametrize(("task", "metric", "score"), [("segmentation", "mean_iou", "mIoU"), ("pose", "pck", "PCK")])
def test_the_best_the_worst_and_the_most_changed_of_each_arm(task, metric, score):
    chosen = recipe(task)
    read = left(chosen, metric, {"c0": {2}, "a0": {2, 3}})
    found = pictured(chosen, {"control": {0: "c0"}, "arm": {0: "a0"}}, read, score, None)
    assert [(one.why, one.image) for one in found if one.arm == "control"] == [("best", 1), ("worst", 2)]
    shown = [(one.why, one.image) for one in found if one.arm == "arm"]
    assert shown == [("best", 1), ("worst", 2), ("most changed", 3)]
    changed = found[-1]
    assert changed.control == 1
    assert changed.score < 0.5
    samples = build_dataset(chosen.dataset).open("val", None)
    assert (changed.pixels == samples.image(3)).all()
    if task == "segmentation":
        assert (changed.truth.labels == samples.labels(3)).all()
        assert not changed.found.labels.any()
    else:
        assert [len(marks.people) for marks in (changed.truth, changed.found)] == [1, 0]
        assert np.array_equal(found[0].truth.people, found[0].found.people)
        assert len(changed.joints) == 17


def test_boxes_are_shown_beside_those_of_the_instances():
    chosen = recipe("detection")
    samples = build_dataset(chosen.dataset).open("val", None)
    truth = samples.instance_truth()
    rows = [one | {"score": 0.9} for one in truth["annotations"]]
    rows += [rows[0] | {"score": 0.4}]  # too unsure to be drawn
    statistics = build_metric("box_ap").per_image(rows, truth, samples.info)
    read = Read(lambda trial: {f"box_ap/{key}": array for key, array in statistics.items()}, lambda trial: rows)
    best, _ = pictured(chosen, {"control": {0: "c0"}}, read, "AP", None)
    own = [one["bbox"] for one in truth["annotations"] if one["image_id"] == best.image]
    assert np.array_equal(best.truth.boxes, own)
    assert np.array_equal(best.found.boxes, own)
    assert best.truth.labels is None
    assert not best.truth.people


def test_predictions_in_no_known_form_are_not_shown():
    chosen = recipe("segmentation")
    read = left(chosen, "mean_iou", {"c0": set()})
    strange = Read(read.statistics, lambda trial: [{"image_id": 1, "value": 0.5}])
    assert pictured(chosen, {"control": {0: "c0"}}, strange, "mIoU", None) == []


def test_the_first_seed_whose_predictions_were_kept_is_shown():
    chosen = recipe("segmentation")
    read = left(chosen, "mean_iou", {"c1": {1}, "a0": {1}, "a1": {4}})
    kept = Read(read.statistics, lambda trial: None if trial == "a0" else read.predictions(trial))
    found = pictured(chosen, {"control": {1: "c1"}, "arm": {0: "a0", 1: "a1"}}, kept, "mIoU", None)
    assert {(one.arm, one.seed) for one in found} == {("control", 1), ("arm", 1)}
    alone = pictured(chosen, {"control": {}, "arm": {1: "a1"}}, kept, "mIoU", None)
    assert [one.why for one in alone] == ["best", "worst"]
    assert all(math.isnan(one.control) for one in alone)


def test_nothing_is_shown_without_predictions_or_of_data_that_may_not_be():
    chosen = recipe("segmentation")
    nothing = Read({}.__getitem__, {}.get)
    assert pictured(chosen, {"control": {0: "c0"}}, nothing, "mIoU", None) == []
    assert pictured(chosen, {}, nothing, "mIoU", None) == []
    camvid = chosen.model_copy(
        update={"dataset": chosen.dataset.model_copy(update={"name": "cityscapes", "knobs": {}})}
    )
    read = left(chosen, "mean_iou", {"c0": set()})
    assert pictured(camvid, {"control": {0: "c0"}}, read, "mIoU", None) == []


def test_a_set_that_does_not_allow_it_is_shown_where_the_caller_does(tmp_path):
    for place in ("images/train/a.png", "labels/train/a.png", "images/val/b.png", "labels/val/b.png"):
        file = tmp_path / "mine" / place
        file.parent.mkdir(parents=True)
        assert cv2.imwrite(str(file), np.full((40, 60) + (3,) * place.startswith("images"), 1, np.uint8))
    chosen = recipe("segmentation").model_copy(
        update={"dataset": Part(name="label_folder", knobs={"set": "mine", "classes": ["back", "front"]})}
    )
    samples = build_dataset(chosen.dataset).open("val", tmp_path)
    truth = build_task(chosen.task).ground_truth(samples)
    rows = [{"image_id": image, "labels": samples.labels(image)} for image in samples.image_ids()]
    arrays = build_metric("mean_iou").per_image(rows, truth, samples.info)
    read = Read(lambda trial: {f"mean_iou/{key}": array for key, array in arrays.items()}, lambda trial: rows)
    done = {"control": {0: "c0"}}
    assert pictured(chosen, done, read, "mIoU", tmp_path) == []
    shown = pictured(chosen, done, read, "mIoU", tmp_path, allowed=True)
    assert [one.why for one in shown] == ["best", "worst"]
    assert (shown[0].pixels == 1).all()
    assert (shown[0].truth.labels == 1).all()


def test_statistics_of_something_else_are_refused_by_the_trials_name():
    chosen = recipe("segmentation")
    read = left(chosen, "mean_iou", {"c0": set()})
    with pytest.raises(StoreError, match=r"trial c0: per_image\.npz: not what the metric reads"):
        pictured(chosen, {"control": {0: "c0"}}, Read(lambda trial: {}, read.predictions), "mIoU", None)


def test_of_the_shipped_sets_only_drawn_figures_may_be_shown():
    shown = []
    for name in registry.names("dataset"):
        try:
            info = registry.build("dataset", name, registry.check_knobs("dataset", name, {})).info
        except PartError:
            continue  # it has knobs that must be given, or joints that its files name
        shown += [name] if info.pictures else []
    assert shown == ["figures"]
