"""The simulation of verdicts: its tests are the project's, and what it wrote is whole."""

from pathlib import Path

import numpy as np
import pytest
from calibration import tables
from calibration.scores import BREAKING, DISTRIBUTIONS, studies
from calibration.tests_of_many import checked

REPORT = Path(__file__).parents[1] / "reports/calibration.md"


def test_tests_of_many_are_the_projects():
    checked(np.random.default_rng(1))


@pytest.mark.parametrize("name", {**DISTRIBUTIONS, **BREAKING})
def test_arms_have_the_mean_and_the_correlation_that_are_said(name):
    draw = {**DISTRIBUTIONS, **BREAKING}[name]
    scores = studies(draw, np.random.default_rng(0), 40_000, 3, 4, rho=0.19)
    means, spreads = scores.mean(axis=(0, 2)), scores.std(axis=(0, 2))
    assert means == pytest.approx([0, 0, 0], abs=0.03)
    assert spreads == pytest.approx([1, 3, 3] if "unequal" in name else [1, 1, 1], abs=0.1)
    assert np.corrcoef(scores[:, 0].ravel(), scores[:, 1].ravel())[0, 1] == pytest.approx(0.19, abs=0.02)


def test_the_report_has_every_table_for_all_counts():
    text = REPORT.read_text(encoding="utf-8")
    for name in {**DISTRIBUTIONS, **BREAKING}:
        _, _, table = text.partition(f"## False alarms, {name}\n")
        table = table.partition("## ")[0]
        rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
        assert {int(row[0]) for row in rows} == set(tables.SEEDS)
        assert all(len(row) == 2 + len(tables.COMPARISONS) for row in rows)
    for title in (
        "Coverage of 95 %",
        "Power, promised",
        "Which test",
        "Cost of looks",
        "Margin of",
        "Seeds that are added",
        "E-values, looked at",
        "E-values: power",
    ):
        assert f"## {title}" in text


def test_false_alarms_of_the_report_are_as_many_as_allowed():
    """But for the scores that the report names as breaking every test."""
    text = REPORT.read_text(encoding="utf-8")
    for name in DISTRIBUTIONS:
        table = text.partition(f"## False alarms, {name}\n")[2].partition("## ")[0]
        cells = [cell.strip("| ") for line in table.splitlines() for cell in line.split(" | ")]
        rates = [float(cell) for cell in cells if cell.startswith(".")]
        assert max(rates) <= 0.055 + 3 * 0.004
