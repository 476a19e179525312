"""Scores of simulated studies: arms of mean 0 and an sd of 1, unless a distribution says otherwise."""

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Draw = Callable[[np.random.Generator, tuple[int, int, int]], Array]

MEASURED = 0.06  # mean correlation over seeds of the published studies' arms with their control


def _normal(rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    return rng.standard_normal(shape)


def _skewed(rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    return (rng.exponential(size=shape) - 1) * -1  # a long tail of bad seeds


def _heavy(rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    return rng.standard_t(3, shape) / np.sqrt(3)


def _unequal(rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    scores = rng.standard_normal(shape)
    scores[:, 1:] *= 3  # all arms but the control
    return scores


def _collapsing(rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    collapsed = rng.random(shape) < 0.1
    scores = rng.standard_normal(shape) - 6 * collapsed
    return (scores + 0.6) / np.sqrt(1 + 36 * 0.09)


def _skewed_and_unequal(rng: np.random.Generator, shape: tuple[int, int, int]) -> Array:
    scores = _skewed(rng, shape)
    scores[:, 1:] *= 3
    return scores


DISTRIBUTIONS: dict[str, Draw] = {
    "normal": _normal,
    "skewed": _skewed,
    "heavy-tailed": _heavy,
    "unequal spread": _unequal,
    "collapsing seeds": _collapsing,
}
BREAKING: dict[str, Draw] = {"skewed and unequal": _skewed_and_unequal}


def studies(draw: Draw, rng: np.random.Generator, count: int, arms: int, seeds: int, *, rho: float = MEASURED) -> Array:
    """Scores (count, arms, seeds), the control first; arms correlate by `rho` over seeds, each pair with the control.

    The shared part is normal; a negative rho is that of the control with all others.
    """
    own = draw(rng, (count, arms, seeds))
    shared = rng.standard_normal((count, 1, seeds))
    sign = np.ones((1, arms, 1))
    sign[:, 0] = np.sign(rho) or 1
    return np.sqrt(1 - abs(rho)) * own + np.sqrt(abs(rho)) * sign * shared * own.std(axis=(0, 2), keepdims=True)
