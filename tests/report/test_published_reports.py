"""The reports that are published: every trial that they name can be found among the rows beside them."""

import re
import runpy
from pathlib import Path

import pytest

from ablate.storage import Store

INDEX = Path(__file__).parents[2] / "reports" / "index.py"
REPORTS = sorted(INDEX.parent.glob("*/report.md"))


@pytest.mark.parametrize("report", REPORTS, ids=lambda path: path.parent.name)
def test_every_id_that_a_report_prints_leads_to_a_result(report):
    """Keys change when parts get new knobs; what was published must still be found by what it was published as."""
    store = Store(report.parent / "results")
    named = set(re.findall(r"`([0-9a-f]{16})`", report.read_text(encoding="utf-8")))
    assert named, "the report names no trial"
    for trial in named:
        assert store.find(trial).status == "done"


@pytest.mark.parametrize("report", REPORTS, ids=lambda path: path.parent.name)
def test_every_id_is_a_link_to_its_document_and_every_link_leads_somewhere(report):
    linked = re.findall(r"\[`([0-9a-f]{16})`\]\(([^)]+)\)", report.read_text(encoding="utf-8"))
    page = (report.parent / "report.html").read_text(encoding="utf-8")
    assert [trial for trial, _ in linked] == re.findall(r"`([0-9a-f]{16})`", report.read_text(encoding="utf-8"))
    assert {address for _, address in linked} == set(re.findall(r'href="(results/[^"]+)"', page))
    store = Store(report.parent / "results")
    for trial, address in linked:
        assert (report.parent / address).is_file()
        assert Path(address).parent.name == store.find(trial).id


def test_the_index_has_every_study_as_its_report_says_it():
    index = runpy.run_path(str(INDEX))
    page = INDEX.with_name("README.md").read_text(encoding="utf-8")
    assert index["written"](page, index["table"](INDEX.parent)) == page, "python reports/index.py"
    rows = [line for line in page.splitlines() if line.startswith("| [")]
    assert len(rows) == len(REPORTS)
    for row, report in zip(rows, REPORTS, strict=True):
        _, links, question, verdict, made, _ = re.split(r" ?(?<!\\)\| ?", row)
        addresses = re.findall(r"\]\(([^)]+)\)", links)
        assert [(INDEX.parent / address).is_file() for address in addresses] == [True] * 3
        assert report.parent.name in addresses[0]
        assert question.endswith("?")
        assert "control" in verdict
        assert re.match(r"20\d\d-\d\d-\d\d, .*, revision [0-9a-f]{10}", made)
