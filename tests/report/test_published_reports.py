"""The reports that are published: every trial that they name can be found among the rows beside them."""

import re
from pathlib import Path

import pytest

from ablate.storage import Store

REPORTS = sorted((Path(__file__).parents[2] / "reports").glob("*/report.md"))


@pytest.mark.parametrize("report", REPORTS, ids=lambda path: path.parent.name)
def test_every_id_that_a_report_prints_leads_to_a_result(report):
    """Keys change when parts get new knobs; what was published must still be found by what it was published as."""
    store = Store(report.parent / "results")
    named = set(re.findall(r"`([0-9a-f]{16})`", report.read_text(encoding="utf-8")))
    assert named, "the report names no trial"
    for trial in named:
        assert store.find(trial).status == "done"
