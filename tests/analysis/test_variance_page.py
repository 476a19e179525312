"""reports/variance.py: its analysis of variance beside known answers."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

REPORTS = Path(__file__).parents[2] / "reports"


@pytest.fixture(scope="module")
def page():
    spec = importlib.util.spec_from_file_location("variance_page", REPORTS / "variance.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_components_are_those_of_a_worked_example(page):
    # 2 rows, 2 columns, 2 replicates, sums of squares by hand: rows 8, columns 2, interaction 0.5, within 1
    scores = np.array([[[1.0, 2.0], [3.0, 3.0]], [[3.5, 3.5], [4.0, 5.0]]])
    mean, cells = scores.mean(), scores.mean(axis=2)
    by_row = 4 * ((cells.mean(axis=1) - mean) ** 2).sum()
    by_column = 4 * ((cells.mean(axis=0) - mean) ** 2).sum()
    within = ((scores - cells[..., None]) ** 2).sum() / 4
    between = 2 * ((cells - cells.mean(axis=1)[:, None] - cells.mean(axis=0) + mean) ** 2).sum()
    assert (by_row, by_column, within, between) == pytest.approx((6.125, 3.125, 0.25, 0.125))
    found = page.components(scores)
    expected = [(6.125 - 0.125) / 4, (3.125 - 0.125) / 4, 0.0, 0.25]
    assert [found[name] ** 2 for name in list(found)[:4]] == pytest.approx(expected)
    assert found["one trial"] ** 2 == pytest.approx(sum(expected))


def test_components_are_recovered_where_they_are_known(page):
    rng, sds = np.random.default_rng(0), (2.0, 1.0, 0.5, 0.3)
    row, column = rng.normal(0, sds[0], (300, 1, 1)), rng.normal(0, sds[1], (1, 300, 1))
    scores = row + column + rng.normal(0, sds[2], (300, 300, 1)) + rng.normal(0, sds[3], (300, 300, 2))
    found = list(page.components(scores).values())
    assert found[:4] == pytest.approx(sds, rel=0.1)


def test_rows_may_stand_in_any_order(page):
    """Weights make the first digit of a score, the order of the data the second, rounding the third."""
    columns = ["initial_weights", "threads", "data_order", "AP", "sd_over_images"]
    rows = [(i, 1 + k, j, i + 0.1 * j + 0.01 * k, 0.0) for i in range(4) for k in range(2) for j in range(3)]
    table = pd.DataFrame(rows, columns=columns)
    expected = page.line("made", table)
    scores = np.array([[[i + 0.1 * j + 0.01 * k for k in range(2)] for j in range(3)] for i in range(4)])
    cells = " | ".join(f"{100 * sd:.2f}" for sd in [*page.components(scores).values(), 0.0])
    assert expected == f"| made | AP | {100 * scores.mean():.1f} | {cells} |\n"
    assert page.line("made", table.sample(frac=1, random_state=3)) == expected


def test_ways_of_scoring_are_compared_by_their_pooled_deviations(page):
    """Twice the deviation gives the ratio 2, in each redrawn set, whatever the means of the arms."""
    first = np.random.default_rng(0).normal(0.2, 0.01, (3, 8))
    twice = 2 * (first - first.mean(axis=1, keepdims=True))
    lines = page.lever_lines({"as published": first, "twice": twice}).splitlines()
    assert page.pooled(first) ** 2 == pytest.approx(np.mean([np.var(arm, ddof=1) for arm in first]))
    assert lines[1].startswith("| twice | -0.0 | ") or lines[1].startswith("| twice | 0.0 | ")
    assert lines[1].endswith("| 2.00 [2.00, 2.00] |")


def test_the_page_is_made_of_its_rows(page):
    assert (REPORTS / "variance.md").read_text(encoding="utf-8") == page.written()


def spelt(number):
    """As the pages write it: two places, no zero before the point, no sign of what is above 0."""
    return f"{number:.2f}".replace("0.", ".", 1)


def test_what_is_said_of_rounding_is_in_the_rows():
    apart, correlations = [], []
    for task, score in (("pose", "AP"), ("segmentation", "mIoU")):
        rows = pd.read_csv(REPORTS / "variance" / f"{task}.csv")
        one, two = rows.pivot(index=["initial_weights", "data_order"], columns="threads", values=score).to_numpy().T
        assert len(one) == 16
        apart.append(f"{100 * np.abs(one - two).mean():.1f}")
        correlations.append(spelt(np.corrcoef(one, two)[0, 1]))
    said = " ".join((REPORTS.parent / "docs" / "verdicts.md").read_text(encoding="utf-8").split())
    assert f"end {apart[0]} points apart on average in pose and {apart[1]} in segmentation" in said
    assert f"correlate by {' and '.join(correlations)} over the sixteen pairs" in said


@pytest.mark.parametrize("place", ["docs/verdicts.md", "reports/calibration.md", "tests/calibration/head.md"])
def test_what_is_said_of_correlations_is_in_the_published_reports(place):
    """Those of the primary metric, which alone has a p, with eight seeds."""
    row = re.compile(r"\|[^|]*\|[^|]*\| 8 \|[^|]*\|[^|]*\|[^|]*\| ([+−][0-9.]+) \|[^|]*\| [0-9.]+ \|")
    reports = [path.read_text(encoding="utf-8") for path in sorted(REPORTS.glob("*/report.md"))]
    found = [float(number.replace("−", "-")) for report in reports for number in row.findall(report)]
    assert len(found) == 8  # two of fusion_count, three of each study of baselines
    low, high, mean = min(found), max(found), spelt(sum(found) / len(found))
    said = " ".join((REPORTS.parent / place).read_text(encoding="utf-8").split())
    assert f"correlate with their controls by {spelt(low)} to +{spelt(high)}, {mean} on average" in said
