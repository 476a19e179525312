"""Each quantitative pose and segmentation row among the papers' ablations has a study and an arm that stands for it."""

import json
from functools import cache
from pathlib import Path

import pytest

from ablate.planning.match import solve
from ablate.study import Design, load, published

ROOT = Path(__file__).parents[1]
ROWS = json.loads(Path(__file__).with_name("published_rows.json").read_text(encoding="utf-8"))["rows"]


@cache
def paper_scale(name: str) -> Design:
    return Design(solve(load(ROOT / "studies" / f"{name}.yaml", scale="paper")))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['study']}-{row['metric']}-{row['value']}")
def test_the_row_has_an_arm(row):
    design = paper_scale(row["study"])
    (arm,) = [arm for arm in design.arms if arm.levels == row["arm"]]
    study = design.study
    model = {"name": arm.recipe.model.name, **arm.recipe.model.knobs}
    assert {knob: model[knob] for knob in row["network"]} == row["network"]
    assert list(arm.recipe.task.knobs["size"]) == row["size"]
    weights = arm.recipe.weights
    assert (weights and weights.sha256) == row.get("weights")
    if row["metric"] == "difference":
        return  # between two arms, and so beside neither
    assert row["metric"] == study.metrics[0]
    table = published(study.paper)
    names = {arm.label, *arm.bare}
    assert [table.levels[name] for name in names if name in table.levels] == [row["value"]], "what the report prints"


def test_no_published_number_lacks_its_row_or_its_arm():
    """The other way round: what stands beside our arms in reports are these rows, or a baseline table's."""
    quoted = {(row["study"], row["value"]) for row in ROWS}
    for name in {row["study"] for row in ROWS}:
        for value in published(paper_scale(name).study.paper).levels.values():
            assert (name, value) in quoted or name == "input_size", (name, value)


@pytest.mark.parametrize(
    ("scale", "value"),
    [("paper", "4.60"), ("paper_300w", "3.32"), ("paper_cofw", "3.45"), ("paper_aflw", "1.57")],
)
def test_faces_have_the_row_of_each_set(scale, value):
    design = Design(load(ROOT / "studies" / "faces.yaml", scale=scale))
    table = published(design.study.paper)
    assert table.metric == design.study.metrics[0] == "NME"
    assert table.levels == {design.control.label: value}


@pytest.mark.parametrize("name", ["pose_baselines", "segmentation_baselines", "ocr", "pascal_context", "lip", "mpii"])
def test_every_row_of_a_baseline_table_is_an_arm(name):
    design = paper_scale(name)
    labels = {level for arm in design.arms for level in arm.levels.values()}
    assert set(published(design.study.paper).levels) <= labels
