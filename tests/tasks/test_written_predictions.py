"""`ablate trial --predictions`: what a network says of the evaluation split, as files of the field's formats."""

import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from small_studies import write_study

from ablate import registry
from ablate.study import Design, load
from ablate.training.run_trial import run_trial
from ablate.training.site import Site

DRAWN = {"train": 8, "val": 5, "size": [48, 48]}
TASKS = {"segmentation": ("mIoU", {"size": [32, 32]}), "pose": ("AP", {"size": [32, 32]})}


def study(folder, task):
    metric, knobs = TASKS[task]
    recipe = {
        "task": {"name": task, **knobs},
        "dataset": {"name": "figures", **DRAWN},
        "model": {"name": "dots", "width": 4},
        "train": {"epochs": 1, "batch": 4, "lr": 0.01, "precision": "fp32"},
    }
    return write_study(folder, recipe=recipe, metrics=[metric], seeds=1)


@pytest.fixture
def predicted(small_shelf, tmp_path):
    """Runs one trial of a task; returns the folder of its predictions and its scores."""

    def run(task):
        trial = Design(load(study(tmp_path, task))).trials[0]
        (tmp_path / "found").mkdir()
        *_, result = run_trial(trial, Site(results=tmp_path / "results", predictions=tmp_path / "found"))
        assert result.status == "done", result.reason
        return tmp_path / "found", result.scores

    return run


def test_segmentation_writes_a_map_for_each_image(predicted, build_task):
    folder, scores = predicted("segmentation")
    data = registry.build("dataset", "figures", registry.check_knobs("dataset", "figures", DRAWN))
    samples, metric = data.open("val", None), registry.build("metric", "mean_iou", {})
    assert {file.stem for file in folder.iterdir()} == {samples.name(image) for image in samples.image_ids()}
    predictions = [
        {"image_id": image, "labels": cv2.imread(str(folder / f"{samples.name(image)}.png"), cv2.IMREAD_UNCHANGED)}
        for image in samples.image_ids()
    ]
    truth = build_task("segmentation").ground_truth(samples)
    found = metric.aggregate(metric.per_image(predictions, truth, data.info))
    assert scores == pytest.approx(found, nan_ok=True)


def test_pose_writes_coco_results(predicted, build_task):
    folder, _ = predicted("pose")
    (file,) = folder.iterdir()
    people = json.loads(file.read_text())
    data = registry.build("dataset", "figures", registry.check_knobs("dataset", "figures", DRAWN))
    truth = COCO()
    truth.dataset = data.open("val", None).ground_truth()
    truth.createIndex()
    found = truth.loadRes(str(file))
    assert len(found.anns) == len(people) == 5
    assert all(set(person) == {"image_id", "category_id", "keypoints", "score"} for person in people)
    assert np.isfinite([person["keypoints"] for person in people]).all()


@pytest.mark.slow
def test_the_command_writes_them_once(ablate, tmp_path):
    (tmp_path / "taken").write_text("a file")
    command = ("trial", study(tmp_path, "segmentation"), "--seed", 0, "--results", tmp_path / "results")
    refused = ablate(*command, "--predictions", tmp_path / "taken" / "found")
    assert refused.returncode == 2
    assert refused.stderr == f"ablate: {tmp_path / 'taken' / 'found'}: Not a directory\n"
    done = ablate(*command, "--predictions", tmp_path / "found")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "found").glob("*.png"))) == 4
    again = ablate(*command, "--predictions", tmp_path / "found")
    assert again.returncode == 2
    assert "has ended, and its network is not kept" in again.stderr
