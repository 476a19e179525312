"""Alpha spending against published boundaries, simulation and its own inverse."""

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from ablate.analysis import sequential

LOOKS = (8, 16, 24, 32)


def test_obrien_fleming_with_four_equal_looks_has_its_published_boundaries():
    # Lan and DeMets' approximation at .05, two-sided, as tables of it print it.
    found = -ndtri(sequential.levels(0.05, LOOKS, spending=sequential.obrien_fleming) / 2)
    assert found == pytest.approx([4.333, 2.963, 2.359, 2.014], abs=6e-4)


@pytest.mark.parametrize("spending", [sequential.power_family, sequential.obrien_fleming])
@pytest.mark.parametrize("looks", [(6, 12), LOOKS, tuple(range(8, 33, 2))])
def test_all_looks_together_spend_alpha(spending, looks):
    scores = np.random.default_rng(0).standard_normal((100_000, looks[-1])).cumsum(axis=1)
    z = scores[:, np.array(looks) - 1] / np.sqrt(looks)
    levels = sequential.levels(0.05, looks, spending=spending)
    crossed = 2 * ndtr(-np.abs(z)) <= levels
    assert crossed.any(axis=1).mean() == pytest.approx(0.05, abs=0.0025)
    assert crossed[:, 0].mean() == pytest.approx(spending(0.05, looks[0] / looks[-1]), abs=0.002)


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.05 / 6, 1e-4])
def test_the_p_of_a_look_is_the_level_whose_boundary_was_met(alpha):
    found = sequential.look_p(sequential.levels(alpha, LOOKS), LOOKS)
    assert found == pytest.approx([alpha] * len(LOOKS), rel=1e-3)


def test_the_p_of_a_look_knows_nothing_of_the_looks_before_and_is_one_without_evidence():
    found = sequential.look_p([0.001, 0.9, np.nan, 1.0], LOOKS)
    assert found[0] < 0.05
    assert found[1] > 0.9
    assert list(found[2:]) == [1.0, 1.0]


def test_crossing_is_what_a_simulation_finds():
    drift = 3.0
    noise = np.random.default_rng(1).standard_normal((100_000, 32))
    z = (noise + drift / np.sqrt(32)).cumsum(axis=1)[:, np.array(LOOKS) - 1] / np.sqrt(LOOKS)
    crossed = 2 * ndtr(-np.abs(z)) <= sequential.levels(0.05, LOOKS)
    first = np.where(crossed.any(axis=1), crossed.argmax(axis=1), -1)
    expected = [np.mean(first == at) for at in range(4)]
    assert sequential.crossing(0.05, LOOKS, drift) == pytest.approx(expected, abs=0.005)


def test_a_trend_that_leads_nowhere_is_futile():
    assert sequential.conditional_power(0.9, 16, LOOKS, alpha=0.05) < sequential.HOPELESS
    assert sequential.conditional_power(0.01, 16, LOOKS, alpha=0.05) > 0.9
    assert sequential.conditional_power(0.2, 32, LOOKS, alpha=0.05) == 0
