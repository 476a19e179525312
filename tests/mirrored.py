"""Studies that are mirrored, and what a tracker shows of them, read with MLflow's own client."""

import json
import os
from pathlib import Path

import pytest
from small_studies import write_study

from ablate.running.drive import Where, drive
from ablate.storage import Store
from ablate.study import Design, load
from ablate.tracking.experiment import _quiet
from ablate.training.run_trial import run_trial
from ablate.training.site import Site

QUIET = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
]


class Silent:
    """A screen that shows nothing."""

    def started(self, trial):
        pass

    def epoch(self, trial, row):
        pass

    def ended(self, trial, status):
        pass


def drive_here(tmp_path, *, tracker=None, experiment=None, screen=None, **changes):
    design = Design(load(write_study(tmp_path, **changes)))
    where = Where(Store(tmp_path / "results"), here=True, tracker=tracker, experiment=experiment)
    return design, drive(design, design.trials, where, [screen] if screen else [])


def trained(tmp_path, **changes):
    """A design, its store and its trials, trained without a tracker."""
    design, store = Design(load(write_study(tmp_path, **changes))), Store(tmp_path / "results")
    for trial in design.trials:
        list(run_trial(trial, Site(results=store.root.resolve())))
    return design, store, design.trials


def client(uri: str):
    _quiet()
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    import mlflow

    return mlflow.MlflowClient(tracking_uri=uri)


def runs(uri: str, experiment: str = "small") -> tuple[list, list]:
    """Parents and children, oldest first."""
    found = client(uri).search_runs(
        [client(uri).get_experiment_by_name(experiment).experiment_id], order_by=["start_time ASC"]
    )
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    return parents, [run for run in found if run not in parents]


def all_runs(uri: str, experiment: str = "small") -> list:
    parents, children = runs(uri, experiment)
    return parents + children


def statuses(found: list) -> list[str]:
    return sorted(run.info.status for run in found)


def history(uri: str, run, metric: str) -> list[tuple[int, float]]:
    return [(row.step, row.value) for row in client(uri).get_metric_history(run.info.run_id, metric)]


def artifact(uri: str, run, name: str, place: Path) -> dict:
    place.mkdir(exist_ok=True)
    path = client(uri).download_artifacts(run.info.run_id, name, str(place))
    return json.loads(Path(path).read_text(encoding="utf-8"))


def assert_mirrors(uri: str, store: Store, place: Path, experiment: str = "small", *, timings: bool = True) -> None:
    """Every result is in the tracker once, whole and with its own numbers, and no run says that it goes on.

    Where epochs were trained twice, their timings may be those of the first time: `timings` says to compare them.
    """
    results = store.read().results
    parents, children = runs(uri, experiment)
    assert "RUNNING" not in statuses(parents + children)
    assert sorted(run.data.tags["ablate.trial"] for run in children) == sorted(results)
    for run in children:
        result = results[run.data.tags["ablate.trial"]]
        assert run.info.status == ("FINISHED" if result.status == "done" else "FAILED")
        assert run.data.tags["ablate.status"] == result.status
        assert run.data.tags["mlflow.parentRunId"] in {parent.info.run_id for parent in parents}
        rows = {name: [(row.epoch, getattr(row, name)) for row in result.curve] for name in ("epoch", "loss", "lr")}
        if timings:
            rows["train_images_per_second"] = [(row.epoch, row.images_per_second) for row in result.curve]
        for name, expected in rows.items():
            assert history(uri, run, name) == expected, name
        for name, value in (result.scores | {"seconds": result.seconds}).items():
            ends = [row for row in history(uri, run, name) if row[0] == len(result.curve)]
            assert ends == [(len(result.curve), value)], name
        assert json.dumps(artifact(uri, run, "result.json", place)) == json.dumps(json.loads(result.model_dump_json()))
        assert artifact(uri, run, "config.json", place)["recipe"] == result.recipe.model_dump(mode="json")
