"""Equal to pycocotools, which is run beside it, on hostile random cases: ties, crowds, empty images, small areas."""

import contextlib
import copy
import io
from itertools import islice

import numpy as np
import pytest
from instances import CLASSES, SIDE, detection, info, instance, random_box
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ablate import registry

INFO = info()
METRICS = {"bbox": registry.build("metric", "box_ap", {}), "segm": registry.build("metric", "mask_ap", {})}


def scene(seed: int) -> tuple[list[dict], dict]:
    """Predictions and truth of a few images; boxes of all sizes, scores with ties, near and far misses."""
    rng = np.random.default_rng(seed)
    images = [{"id": int(i), "height": SIDE, "width": SIDE} for i in rng.choice(10_000, 9, replace=False)]
    annotations, predictions = [], []
    for image in images[: rng.integers(3, 9)]:  # the others are empty
        for _ in range(rng.integers(0, 7)):
            box = random_box(rng)
            number, crowd = len(annotations) + 5, rng.random() < 0.15
            annotations.append(instance(image["id"], box, int(rng.integers(1, 4)), number, crowd=crowd))
            for _ in range(rng.integers(0, 4)):
                moved = box + rng.normal(0, rng.choice([0, 1, 4, 30]), 4)
                moved[2:] = np.maximum(moved[2:], 1)
                near = annotations[-1]["category_id"] if rng.random() < 0.8 else int(rng.integers(1, 4))
                predictions.append(detection(image["id"], moved, near, score(rng)))
    for _ in range(rng.integers(0, 30)):
        predictions.append(
            detection(images[rng.integers(9)]["id"], random_box(rng), int(rng.integers(1, 4)), score(rng))
        )
    if rng.random() < 0.3:  # more than count
        crowded = images[rng.integers(9)]
        predictions += [detection(crowded["id"], random_box(rng), 2, score(rng)) for _ in range(120)]
    order = rng.permutation(len(predictions))
    categories = [{"id": place + 1, "name": name} for place, name in enumerate(CLASSES)]
    return [predictions[i] for i in order], {"images": images, "annotations": annotations, "categories": categories}


def score(rng) -> float:
    return round(float(rng.random()), int(rng.choice([1, 5])))


def pycocotools(predictions, truth, kind) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = copy.deepcopy(truth)
        for number, annotation in enumerate(known.dataset["annotations"], 1):
            annotation["id"] = number
        known.createIndex()
        shape = "bbox" if kind == "bbox" else "segmentation"
        kept = [{k: p[k] for k in ("image_id", "category_id", shape, "score")} for p in predictions]
        evaluation = COCOeval(known, known.loadRes(kept) if kept else COCO(), kind)
        evaluation.params.catIds = [1, 2, 3]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [value if value > -1 else np.nan for value in evaluation.stats]


def repeated(predictions, truth, counts) -> tuple[list[dict], dict]:
    """A data set in which each image stands as often as its count, in the order of ids."""
    images, annotations, found = [], [], []
    for image, count in zip(sorted(truth["images"], key=lambda i: i["id"]), counts, strict=True):
        for _ in range(count):
            copied = {"image_id": len(images) + 1}
            images.append(image | {"id": copied["image_id"]})
            annotations += [a | copied for a in truth["annotations"] if a["image_id"] == image["id"]]
            found += [p | copied for p in predictions if p["image_id"] == image["id"]]
    return found, truth | {"images": images, "annotations": annotations}


@pytest.mark.parametrize("kind", METRICS)
@pytest.mark.parametrize("seeds", [range(first, first + 50) for first in range(0, 150, 50)], ids=str)
def test_equal_to_pycocotools(kind, seeds):
    for seed in seeds:
        predictions, truth = scene(seed)
        statistics = METRICS[kind].per_image(predictions, truth, INFO)
        found = list(METRICS[kind].aggregate(statistics).values())
        expected = pycocotools(predictions, truth, kind)
        assert found == pytest.approx(expected, abs=1e-12, nan_ok=True), seed
        once = list(METRICS[kind].aggregate(statistics, np.ones(9, int)).values())
        assert once == pytest.approx(expected, abs=1e-12, nan_ok=True), seed


@pytest.mark.parametrize("kind", METRICS)
def test_resampled_images_are_those_of_a_larger_data_set(kind):
    for seed in range(40):
        predictions, truth = scene(seed)
        counts = np.random.default_rng(seed).integers(0, 4, 9)
        statistics = METRICS[kind].per_image(predictions, truth, INFO)
        expected = pycocotools(*repeated(predictions, truth, counts), kind)
        found = list(METRICS[kind].aggregate(statistics, counts).values())
        assert found == pytest.approx(expected, abs=1e-12, nan_ok=True), seed


@pytest.mark.parametrize("kind", METRICS)
def test_truth_as_prediction_is_perfect(kind):
    for seed in islice((s for s in range(99) if len(scene(s)[1]["annotations"]) > 5), 10):
        _, truth = scene(seed)
        own = [a | {"score": 1.0} for a in truth["annotations"] if not a["iscrowd"]]
        scores = METRICS[kind].aggregate(METRICS[kind].per_image(own, truth, INFO))
        assert scores[f"{METRICS[kind].prefix}AP"] == pytest.approx(1)


def test_masks_that_nobody_predicted_have_no_score():
    predictions, truth = scene(3)
    without = [{k: v for k, v in p.items() if k != "segmentation"} for p in predictions]
    statistics = METRICS["segm"].per_image(without, truth, INFO)
    assert np.isnan(METRICS["segm"].parts(statistics, INFO).scores).all()  # 0 would be said to be at chance
    for weights in (None, np.ones(9, int)):
        assert np.isnan(list(METRICS["segm"].aggregate(statistics, weights).values())).all()


def test_each_class_has_a_score_and_each_image_its_counts():
    predictions, truth = scene(11)
    metric = METRICS["bbox"]
    statistics = metric.per_image(predictions, truth, INFO)
    parts = metric.parts(statistics, INFO)
    assert parts.names == tuple(CLASSES)
    for place, name in enumerate(CLASSES, 1):
        own = truth | {"annotations": [a for a in truth["annotations"] if a["category_id"] == place]}
        alone = pycocotools([p for p in predictions if p["category_id"] == place], own, "bbox")
        assert parts.scores[place - 1] == pytest.approx(alone[0], nan_ok=True), name
    columns = metric.columns(statistics)
    assert columns["instances"].sum() == sum(not a["iscrowd"] for a in truth["annotations"]) == parts.truth.sum()
    assert (columns["matched"] <= columns["instances"]).all()
    assert columns["matched"].sum() > 0
