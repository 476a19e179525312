"""IoU against cityscapesscripts' own evaluation of the same PNG files, and worked out by hand."""

import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as oracle
import cv2
import label_maps
import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels as table

from ablate import registry
from ablate.datasets import IGNORED, Info
from ablate.metrics.mean_iou import count_pairs

EVALUATED = [label for label in table if not label.ignoreInEval]
STREETS = Info(
    "streets", None, "none", "made",
    classes=tuple(label.name for label in EVALUATED),
    categories=tuple(label.category for label in EVALUATED),
    label_ids=tuple(label.id for label in EVALUATED),
)  # fmt: skip


@pytest.fixture
def metric():
    return registry.build("metric", "mean_iou", {})


@pytest.fixture
def official(monkeypatch):
    """Evaluates pairs of files; without instances, whose files are not there."""
    for option, value in {"evalInstLevelScore": False, "JSONOutput": False, "quiet": True}.items():
        monkeypatch.setattr(oracle.args, option, value)
    return lambda predicted, truth: oracle.evaluateImgLists(
        *(list(map(str, files)) for files in (predicted, truth)), oracle.args
    )


def classes_of(label_ids):
    """Places of the 19 classes in a map of label ids, IGNORED where it has another."""
    places = np.full(256, IGNORED, np.uint8)
    places[list(STREETS.label_ids)] = np.arange(len(STREETS.label_ids))
    return places[label_ids]


def agree(ours, theirs):
    """Every number that both have is the same, and the same are missing."""
    for name in STREETS.classes:
        assert ours[f"IoU/{name}"] == pytest.approx(theirs["classScores"][name], abs=1e-12, nan_ok=True), name
    assert ours["mIoU"] == pytest.approx(theirs["averageScoreClasses"], abs=1e-12)
    assert ours["category_IoU"] == pytest.approx(theirs["averageScoreCategories"], abs=1e-12)


@pytest.mark.parametrize(("seed", "few"), [(0, False), (1, True), (2, True)])
def test_scores_are_those_of_cityscapesscripts(metric, official, tmp_path, seed, few):
    """All 34 label ids stand in both maps, void ones too; with `few` most classes are absent from both."""
    rng = np.random.default_rng(seed)
    numbers = [0, 4, 7, 8, 11, 24, 26, 29] if few else range(34)
    maps, predictions, files = {}, [], {"truth": [], "found": []}
    for image in range(4):
        truth = rng.choice(numbers, (40 + image, 60)).astype(np.uint8)
        found = np.where(rng.random(truth.shape) < 0.4, rng.choice(numbers, truth.shape), truth).astype(np.uint8)
        for kind, pixels in (("truth", truth), ("found", found)):
            files[kind].append(tmp_path / f"{kind}{image}.png")
            cv2.imwrite(str(files[kind][-1]), pixels)
        maps[image] = classes_of(truth)
        predictions.append({"image_id": image, "labels": classes_of(found)})
    truths = {"images": [{"id": image} for image in maps], "labels": maps}
    ours = metric.aggregate(metric.per_image(predictions, truths, STREETS))
    theirs = official(files["found"], files["truth"])
    agree(ours, theirs)
    assert np.isnan([ours[f"IoU/{name}"] for name in STREETS.classes]).any() == few
    confusion, ids = np.array(theirs["confMatrix"]), list(STREETS.label_ids)
    right = confusion[ids, ids]
    assert ours["pixel_accuracy"] == pytest.approx(right.sum() / confusion[ids].sum())
    present = confusion[ids].sum(1) > 0
    assert ours["mean_accuracy"] == pytest.approx((right[present] / confusion[ids].sum(1)[present]).mean())


def test_scores_of_camvid_are_those_of_cityscapesscripts(metric, official, ablate_data, tmp_path):
    """Street scenes with 11 of the 19 classes, predicted by the labels of the frame before."""
    names = registry.check_knobs("dataset", "cityscapes", {"set": "seg_camvid", "test": "test"})
    samples = registry.build("dataset", "cityscapes", names).open("val", ablate_data)
    ids, info = samples.image_ids()[:12], samples.info
    before = {image: samples.labels(ids[place - 1]) for place, image in enumerate(ids)}
    written = np.array([*info.label_ids, *[0] * (256 - len(info.classes))], np.uint8)
    files = [tmp_path / f"{image}.png" for image in ids]
    for file, image in zip(files, ids, strict=True):
        cv2.imwrite(str(file), written[before[image]])
    maps = {image: samples.labels(image) for image in ids}
    truths = {"images": [{"id": image} for image in ids], "labels": maps}
    predictions = [{"image_id": image, "labels": labels} for image, labels in before.items()]
    ours = metric.aggregate(metric.per_image(predictions, truths, info))
    theirs = official(files, [pair.labels for pair in samples.pairs[:12]])
    assert ours["mIoU"] == pytest.approx(theirs["averageScoreClasses"], abs=1e-12)
    assert ours["category_IoU"] == pytest.approx(theirs["averageScoreCategories"], abs=1e-12)
    for name, number in zip(info.classes, info.label_ids, strict=True):
        label = next(label.name for label in table if label.id == number)
        assert ours[f"IoU/{name}"] == pytest.approx(theirs["classScores"][label], abs=1e-12, nan_ok=True)


def test_scores_worked_out_by_hand(metric):
    #   truth     found     road: 2 right, 1 missed (called car), 0 wrong -> 2/3; sidewalk: 1 right, 1 missed -> 1/2
    #   r r s     r r r     (the last pixel has no label); car: 1 right, 1 wrong -> 1/2; flat: 4 right, 1 missed -> 4/5
    #   r s c     c s c     The r predicted for s is wrong for road: 2 / (3 + 1) = 1/2.
    names = ("road", "sidewalk", "car", "sky")
    info = Info("by hand", None, "", "", classes=names, categories=("flat", "flat", "vehicle", "sky"))
    truth = np.array([[0, 0, 1], [0, 1, 2], [IGNORED] * 3], np.uint8)
    found = np.array([[0, 0, 0], [2, 1, 2], [0, 1, 3]], np.uint8)
    truths = {"images": [{"id": 5}], "labels": {5: truth}}
    statistics = metric.per_image([{"image_id": 5, "labels": found}], truths, info)
    confusion = np.zeros((1, 4 * 5), int)
    confusion[statistics["image"], statistics["cell"]] = statistics["count"]
    assert confusion.reshape(4, 5).tolist() == [[2, 0, 1, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]
    assert metric.aggregate(statistics) == pytest.approx(
        {
            "mIoU": 0.5,
            "pixel_accuracy": 4 / 6,
            "mean_accuracy": (2 / 3 + 1 / 2 + 1) / 3,
            "category_IoU": (4 / 5 + 1 / 2) / 2,
            "IoU/road": 0.5,
            "IoU/sidewalk": 0.5,
            "IoU/car": 0.5,
            "IoU/sky": np.nan,
        },
        nan_ok=True,
    )


def test_a_pixel_without_a_prediction_is_missed(metric):
    info = Info("by hand", None, "", "", classes=("road", "car"))
    truths = {"images": [{"id": 1}], "labels": {1: np.array([[0, 0, 1, 1]], np.uint8)}}
    found = np.array([[0, IGNORED, 1, IGNORED]], np.uint8)
    scores = metric.aggregate(metric.per_image([{"image_id": 1, "labels": found}], truths, info))
    assert scores["mIoU"] == scores["pixel_accuracy"] == scores["mean_accuracy"] == 0.5
    assert np.isnan(scores["category_IoU"])  # a set without categories


def test_counts_are_exact_where_float32_is_not():
    """More pixels of one pair than float32 can tell apart, and of other pairs one each."""
    truth = np.zeros((5000, 3400), np.uint8)  # 17 million pixels
    found = truth.copy()
    found[0, :3], truth[-1, -1] = (1, IGNORED, 1), IGNORED
    assert count_pairs(truth, found, classes=2).tolist() == [[truth.size - 4, 2, 1], [0, 0, 0]]


def test_a_prediction_of_another_size_is_refused(metric):
    truths = {"images": [{"id": 4}], "labels": {4: np.zeros((3, 4), np.uint8)}}
    with pytest.raises(ValueError, match=r"image 4: \(4, 3\) labels are predicted, the truth has \(3, 4\)"):
        metric.per_image([{"image_id": 4, "labels": np.zeros((4, 3), np.uint8)}], truths, STREETS)


def test_the_columns_of_an_image_are_the_ious_of_its_maps(metric):
    predictions, truth = label_maps.scene(3)
    found = {p["image_id"]: p["labels"] for p in predictions}
    statistics = metric.per_image(predictions, truth, label_maps.info())
    columns = metric.columns(statistics)
    assert list(columns) == [f"IoU/{name}" for name in label_maps.CLASSES]
    for at, image in enumerate(statistics["image_ids"]):
        true = truth["labels"][image]
        guessed = found.get(image, np.full_like(true, IGNORED))
        for place, name in enumerate(label_maps.CLASSES):
            both = ((true == place) & (guessed == place)).sum()
            either = ((true == place) | (guessed == place))[true != IGNORED].sum()
            expected = both / either if either else np.nan
            assert columns[f"IoU/{name}"][at] == pytest.approx(expected, nan_ok=True)
    assert np.isnan(columns["IoU/train"]).any()
