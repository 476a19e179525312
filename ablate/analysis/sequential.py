"""Looks at a study while it runs, at no more than the error rate of one look: alpha spending.

At the look with n of n_max seeds a two-sided test may have spent alpha * (n / n_max)^2 (the power family of Kim and
DeMets, 1987, in the frame of Lan and DeMets, 1983). The nominal levels that follow are found by the recursion of
Armitage, McPherson and Rowe (1969) for normal scores, and used on the scale of p values of t tests. A sequential p (Liu
and Anderson, 2008) is the smallest alpha whose boundary was crossed at any look so far; it goes into Holm's procedure
as other p values do (Maurer and Bretz, 2013, with equal weights).
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, roots_legendre

Array = NDArray[np.float64]
Spending = Callable[[float, float], float]  # overall level, share of the seeds -> level spent so far

POWER = 2.0  # of the share of seeds
NODES = 96  # of the quadrature between two looks; the levels of eight looks change by less than 1e-6 beyond
LEAST, MOST = 1e-10, 0.999  # overall levels of the table that sequential p values are read from
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


def sequential_p(p_values: ArrayLike, looks: tuple[int, ...]) -> Array:
    """The smallest overall levels that were crossed so far, (..., looks), from the nominal p values of each look.

    `p_values` has as many looks as were made, at most all; nan where a look could not test.
    """
    p = np.asarray(p_values, dtype=np.float64)
    alphas, table = _table(looks)
    crossed = np.ones_like(p)
    for at in range(p.shape[-1]):
        here = np.log(np.clip(p[..., at], 1e-300, 1.0))
        own = np.exp(np.interp(here, table[:, at], alphas, right=0.0))
        crossed[..., at] = np.where(np.isnan(p[..., at]) | (p[..., at] >= 1), 1.0, own)
    return np.minimum.accumulate(crossed, axis=-1)


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
