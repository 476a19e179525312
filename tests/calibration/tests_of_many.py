"""The project's tests on thousands of studies at once; `checked` holds them against the project's own, one by one."""

import numpy as np
from scipy.special import stdtr, stdtrit

from ablate.analysis import stats

Array = np.ndarray
EXACT = 16  # seeds up to which all signs are tried
DRAWN = 4096  # sign assignments beyond
ROWS = 512  # differences at once


def t_tests(scores: Array, pairing: str) -> tuple[Array, Array, Array, Array]:
    """Differences from the control, their errors, degrees of freedom and two-sided p, (studies, levels) each, from
    scores (studies, arms, seeds)."""
    control, levels, n = scores[:, :1], scores[:, 1:], scores.shape[2]
    diff = (levels - control).mean(axis=2)
    if pairing == "seeds":
        error = (levels - control).std(axis=2, ddof=1) / np.sqrt(n)
        freedom = np.full_like(diff, n - 1.0)
    else:
        parts = levels.var(axis=2, ddof=1) / n, np.broadcast_to(control.var(axis=2, ddof=1) / n, diff.shape)
        error = np.sqrt(parts[0] + parts[1])
        freedom = (parts[0] + parts[1]) ** 2 / ((parts[0] ** 2 + parts[1] ** 2) / (n - 1))
    return diff, error, freedom, 2 * stdtr(freedom, -np.abs(diff) / error)


def sign_flips(scores: Array, rng: np.random.Generator) -> Array:
    """Two-sided p (studies, levels): exact up to 16 seeds, of so many random signs beyond."""
    differences = (scores[:, 1:] - scores[:, :1]).astype(np.float32)
    n = scores.shape[2]
    if n <= EXACT:
        signs = 1 - 2 * ((np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1)
    else:
        signs = rng.choice([-1, 1], (DRAWN, n))
        signs[0] = 1
    flat, table = differences.reshape(-1, n), signs.astype(np.float32).T
    found = []
    for start in range(0, len(flat), ROWS):
        part = flat[start : start + ROWS]
        reached = np.abs(part @ table) >= np.abs(part.sum(axis=1, keepdims=True)) - 1e-5
        found.append(reached.mean(axis=1))
    return np.concatenate(found).reshape(differences.shape[:2])


def holm(p: Array) -> Array:
    """Holm's adjustment of p values (studies, k)."""
    order = np.argsort(p, axis=1)
    steps = np.maximum.accumulate(np.take_along_axis(p, order, 1) * np.arange(p.shape[1], 0, -1), axis=1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(steps, 1.0), 1)
    return adjusted


def covers(diff: Array, error: Array, freedom: Array, truth: float = 0.0, *, level: float = 0.05) -> Array:
    """Whether intervals hold the true difference."""
    return np.abs(diff - truth) <= stdtrit(freedom, 1 - level / 2) * error


def checked(rng: np.random.Generator) -> None:
    """Raises AssertionError where a test of many is not what the project computes for one study."""
    scores = rng.standard_normal((40, 4, 8))
    for pairing in ("seeds", "none"):
        _, errors, freedoms, p = t_tests(scores, pairing)
        for study, arms in enumerate(scores):
            for level in range(3):
                own = stats.contrast([arms[0], arms[level + 1]], [-1, 1], test="t", pairing=pairing)
                found = p[study, level], errors[study, level], freedoms[study, level]
                assert np.allclose(found, (own.p, own.error, own.freedom)), (pairing, found, own)
    flips = sign_flips(scores, rng)
    for study, arms in enumerate(scores):
        own = [stats.paired(arms[0], arms[level + 1]).p for level in range(3)]
        assert np.allclose(flips[study], own), (flips[study], own)
        assert np.allclose(holm(flips)[study], stats.holm(own))
