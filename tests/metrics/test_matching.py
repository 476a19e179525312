"""Matches equal those of pycocotools' `evaluate`, one by one, on hostile random cases: ties, crowds, one full image."""

import contextlib
import copy
import io
from collections import Counter

import numpy as np
import pytest
import scenes
import test_instance_ap as instances
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ablate import registry
from ablate.metrics import _instance_ap, _matching, keypoint_ap

SHAPES = {"keypoints": "keypoints", "bbox": "bbox", "segm": "segmentation"}


@pytest.fixture(params=["at once", "in parts"])
def parts(request, monkeypatch):
    """The same where arrays hold few numbers at a time."""
    if request.param == "in parts":
        for module, name in ((_matching, "AT_ONCE"), (keypoint_ap, "PAIRS"), (_instance_ap, "PAIRS")):
            monkeypatch.setattr(module, name, 7)


def pycocotools(predictions, truth, kind, categories, sigmas=()):
    """Rows (class, image, area, score, matched, ignored) of detections, and numbers that count (class, image, area)."""
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = copy.deepcopy(truth)
        for number, annotation in enumerate(known.dataset["annotations"], 1):
            annotation["id"] = number  # an id of 0 would be taken for no match
        known.createIndex()
        kept = [{key: p[key] for key in ("image_id", "category_id", SHAPES[kind], "score")} for p in predictions]
        evaluation = COCOeval(known, known.loadRes(kept) if kept else COCO(), kind)
        evaluation.params.catIds = categories
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
    ranges = [tuple(area) for area in evaluation.params.areaRng]
    found, counted = [], []
    for cell in filter(None, evaluation.evalImgs):
        where = cell["category_id"], cell["image_id"], ranges.index(tuple(cell["aRng"]))
        flags = zip(cell["dtScores"], cell["dtMatches"].T > 0, cell["dtIgnore"].T > 0, strict=True)
        found += [(*where, score, tuple(matched), tuple(ignored)) for score, matched, ignored in flags]
        counted += [(*where, int((cell["gtIgnore"] == 0).sum()))] if len(cell["gtIgnore"]) else []
    return sorted(found), sorted(counted)


def ours(statistics):
    """The same rows from what `per_image` returns."""
    ids, areas = statistics["image_ids"].tolist(), range(statistics["matched"].shape[1])
    classes = statistics.get("place", np.zeros(len(statistics["image"]), int)) + 1
    found = [
        (int(category), ids[image], area, score, tuple(matched[area]), tuple(ignored[area]))
        for category, image, score, matched, ignored in zip(
            classes, *(statistics[name] for name in ("image", "score", "matched", "ignored")), strict=True
        )
        for area in areas
    ]
    of_truth = statistics.get("truth_place", np.zeros(len(statistics["truth_image"]), int)) + 1
    counted = Counter()
    for category, image, counts in zip(of_truth, statistics["truth_image"], statistics["truth_counted"], strict=True):
        counted.update({(int(category), ids[image], area): int(counts[area]) for area in areas})
    return sorted(found), sorted((*where, count) for where, count in counted.items())


def together(rows, image_id):
    return [row | {"image_id": image_id} for row in rows]


@pytest.mark.parametrize("joints", scenes.NAMES)
@pytest.mark.usefixtures("parts")
def test_people_match_as_pycocotools_matches_them(joints):
    info, metric = scenes.info(joints), registry.build("metric", "keypoint_ap", {})
    for seed in range(6):
        predictions, truth = scenes.scene(seed, joints=joints, ties=seed % 2 == 0, images=12)
        if seed % 3 == 0:  # everybody in one image
            first = truth["images"][0]["id"]
            predictions = together(predictions, first)
            truth |= {"annotations": together(truth["annotations"], first)}
        expected = pycocotools(predictions, truth, "keypoints", [1], info.sigmas)
        assert ours(metric.per_image(predictions, truth, info)) == expected, seed


@pytest.mark.parametrize("kind", instances.METRICS)
@pytest.mark.usefixtures("parts")
def test_instances_match_as_pycocotools_matches_them(kind):
    for seed in range(25):
        predictions, truth = instances.scene(seed)
        if seed % 3 == 0:  # all of one class
            predictions, annotations = (
                [row | {"category_id": 2} for row in rows] for rows in (predictions, truth["annotations"])
            )
            truth |= {"annotations": annotations}
        expected = pycocotools(predictions, truth, kind, [1, 2, 3])
        assert ours(instances.METRICS[kind].per_image(predictions, truth, instances.INFO)) == expected, seed


@pytest.mark.parametrize("metric", ["keypoint_ap", "box_ap", "mask_ap"])
def test_a_prediction_on_an_image_that_is_not_there_is_refused(metric):
    made = scenes if metric == "keypoint_ap" else instances
    info = scenes.info() if made is scenes else instances.INFO
    predictions, truth = made.scene(1)
    predictions[0]["image_id"] = 99_999
    with pytest.raises(ValueError, match="99999"):
        registry.build("metric", metric, {}).per_image(predictions, truth, info)


def test_joints_of_any_finite_size_are_scored_without_a_warning():
    predictions, truth = scenes.scene(1)
    predictions[0]["keypoints"] = [1e300] * 51
    metric = registry.build("metric", "keypoint_ap", {})
    statistics = metric.per_image(predictions, truth, scenes.info())
    assert not statistics["matched"][np.flatnonzero(statistics["score"] == predictions[0]["score"])].any()
