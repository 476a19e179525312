"""Looks at a study while it runs, at no more than the error rate of one look: alpha spending.

At the look with n of n_max seeds a two-sided test may have spent alpha * (n / n_max)^2 (the power family of Kim and
DeMets, 1987, in the frame of Lan and DeMets, 1983). The nominal levels that follow are found by the recursion of
Armitage, McPherson and Rowe (1969) for normal scores, and used on the scale of p values of t tests. The p of a look is
the smallest alpha whose boundary it crosses. It goes into Holm's procedure as other p values do. That is safe, for the
sequential p of Liu and Anderson (2008), with which Maurer and Bretz (2013) do so, is the smallest of all looks so far;
but their p may be of another look than the estimate and the interval beside it, and of the other sign.

An e-value needs no plan of looks. With the right Haar prior on the spread and a normal one of variance 1 on the effect
in units of the spread, the likelihood ratio of Jeffreys' t test is a martingale where nothing differs (Perez-Ortiz et
al. 2022; Wang and Ramdas 2023), so that it exceeds 1 / alpha at any time in at most alpha of studies (Ville 1939),
however often it is looked at and whenever seeds are added.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, roots_legendre

Array = NDArray[np.float64]
Spending = Callable[[float, float], float]  # overall level, share of the seeds -> level spent so far

POWER = 2.0  # of the share of seeds
NODES = 96  # of the quadrature between two looks; the levels of eight looks change by less than 1e-6 beyond
LEAST, MOST = 1e-10, 0.999  # overall levels of the table that p values of looks are read from
STEPS = 160  # of that table: between them levels are interpolated, with an error below 1e-4 of the level
HOPE = 1.0  # standard errors that the true effect may be larger than what a look has found
HOPELESS = 0.05  # chance to be shown at the last look, should it be so large, below which going on is futile


def power_family(alpha: float, share: float) -> float:
    """alpha t^2: little is spent early, more than by O'Brien and Fleming."""
    return alpha * float(share**POWER)


def obrien_fleming(alpha: float, share: float) -> float:
    """The spending function of Lan and DeMets (1983) whose levels are nearly those of O'Brien and Fleming (1979)."""
    return float(4 * ndtr(ndtri(alpha / 4) / math.sqrt(share)))  # each side spends 2 * (1 - Phi)


def levels(alpha: float, looks: tuple[int, ...], *, spending: Spending = power_family) -> Array:
    """The two-sided nominal levels (looks,) at which a study is decided, so that all looks together spend alpha.

    `looks` are rising numbers of seeds, the last one the most.
    """
    return np.array(_levels(alpha, looks, spending))


@cache
def _levels(alpha: float, looks: tuple[int, ...], spending: Spending) -> tuple[float, ...]:
    found, before, paths = [], 0.0, _Paths(0.0)
    for look in looks:
        share = look / looks[-1]
        spent = spending(alpha, share)
        found.append(paths.step(share, spend=spent - before))
        before = spent
    return tuple(found)


def crossing(alpha: float, looks: tuple[int, ...], drift: float) -> Array:
    """The probability (looks,) that a study is first decided at each look, where the true effect is `drift` standard
    errors of the last look."""
    paths = _Paths(drift)
    bounds = levels(alpha, looks)
    return np.array(
        [paths.step(look / looks[-1], level=float(level)) for look, level in zip(looks, bounds, strict=True)]
    )


def look_p(p_values: ArrayLike, looks: tuple[int, ...]) -> Array:
    """The smallest overall levels that each look crosses, (..., looks), from the nominal p values of the looks.

    `p_values` has as many looks as were made, at most all; nan where a look could not test.
    """
    p = np.asarray(p_values, dtype=np.float64)
    alphas, table = _table(looks)
    crossed = np.ones_like(p)
    for at in range(p.shape[-1]):
        here = np.log(np.clip(p[..., at], 1e-300, 1.0))
        own = np.exp(np.interp(here, table[:, at], alphas, right=0.0))
        crossed[..., at] = np.where(np.isnan(p[..., at]) | (p[..., at] >= 1), 1.0, own)
    return crossed


def e_values(differences: ArrayLike) -> Array:
    """The e-values (..., n) of no difference after each of n paired seeds, in their order, from (..., n).

    E = (1 + n)^(-1/2) [(1 + t^2 / v) / (1 + t^2 / (v (1 + n)))]^((v + 1) / 2) with v = n - 1; 1 after the first seed,
    and nan where differences have no spread.
    """
    d = np.asarray(differences, dtype=np.float64)
    n = np.arange(1, d.shape[-1] + 1)
    total = np.cumsum(d, axis=-1)
    between = total**2 / n  # t^2 / v is this over what is left
    within = np.maximum(np.cumsum(d**2, axis=-1) - between, 0)
    within = np.where(within > 1e-12 * (between + within), within, np.nan)  # the rounding of equal differences
    logs = (n * (np.log1p(between / within) - np.log1p(between / within / (1 + n))) - np.log1p(n)) / 2
    return np.exp(np.where(n == 1, 0.0, np.minimum(logs, 700)))


def anytime_p(differences: ArrayLike) -> float:
    """One over the largest e-value so far, at most 1; nan of fewer than two seeds."""
    found = e_values(differences)
    return min(1.0, 1 / float(np.nanmax(found))) if found.size > 1 else math.nan


def anytime_floor(n: int) -> float:
    """The smallest p that n seeds can give so: that of a t without bound."""
    return float((1 + n) ** (-(n - 1) / 2)) if n > 1 else 1.0


def anytime_bound(n: int, alpha: float) -> float:
    """The |t| at which the e-value of n seeds is 1 / alpha; infinite where none is.

    Intervals of so many standard errors hold the true difference at all numbers of seeds together in 1 - alpha of them.
    """
    ratio = float((math.sqrt(1 + n) / alpha) ** (2 / n))
    return math.sqrt((n - 1) * (ratio - 1) / (1 - ratio / (1 + n))) if n > 1 and ratio < 1 + n else math.inf


def anytime_interval(differences: ArrayLike, alpha: float) -> tuple[float, float]:
    """The true differences that no number of seeds so far has ruled out, from the paired ones (n,) in their order.

    It never widens as seeds come, and excludes 0 where `anytime_p` is below alpha. Where later seeds leave only what
    earlier ones ruled out, it stays as it was before them. nan where none is known.
    """
    d = np.asarray(differences, dtype=np.float64)
    low, high = -math.inf, math.inf
    for n in range(2, d.size + 1):
        spread, bound = float(d[:n].std(ddof=1)), anytime_bound(n, alpha)
        if math.isfinite(bound) and spread > 1e-6 * abs(float(d[:n].mean())):  # the rounding of equal differences
            middle, reach = float(d[:n].mean()), bound * spread / math.sqrt(n)
            if middle - reach <= high and middle + reach >= low:
                low, high = max(low, middle - reach), min(high, middle + reach)
    return (low, high) if math.isfinite(low) else (math.nan, math.nan)


def conditional_power(p: float, look: int, looks: tuple[int, ...], *, alpha: float) -> float:
    """The chance that the last look will be crossed, should the true effect be larger by HOPE standard errors than what
    this look, of nominal `p`, has found."""
    share = look / looks[-1]
    if share >= 1:
        return 0.0
    z, bound = -float(ndtri(p / 2)), -float(ndtri(levels(alpha, looks)[-1] / 2))
    reached, rest = z * math.sqrt(share), 1 - share
    trend = (z + HOPE) / math.sqrt(share)
    return float(ndtr((reached + trend * rest - bound) / math.sqrt(rest)))


@cache
def _table(looks: tuple[int, ...]) -> tuple[Array, Array]:
    """Logarithms of overall levels (steps,) and of the nominal levels (steps, looks) that they give."""
    alphas = np.exp(np.linspace(math.log(LEAST), math.log(MOST), STEPS))
    nominal = np.array([levels(float(alpha), looks) for alpha in alphas])
    return np.log(alphas), np.log(np.maximum(np.maximum.accumulate(nominal, axis=0), 1e-300))


class _Paths:
    """Scores of studies that go on, as a density over their sums: Brownian motion with a drift, 1 at the last look."""

    def __init__(self, drift: float) -> None:
        self.drift, self.share = drift, 0.0
        self.at, self.mass = np.zeros(1), np.ones(1)  # nodes and their probability

    def step(self, share: float, *, spend: float | None = None, level: float = 0.0) -> float:
        """Go on to a share of the seeds. With `spend`: the nominal level that stops so many; else how many `level`
        stops."""
        from scipy.optimize import brentq  # a fifth of a second, and most studies need no root

        moved, spread = self.at + self.drift * (share - self.share), math.sqrt(share - self.share)

        def stopped(z: float) -> float:
            bound = z * math.sqrt(share)
            return float(self.mass @ (ndtr((moved - bound) / spread) + ndtr((-moved - bound) / spread)))

        if spend is None:
            z = -float(ndtri(level / 2)) if level > 0 else 40.0
            result = stopped(z)
        else:
            z = float(brentq(lambda bound: stopped(bound) - spend, 0, 40, xtol=1e-10)) if stopped(0) > spend else 0.0
            result = float(2 * ndtr(-z))
        nodes, weights = roots_legendre(NODES)
        bound = z * math.sqrt(share)
        after = nodes * bound
        density = (
            np.exp(-(((after[:, None] - moved) / spread) ** 2) / 2) @ self.mass / (spread * math.sqrt(2 * math.pi))
        )
        self.at, self.mass, self.share = after, weights * bound * density, share
        return result
