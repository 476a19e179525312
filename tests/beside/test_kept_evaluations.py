"""A kept evaluation: `ablate show` prints it, and MLflow has one run of it."""

import json

import painted
import pytest
from mlflow import MlflowClient


@pytest.fixture
def asked(tmp_path):
    folder = painted.people(tmp_path, images=4)
    (tmp_path / "near.json").write_text(json.dumps(painted.results(folder, off=1.0)))
    return ["evaluate", "--predictions", "near.json", "--task", "pose", "--data", folder, "--results", "results"]


def test_an_evaluation_is_shown_by_its_id_and_in_mlflow_once(called, asked, tmp_path):
    for _ in range(2):
        status, out, err = called(*asked, "--json")
        assert status == 0, err
        assert "MLflow: mlflow ui" in err
    found = json.loads(out)
    status, out, _ = called("show", found["id"][:6], "--results", "results", "--json")
    assert status == 0
    assert json.loads(out)["scores"] == found["scores"]
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/results/mlflow.db")
    experiment = client.get_experiment_by_name("evaluations")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["ablate.evaluation"] == found["id"]
    assert run.data.metrics["AP"] == pytest.approx(found["scores"]["AP"])
    assert run.data.metrics["AP/low"] <= run.data.metrics["AP"] <= run.data.metrics["AP/high"]
    assert run.data.params["task"] == "pose"
    assert run.data.params["file"] == "near.json"
    document = tmp_path / "results" / "mlflow" / run.info.run_id / "artifacts" / "evaluation.json"
    assert json.loads(document.read_text())["id"] == found["id"]


def test_a_tracker_that_is_away_costs_nothing_but_a_line(called, asked):
    status, _, err = called(*asked, "--mlflow", "http://127.0.0.1:9")
    assert status == 0
    assert "not in MLflow: " in err
    assert "127.0.0.1:9" in err


def test_an_id_that_nothing_has_is_told_as_before(called, asked):
    called(*asked)
    status, _, err = called("show", "0123456789abcdef", "--results", "results")
    assert status == 2
    assert "no trial" in err
