"""What every metric of the shelf keeps to."""

import subprocess
import sys

import numpy as np
import pytest
from scenes import hopeless, info, perfect, reordered, repeated, scene

from ablate import registry
from ablate.metrics import take_blocks

METRICS = registry.names("metric")


@pytest.fixture(params=METRICS)
def metric(request):
    return registry.build("metric", request.param, registry.check_knobs("metric", request.param, {}))


@pytest.mark.parametrize("name", METRICS)
def test_scores_are_those_of_the_facts(name):
    predictions, truth = scene(0)
    part = registry.build("metric", name, {})
    found = part.aggregate(part.per_image(predictions, truth, info()))
    assert list(found) == list(registry.describe("metric", name).facts["scores"])
    assert all(type(value) is float for value in found.values())
    for knob in registry.describe("metric", name).knobs:
        assert knob.doc, f"{knob.name} has no comment on its line"


def test_perfect_is_one_and_hopeless_is_nought(metric):
    _, truth = scene(1)
    best = metric.aggregate(metric.per_image(perfect(truth), truth, info()))
    worst = metric.aggregate(metric.per_image(hopeless(truth), truth, info()))
    nobody = metric.aggregate(metric.per_image([], truth, info()))
    assert list(best.values()) == pytest.approx([1] * len(best))
    assert set(worst.values()) == set(nobody.values()) == {0}


def test_the_order_of_everything_is_irrelevant(metric):
    predictions, truth = scene(2)
    before = metric.aggregate(metric.per_image(predictions, truth, info()))
    truth, predictions = reordered(truth, predictions, seed=3)
    assert metric.aggregate(metric.per_image(predictions, truth, info())) == pytest.approx(before, abs=1e-12)


def test_what_was_given_stays_as_it_was(metric):
    predictions, truth = scene(3)
    before = repr((predictions, truth))
    metric.per_image(predictions, truth, info())
    assert repr((predictions, truth)) == before


def test_statistics_are_plain_arrays_that_name_all_images(metric):
    predictions, truth = scene(4)
    statistics = metric.per_image(predictions, truth, info())
    assert statistics["image_ids"].tolist() == sorted(image["id"] for image in truth["images"])
    assert all(isinstance(value, np.ndarray) and value.dtype.kind in "biuf" for value in statistics.values())
    assert (metric.per_image([], truth, info())["image_ids"] == statistics["image_ids"]).all()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_weights_are_images_that_are_there_several_times(metric, seed, ties):
    predictions, truth = scene(seed, ties=ties)
    statistics = metric.per_image(predictions, truth, info())
    counts = np.random.default_rng(seed).multinomial(
        len(truth["images"]), [1 / len(truth["images"])] * len(truth["images"])
    )
    assert 0 in counts
    more, found = repeated(truth, predictions, counts)
    expected = metric.aggregate(metric.per_image(found, more, info()))
    assert metric.aggregate(statistics, counts) == pytest.approx(expected, abs=1e-12, nan_ok=True)
    once = metric.aggregate(statistics, np.ones(len(counts), int))
    assert once == pytest.approx(metric.aggregate(statistics), abs=1e-12, nan_ok=True)


def test_nothing_to_score_is_not_a_number(metric):
    _, truth = scene(5)
    statistics = metric.per_image([], truth | {"annotations": []}, info())
    images = len(truth["images"])
    for weights in (None, np.ones(images, int)):
        assert all(np.isnan(value) for value in metric.aggregate(statistics, weights).values())


def test_blocks_are_taken_in_order():
    rows = take_blocks(np.array([0, 0, 2, 3, 3]), np.array([2, 1, 0, 1, 5]))
    assert rows.tolist() == [0, 1, 0, 1, 3, 4]
    assert take_blocks(np.array([], int), np.array([1, 2])).tolist() == []


def test_the_shelf_imports_no_torch():
    code = "import sys, ablate.metrics.keypoint_ap, ablate.metrics.pck; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
