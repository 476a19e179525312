"""Evaluation: what is predicted, and what is said of what cannot be."""

import pytest
import small_parts
from small_studies import write_study

from ablate.analysis import gather
from ablate.report import blocks
from ablate.report.blocks import Table
from ablate.storage import Store
from ablate.study import Design, load
from ablate.training.run_trial import run_trial
from ablate.training.site import Site


@pytest.mark.usefixtures("small_shelf")
def test_samples_outside_the_split_are_counted_in_result_and_report(tmp_path, monkeypatch):
    study = load(write_study(tmp_path, seeds=1, factors={"depth": {"at": "model.depth", "levels": [1, 2]}}))
    whole, part = Design(study).trials
    results = [list(run_trial(whole, Site(results=tmp_path)))[-1]]
    monkeypatch.setattr(small_parts.Pictures, "left_out", 3, raising=False)  # as the people of a detector have it
    results.append(list(run_trial(part, Site(results=tmp_path)))[-1])
    fact = "samples on images outside the split, not evaluated"
    assert [result.env.get(fact) for result in results] == [None, "3"]
    tables = [block for block in blocks(gather(Design(study), Store(tmp_path))) if isinstance(block, Table)]
    cells = [[cell.text for cell in row] for table in tables for row in table.rows]
    assert [fact, "3"] in cells
