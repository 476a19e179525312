"""The mirror in MLflow: real trackers, a SQLite file and a server here; read back with MLflow's own client."""

import json
import math
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from small_studies import small_study, write_study

from ablate import tracking
from ablate.drive import Where, drive, selected, track
from ablate.errors import ServiceError
from ablate.site import Site
from ablate.store import Store
from ablate.study import load
from ablate.tracking import Mirror, check_reachable, local_uri

pytestmark = [
    pytest.mark.usefixtures("small_shelf"),
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

    def died(self, trial, reason):
        pass


def drive_here(tmp_path, *, tracker=None, experiment=None, **changes):
    study = load(write_study(tmp_path, **changes))
    where = Where(Store(tmp_path / "results"), here=True, tracker=tracker, experiment=experiment)
    return study, drive(study, selected(study, ()), where, Silent())


def runs(uri: str, experiment: str = "small") -> tuple[list, list]:
    """Parents and children, oldest first."""
    tracking._quiet()
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id], order_by=["start_time ASC"])
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    return parents, [run for run in found if run not in parents]


def history(uri: str, run, metric: str) -> list[tuple[int, float]]:
    import mlflow

    rows = mlflow.MlflowClient(tracking_uri=uri).get_metric_history(run.info.run_id, metric)
    return [(row.step, row.value) for row in rows]


def artifact(uri: str, run, name: str, place) -> dict:
    import mlflow

    place.mkdir(exist_ok=True)
    path = mlflow.MlflowClient(tracking_uri=uri).download_artifacts(run.info.run_id, name, str(place))
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        return json.load(file)


def assert_mirrors(uri: str, store: Store, children: list, place, experiment: str = "small") -> None:
    """Every result is in the tracker once, whole and with its own numbers."""
    results = store.read().results
    assert sorted(run.data.tags["ablate.trial"] for run in children) == sorted(results)
    for run in children:
        result = results[run.data.tags["ablate.trial"]]
        assert run.info.status == ("FINISHED" if result.status == "done" else "FAILED")
        for name in ("epoch", "loss", "lr", "train_images_per_second"):
            field = {"train_images_per_second": "images_per_second"}.get(name, name)
            assert history(uri, run, name) == [(row.epoch, getattr(row, field)) for row in result.curve]
        for name, value in result.scores.items():
            assert history(uri, run, name)[-1] == (len(result.curve), value)
        assert json.dumps(artifact(uri, run, "result.json", place)) == json.dumps(json.loads(result.model_dump_json()))
        assert artifact(uri, run, "config.json", place)["recipe"] == result.recipe.model_dump(mode="json")


def test_a_class_may_be_called_anything(tmp_path):
    study = load(write_study(tmp_path))
    mirror = Mirror(Store(tmp_path / "results"), study, uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = mirror.client.create_run(mirror.experiment).info.run_id
    mirror._log(run, metrics={"IoU/traffic light": 0.5, "IoU/door;double (door)": 0.25, "IoU/..": 0.75})
    assert mirror.client.get_run(run).data.metrics == {
        "IoU/traffic light": 0.5, "IoU/door_double _door_": 0.25, "IoU/_": 0.75,
    }  # fmt: skip


def test_a_run_is_mirrored_once(tmp_path):
    study, outcome = drive_here(tmp_path)
    assert outcome.mirror_trouble == ""
    store, uri = Store(tmp_path / "results"), local_uri(tmp_path / "results")
    parents, children = runs(uri)
    assert len(parents) == 1
    assert (parents[0].info.status, parents[0].data.tags["ablate.planned"]) == ("FINISHED", "4")
    assert all(run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id for run in children)
    assert_mirrors(uri, store, children, tmp_path / "artifacts")

    child = next(run for run in children if run.data.params["model.depth"] == "2" and run.data.params["seed"] == "1")
    result = store.get(child.data.tags["ablate.trial"])
    assert child.data.params["train.lr"] == "0.01"
    assert child.data.params["dataset.name"] == "noise"
    assert child.data.tags["ablate.arm.depth"] == "2"
    assert child.data.tags["mlflow.source.git.commit"] == result.env["revision"]
    assert child.data.tags["ablate.data.train"] == f"{20:016x}"
    assert child.data.tags["ablate.GFLOPs"] == "multiply-adds of convolutions and linear layers / 2^30"
    assert child.data.metrics["GFLOPs"] == result.cost.macs / 2**30
    assert child.data.metrics["parameters"] == result.cost.parameters
    assert child.data.metrics["images_per_second"] == result.cost.images_per_second
    assert child.data.metrics["peak_memory_bytes"] == result.cost.peak_memory
    assert (tmp_path / "results" / "mlflow.link").read_text().startswith("mlflow ui --backend-store-uri sqlite:///")

    # `track` finds all there; a larger study adds its own and links the old ones.
    assert track(study, Where(store)) == 4
    _, again = runs(uri)
    assert [run.info.run_id for run in again] == [run.info.run_id for run in children]
    assert_mirrors(uri, store, again, tmp_path / "artifacts")
    drive_here(tmp_path, seeds=3)
    parents, children = runs(uri)
    assert len(children) == 6
    assert_mirrors(uri, store, children, tmp_path / "artifacts")
    newest = parents[-1].data.tags
    assert (newest["ablate.planned"], len(newest["ablate.reused"].split())) == ("2", 4)


@pytest.mark.slow
def test_a_trial_that_went_wrong_is_mirrored_with_its_reason(tmp_path):
    recipe = small_study()["recipe"]
    recipe["model"] |= {"fault": "nan", "at": 5}
    drive_here(tmp_path, recipe=recipe, seeds=1)
    uri = local_uri(tmp_path / "results")
    parents, children = runs(uri)
    assert parents[0].info.status == "FINISHED"
    assert_mirrors(uri, Store(tmp_path / "results"), children, tmp_path / "artifacts")
    assert {run.data.tags["ablate.status"] for run in children} == {"diverged"}
    assert all("the loss was nan in epoch 2" in run.data.tags["ablate.reason"] for run in children)
    assert all(math.isfinite(value) for run in children for value in run.data.metrics.values())


class Stopped(Silent):
    """Ctrl-C after the first epoch."""

    def epoch(self, trial, row):
        raise KeyboardInterrupt


@pytest.mark.slow
def test_an_interrupted_run_is_killed_and_its_trial_taken_up_again(tmp_path):
    study = load(write_study(tmp_path, budget={"checkpoint_minutes": 0}))
    store = Store(tmp_path / "results")
    outcome = drive(study, selected(study, ()), Where(store, here=True), Stopped())
    assert outcome.stopped
    uri = local_uri(store.root)
    parents, children = runs(uri)
    assert ([run.info.status for run in parents], [run.info.status for run in children]) == (["KILLED"], ["KILLED"])
    drive_here(tmp_path)
    parents, children = runs(uri)
    assert sorted(run.info.status for run in parents) == ["FINISHED", "KILLED"]
    assert len(children) == 4  # the killed one went on under its own name
    assert_mirrors(uri, store, children, tmp_path / "artifacts")


def test_a_tracker_that_is_away_costs_no_training(tmp_path, monkeypatch):
    """Results are all there, with one line of trouble; `track` fills in later."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    study, outcome = drive_here(tmp_path, tracker=f"sqlite:///{blocked}/below/mlflow.db")
    assert outcome.mirror_trouble
    assert "\n" not in outcome.mirror_trouble
    store = Store(tmp_path / "results")
    assert len(store.read().results) == 4
    assert track(study, Where(store)) == 4
    uri = local_uri(store.root)
    assert_mirrors(uri, store, runs(uri)[1], tmp_path / "artifacts")
    assert track(study, Where(store)) == 4
    assert len(runs(uri)[1]) == 4


def test_a_writer_that_fails_in_the_middle_says_so_once(tmp_path):
    def broken(mirror):
        raise OSError("the cable\nis out")

    writer = tracking.Writer(lambda: Mirror(Store(tmp_path), load(write_study(tmp_path))))
    after = []
    writer.put(broken)
    writer.put(lambda mirror: after.append(1))
    writer.close()
    assert writer.trouble == "OSError: the cable is out"
    assert after == []


@pytest.mark.slow
def test_an_experiment_may_be_named(tmp_path):
    drive_here(tmp_path, seeds=1, experiment="elsewhere")
    assert len(runs(local_uri(tmp_path / "results"), "elsewhere")[1]) == 2


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_server_that_is_not_there_is_known_before_training(tmp_path):
    uri = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ServiceError, match=f"MLflow at {uri} cannot be reached"):
        check_reachable(uri)
    with pytest.raises(ServiceError):
        drive_here(tmp_path, tracker=uri)
    assert not list((tmp_path / "results").glob("trials/*"))
    for bad in ("http://", "http://127.0.0.1:99999", "https://no.such.host.invalid"):
        with pytest.raises(ServiceError, match="cannot be reached"):
            check_reachable(bad)


@pytest.mark.slow
def test_a_server_that_is_not_there_is_one_line_and_status_2(ablate, tmp_path):
    uri = f"http://127.0.0.1:{free_port()}"
    run = ablate("run", write_study(tmp_path), "--local", "--mlflow", uri)
    assert run.returncode == 2
    said = [line for line in run.stderr.splitlines() if line.startswith("ablate: ")]
    assert len(said) == 1
    assert uri in said[0]
    assert "Traceback" not in run.stderr


@pytest.fixture
def server(tmp_path):
    port, place = free_port(), tmp_path / "server"
    place.mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{place}/mlflow.db",
        "--artifacts-destination",
        str(place / "artifacts"),
    ]
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env=os.environ | {"HOME": str(place)}
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail((place / "log").read_text()[-2000:])
        yield uri
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


@pytest.mark.slow
def test_a_real_server_is_written_once(tmp_path, server):
    study, outcome = drive_here(tmp_path, tracker=server)
    assert outcome.mirror_trouble == ""
    store = Store(tmp_path / "results")
    assert_mirrors(server, store, runs(server)[1], tmp_path / "artifacts")
    assert (store.root / "mlflow.link").read_text().startswith(f"{server}/#/experiments/")
    assert not (store.root / "mlflow.db").exists()
    assert track(study, Where(store, tracker=server)) == 4
    assert len(runs(server)[1]) == 4


@pytest.mark.slow
def test_a_trackers_environment_does_not_hijack_the_parent(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    drive_here(tmp_path, seeds=1)
    parents, children = runs(local_uri(tmp_path / "results"))
    assert (len(parents), len(children)) == (1, 2)


def test_the_driver_alone_knows_the_tracker(tmp_path):
    """What is sent to a worker names no address, so a worker cannot write."""
    fields = set(Site.__dataclass_fields__)
    assert not {name for name in fields if "track" in name or "mlflow" in name or "uri" in name}
