"""Measured speeds: kept beside the trials, by network and machine, and shown by the reports of their studies."""

import json

import pytest
from small_studies import write_study

from ablate.beside import Speed, speeds
from ablate.storage import Store
from ablate.study import Design, load

pytestmark = pytest.mark.usefixtures("small_shelf")
ONE = {
    "image": (8, 8), "latency": 0.002, "low": 0.001, "high": 0.004, "runs": 50, "images_per_second": 900.0, "batch": 8,
    "where": "a machine, 1 CPU threads, fp32, contiguous", "load": 0.1, "processors": 8, "finished": "2024-02-03T04:05",
}  # fmt: skip


@pytest.fixture
def recipes(tmp_path):
    design = Design(load(write_study(tmp_path)))
    return {arm.label: arm.recipe for arm in design.arms}


def test_speeds_are_found_by_network_and_kept_once_for_each_machine(recipes, tmp_path):
    store = Store(tmp_path / "results")
    store.create()
    control, other = recipes
    for label, changes in ((control, {}), (control, {"latency": 0.003}), (control, {"where": "another"}), (other, {})):
        speeds.put(store.place, Speed(network=speeds.network_of(recipes[label]), **{**ONE, **changes}))
    found, damaged = speeds.of_arms(store.place, recipes)
    assert [(label, one.where[:2], one.latency) for label, one in found] == [
        (control, "a ", 0.003), (control, "an", 0.002), (other, "a ", 0.002)
    ]  # fmt: skip
    assert damaged == []
    assert not found[0][1].shared
    assert Speed(network="", **{**ONE, "load": 2.5}).shared
    document = tmp_path / "results" / "speeds" / f"{found[0][1].id}.json"
    document.write_text(document.read_text().replace("0.003", "0.001"))
    found, damaged = speeds.of_arms(store.place, recipes)
    assert len(found) == 2
    assert "the checksum does not match" in damaged[0]


def test_what_is_measured_of_a_study_is_in_its_report(called, tmp_path):
    study = write_study(tmp_path)
    status, out, err = called("cost", study, "--measure", "--results", "results", "--json")
    assert status == 0, err
    assert all(row["latency (ms)"] > 0 for row in json.loads(out))
    status, _, err = called("report", study, "--results", "results", "--format", "md", "--to", "r", "--publish")
    assert status == 0, err
    text = (tmp_path / "r" / "report.md").read_text()
    table = text[text.index("What predictions take, measured apart from the trials") :]
    assert sum("8x8 pixels" in line for line in table.splitlines()) == len(json.loads(out))
    assert len(list(speeds.every(Store(tmp_path / "r" / "results").place))) == len(json.loads(out))


def test_speeds_are_kept_of_studies_alone(called):
    status, _, err = called("cost", "hrnet", "--measure", "--results", "results")
    assert status == 2
    assert "--results keeps what --measure finds of a study's arms" in err
