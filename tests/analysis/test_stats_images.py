"""Resampling of test images, against scipy's bootstrap and the standard error of a mean."""

import math

import numpy as np
import pytest
import scipy.stats

from ablate.analysis import stats


def mean_of(values):
    return lambda counts: float(counts @ values / counts.sum())


def test_bootstrap_draws_as_many_images_as_there_are():
    seen = []

    def aggregate(counts):
        seen.append(counts)
        return 1.0

    drawn = stats.bootstrap_images(aggregate, 7, rng=np.random.default_rng(0), resamples=50)
    assert list(drawn) == [1.0] * 50
    assert {counts.sum() for counts in seen} == {7}
    assert len({tuple(counts) for counts in seen}) > 40
    assert np.mean(seen) == 1


def test_bootstrap_spread_is_the_standard_error_of_a_mean():
    values = np.random.default_rng(1).normal(size=200)
    drawn = stats.bootstrap_images(mean_of(values), 200, rng=np.random.default_rng(2), resamples=4000)
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.005)
    assert drawn.std() == pytest.approx(values.std() / math.sqrt(200), rel=0.05)


def test_image_interval_equals_scipys_percentile_bootstrap():
    rng = np.random.default_rng(3)
    control = rng.normal(size=150)
    level = control + rng.normal(0.1, 0.3, 150)
    low, high = stats.paired_image_interval(
        mean_of(level), mean_of(control), 150, rng=np.random.default_rng(4), resamples=5000
    )
    theirs = scipy.stats.bootstrap(
        (level - control,), np.mean, method="percentile", n_resamples=5000, rng=np.random.default_rng(5)
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.005)


def test_both_sides_score_the_same_draw():
    values = np.random.default_rng(6).normal(size=30)
    interval = stats.paired_image_interval(
        mean_of(values + 0.25), mean_of(values), 30, rng=np.random.default_rng(7), resamples=100
    )
    assert interval == pytest.approx((0.25, 0.25))


def test_image_interval_widens_with_confidence_and_repeats_with_the_seed():
    values = np.random.default_rng(8).normal(size=40)

    def interval(confidence):
        rng = np.random.default_rng(9)
        return stats.paired_image_interval(
            mean_of(values), mean_of(np.zeros(40)), 40, rng=rng, resamples=300, confidence=confidence
        )

    assert interval(0.95) == interval(0.95)
    assert interval(0.99)[0] < interval(0.8)[0] < interval(0.8)[1] < interval(0.99)[1]


def test_draws_without_a_score_are_left_out():
    def only_with_first_image(counts):
        return 0.5 if counts[0] else math.nan

    def zero(counts):
        return 0.0

    rng = np.random.default_rng(10)
    assert np.isnan(stats.bootstrap_images(only_with_first_image, 3, rng=rng, resamples=100)).any()
    assert stats.paired_image_interval(only_with_first_image, zero, 3, rng=rng, resamples=100) == (0.5, 0.5)
    never = stats.paired_image_interval(zero, lambda counts: math.nan, 3, rng=rng, resamples=10)
    assert np.isnan(never).all()


def test_no_image_cannot_be_drawn():
    with pytest.raises(ValueError, match="at least one image"):
        stats.bootstrap_images(lambda counts: 0.0, 0, rng=np.random.default_rng(0))
