"""Resampling of test images, against scipy's bootstrap and the standard error of a mean."""

import math

import numpy as np
import pytest
import scipy.stats

from ablate.analysis import stats


def mean_of(values, drawn):
    """The mean (draws,) of values of images (I,) on draws (draws, I)."""
    return drawn @ values / drawn.sum(axis=1)


def draws(count, seed, resamples):
    return stats.draws_of_images(count, rng=np.random.default_rng(seed), resamples=resamples)


def test_as_many_images_are_drawn_as_there_are():
    drawn = draws(7, 0, 50)
    assert set(drawn.sum(axis=1)) == {7}
    assert len({tuple(counts) for counts in drawn}) > 40
    assert drawn.mean() == 1


def test_bootstrap_spread_is_the_standard_error_of_a_mean():
    values = np.random.default_rng(1).normal(size=200)
    drawn = mean_of(values, draws(200, 2, 4000))
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.005)
    assert drawn.std() == pytest.approx(values.std() / math.sqrt(200), rel=0.05)


def test_image_interval_equals_scipys_percentile_bootstrap():
    rng = np.random.default_rng(3)
    control = rng.normal(size=150)
    level = control + rng.normal(0.1, 0.3, 150)
    drawn = draws(150, 4, 5000)
    low, high = stats.percentile_interval(mean_of(level, drawn) - mean_of(control, drawn))
    theirs = scipy.stats.bootstrap(
        (level - control,), np.mean, method="percentile", n_resamples=5000, rng=np.random.default_rng(5)
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.005)


def test_image_interval_widens_with_confidence_and_repeats_with_the_seed():
    values = np.random.default_rng(8).normal(size=40)

    def interval(confidence):
        return stats.percentile_interval(mean_of(values, draws(40, 9, 300)), confidence=confidence)

    assert interval(0.95) == interval(0.95)
    assert interval(0.99)[0] < interval(0.8)[0] < interval(0.8)[1] < interval(0.99)[1]


def test_draws_without_a_score_are_left_out():
    drawn = draws(3, 10, 100)
    only_with_the_first_image = np.where(drawn[:, 0] > 0, 0.5, math.nan)
    assert np.isnan(only_with_the_first_image).any()
    assert stats.percentile_interval(only_with_the_first_image) == (0.5, 0.5)
    assert np.isnan(stats.percentile_interval(np.full(10, math.nan))).all()


def test_no_image_cannot_be_drawn():
    with pytest.raises(ValueError, match="at least one image"):
        stats.draws_of_images(0, rng=np.random.default_rng(0))
