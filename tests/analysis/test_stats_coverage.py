"""Simulated studies: intervals cover, false verdicts are rare and true ones as frequent as claimed.

The planner is compared with published tables of the t test where that stands in for the rule of `verdict`.
"""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from ablate.analysis import stats


def covers(n, *, studies, correlation, truth=0.3):
    """Shares of paired and of unpaired intervals that hold the true difference."""
    rng = np.random.default_rng(n)
    paired = unpaired = 0
    for _ in range(studies):
        shared = np.sqrt(correlation) * rng.standard_normal(n)
        control, level = shared + np.sqrt(1 - correlation) * rng.standard_normal((2, n))
        effect = stats.paired(control, level + truth)
        paired += effect.low <= truth <= effect.high
        unpaired += effect.unpaired_low <= truth <= effect.unpaired_high
    return paired / studies, unpaired / studies


def false_verdicts(n, *, studies, comparisons):
    """The share of studies with any verdict where no level differs from the control that all share."""
    rng = np.random.default_rng(n + 1000 * comparisons)
    wrong = 0
    for _ in range(studies):
        control, *levels = rng.standard_normal((comparisons + 1, n))
        effects = [stats.paired(control, level) for level in levels]
        adjusted = stats.holm([effect.p for effect in effects])
        verdicts = [
            stats.verdict(effect, p, smallest=stats.smallest_p(effect.n, comparisons))
            for effect, p in zip(effects, adjusted, strict=True)
        ]
        wrong += "higher" in verdicts or "lower" in verdicts
    return wrong / studies


def simulated_power(n, comparisons, *, studies):
    """The share of studies with the planned effect that end in 'higher', beside arms that show nothing."""
    rng = np.random.default_rng(n * 100 + comparisons)
    shift = stats.minimum_detectable(1.0, n, comparisons=comparisons)
    hits = 0
    for differences in rng.normal(shift, 1.0, (studies, n)):
        effect = stats.paired(np.zeros(n), differences)
        p_holm = stats.holm([effect.p, *[1.0] * (comparisons - 1)])[0]
        hits += stats.verdict(effect, p_holm, smallest=stats.smallest_p(effect.n, comparisons)) == "higher"
    return hits / studies


@pytest.mark.parametrize("n", [3, 5, 8])
def test_intervals_cover_as_they_claim(n):
    paired, unpaired = covers(n, studies=2500, correlation=0.0)
    assert paired == pytest.approx(0.95, abs=0.015)  # 3.4 standard errors
    assert unpaired >= 0.935  # Welch is a little wide at few seeds


@pytest.mark.parametrize("n", [6, 7, 8])
def test_false_verdicts_on_two_comparisons_are_rarer_than_alpha(n):
    rate = false_verdicts(n, studies=2500, comparisons=2)
    assert rate <= 0.05
    assert (rate > 0) == stats.testable(n, 2)


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.8])
@pytest.mark.parametrize("n", [3, 5, 8, 12])
def test_intervals_cover_closely(n, correlation):
    paired, unpaired = covers(n, studies=20_000, correlation=correlation)
    assert paired == pytest.approx(0.95, abs=0.005)
    assert unpaired >= 0.945  # much too wide when pairing works, never too narrow


@pytest.mark.slow
@pytest.mark.parametrize(("n", "comparisons"), [(7, 2), (8, 2), (8, 6), (10, 3), (12, 2)])
def test_family_of_verdicts_keeps_alpha_closely(n, comparisons):
    assert 0 < false_verdicts(n, studies=10_000, comparisons=comparisons) <= 0.05


def test_seeds_for_agrees_with_published_tables():
    # G*Power's sample sizes for the paired t test, two-sided, alpha .05, power .8, by effect over sd.
    assert stats.seeds_for(0.5, 1.0, comparisons=1) == 34
    assert stats.seeds_for(-0.8, 1.0, comparisons=1) == 15
    assert stats.seeds_for(0.2, 1.0, comparisons=1) == 199


@pytest.mark.parametrize(("n", "comparisons", "power"), [(13, 2, 0.8), (30, 1, 0.9), (30, 5, 0.5)])
def test_large_n_has_the_power_of_the_noncentral_t(n, comparisons, power):
    effect = stats.minimum_detectable(2.0, n, comparisons=comparisons, power=power)
    critical = scipy.stats.t.ppf(1 - 0.025 / comparisons, n - 1)
    reached = scipy.stats.nct.sf(critical, n - 1, effect / 2.0 * math.sqrt(n))
    assert reached == pytest.approx(power, abs=1e-6)


@pytest.mark.parametrize(("n", "comparisons"), [(6, 1), (8, 2)])
def test_planned_power_is_the_power_of_the_verdict(n, comparisons):
    assert simulated_power(n, comparisons, studies=3000) == pytest.approx(0.8, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "comparisons", "within"),
    [
        (7, 1, 0.015),
        (7, 2, 0.015),
        (8, 6, 0.015),
        (10, 3, 0.015),
        (12, 2, 0.015),
        (13, 1, 0.015),
        (13, 20, 0.04),
    ],
)
def test_planned_power_is_the_power_of_the_verdict_closely(n, comparisons, within):
    assert simulated_power(n, comparisons, studies=20_000) == pytest.approx(0.8, abs=within)


def test_the_t_test_would_promise_too_much_at_the_fewest_seeds():
    t_test = scipy.stats.t.ppf(0.975, 5) / math.sqrt(6)  # 50 % power of the t test, about
    assert stats.minimum_detectable(1.0, 6, comparisons=1, power=0.5) > 1.1 * t_test


def test_minimum_detectable_scales_and_falls():
    found = [stats.minimum_detectable(1.0, n, comparisons=2) for n in range(7, 20)]
    assert all(later < earlier for earlier, later in itertools.pairwise(found))
    assert stats.minimum_detectable(0.02, 9, comparisons=2) == pytest.approx(0.02 * found[2])
    assert stats.minimum_detectable(1.0, 9, comparisons=2, power=0.9) > found[2]
    assert stats.minimum_detectable(1.0, 9, comparisons=3) > found[2]


def test_minimum_detectable_is_unknown_where_nothing_is_testable_or_known():
    assert math.isnan(stats.minimum_detectable(1.0, 6, comparisons=2))
    assert math.isnan(stats.minimum_detectable(math.nan, 8, comparisons=2))


def test_seeds_for_is_the_first_that_suffices():
    found = stats.seeds_for(1.2, 1.0, comparisons=2)
    assert found is not None
    assert stats.minimum_detectable(1.0, found, comparisons=2) < 1.2
    assert stats.minimum_detectable(1.0, found - 1, comparisons=2) > 1.2
    assert stats.seeds_for(100.0, 1.0, comparisons=2) == stats.seeds_needed(2)


@pytest.mark.parametrize(("effect", "sd_diff"), [(0.0, 1.0), (0.0, 0.0), (0.01, 1.0), (1.0, math.nan)])
def test_seeds_for_gives_up(effect, sd_diff):
    assert stats.seeds_for(effect, sd_diff, comparisons=1) is None
