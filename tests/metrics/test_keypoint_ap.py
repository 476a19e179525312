"""Equal to pycocotools, which is run beside it; small cases by hand."""

import contextlib
import copy
import io
import time

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scenes import NAMES, info, repeated, scene

from ablate import registry

AP = registry.build("metric", "keypoint_ap", {})


def pycocotools(predictions, truth, sigmas):
    """AP, AP50, AP75, APM, APL and AR as pycocotools gives them, -1 where undefined."""
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = copy.deepcopy(truth)
        for number, annotation in enumerate(known.dataset["annotations"], 1):
            annotation["id"] = number
        known.createIndex()
        found = known.loadRes(
            [{k: p[k] for k in ("image_id", "category_id", "keypoints", "score")} for p in predictions]
        )
        evaluation = COCOeval(known, found, "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:6].tolist()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("joints", NAMES)
@pytest.mark.parametrize("seed", range(4))
def test_equal_to_pycocotools(seed, joints, ties, capsys):
    predictions, truth = scene(seed, joints=joints, ties=ties)
    expected = pycocotools(predictions, truth, info(joints).sigmas)
    statistics = AP.per_image(predictions, truth, info(joints))
    assert list(AP.aggregate(statistics).values()) == pytest.approx(expected, abs=1e-12)
    counts = np.random.default_rng(seed).integers(0, 4, len(truth["images"]))
    more, found = repeated(truth, predictions, counts)
    expected = pycocotools(found, more, info(joints).sigmas)
    assert list(AP.aggregate(statistics, counts).values()) == pytest.approx(expected, abs=1e-12)
    assert capsys.readouterr().out == ""


def test_an_area_that_nobody_has_is_not_a_number():
    predictions, truth = scene(1)
    for annotation in truth["annotations"]:
        annotation["area"] = 2000.0  # medium: between 32 and 96 squared
    expected = pycocotools(predictions, truth, info().sigmas)
    statistics = AP.per_image(predictions, truth, info())
    for found in (AP.aggregate(statistics), AP.aggregate(statistics, np.ones(30, int))):
        assert expected[4] == -1
        assert np.isnan(found["APL"])
        assert [value for name, value in found.items() if name != "APL"] == pytest.approx(expected[:4] + expected[5:])


def one_person(shift, *, area=2000.0):
    """A person whose joints were all found `shift` pixels off, and their similarity."""
    form = info()
    points = np.column_stack([np.arange(17) * 5.0 + 10, np.full(17, 50.0), np.full(17, 2)])
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [10, 10, 60, 60], "area": area}
    annotation |= {"keypoints": points.ravel().tolist(), "num_keypoints": 17}
    truth = {"images": [{"id": 1}, {"id": 2}], "annotations": [annotation], "categories": [{"id": 1, "name": "person"}]}
    moved = points + np.array([0, shift, 0])
    prediction = {"image_id": 1, "category_id": 1, "keypoints": moved.ravel().tolist(), "score": 0.7}
    similarity = np.mean([np.exp(-(shift**2) / (2 * area * (2 * s) ** 2)) for s in form.sigmas])
    return [prediction], truth, similarity


def test_worked_out_by_hand():
    """A similarity of 0.6 to 0.65 is enough at three of ten thresholds; a wrong person before halves the precision."""
    predictions, truth, similarity = one_person(4.5)
    assert 0.60 < similarity < 0.65
    found = AP.aggregate(AP.per_image(predictions, truth, info()))
    assert found["AP"] == pytest.approx(0.3)
    assert (found["AP50"], found["AP75"], found["AR"]) == pytest.approx((1, 0, 0.3))
    wrong = {**predictions[0], "image_id": 2}
    later, earlier = ({**wrong, "score": score} for score in (0.1, 0.9))
    assert AP.aggregate(AP.per_image([*predictions, later], truth, info()))["AP"] == pytest.approx(0.3)
    assert AP.aggregate(AP.per_image([*predictions, earlier], truth, info()))["AP"] == pytest.approx(0.15)


def oks(prediction, person, sigmas):
    """Object keypoint similarity with a labelled person, as COCO's page writes it."""
    found, true = (np.reshape(one["keypoints"], (-1, 3)) for one in (prediction, person))
    squares = ((found[:, :2] - true[:, :2]) ** 2).sum(axis=1) / (2 * person["area"] * (2 * np.array(sigmas)) ** 2)
    return float(np.exp(-squares)[true[:, 2] > 0].mean())


def matched_by_hand(predictions, people, sigmas):
    """Similarities of the people found at .5, best detections first, and the number of false detections."""
    free, found, false = list(people), [], 0
    for prediction in sorted(predictions, key=lambda p: -p["score"])[:20]:
        near = max(free, key=lambda person: oks(prediction, person, sigmas), default=None)
        if near is None or oks(prediction, near, sigmas) < 0.5:
            false += 1
        else:
            found.append(oks(prediction, near, sigmas))
            free.remove(near)
    return found, false


@pytest.mark.parametrize("seed", range(4))
def test_the_columns_of_an_image_are_those_found_by_hand(seed):
    predictions, truth = scene(seed, images=60)
    people = [a for a in truth["annotations"] if a["num_keypoints"] and not a["iscrowd"]]
    truth["annotations"] = people  # matches with people who do not count are pycocotools' own affair
    statistics = AP.per_image(predictions, truth, info())
    columns = AP.columns(statistics)
    for at, image in enumerate(statistics["image_ids"]):
        own = [[row for row in rows if row["image_id"] == image] for rows in (predictions, people)]
        found, false = matched_by_hand(*own, info().sigmas)
        assert (columns["people"][at], columns["matched"][at]) == (len(own[1]), len(found))
        assert columns["false_detections"][at] == false
        assert columns["similarity"][at] == pytest.approx(np.mean(found) if found else np.nan, nan_ok=True)
    assert columns["matched"].sum() > 10 < columns["false_detections"].sum()


def test_similarities_of_older_results_are_known_to_a_twentieth():
    predictions, truth, similarity = one_person(4.5)
    statistics = AP.per_image(predictions, truth, info())
    assert AP.columns(statistics)["similarity"] == pytest.approx([similarity, np.nan], nan_ok=True)
    del statistics["similarity"]
    columns = AP.columns(statistics)
    assert np.isnan(columns["similarity"]).all()
    assert columns["similarity_floor"] == pytest.approx([0.6, np.nan], nan_ok=True)


def test_people_who_do_not_count_are_neither_found_nor_false():
    predictions, truth, _ = one_person(0)
    truth["annotations"][0]["iscrowd"] = 1
    columns = AP.columns(AP.per_image(predictions, truth, info()))
    assert [columns[name][0] for name in ("people", "matched", "false_detections")] == [0, 0, 0]


def test_an_unlabelled_joint_is_not_scored():
    predictions, truth, _ = one_person(0)
    predictions[0]["keypoints"][:2] = 500.0, 500.0
    truth["annotations"][0]["keypoints"][:3] = 0, 0, 0
    assert AP.aggregate(AP.per_image(predictions, truth, info()))["AP"] == pytest.approx(1)


def test_what_is_not_finite_is_refused_rather_than_perfect():
    predictions, truth, _ = one_person(0)
    predictions[0]["keypoints"][0] = float("nan")
    with pytest.raises(ValueError, match="1 of 1 predictions are not finite"):
        AP.per_image(predictions, truth, info())


def test_resampling_is_quick():
    predictions, truth = scene(0, images=500)
    statistics = AP.per_image(predictions, truth, info())
    counts = np.random.default_rng(0).multinomial(500, [1 / 500] * 500)
    AP.aggregate(statistics, counts)
    start = time.process_time()
    for _ in range(20):
        AP.aggregate(statistics, counts)
    assert (time.process_time() - start) / 20 < 0.02  # seen: 0.0008
