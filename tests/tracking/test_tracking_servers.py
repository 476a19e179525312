"""The mirror in MLflow's server over PostgreSQL, real ones: studies through Ray, while the server comes and goes."""

import secrets
import subprocess
import time
from collections import Counter

import pytest
from mirrored import QUIET, all_runs, assert_mirrors, runs, statuses
from servers import Tracker, postgres
from small_studies import COMMAND, small_study, write_study

from ablate.storage import Store

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.usefixtures("small_shelf"), *QUIET]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """MLflow's server over PostgreSQL, for all tests here: each has an experiment of its own."""
    with postgres() as database:
        tracker = Tracker(tmp_path_factory.mktemp("tracker"), database)
        tracker.start()
        yield tracker
        tracker.stop()


@pytest.fixture
def up(server):
    """The same, and it runs."""
    if not server.process:
        server.start()
    return server


def faulty(**model) -> dict:
    recipe = small_study()["recipe"]
    return recipe | {"model": recipe["model"] | model}


def until(true, process=None) -> None:
    """Waits for something that a loaded machine may take minutes for."""
    for _ in range(1200):
        if true():
            return
        assert process is None or process.poll() is None, "it ended early"
        time.sleep(0.25)
    raise AssertionError("it never came")


def test_all_ends_of_trials_through_ray(ablate, tmp_path, up):
    """Done, diverged, failed, always killed, killed once: each a child with its status and its numbers once."""
    marker = tmp_path / "marker"
    levels = {"none": "", "nan": "nan", "error": "error", "kill": "kill", "once": "kill_once"}
    factors = {"fault": {"at": "model.fault", "levels": levels}}
    write_study(
        tmp_path, recipe=faulty(at=5, marker=str(marker)), factors=factors, seeds=1,
        budget={"retries": 1, "checkpoint_minutes": 0},
    )  # fmt: skip
    run = ablate("run", "small.yaml", "--mlflow", up.uri, "--experiment", "ends", timeout=600)
    assert run.returncode == 1, run.stderr  # some trials failed
    assert "MLflow was not written" not in run.stderr
    store = Store(tmp_path / "results")
    assert (store.root / "mlflow.link").read_text().startswith(f"{up.uri}/#/experiments/")
    assert not (store.root / "mlflow.db").exists()
    parents, children = runs(up.uri, "ends")
    assert statuses(parents) == ["FINISHED"]
    assert {run.data.tags["ablate.arm.fault"]: run.data.tags["ablate.status"] for run in children} == {
        "none": "done", "nan": "diverged", "error": "failed", "kill": "failed", "once": "done",
    }  # fmt: skip
    assert_mirrors(up.uri, store, tmp_path / "artifacts", "ends", timings=False)
    before = Counter(up.requests())
    again = ablate("track", "small.yaml", "--mlflow", up.uri, "--experiment", "ends")
    assert again.stdout.startswith("5 trials are in MLflow; 0 runs"), again.stderr
    asked = Counter(up.requests()) - before
    assert {name.rpartition("/")[2] for name in asked if name.startswith("POST")} == {"search"}


def test_a_server_that_is_killed_and_started_again_costs_nothing(ablate, tmp_path, up):
    """Killed while four trials train; two end while it is away; all is there once when the run ends."""
    one, two = tmp_path / "one", tmp_path / "two"
    factors = {"wave": {"at": "model.marker", "levels": {"one": str(one), "two": str(two)}}}
    write_study(
        tmp_path, recipe=faulty(fault="wait", at=5), factors=factors, budget={"cpus": 0.25, "checkpoint_minutes": 0}
    )
    store = Store(tmp_path / "results")
    with (tmp_path / "stderr").open("w") as stderr:
        driver = subprocess.Popen(
            [*COMMAND, "run", "small.yaml", "--mlflow", up.uri, "--experiment", "killed"], cwd=tmp_path,
            env=ablate.environment, stderr=stderr, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        until((store.root / "mlflow.link").exists, driver)
        until(lambda: [run.data.metrics.get("epoch") for run in runs(up.uri, "killed")[1]] == [1] * 4, driver)
        up.stop()
        one.touch()
        until(lambda: len(store.read().results) == 2, driver)
        up.start()
        until(lambda: statuses(runs(up.uri, "killed")[1]) == ["FINISHED", "FINISHED", "RUNNING", "RUNNING"], driver)
        two.touch()
        assert driver.wait(300) == 0, (tmp_path / "stderr").read_text()
    finally:
        driver.terminate()
        driver.wait(60)
    assert "MLflow was not written" not in (tmp_path / "stderr").read_text()
    assert statuses(runs(up.uri, "killed")[0]) == ["FINISHED"]
    assert_mirrors(up.uri, store, tmp_path / "artifacts", "killed")


def test_a_server_that_is_down_all_the_time_is_filled_in_later(ablate, tmp_path, up):
    """It has mirrored these results before, so that its absence is no mistake in the address."""
    flags = ("--mlflow", up.uri, "--experiment", "away")
    first = ablate("run", write_study(tmp_path, seeds=1), "--local", *flags)
    assert first.returncode == 0, first.stderr
    up.stop()
    write_study(tmp_path)
    run = ablate("run", "small.yaml", "--local", *flags)
    assert run.returncode == 0, run.stderr
    assert "2 trials ran, none failed" in run.stderr
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("MLflow was not written")]
    assert line.endswith(f"; later: ablate track small.yaml --mlflow {up.uri} --experiment away")
    away = ablate("track", "small.yaml", *flags)
    assert away.returncode == 2
    assert away.stderr.startswith(f"ablate: MLflow at {up.uri}: cannot be reached (Connection refused)")
    up.start()
    track = ablate("track", "small.yaml", *flags)
    assert track.stdout.startswith("4 trials are in MLflow; 0 runs"), track.stderr
    assert statuses(all_runs(up.uri, "away")) == ["FINISHED"] * 6
    assert_mirrors(up.uri, Store(tmp_path / "results"), tmp_path / "artifacts", "away")


def test_few_requests_are_made(ablate, tmp_path, up):
    """However many epochs a trial has: those that come in one second go in one request."""
    recipe = faulty()
    recipe["train"] |= {"epochs": 100}
    before, begun = len(up.requests()), time.monotonic()
    run = ablate("run", write_study(tmp_path, recipe=recipe), "--local", "--mlflow", up.uri, "--experiment", "few")
    seconds = time.monotonic() - begun
    assert run.returncode == 0, run.stderr
    asked = Counter("/".join(name.rsplit("/", 2)[name.endswith(".json") + 1 :]) for name in up.requests()[before:])
    trials = 4
    assert asked["runs/create"] == trials + 1  # the parent's
    assert asked["runs/update"] == trials + 1
    assert asked["result.json"] == asked["config.json"] == trials
    assert asked["runs/log-batch"] <= 4 * trials + seconds  # parameters, epochs, summary, the result's mark
    assert asked.total() <= 13 * trials + 12 + seconds
    assert_mirrors(up.uri, Store(tmp_path / "results"), tmp_path / "artifacts", "few")


def test_a_server_behind_a_password(ablate, tmp_path):
    """Its password comes from MLflow's environment; a wrong one, or none, is one line before any training."""
    server, password = Tracker(tmp_path / "tracker", f"sqlite:///{tmp_path}/server.db"), secrets.token_hex()
    server.start(admin=password)
    try:
        flags = ("--local", "--mlflow", server.uri)
        known = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": password}
        wrong = known | {"MLFLOW_TRACKING_PASSWORD": "s3cr3t"}
        write_study(tmp_path, seeds=1)
        for environment in ({}, wrong):
            refused = ablate("run", "small.yaml", *flags, env=environment)
            assert refused.returncode == 2
            (said,) = [line for line in refused.stderr.splitlines() if "MLflow" in line]
            assert said.startswith(
                f"ablate: MLflow at {server.uri}: refused the user's name or password; set MLFLOW_TRACK"
            )
            assert not list((tmp_path / "results").glob("trials/*/result.json"))
        run = ablate("run", "small.yaml", *flags, env=known)
        assert (run.returncode, "MLflow" in run.stderr) == (0, False), run.stderr
        inside = f"http://admin:{password}@127.0.0.1:{server.port}"
        track = ablate("track", "small.yaml", "--mlflow", inside)
        assert track.stdout.startswith("2 trials are in MLflow; 0 runs"), track.stderr
        texts = [file.read_text() for file in (tmp_path / "results").glob("*.link")]
        texts += [said for done in (run, track, ablate("status", "small.yaml")) for said in (done.stdout, done.stderr)]
        assert not [text for text in texts if password in text]
        assert_mirrors(inside, Store(tmp_path / "results"), tmp_path / "artifacts")
    finally:
        server.stop()
