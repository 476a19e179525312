"""What every metric of the shelf keeps to."""

import subprocess
import sys

import classified_images
import instances
import label_maps
import numpy as np
import pytest
import scenes

from ablate import registry
from ablate.metrics import ByPart, take_blocks

METRICS = registry.names("metric")
MADE = {
    "accuracy": classified_images,
    "joint_distance": scenes,
    "keypoint_ap": scenes,
    "pck": scenes,
    "mean_iou": label_maps,
    "dice": label_maps,
    "hausdorff": label_maps,
    "box_ap": instances,
    "mask_ap": instances,
}  # what each metric measures, made up


@pytest.fixture(params=METRICS)
def name(request):
    return request.param


@pytest.fixture
def metric(name):
    return registry.build("metric", name, registry.check_knobs("metric", name, {}))


@pytest.fixture
def made(name):
    return MADE[name]


@pytest.fixture
def scored(metric, made):
    """The scores of predictions."""
    return lambda predictions, truth: metric.aggregate(metric.per_image(predictions, truth, made.info()))


def test_the_contract_covers_the_shelf():
    assert set(METRICS) == set(MADE), "add the new part to `MADE`"


def test_scores_begin_with_those_of_the_facts(name, made, scored):
    found, declared = scored(*made.scene(0)), registry.describe("metric", name).facts["scores"]
    assert list(found)[: len(declared)] == list(declared)
    of_class = registry.describe("metric", name).facts.get("of_class", "no class/")
    assert all(key.startswith(of_class) for key in list(found)[len(declared) :])  # one for each class
    assert all(type(value) is float for value in found.values())
    for knob in registry.describe("metric", name).knobs:
        assert knob.doc, f"{knob.name} has no comment on its line"


def test_perfect_is_one_and_hopeless_is_nought(name, made, scored):
    if name == "joint_distance":
        pytest.skip("its scores are errors in pixels; see test_joint_distance.py")
    if name in ("dice", "hausdorff"):
        pytest.skip("what neither map has counts as found; see test_regions.py")
    _, truth = made.scene(1)
    best, worst, nobody = (scored(found, truth) for found in (made.perfect(truth), made.hopeless(truth), []))
    assert list(best.values()) == pytest.approx([1] * len(best))
    assert set(worst.values()) == set(nobody.values()) == {0}


def test_the_order_of_everything_is_irrelevant(made, scored):
    predictions, truth = made.scene(2)
    before = scored(predictions, truth)
    truth, predictions = made.reordered(truth, predictions, seed=3)
    assert scored(predictions, truth) == pytest.approx(before, abs=1e-12, nan_ok=True)


def test_what_was_given_stays_as_it_was(metric, made):
    predictions, truth = made.scene(3)
    before = repr((predictions, truth))
    metric.per_image(predictions, truth, made.info())
    assert repr((predictions, truth)) == before


def test_statistics_are_plain_arrays_that_name_all_images(metric, made):
    predictions, truth = made.scene(4)
    statistics = metric.per_image(predictions, truth, made.info())
    assert statistics["image_ids"].tolist() == sorted(image["id"] for image in truth["images"])
    assert all(isinstance(value, np.ndarray) and value.dtype.kind in "biufU" for value in statistics.values())
    assert (metric.per_image([], truth, made.info())["image_ids"] == statistics["image_ids"]).all()


def test_columns_of_images_are_those_that_the_decorator_describes(name, metric, made):
    predictions, truth = made.scene(4)
    columns = metric.columns(metric.per_image(predictions, truth, made.info()))
    described = registry.describe("metric", name).facts["columns"]
    assert {column if column in described else f"{column.partition('/')[0]}/NAME" for column in columns} == set(
        described
    )
    assert all(values.shape == (len(truth["images"]),) for values in columns.values())
    for kind, _, meaning in described.values():
        assert kind in ("int", "float")
        assert meaning
    nobody = metric.columns(metric.per_image([], made.emptied(truth), made.info()))
    assert list(nobody) == list(columns)


def test_parts_are_those_of_the_data_set_and_perfect_where_all_is_found(name, metric, made):
    if not isinstance(metric, ByPart):
        pytest.skip("knows no parts")
    _, truth = made.scene(1)
    best, worst = (
        metric.parts(metric.per_image(found(truth), truth, made.info()), made.info())
        for found in (made.perfect, made.hopeless)
    )
    info = made.info()
    known = {"class": info.classes or info.things or info.image_classes, "joint": info.joints}[best.kind]
    assert best.names == worst.names == tuple(known)
    there = best.truth > 0
    assert there.any()
    assert set(best.scores[there]) == {1}
    if name != "dice":  # what neither map has counts as found
        assert set(worst.scores[there]) == {0}
    nobody = metric.parts(metric.per_image([], made.emptied(truth), made.info()), made.info())
    assert not nobody.truth.any()
    assert np.isnan(nobody.scores).all()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_weights_are_images_that_are_there_several_times(metric, made, scored, seed, ties):
    predictions, truth = made.scene(seed, ties=ties)
    statistics = metric.per_image(predictions, truth, made.info())
    counts = np.random.default_rng(seed).multinomial(
        len(truth["images"]), [1 / len(truth["images"])] * len(truth["images"])
    )
    assert 0 in counts
    more, found = made.repeated(truth, predictions, counts)
    expected = scored(found, more)
    assert metric.aggregate(statistics, counts) == pytest.approx(expected, abs=1e-12, nan_ok=True)
    once = metric.aggregate(statistics, np.ones(len(counts), int))
    assert once == pytest.approx(metric.aggregate(statistics), abs=1e-12, nan_ok=True)


def test_nothing_to_score_is_not_a_number(metric, made):
    _, truth = made.scene(5)
    statistics = metric.per_image([], made.emptied(truth), made.info())
    images = len(truth["images"])
    for weights in (None, np.ones(images, int)):
        assert all(np.isnan(value) for value in metric.aggregate(statistics, weights).values())


def test_blocks_are_taken_in_order():
    rows = take_blocks(np.array([0, 0, 2, 3, 3]), np.array([2, 1, 0, 1, 5]))
    assert rows.tolist() == [0, 1, 0, 1, 3, 4]
    assert take_blocks(np.array([], int), np.array([1, 2])).tolist() == []


def test_the_shelf_imports_no_torch():
    modules = ", ".join(f"ablate.metrics.{name}" for name in METRICS)
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
