"""Evaluations beside a study's trials: the report shows those of its own test images, in a table of their own."""

import json

import pytest

from ablate.beside import evaluations
from ablate.datasets import build_dataset
from ablate.storage import Store
from ablate.study import Part

SET = ("--task", "pose", "--set", "dataset.name=figures", "--results", "results")


@pytest.fixture
def report(called, tmp_path):
    """The Markdown of fusion_count's demo, of which no trial has run."""

    def write(*words):
        status, _, err = called("report", "fusion_count", "--results", "results", "--format", "md", "--to", "r", *words)
        assert status == 0, err
        return (tmp_path / "r" / "report.md").read_text()

    return write


def found(people: int, *, off: float = 0.0) -> list[dict]:
    """The true joints of drawn figures as predictions, moved to the right."""
    samples = build_dataset(Part(name="figures", knobs={"train": 500, "val": people, "size": (112, 112)})).open(
        "val", None
    )
    kept = ("image_id", "category_id", "keypoints")
    predictions = [{key: one[key] for key in kept} | {"score": 1.0} for one in samples.ground_truth()["annotations"]]
    for one in predictions:
        one["keypoints"] = [value + off * (at % 3 == 0) for at, value in enumerate(one["keypoints"])]
    return predictions


@pytest.mark.slow
def test_a_report_shows_what_was_evaluated_on_its_own_test_images(called, report, tmp_path):
    assert "Other networks" not in report()
    for name, people, off in (("truth", 200, 0.0), ("moved", 200, 3.0), ("elsewhere", 50, 0.0)):
        (tmp_path / f"{name}.json").write_text(json.dumps(found(people, off=off)))
        words = ("--set", f"dataset.val={people}", "--label", name)
        status, _, err = called("evaluate", "--predictions", f"{name}.json", *SET, *words)
        assert status == 0, err
    text = report("--publish")
    table = text[text.index("## Other networks") :]
    rows = {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("| ")}
    assert "100.00" in rows["truth"]
    assert "100.00 to 100.00" in rows["truth"]
    assert "not known of predictions" in rows["moved"]
    assert "100.00" not in rows["moved"].split("|")[3]
    assert "elsewhere" not in table
    assert "Whether a trial of this study trained it" in table
    copied = {one.label for one in evaluations.every(Store(tmp_path / "r" / "results").place)}
    assert copied == {"truth", "moved"}


def test_a_damaged_evaluation_is_named_and_left_out(called, report, tmp_path):
    (tmp_path / "truth.json").write_text(json.dumps(found(200)))
    assert called("evaluate", "--predictions", "truth.json", *SET)[0] == 0
    (document,) = (tmp_path / "results" / "evaluations").glob("*/evaluation.json")
    document.write_text(document.read_text().replace('"truth"', '"trust"'))
    text = report()
    assert "Other networks" not in text
    assert "evaluation.json: the checksum does not match" in text
