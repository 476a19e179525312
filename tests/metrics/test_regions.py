"""Dice and the 95 % Hausdorff distance: by hand, and by brute force over all pairs of border pixels."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from ablate import registry
from ablate.datasets import IGNORED, Info
from ablate.metrics.dice import coefficient
from ablate.metrics.hausdorff import distance

DICE, HAUSDORFF = (registry.build("metric", name, {}) for name in ("dice", "hausdorff"))


def border(mask: np.ndarray) -> np.ndarray:
    """Places (N, 2) of pixels with a neighbour, above, below or beside, that is not in the mask or not in the image."""
    wide = np.pad(mask, 1)
    inner = wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return np.argwhere(mask & ~inner)


def both_ways(one, other, spacing) -> tuple[np.ndarray, np.ndarray]:
    """Of each border pixel of one mask the distance to the nearest of the other, and the reverse."""
    found = cdist(border(one) * np.array(spacing), border(other) * np.array(spacing))
    return found.min(axis=1), found.min(axis=0)


def blobs(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:40, :50]
    mask = np.zeros((40, 50), bool)
    for _ in range(rng.integers(1, 4)):
        row, column, radius = rng.uniform(0, 40), rng.uniform(0, 50), rng.uniform(2, 12)
        mask |= (rows - row) ** 2 + (columns - column) ** 2 < radius**2
    return mask | (rng.random(mask.shape) < 0.003)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.0)])
def test_the_larger_percentile_of_both_directions_counts(spacing):
    """MONAI's rule; pooled distances, MedPy's rule, give another number in most cases."""
    differing = 0
    for seed in range(60):
        one, other = blobs(seed), blobs(seed + 1000)
        forth, back = both_ways(one, other, spacing)
        expected = max(np.percentile(forth, 95), np.percentile(back, 95))
        assert distance(one, other, spacing=spacing) == pytest.approx(expected)
        assert distance(other, one, spacing=spacing) == pytest.approx(expected)
        differing += not np.isclose(np.percentile(np.concatenate([forth, back]), 95), expected)
    assert differing > 30


def test_distances_that_are_known():
    square = np.zeros((20, 30), bool)
    square[5:10, 5:10] = True
    assert distance(square, square) == 0
    assert distance(square, np.roll(square, 7, axis=1)) == 7  # the far side's pixels are 7 away: more than a twentieth
    assert distance(square, np.roll(square, 7, axis=1), spacing=(1.0, 0.25)) == 1.75
    empty = np.zeros_like(square)
    assert distance(empty, empty) == 0
    assert np.isnan(distance(square, empty))
    assert np.isnan(distance(empty, square))


def test_coefficients_that_are_known():
    one = np.array([[1, 1, 0, 0]], bool)
    assert coefficient(one, np.array([[0, 1, 1, 0]], bool)) == 0.5
    assert coefficient(one, ~one) == 0
    assert coefficient(one, one) == coefficient(one & ~one, one & ~one) == 1
    assert coefficient(one, one & ~one) == 0


def info(**facts) -> Info:
    return Info("made", None, "none", "made", classes=("background", "vessel", "nerve"), **facts)


def scored(metric, truths, founds, **facts):
    images = [{"id": place} for place in range(1, len(truths) + 1)]
    truth = {"images": images, "labels": {place + 1: np.uint8(labels) for place, labels in enumerate(truths)}}
    rows = [{"image_id": place + 1, "labels": np.uint8(labels)} for place, labels in enumerate(founds)]
    return metric.aggregate(metric.per_image(rows, truth, info(**facts)))


def test_means_are_over_images_and_then_over_what_is_no_background():
    first = ([[0, 1, 1, 1]], [[0, 1, 1, 0]])  # vessel: 4 of 5; nerve: nowhere
    second = ([[0, 1, 2, 2]], [[0, 1, 1, 2]])  # vessel: 2 of 3; nerve: 2 of 3
    scores = scored(DICE, *zip(first, second, strict=True))
    assert scores["Dice/vessel"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert scores["Dice/nerve"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["Dice"] == pytest.approx((scores["Dice/vessel"] + scores["Dice/nerve"]) / 2)


def test_an_image_without_a_distance_is_left_out_and_counted():
    first = ([[1, 0, 0, 2]], [[0, 0, 1, 2]])  # vessel: 2 pixels away
    second = ([[1, 0, 0, 2]], [[1, 0, 0, 0]])  # the nerve is not found
    scores = scored(HAUSDORFF, *zip(first, second, strict=True), spacing=(3.0, 0.5))
    assert scores["HD95/vessel"] == pytest.approx((2 * 0.5 + 0) / 2)
    assert scores["HD95/nerve"] == 0
    assert scores["HD95"] == pytest.approx(0.25)
    assert scores["HD95_undefined"] == pytest.approx((0 + 0.5) / 2)


@pytest.mark.parametrize("metric", [DICE, HAUSDORFF])
def test_ignored_pixels_are_in_neither_mask(metric):
    truth, found = [[1, IGNORED, 0, 2]], [[1, 1, 0, 2]]
    perfect = scored(metric, [truth], [[[1, 0, 0, 2]]])
    assert scored(metric, [truth], [found]) == perfect
    with pytest.raises(ValueError, match="image 1"):
        scored(metric, [truth], [[[1, 1]]])
