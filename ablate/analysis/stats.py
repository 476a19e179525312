"""Says what seeds show and what they cannot: arrays in, numbers out.

Seeds are the random unit. An effect is the mean over seeds of (level - control), with a Student t interval and an exact
sign-flip test or a t test; a percentile bootstrap over so few values covers far less than it claims. Test images are
another source of chance, resampled separately. The planning functions describe the rule that `verdict` applies to sign
flips, not the t test it resembles: with few seeds sign flips are coarser and need larger effects.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import nctdtrinc, ndtr, stdtr, stdtrit

from ablate.analysis import sequential

Array = NDArray[np.float64]
Verdict = Literal[
    "higher",
    "lower",
    "higher, by less than the margin",
    "lower, by less than the margin",
    "no difference beyond the margin",
    "not shown",
    "undecided",
    "not testable",
]
Test = Literal["sign_flip", "t", "e_value"]
Pairing = Literal["seeds", "none"]

_EXACT_SEEDS = 40  # the sign-flip test sorts 2^(n/2) sums: a fifth of a second here
_SIMULATED_SEEDS = 12  # beyond it the noncentral t stands in for the simulated sign-flip rule
_SIMULATIONS = 10_000  # standard error of a simulated power of .8: .004
_MOST_SEEDS = 1_000  # `seeds_for` looks no further
_ROUNDING = 1e-12  # of the summed scores: sums closer than this are ties


@dataclass(frozen=True)
class Summary:
    """Mean and spread of one arm's scores over seeds."""

    mean: float  # nan without values
    sd: float  # with n - 1; nan below two values
    n: int


@dataclass(frozen=True)
class Effect:
    """A level against the control, in units of the score; what n cannot define is nan."""

    n: int  # paired seeds; where seeds are not paired, those of the arm that has the fewest
    mean_control: float
    mean_level: float
    diff: float  # level - control
    sd_diff: float  # standard deviation of the paired differences; without pairing, what independent arms give them
    low: float  # of this comparison alone: a t interval over pairs, Welch's without pairing, an e-value's own
    high: float
    paired_low: float  # the first of these, whether or not the comparison is paired
    paired_high: float
    unpaired_low: float  # the second
    unpaired_high: float
    correlation: float  # Pearson, over seeds: what pairing achieved; nan when an arm does not vary, or with two seeds
    p: float  # of the comparison's test, two-sided, before Holm
    p_floor: float  # the smallest p that n seeds can give
    error: float  # standard error of diff, as the interval has it
    freedom: float  # its degrees of freedom


def summary(values: ArrayLike) -> Summary:
    """Mean, standard deviation (n - 1) and count of finite scores (n,); ValueError on any other."""
    scores = _finite(values)
    return Summary(mean=_mean(scores), sd=_sd(scores), n=scores.size)


def paired(control: ArrayLike, level: ArrayLike, *, confidence: float = 0.95) -> Effect:
    """The effect of a level, from the scores (n,) of both arms in the same order of seeds, by sign flips.

    With fewer than two seeds the spreads, intervals and p are nan. ValueError where the counts differ or a score is not
    finite: the caller drops a failed seed from both arms.
    """
    return contrast([control, level], [-1.0, 1.0], confidence=confidence)


def contrast(
    arms: Sequence[ArrayLike],
    weights: Sequence[float],
    *,
    test: Test = "sign_flip",
    pairing: Pairing = "seeds",
    confidence: float = 0.95,
) -> Effect:
    """The weighted sum of arms' means, from their scores (n,) each; level and control are its two signs.

    Paired, the arms list the same seeds in one order. A t test of differences that are all equal gives what sign flips
    give: their spread tells nothing. ValueError as in `paired`, or for sign flips of seeds that are not paired.
    """
    scores = [_finite(values) for values in arms]
    counts = {values.size for values in scores}
    if pairing == "seeds" and len(counts) > 1:
        raise ValueError(f"paired arms need the same seeds, got {' and '.join(map(str, sorted(counts)))} scores")
    if pairing == "none" and test != "t":
        raise ValueError(f"{'sign flips' if test == 'sign_flip' else 'e-values'} are of paired seeds")
    n = min(counts)
    a, b = (_side([values[:n] for values in scores], weights, sign) for sign in (-1, 1))
    tie = _ROUNDING * float(np.abs(a).sum() + np.abs(b).sum())
    differences = b - a if len(counts) == 1 else np.empty(0)
    of_pairs = _sd(differences) / math.sqrt(max(differences.size, 1)), float(differences.size - 1)
    independent = _independent(scores, weights)
    error, freedom = of_pairs if pairing == "seeds" else independent
    below, above = (sum(abs(w) for w in weights if w * sign > 0) for sign in (-1, 1))
    mean_control, mean_level = (_weighted(scores, weights, sign) for sign in (-1, 1))
    diff = _mean(differences) if pairing == "seeds" else mean_level - mean_control
    (low, high), (paired_low, paired_high), (unpaired_low, unpaired_high) = (
        _interval(diff, *found, confidence=confidence) for found in ((error, freedom), of_pairs, independent)
    )
    if test == "e_value":
        low, high = sequential.anytime_interval(differences, 1 - confidence)
    return Effect(
        n=n,
        mean_control=mean_control / below,
        mean_level=mean_level / above,
        diff=diff,
        sd_diff=error * math.sqrt(n),
        low=low,
        high=high,
        paired_low=paired_low,
        paired_high=paired_high,
        unpaired_low=unpaired_low,
        unpaired_high=unpaired_high,
        correlation=_correlation(a, b) if len(counts) == 1 else math.nan,
        p=_p(test, differences, _t_p(diff, error, freedom, n, tie=tie), tie=tie),
        p_floor={"sign_flip": smallest_p(n, 1), "t": 0.0, "e_value": sequential.anytime_floor(n)}[test],
        error=error,
        freedom=freedom,
    )


def holm(p_values: ArrayLike) -> Array:
    """Holm's step-down adjustment (1979) of the p values (k,) of all planned comparisons.

    A nan (a comparison that could not be tested) stays nan but counts among the k: that an arm failed must not make the
    others easier to show, and the plan was made with k. ValueError outside 0..1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    untested = np.isnan(p)
    if p.ndim != 1 or not np.all(untested | ((p >= 0) & (p <= 1))):
        raise ValueError("p values are a vector with entries between 0 and 1, or nan")
    filled = np.where(untested, 1.0, p)
    order = np.argsort(filled, kind="stable")
    adjusted = np.empty_like(filled)
    adjusted[order] = np.minimum(np.maximum.accumulate(filled[order] * np.arange(p.size, 0, -1)), 1.0)
    adjusted[untested] = np.nan
    return adjusted


def verdict(effect: Effect, p_holm: float, *, smallest: float, alpha: float = 0.05) -> Verdict:
    """Whether the level scores higher or lower: p_holm < alpha and the paired interval excludes 0.

    'not testable': no outcome of these seeds could have been shown, for `smallest_p_beside` is not below alpha.
    Higher is a statement about the number; whether that is better is the metric's business.
    """
    if p_holm < alpha and effect.low > 0:
        return "higher"
    if p_holm < alpha and effect.high < 0:
        return "lower"
    return "not shown" if smallest < alpha else "not testable"


def smallest_p(n: int, comparisons: int) -> float:
    """The smallest Holm-adjusted p that n paired seeds can give: k * 2 / 2^n, at most 1."""
    if comparisons < 1:
        raise ValueError(f"at least one comparison is needed, got {comparisons}")
    return min(1.0, math.ldexp(comparisons, 1 - n))


def smallest_p_beside(others: ArrayLike, n: int) -> float:
    """The same beside the p values (k - 1,) that the other comparisons gave: Holm's later steps ask for fewer seeds."""
    return float(holm([smallest_p(n, 1), *np.asarray(others, dtype=np.float64)])[0])


def testable(n: int, comparisons: int, *, alpha: float = 0.05) -> bool:  # noqa: PT028 (not a test)
    """Whether so many paired seeds can show anything at all."""
    return smallest_p(n, comparisons) < alpha


def seeds_needed(comparisons: int, *, alpha: float = 0.05) -> int:
    """The fewest seeds with which a verdict is possible; how likely it is, `minimum_detectable` says."""
    return next(n for n in itertools.count(2) if testable(n, comparisons, alpha=alpha))


def minimum_detectable(sd_diff: float, n: int, *, comparisons: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true effect that n paired seeds show with the given power; nan when they can show none.

    `sd_diff` is the standard deviation of the paired differences, taken as normal; one from a few seeds is uncertain,
    and 0 tells nothing. p is multiplied by all `comparisons`; Holm's later steps do better. Up to 12 seeds the rule of
    `verdict` itself is simulated (power to about .01). Beyond, a t test at alpha / comparisons stands in; for 13 seeds
    that is 1 % too hopeful with 1 comparison, 4 % with 20."""
    if not testable(n, comparisons, alpha=alpha) or sd_diff < _ROUNDING:
        return math.nan
    return sd_diff * _detectable_in_sd(n, comparisons=comparisons, alpha=alpha, power=power)


def seeds_for(
    effect: float, sd_diff: float, *, comparisons: int, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """The fewest paired seeds that detect a true effect with the given power; None when 1000 are too few."""
    for n in range(seeds_needed(comparisons, alpha=alpha), _MOST_SEEDS + 1):
        if detects(effect, sd_diff, n, comparisons=comparisons, alpha=alpha, power=power):
            return n
    return None


def detects(
    effect: float, sd_diff: float, n: int, *, comparisons: int, alpha: float = 0.05, power: float = 0.8
) -> bool:
    """Whether `minimum_detectable` is below a true effect; simulated only where the t interval leaves that open."""
    if n <= _SIMULATED_SEEDS and sd_diff * float(np.quantile(_interval_effects(n, alpha), power)) >= abs(effect):
        return False
    return minimum_detectable(sd_diff, n, comparisons=comparisons, alpha=alpha, power=power) < abs(effect)


def draws_of_images(image_count: int, *, rng: np.random.Generator, resamples: int = 1000) -> NDArray[np.int64]:
    """How often each image counts (resamples, images) where as many as there are were drawn with replacement."""
    if image_count < 1:
        raise ValueError(f"resampling needs at least one image, got {image_count}")
    even = np.full(image_count, 1 / image_count)
    return np.stack([rng.multinomial(image_count, even) for _ in range(resamples)])


def percentile_interval(draws: Array, *, confidence: float = 0.95) -> tuple[float, float]:
    """Percentile interval of a score, or of a difference of two, on draws of test images (resamples,), training held
    fixed. Draws without a score (nan) are left out; (nan, nan) if none has one.
    """
    draws = draws[~np.isnan(draws)]
    if not draws.size:
        return math.nan, math.nan
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _finite(values: ArrayLike) -> Array:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise ValueError("scores are a vector of finite numbers, one per seed; drop failed seeds first")
    return scores


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else math.nan


def _sd(values: Array) -> float:
    if values.size < 2:
        return math.nan
    # The mean's rounding would give equal values a spread of 1e-17, and so a correlation.
    return float(values.std(ddof=1)) if np.ptp(values) > 0 else 0.0


def _side(scores: list[Array], weights: Sequence[float], sign: int) -> Array:
    """Seed by seed, the weighted sum of the arms with weights of one sign."""
    parts = [abs(w) * values for w, values in zip(weights, scores, strict=True) if w * sign > 0]
    return np.asarray(np.sum(parts, axis=0), dtype=np.float64)


def _weighted(scores: list[Array], weights: Sequence[float], sign: int) -> float:
    return math.fsum(abs(w) * _mean(values) for w, values in zip(weights, scores, strict=True) if w * sign > 0)


def _interval(diff: float, error: float, freedom: float, *, confidence: float) -> tuple[float, float]:
    if math.isnan(error) or math.isnan(diff):
        return math.nan, math.nan
    margin = float(stdtrit(freedom, (1 + confidence) / 2)) * error if error else 0.0
    return diff - margin, diff + margin


def _independent(scores: list[Array], weights: Sequence[float]) -> tuple[float, float]:
    """Standard error and degrees of freedom of a weighted sum of independent means (Welch 1947, Satterthwaite)."""
    if min(values.size for values in scores) < 2:
        return math.nan, math.nan
    parts = [(w * _sd(values)) ** 2 / values.size for w, values in zip(weights, scores, strict=True)]
    total = math.fsum(parts)
    if total == 0:
        return 0.0, float(sum(values.size - 1 for values in scores))
    freedom = total**2 / math.fsum(p**2 / (v.size - 1) for p, v in zip(parts, scores, strict=True))
    return math.sqrt(total), freedom


def _t_p(diff: float, error: float, freedom: float, n: int, *, tie: float) -> float:
    if math.isnan(error):
        return math.nan
    if error * n <= tie:
        return 1.0 if abs(diff) * n <= tie else smallest_p(n, 1)
    return float(2 * stdtr(freedom, -abs(diff) / error))


def _p(test: Test, differences: Array, by_t: float, *, tie: float) -> float:
    if test == "t":
        return by_t
    return _sign_flip(differences, tie=tie) if test == "sign_flip" else sequential.anytime_p(differences)


def _correlation(a: Array, b: Array) -> float:
    if a.size < 3 or _sd(a) == 0 or _sd(b) == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def _sign_flip(differences: Array, *, tie: float) -> float:
    """Two-sided p: the share of all 2^n sign assignments with a sum as far from 0 as the observed one.

    Exact up to 40 seeds, without listing 2^n sums: a sum over all seeds is one over the first half plus one
    over the second, and bisection of the sorted second half tells how many partners reach the observed sum.
    Beyond 40 seeds the sums are as good as normal, with variance sum(d^2).
    """
    n, observed = differences.size, abs(float(differences.sum()))
    if n < 2:
        return math.nan
    if observed <= tie:
        return 1.0
    if n > _EXACT_SEEDS:
        return float(2 * ndtr(-observed / np.linalg.norm(differences)))
    first, second = _signed_sums(differences[: n // 2]), np.sort(_signed_sums(differences[n // 2 :]))
    reached = second.size * first.size - int(np.searchsorted(second, observed - tie - first).sum())
    return math.ldexp(reached, 1 - n)  # both tails: flipping every sign mirrors a sum


def _signed_sums(values: Array) -> Array:
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    return sums  # (2^n,)


def _detectable_in_sd(n: int, *, comparisons: int, alpha: float, power: float) -> float:
    """The detectable effect in units of the standard deviation of the differences."""
    if n > _SIMULATED_SEEDS:
        critical = stdtrit(n - 1, 1 - alpha / comparisons / 2)
        return float(nctdtrinc(n - 1, 1 - power, critical)) / math.sqrt(n)
    return float(np.quantile(_critical_effects(n, comparisons=comparisons, alpha=alpha), power))


def _smallest_but(values: Array, others: int) -> Array:
    """Of each row the smallest value but so many; the rows are reordered, for a copy takes as long."""
    values.partition(others, axis=1)
    return values[:, others]


@cache
def _critical_effects(n: int, *, comparisons: int, alpha: float) -> Array:
    """For each simulated study the shift above which `verdict` says 'higher'; quantiles give the power curve.

    With noise z and shift d, flipping the signs of a subset of seeds reaches the observed sum exactly when
    d <= -mean(z over the subset) (the typical values of Hartigan, 1969). So p falls with d, and is low enough
    above minus the (allowed + 1)-th smallest subset mean. The t interval excludes 0 above margin - mean(z).
    """
    noise = _noise(n)
    subsets = (np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1  # (2^n - 1, n)
    weights = (subsets / subsets.sum(axis=1, keepdims=True)).T
    allowed = math.ceil(alpha * 2**n / (2 * comparisons)) - 2  # other sign assignments that may reach the sum
    lowest = [_smallest_but(part @ weights, allowed) for part in np.split(noise, 20)]
    shifts: Array = np.maximum(-np.concatenate(lowest), _interval_effects(n, alpha))
    return shifts  # (simulations,)


def _noise(n: int) -> Array:
    """The scores of all simulated studies (simulations, n): a plan is a number, not a draw."""
    return np.random.default_rng(0).standard_normal((_SIMULATIONS, n))


@cache
def _interval_effects(n: int, alpha: float) -> Array:
    """For each simulated study (simulations,) the shift above which its t interval excludes 0."""
    noise = _noise(n)
    margin: Array = stdtrit(n - 1, 1 - alpha / 2) * noise.std(axis=1, ddof=1) / math.sqrt(n)
    return np.asarray(margin - noise.mean(axis=1))
