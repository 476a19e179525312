"""A study of several data sets from plan to report."""

import json

import pytest
from small_studies import write_study

pytestmark = pytest.mark.usefixtures("small_shelf")

SETS = {"few": {}, "other": {"dataset.val": 12, "train.epochs": 2}}


@pytest.mark.slow
def test_from_plan_to_report(called, tmp_path):
    file = write_study(tmp_path, datasets=SETS, seeds=6, test="t")
    status, out, err = called("plan", file)
    assert status == 0, err
    assert "24 of 24 trials to run" in out
    assert "6 seeds and 3 comparisons are testable by paired t tests." in out
    assert "On one data set they detect with 80 % power a difference of" in out
    assert "Over all 2 of them they detect" in out
    status, _, err = called("run", file, "--local", "--only", "depth=2 on other")
    assert status == 0, err
    assert "12 trials ran" in err  # the control on that set, too
    status, _, err = called("run", file, "--local")
    assert status == 0, err
    assert "12 trials ran" in err
    status, out, _ = called("status", file, "--json")
    assert {(row["arm"], row["status"]) for row in json.loads(out)} == {
        (f"depth={depth} on {name}", "done") for depth in (1, 2) for name in SETS
    }
    report = (tmp_path / "results/reports/small/report.md").read_text()
    assert "closeness on each data set and over all" in report
    assert "On other: scores and cost by depth" in report
    status, out, err = called("plan", file, "--recipe", "depth=2 on other")
    assert status == 0, err
    assert "epochs: 2" in out
