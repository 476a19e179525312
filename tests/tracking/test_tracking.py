"""The mirror in MLflow, over a SQLite file; read back with MLflow's own client. Servers: test_tracking_servers.py."""

import math
import os
import signal
import subprocess
import threading
import time

import pytest
from mirrored import QUIET, Silent, all_runs, assert_mirrors, client, drive_here, history, runs, statuses, trained
from small_studies import COMMAND, small_study, write_study

from ablate.errors import ServiceError
from ablate.machine import process
from ablate.storage import Store
from ablate.tracking import Tracker
from ablate.tracking.experiment import Experiment, local, local_uri
from ablate.tracking.mirror import Mirror
from ablate.tracking.writer import Writer

pytestmark = [pytest.mark.usefixtures("small_shelf", "prepared"), *QUIET]


def opened(store, design) -> Mirror:
    return Mirror(local(store.root, design.study.name), store, design)


def die(mirror: Mirror) -> None:
    """The mirror's driver is dead, as others see it."""
    mirror.experiment.log(mirror.parent, tags={"ablate.process": dead_mark()})


def rows_of(result):
    return [(row, 1_700_000_000_000 + row.epoch) for row in result.curve]


def test_a_class_may_be_called_anything(tmp_path):
    experiment = Experiment(local_uri(tmp_path / "results"), "names")
    run = experiment.create({"a\0b; c": "zero\0byte"})
    names = {"IoU/traffic light": 0.5, "IoU/door;double (door)": 0.25, "IoU/..": 0.75, "no": math.nan, "end": math.inf}
    experiment.log(run, [(name, value, 1, 1) for name, value in names.items()])
    assert client(experiment.uri).get_run(run).data.metrics == {
        "IoU/traffic light": 0.5, "IoU/door_double _door_": 0.25, "IoU/_": 0.75,
    }  # fmt: skip
    assert client(experiment.uri).get_run(run).data.tags["a_b_ c"] == "zero\N{REPLACEMENT CHARACTER}byte"


def test_a_run_is_mirrored_once(tmp_path):
    design, outcome = drive_here(tmp_path)
    assert outcome.mirror_trouble == ""
    store, uri = Store(tmp_path / "results"), local_uri(tmp_path / "results")
    parents, children = runs(uri)
    assert len(parents) == 1
    assert (parents[0].info.status, parents[0].data.tags["ablate.planned"]) == ("FINISHED", "4")
    assert_mirrors(uri, store, tmp_path / "artifacts")

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
    assert Tracker(store, design).fill() == (4, 0)
    assert [run.info.run_id for run in runs(uri)[1]] == [run.info.run_id for run in children]
    drive_here(tmp_path, seeds=3)
    parents, children = runs(uri)
    assert len(children) == 6
    assert_mirrors(uri, store, tmp_path / "artifacts")
    newest = parents[-1].data.tags
    assert (newest["ablate.planned"], len(newest["ablate.reused"].split())) == ("2", 4)


@pytest.mark.slow
def test_a_curve_of_scores_is_logged_once_too(tmp_path):
    """The last epoch's scores are the result's."""
    drive_here(tmp_path, seeds=1, budget={"evaluate_every": 1})
    uri = local_uri(tmp_path / "results")
    assert_mirrors(uri, Store(tmp_path / "results"), tmp_path / "artifacts")
    assert [step for step, _ in history(uri, runs(uri)[1][0], "closeness")] == [1, 2, 3]


@pytest.mark.slow
def test_a_trial_that_went_wrong_is_mirrored_with_its_reason(tmp_path):
    recipe = small_study()["recipe"]
    recipe["model"] |= {"fault": "nan", "at": 5}
    drive_here(tmp_path, recipe=recipe, seeds=1)
    uri = local_uri(tmp_path / "results")
    parents, children = runs(uri)
    assert parents[0].info.status == "FINISHED"
    assert_mirrors(uri, Store(tmp_path / "results"), tmp_path / "artifacts")
    assert {run.data.tags["ablate.status"] for run in children} == {"diverged"}
    assert all("the loss was nan in epoch 2" in run.data.tags["ablate.reason"] for run in children)
    assert all(math.isfinite(value) for run in children for value in run.data.metrics.values())


class Stopped(Silent):
    """Ctrl-C twice after the second epoch."""

    def epoch(self, trial, row):
        for _ in range(2 if row.epoch == 2 else 0):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow
def test_an_interrupted_run_is_killed_and_its_trial_begun_anew(tmp_path):
    _, outcome = drive_here(tmp_path, screen=Stopped(), budget={"checkpoint_minutes": 0})
    assert (outcome.stopped, outcome.status) == ("Ctrl-C", 130)
    store, uri = Store(tmp_path / "results"), local_uri(tmp_path / "results")
    parents, children = runs(uri)
    assert (statuses(parents), statuses(children)) == (["KILLED"], ["KILLED"])
    drive_here(tmp_path)
    parents, children = runs(uri)
    assert statuses(parents) == ["FINISHED", "KILLED"]
    assert len(children) == 4  # the killed one is dropped
    assert_mirrors(uri, store, tmp_path / "artifacts")


def test_a_tracker_that_is_away_costs_no_training(tmp_path):
    """Results are all there, with one line of trouble; `track` fills in later, and a run that trains nothing."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    design, outcome = drive_here(tmp_path, tracker=f"sqlite:///{tmp_path}/none.db")
    assert outcome.mirror_trouble == ""
    away = Tracker(Store(tmp_path / "results"), design, f"sqlite:///{blocked}/below/mlflow.db")
    with pytest.raises(ServiceError, match="MLflow at sqlite:"):
        away.refuse_unreachable()
    with pytest.raises(ServiceError, match="MLflow at sqlite:"):
        away.fill()
    assert "\n" not in away.follow([], []).close("FINISHED")
    _, again = drive_here(tmp_path)  # nothing to train, and the default tracker is filled in
    assert (again.planned, again.mirror_trouble) == ([], "")
    store, uri = Store(tmp_path / "results"), local_uri(tmp_path / "results")
    assert_mirrors(uri, store, tmp_path / "artifacts")
    assert Tracker(store, design).fill() == (4, 0)
    assert len(runs(uri)[1]) == 4


WRITING = ("create", "log", "document", "close", "reopen", "drop")


def cut(experiment: Experiment, calls: int) -> None:
    """After so many calls that write, the tracker is away."""
    left = [calls]

    def cuttable(call):
        def cut_or_call(*arguments, **options):
            if not left[0]:
                raise OSError("the cable is out")
            left[0] -= 1
            return call(*arguments, **options)

        return cut_or_call

    for method in WRITING:
        setattr(experiment, method, cuttable(getattr(experiment, method)))


@pytest.mark.parametrize("calls", range(9))
@pytest.mark.parametrize("dead", [True, False])
def test_a_run_cut_short_at_any_point_is_written_anew(tmp_path, calls, dead):
    """The tracker is away after each possible number of calls; then the driver goes on, or a later one does."""
    design, store, trials = trained(tmp_path, seeds=1)
    uri, mirror = local_uri(store.root), opened(store, design)
    mirror.epochs(trials[1], rows_of(store.get(trials[1].id))[:1])

    def mirrored() -> None:
        for trial in trials:
            mirror.epochs(trial, rows_of(store.get(trial.id))[:2])
            mirror.ended(trial, store.get(trial.id))

    cut(mirror.experiment, calls)
    with pytest.raises(OSError, match="cable"):
        mirrored()
    for method in WRITING:
        delattr(mirror.experiment, method)
    if dead:
        die(mirror)
        assert Tracker(store, design).fill()[0] == 2
    else:
        mirror.resume()
        assert mirror.fill()[::2] == (2, "")
        mirror.close("FINISHED")
    assert len(runs(uri)[0]) == 1 + dead
    assert_mirrors(uri, store, tmp_path / "artifacts")


def test_another_try_takes_the_place_of_the_first(tmp_path):
    """Failed in its second epoch with other losses, then done: the run shows the latter curve alone."""
    design, store, trials = trained(tmp_path, seeds=1)
    uri, mirror = local_uri(store.root), opened(store, design)
    for trial in trials:
        result = store.get(trial.id)
        curve = [row.model_copy(update={"loss": row.loss + 1}) for row in result.curve[:2]]
        first = result.model_copy(update={"status": "failed", "curve": curve, "scores": {}, "reason": "bad luck"})
        mirror.epochs(trial, rows_of(first))
        assert mirror.ended(trial, first)
    assert statuses(runs(uri)[1]) == ["FAILED", "FAILED"]
    live, late = trials
    mirror.epochs(live, rows_of(store.get(live.id))[:1])
    assert statuses(runs(uri)[1]) == ["FAILED", "RUNNING"]
    mirror.ended(live, store.get(live.id))
    mirror.close("FINISHED")
    assert Tracker(store, design).fill() == (2, 1)  # the other one was trained while no tracker was there
    assert_mirrors(uri, store, tmp_path / "artifacts")
    assert late.id in {run.data.tags["ablate.trial"] for run in runs(uri)[1]}


def test_a_run_that_shows_another_curve_is_replaced(tmp_path):
    """Epochs seen live, lost with their machine, and trained again with other numbers."""
    design, store, trials = trained(tmp_path, seeds=1)
    mirror = opened(store, design)
    for trial in trials:
        result = store.get(trial.id)
        mirror.epochs(trial, [(row.model_copy(update={"loss": row.loss + 1}), 1) for row in result.curve[:2]])
        mirror.ended(trial, result)
    mirror.close("FINISHED")
    assert_mirrors(local_uri(store.root), store, tmp_path / "artifacts")


@pytest.mark.parametrize("meanwhile", ["before", "between", "after"])
def test_two_drivers_that_write_one_result_leave_one_run(tmp_path, meanwhile):
    """Both had the trial in turn, or one wrote it in the very moment in which the other did."""
    design, store, trials = trained(tmp_path, seeds=1)
    one, other = opened(store, design), opened(store, design)
    for trial in trials:
        result = store.get(trial.id)
        one.epochs(trial, rows_of(result)[:1])
        if meanwhile == "before":
            assert not other.ended(trial, result)  # that is left to the living one
        else:
            other.epochs(trial, rows_of(result)[:2])
        close = one.experiment.close

        def closed(*said, trial=trial, result=result, close=close):
            if meanwhile == "between":
                other.ended(trial, result)
            close(*said)

        one.experiment.close = closed
        one.ended(trial, result)
        one.experiment.close = close
        if meanwhile == "after":
            other.ended(trial, result)
    one.close("FINISHED")
    other.close("FINISHED")
    assert_mirrors(local_uri(store.root), store, tmp_path / "artifacts")
    assert Tracker(store, design).fill() == (2, 0)


def test_double_runs_of_one_result_are_dropped(tmp_path):
    """Two drivers died before each could see that the other had written it too; a request to begin came late."""
    design, store, trials = trained(tmp_path, seeds=1)
    for _ in range(2):
        mirror = opened(store, design)
        mirror._clear = lambda *_: []
        for trial in trials:
            mirror.ended(trial, store.get(trial.id))
        mirror._begin(trials[0])
        die(mirror)
    assert len(runs(local_uri(store.root))[1]) == 6
    assert Tracker(store, design).fill() == (2, 6)  # with their parents
    assert_mirrors(local_uri(store.root), store, tmp_path / "artifacts")


def dead_mark() -> str:
    """Of a process that ran on this machine."""
    sleeper = subprocess.Popen(["sleep", "60"])
    mark = process.own().split("/")
    mark[1:] = [str(sleeper.pid), process._start(sleeper.pid)]
    assert process.lives("/".join(mark), 1e9)
    sleeper.kill()
    while process.lives("/".join(mark), 0):  # dead before anyone asks how it ended
        time.sleep(0.01)
    sleeper.wait()
    return "/".join(mark)


def test_a_process_is_known_by_more_than_its_number():
    own = process.own()
    assert process.lives(own, 1e9)
    assert not process.lives(dead_mark(), 0)
    machine, number, start = own.split("/")
    assert not process.lives(f"{machine}/{number}/{int(start) - 1}", 0)  # another had that number before
    assert process.lives(f"elsewhere/{number}/{start}", process.STALE - 1)
    assert not process.lives(f"elsewhere/{number}/{start}", process.STALE + 1)
    assert not process.lives("", process.STALE)


def test_what_a_dead_driver_left_is_closed_or_written_anew_and_a_living_ones_is_left_to_it(tmp_path):
    design, store, trials = trained(tmp_path)
    done, failed, begun, living = trials
    curves = {trial.id: rows_of(store.get(trial.id))[:1] for trial in trials}
    store.put(store.get(failed.id).model_copy(update={"status": "failed", "scores": {}}), {})
    (store.root / "trials" / begun.id / "result.json").unlink()
    uri, other, dead = local_uri(store.root), opened(store, design), opened(store, design)
    other.epochs(living, curves[living.id])
    for trial in (done, failed, begun):
        dead.epochs(trial, curves[trial.id])
    die(dead)
    assert statuses(all_runs(uri)) == ["RUNNING"] * 6
    assert Tracker(store, design).fill() == (2, 4)  # its result is stored, and its own driver is about to write it
    parents, children = runs(uri)
    assert statuses(parents) == ["FINISHED", "KILLED", "RUNNING"]
    found = {run.data.tags["ablate.trial"]: run.info.status for run in children}
    assert found == {done.id: "FINISHED", failed.id: "FAILED", begun.id: "KILLED", living.id: "RUNNING"}
    other.ended(living, store.get(living.id))
    other.close("FINISHED")
    assert Tracker(store, design).fill() == (3, 0)
    assert len(runs(uri)[0]) == 3


def test_track_beside_a_living_driver_opens_no_empty_run(tmp_path):
    design, store, trials = trained(tmp_path, seeds=1)
    mirror = opened(store, design)
    for trial in trials:
        mirror.epochs(trial, rows_of(store.get(trial.id))[:1])
    before = [run.info.run_id for run in all_runs(local_uri(store.root))]
    assert Tracker(store, design).fill() == (0, 0)
    assert [run.info.run_id for run in all_runs(local_uri(store.root))] == before
    assert mirror.fill()[0] == 2
    mirror.close("FINISHED")
    assert_mirrors(local_uri(store.root), store, tmp_path / "artifacts")


def test_a_driver_that_was_taken_for_dead_goes_on(tmp_path):
    """Its runs were closed, and one was dropped by hand; nothing of it is missing in the end."""
    design, store, trials = trained(tmp_path, seeds=1)
    mirror = opened(store, design)
    for trial in trials:
        mirror.epochs(trial, rows_of(store.get(trial.id))[:1])
    for run in (mirror.parent, mirror._live[trials[0].id].run):
        mirror.experiment.close(run, "KILLED")
    mirror.experiment.drop(mirror._live[trials[1].id].run)
    mirror.resume()
    mirror.epochs(trials[0], rows_of(store.get(trials[0].id))[:2])
    assert statuses(runs(local_uri(store.root))[0]) == ["RUNNING"]
    mirror.ended(trials[0], store.get(trials[0].id))
    assert mirror.fill()[::2] == (2, "")
    mirror.close("FINISHED")
    assert_mirrors(local_uri(store.root), store, tmp_path / "artifacts")


def test_the_writer_tries_again(tmp_path):
    """The tracker does not open at first; what was heard is written later, but epochs of ended trials are not kept."""
    design, store, trials = trained(tmp_path, seeds=1)
    away = threading.Event()

    def mirror():
        if not away.is_set():
            raise OSError("the cable\nis out")
        return opened(store, design)

    writer = Writer(store, mirror, "sqlite:///mlflow.db")
    for trial in trials:
        for row in store.get(trial.id).curve:
            writer.epoch(trial, row)
    assert [len(news.rows) for news in writer._news.values()] == [3, 3]
    writer.ended(trials[0], "done")
    assert [len(news.rows) for news in writer._news.values()] == [0, 3]
    while not writer._trouble:
        time.sleep(0.01)
    assert writer._trouble == "MLflow at sqlite:///mlflow.db: the cable is out"
    away.set()
    while writer._trouble or any(news.due for news in writer._news.values()):
        time.sleep(0.01)
    assert statuses(runs(local_uri(store.root))[1]) == ["FINISHED", "RUNNING"]
    writer.ended(trials[1], "done")
    assert writer.close("FINISHED") == ""
    assert_mirrors(local_uri(store.root), store, tmp_path / "artifacts")


def test_one_trial_that_cannot_be_written_does_not_stop_the_others(tmp_path):
    design, store, trials = trained(tmp_path, seeds=1)

    def mirror():
        mirror = opened(store, design)
        document = mirror.experiment.document

        def refused(run, name, content):
            if content.get("id") == trials[0].id:
                raise OSError("the bucket is full")
            document(run, name, content)

        mirror.experiment.document = refused
        return mirror

    writer = Writer(store, mirror, "sqlite:///mlflow.db")
    for trial in trials:
        writer.ended(trial, "done")
    assert "the bucket is full" in writer.close("FINISHED")
    writer._thread.join()
    parents, children = runs(local_uri(store.root))
    assert (statuses(parents), statuses(children)) == (["FINISHED"], ["FINISHED", "KILLED"])
    assert Tracker(store, design).fill() == (2, 1)
    assert_mirrors(local_uri(store.root), store, tmp_path / "artifacts")


@pytest.mark.slow
@pytest.mark.parametrize("mend", ["run", "track"])
def test_a_driver_that_is_killed_leaves_nothing_running(ablate, tmp_path, mend):
    """Killed in the middle of a trial; the next command mends, and a driver that is alive keeps its runs."""
    recipe = small_study()["recipe"]
    recipe["train"] |= {"epochs": 200}
    recipe["dataset"] = {"name": "noise", "train": 300}
    write_study(tmp_path, recipe=recipe, seeds=1, budget={"checkpoint_minutes": 0})
    driver = subprocess.Popen(
        [*COMMAND, "run", "small.yaml", "--local"], cwd=tmp_path, env=ablate.environment, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    store, uri = Store(tmp_path / "results"), local_uri(tmp_path / "results")
    try:
        while not (store.root / "mlflow.link").exists() or not runs(uri)[1] or not runs(uri)[1][0].data.metrics:
            assert driver.poll() is None
            time.sleep(0.5)
        run = ablate("track", "small.yaml")
        assert run.returncode == 0, run.stderr
        assert run.stdout.startswith("0 trials are in MLflow; 0 runs")
        assert statuses(all_runs(uri)) == ["RUNNING", "RUNNING"]
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    recipe["train"] |= {"epochs": 3}  # others: those that were begun are not gone on with
    write_study(tmp_path, recipe=recipe, seeds=1)
    run = ablate(mend, "small.yaml", *(["--local"] if mend == "run" else []))
    assert run.returncode == 0, run.stderr
    if mend == "track":
        assert run.stdout.startswith("0 trials are in MLflow; 2 runs")
    parents, children = runs(uri)
    assert statuses(parents + children) == (["FINISHED"] * 3 if mend == "run" else []) + ["KILLED", "KILLED"]


@pytest.mark.slow
def test_a_trackers_environment_does_not_hijack_the_parent(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    drive_here(tmp_path, seeds=1)
    parents, children = runs(local_uri(tmp_path / "results"))
    assert (len(parents), len(children)) == (1, 2)
