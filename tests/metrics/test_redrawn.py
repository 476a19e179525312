"""Many redrawn data sets at once have, to the last bit, the scores that each has alone."""

import numpy as np
import pytest

from ablate.metrics import Redraws, build_metric, redrawn

IMAGES, DRAWS = 12, 60
BOXES = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10", "AR100", "ARS", "ARM", "ARL")
NAMES = {
    "keypoint_ap": ("AP", "AP50", "AP75", "APM", "APL", "AR"),
    "box_ap": BOXES,
    "mask_ap": tuple(f"mask_{score}" for score in BOXES),
    "pck": ("PCK",),
}


def sorted_detections(rng, *, detections, areas, thresholds, tied):
    """Of each image some, best first; whoever is matched at a threshold is at all lower ones."""
    image = np.sort(rng.integers(0, IMAGES, detections))
    score = rng.integers(0, 3, detections) / 2 if tied else rng.random(detections)
    score = score[np.lexsort([-score, image])]
    reached = rng.integers(0, thresholds + 3, (detections, areas, 1)) - 2
    return {
        "image_ids": np.arange(IMAGES),
        "image": image,
        "score": score,
        "matched": np.arange(thresholds) < reached,
        "ignored": rng.random((detections, areas, 1)) < np.array([0.1, 0.6, 0.6, 0.6])[:areas, None],
    }


def statistics(name, rng, *, tied=False, detections=80, truths=30):
    if name == "pck":
        image = np.sort(rng.integers(0, IMAGES - 2, detections))  # two images without anybody
        return {"image_ids": np.arange(IMAGES), "image": image, "distance": rng.random(detections) / 2}
    areas = 3 if name == "keypoint_ap" else 4
    found = sorted_detections(rng, detections=detections, areas=areas, thresholds=10, tied=tied)
    found["ignored"] = np.broadcast_to(found["ignored"], found["matched"].shape)
    found["truth_image"] = np.sort(rng.integers(0, IMAGES, truths))
    found["truth_counted"] = rng.random((truths, areas)) < [1, *[0.1] * (areas - 1)]  # in some draws nobody is large
    if name != "keypoint_ap":
        place = rng.integers(0, 3, detections)
        rank = [
            int(((found["image"] == i) & (place == c))[:at].sum())
            for at, (i, c) in enumerate(zip(found["image"], place, strict=True))
        ]
        found |= {
            "place": place,
            "rank": np.array(rank),
            "predicted": np.array(True),
            "classes": np.array(list("abcd")),
        }
        found["truth_place"] = rng.integers(0, 3, truths)  # nothing is a d
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tied", [False, True])
def test_scores_are_those_of_each_alone(name, tied):
    rng, metric = np.random.default_rng(5), build_metric(name)
    weights = rng.multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), size=DRAWS)
    for detections, truths in ((80, 30), (400, 50), (1500, 60), (6, 4), (0, 5), (5, 1)):
        arrays = statistics(name, rng, tied=tied, detections=detections, truths=truths)
        alone = [metric.aggregate(arrays, own) for own in weights]
        together = redrawn(metric, arrays, weights, NAMES[name])
        for score in NAMES[name]:
            assert np.array_equal(together[score], [one[score] for one in alone], equal_nan=True), score


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_quick_way_where_scores_differ(name):
    arrays = statistics(name, np.random.default_rng(0))
    metric = build_metric(name)
    assert isinstance(metric, Redraws)
    assert metric.redrawn(arrays, np.ones((2, IMAGES), np.int64), NAMES[name]) is not None


def test_tied_detections_of_one_image_are_scored_one_by_one():
    """Their copies alternate; where all are right alike that makes no difference."""
    arrays, weights = statistics("keypoint_ap", np.random.default_rng(0), tied=True), np.ones((2, IMAGES), np.int64)
    metric = build_metric("keypoint_ap")
    assert metric.redrawn(arrays, weights, ["AP"]) is None
    arrays["matched"][:], arrays["ignored"] = True, np.zeros_like(arrays["matched"])
    assert metric.redrawn(arrays, weights, ["AP"]) is not None
