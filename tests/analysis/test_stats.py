"""Effects, tests and verdicts against scipy, hand-worked examples and what must hold for any scores."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.analysis import stats

# AP of eight seeds, made up, with one arm about a point above the other.
CONTROL = [0.612, 0.598, 0.605, 0.621, 0.590, 0.617, 0.603, 0.609]
LEVEL = [0.620, 0.611, 0.609, 0.640, 0.596, 0.615, 0.622, 0.618]

scores = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)
arms = st.integers(2, 10).flatmap(
    lambda n: st.tuples(st.lists(scores, min_size=n, max_size=n), st.lists(scores, min_size=n, max_size=n))
)


def scipy_sign_flip(differences):
    """The exact test by enumeration, as scipy does it for one sample under flips of paired labels."""
    differences = np.asarray(differences)
    found = scipy.stats.permutation_test(
        (differences, -differences),
        lambda x, y, axis: np.sum(x, axis=axis) - np.sum(y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    return found.pvalue


def listed_sign_flip(thousandths):
    """Every assignment in whole numbers, so that ties are ties."""
    observed = abs(sum(thousandths))
    sums = [
        abs(sum(sign * d for sign, d in zip(signs, thousandths, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(thousandths))
    ]
    return sum(value >= observed for value in sums) / len(sums)


# --- one arm, one effect ---


def test_summary_by_hand():
    found = stats.summary([2.0, 4.0, 9.0])  # squared deviations 9 + 1 + 16 = 26, over 2
    assert (found.mean, found.n) == (5.0, 3)
    assert found.sd == pytest.approx(math.sqrt(13))


def test_summary_of_one_and_of_none():
    one, none = stats.summary([0.5]), stats.summary([])
    assert (one.mean, one.n) == (0.5, 1)
    assert math.isnan(one.sd)
    assert none.n == 0
    assert math.isnan(none.mean)
    assert math.isnan(none.sd)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
@pytest.mark.parametrize("n", [2, 3, 8])
def test_paired_effect_equals_scipy(n, confidence):
    control, level = CONTROL[:n], LEVEL[:n]
    effect = stats.paired(control, level, confidence=confidence)
    related = scipy.stats.ttest_rel(level, control).confidence_interval(confidence)
    welch = scipy.stats.ttest_ind(level, control, equal_var=False).confidence_interval(confidence)
    assert (effect.low, effect.high) == pytest.approx((related.low, related.high), rel=1e-9)
    assert (effect.unpaired_low, effect.unpaired_high) == pytest.approx((welch.low, welch.high), rel=1e-9)
    pearson = scipy.stats.pearsonr(control, level).statistic if n > 2 else math.nan  # of two pairs always 1 or -1
    assert effect.correlation == pytest.approx(pearson, nan_ok=True)
    assert effect.p == pytest.approx(scipy_sign_flip(np.subtract(level, control)))
    assert effect.p_floor == 2 / 2**n
    assert effect.diff == pytest.approx(effect.mean_level - effect.mean_control)
    assert effect.sd_diff == pytest.approx(scipy.stats.tstd(np.subtract(level, control)))


def test_sign_flip_by_hand():
    # Differences 3, 1, -1: of the eight sums 5 3 3 1 -1 -3 -3 -5, six are at least 3 away from 0.
    assert stats.paired([0, 0, 0], [3, 1, -1]).p == 6 / 8
    # All eight seeds agree: only this assignment and its mirror image are as extreme.
    assert stats.paired(np.zeros(8), np.arange(1.0, 9.0)).p == 2 / 256


@settings(deadline=None)
@given(st.lists(st.integers(-30, 30), min_size=2, max_size=9))
def test_sign_flip_counts_ties_as_whole_numbers_do(thousandths):
    # Scores in thousandths have differences that tie on paper but not in floating point.
    control = np.full(len(thousandths), 0.6)
    effect = stats.paired(control, control + np.array(thousandths) / 1000)
    assert effect.p == listed_sign_flip(thousandths)


@pytest.mark.parametrize("n", [15, 17])
def test_sign_flip_of_many_seeds_is_exact(n):
    differences = np.random.default_rng(n).normal(0.4, 1.0, n)
    signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)  # (2^n, n)
    listed = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9)
    assert stats.paired(np.zeros(n), differences).p == listed


def test_sign_flip_past_enumeration_agrees_with_random_flips():
    rng = np.random.default_rng(5)
    noise = rng.normal(size=50)
    differences = noise - noise.mean() + 0.25
    signs = rng.choice([-1.0, 1.0], size=(100_000, 50))
    sampled = np.mean(np.abs(signs @ differences) >= abs(differences.sum()))
    assert 0.01 < sampled < 0.3
    assert stats.paired(np.zeros(50), differences).p == pytest.approx(sampled, abs=0.004)


def test_sign_flip_has_no_step_where_enumeration_ends():
    differences = np.random.default_rng(7).normal(0.4, 1.0, 40)
    exact = stats.paired(np.zeros(40), differences).p
    # A difference of 0 doubles all sums alike, so the exact p stays; the 41st seed brings the normal approximation.
    approximate = stats.paired(np.zeros(41), [*differences, 0.0]).p
    assert approximate != exact
    assert approximate == pytest.approx(exact, rel=0.05)


def test_equal_arms_show_nothing():
    effect = stats.paired(CONTROL, CONTROL)
    assert (effect.diff, effect.sd_diff, effect.low, effect.high, effect.p) == (0, 0, 0, 0, 1)
    assert stats.verdict(effect, effect.p, smallest=stats.smallest_p(effect.n, 1)) == "not shown"


def test_arms_that_never_vary():
    effect = stats.paired([0.1] * 8, [0.3] * 8)
    assert effect.sd_diff == 0
    assert (effect.low, effect.high) == pytest.approx((0.2, 0.2))
    assert (effect.unpaired_low, effect.unpaired_high) == pytest.approx((0.2, 0.2))
    assert math.isnan(effect.correlation)
    assert effect.p == 2 / 256


def test_equal_differences_of_varying_arms():
    effect = stats.paired([0.0, 1.0, 2.0], [0.5, 1.5, 2.5])
    assert (effect.sd_diff, effect.low, effect.high) == (0, 0.5, 0.5)
    assert effect.correlation == pytest.approx(1)
    assert effect.unpaired_low < 0.5 < effect.unpaired_high


def test_one_arm_that_does_not_vary_has_no_correlation():
    effect = stats.paired([0.5, 0.5, 0.5], [0.4, 0.6, 0.8])
    assert math.isnan(effect.correlation)
    assert effect.unpaired_low < effect.diff < effect.unpaired_high


def test_one_seed_has_means_and_nothing_else():
    effect = stats.paired([0.5], [0.7])
    assert (effect.n, effect.mean_control, effect.mean_level, effect.p_floor) == (1, 0.5, 0.7, 1)
    unknown = (effect.sd_diff, effect.low, effect.high, effect.unpaired_low, effect.correlation, effect.p)
    assert np.isnan(unknown).all()
    assert stats.verdict(effect, effect.p, smallest=stats.smallest_p(effect.n, 1)) == "not testable"


def test_no_seed_left():
    effect = stats.paired([], [])
    assert effect.n == 0
    assert math.isnan(effect.diff)
    assert stats.verdict(effect, effect.p, smallest=stats.smallest_p(effect.n, 1)) == "not testable"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        stats.paired([0.1, bad], [0.2, 0.3])
    with pytest.raises(ValueError, match="finite"):
        stats.summary([bad])


def test_arms_of_different_seeds_are_refused():
    with pytest.raises(ValueError, match="got 2 and 3 scores"):
        stats.paired([0.1, 0.2], [0.1, 0.2, 0.3])


@settings(deadline=None)
@given(arms, st.randoms(use_true_random=False))
def test_the_order_of_seeds_does_not_matter(pair, random):
    order = list(range(len(pair[0])))
    random.shuffle(order)
    before = stats.paired(*pair)
    after = stats.paired([pair[0][i] for i in order], [pair[1][i] for i in order])
    assert after.p == before.p
    assert (after.low, after.high) == pytest.approx((before.low, before.high), abs=1e-9)


@settings(deadline=None)
@given(arms)
def test_swapping_the_arms_mirrors_the_effect(pair):
    forth, back = stats.paired(*pair), stats.paired(*reversed(pair))
    assert back.p == forth.p
    assert back.diff == pytest.approx(-forth.diff, abs=1e-12)
    assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low), abs=1e-9)
    assert (back.unpaired_low, back.unpaired_high) == pytest.approx(
        (-forth.unpaired_high, -forth.unpaired_low), abs=1e-9
    )
    assert back.correlation == pytest.approx(forth.correlation, nan_ok=True)


@settings(deadline=None)
@given(arms, st.sampled_from([0.01, 3.0, 100.0]), st.sampled_from([0.0, 5.0]))
def test_p_does_not_depend_on_the_unit_of_the_score(pair, unit, origin):
    moved = [origin + unit * np.array(arm) for arm in pair]
    assert stats.paired(*moved).p == stats.paired(*pair).p


@settings(deadline=None)
@given(arms)
def test_p_and_intervals_stay_in_bounds(pair):
    effect = stats.paired(*pair)
    assert effect.p_floor <= effect.p <= 1
    assert effect.low <= effect.diff <= effect.high
    assert effect.unpaired_low <= effect.unpaired_high
    assert math.isnan(effect.correlation) or abs(effect.correlation) <= 1 + 1e-12


# --- several comparisons ---


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04 times 4 3 2 1 is .04 .06 .06 .04; a later step is never below an earlier one.
    assert stats.holm([0.02, 0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.06, 0.04, 0.06])


def test_holm_stops_at_one():
    assert list(stats.holm([0.6, 0.9])) == [1.0, 1.0]


def test_holm_counts_what_was_planned_but_could_not_be_tested():
    assert stats.holm([0.01, math.nan, 0.02]) == pytest.approx([0.03, math.nan, 0.04], nan_ok=True)


def test_holm_of_nothing():
    assert stats.holm([]).size == 0


@pytest.mark.parametrize("bad", [[1.2], [-0.1], [[0.1]]])
def test_holm_refuses_what_is_no_p(bad):
    with pytest.raises(ValueError, match="between 0 and 1"):
        stats.holm(bad)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni(p):
    adjusted = stats.holm(p)
    assert np.all(adjusted >= p)
    assert np.all(adjusted <= np.minimum(np.array(p) * len(p), 1) + 1e-12)
    assert adjusted.min() == min(1.0, min(p) * len(p))
    assert np.all(np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.sampled_from([0.01, 0.05, 0.2]))
def test_holm_rejects_what_the_step_down_procedure_rejects(p, alpha):
    rejected, left = set(), sorted(range(len(p)), key=lambda i: p[i])
    while left and p[left[0]] * len(left) < alpha:
        rejected.add(left.pop(0))
    assert set(np.flatnonzero(stats.holm(p) < alpha)) == rejected


def test_floor_and_seeds_needed_by_hand():
    assert stats.smallest_p(8, 6) == 12 / 256
    assert stats.smallest_p(2, 6) == 1
    # 2k / 2^n < .05: 2/64, 4/128, 6/128, 12/256; a power of two below each is not enough.
    assert [stats.seeds_needed(k) for k in (1, 2, 3, 6)] == [6, 7, 7, 8]
    assert [stats.testable(6, k) for k in (1, 2)] == [True, False]
    assert not stats.testable(5, 1, alpha=2 / 32)  # strictly below
    assert stats.seeds_needed(1, alpha=0.01) == 8
    with pytest.raises(ValueError, match="at least one"):
        stats.seeds_needed(0)


def test_verdict_needs_both_the_test_and_the_interval():
    higher = stats.paired(CONTROL, LEVEL)
    lower = stats.paired(LEVEL, CONTROL)
    assert stats.verdict(higher, 0.03, smallest=stats.smallest_p(higher.n, 2)) == "higher"
    assert stats.verdict(lower, 0.03, smallest=stats.smallest_p(lower.n, 2)) == "lower"
    assert stats.verdict(higher, 0.05, smallest=stats.smallest_p(higher.n, 2)) == "not shown"
    assert stats.verdict(higher, math.nan, smallest=stats.smallest_p(higher.n, 2)) == "not shown"
    # Seven seeds agree, but one of them so far from the rest that the t interval includes 0.
    outlier = stats.paired(np.zeros(7), [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 3.0])
    assert outlier.p == 2 / 128
    assert outlier.low < 0
    assert stats.verdict(outlier, outlier.p, smallest=stats.smallest_p(outlier.n, 1)) == "not shown"


def test_verdict_says_when_seeds_are_too_few():
    effect = stats.paired(CONTROL[:3], [0.7, 0.71, 0.69])
    assert effect.low > 0  # however clear it looks
    assert stats.verdict(effect, effect.p, smallest=stats.smallest_p(effect.n, 1)) == "not testable"
    six = stats.paired(CONTROL[:6], np.add(CONTROL[:6], 0.1))
    assert stats.verdict(six, six.p, smallest=stats.smallest_p(six.n, 1)) == "higher"
    assert stats.verdict(six, 2 * six.p, smallest=stats.smallest_p(six.n, 2)) == "not testable"


def test_holms_later_steps_ask_for_fewer_seeds():
    """Six seeds beside a comparison that is shown with eight: the rest is one comparison, and 2 / 2^6 is enough."""
    assert stats.smallest_p_beside([0.004], 6) == 2 / 64
    assert stats.smallest_p_beside([0.5], 6) == 4 / 64
    assert stats.smallest_p_beside([math.nan], 6) == 4 / 64
    assert stats.smallest_p_beside([], 6) == 2 / 64


def test_differences_that_do_not_vary_promise_nothing():
    assert math.isnan(stats.minimum_detectable(0.0, 8, comparisons=2))
