"""The mirror in MLflow, over a SQLite file; read back with MLflow's own client. Servers: test_tracking_servers.py."""

import math
import os
import shutil
import signal
import subprocess
import threading
import time

import pytest
from mirrored import QUIET, all_runs, assert_mirrors, client, history, runs, statuses
from servers import free_port
from small_studies import COMMAND, small_study, write_study

from ablate.errors import ServiceError
from ablate.machine import process
from ablate.running.drive import Where, drive, selected
from ablate.storage import Store
from ablate.study import Design, load
from ablate.tracking import Tracker, Writer
from ablate.tracking.experiment import Experiment, make_file
from ablate.tracking.mirror import Mirror, local_uri
from ablate.tracking.tracker import check_reachable
from ablate.training.run_trial import run_trial
from ablate.training.site import Site

pytestmark = [pytest.mark.usefixtures("small_shelf"), *QUIET]


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    """An empty tracker: MLflow takes longer to make its tables than most tests take."""
    place = tmp_path_factory.mktemp("tables")
    Experiment(local_uri(place), "empty", place)
    return place / "mlflow.db"


@pytest.fixture(autouse=True)
def prepared(tables, tmp_path):
    """The results folder of each test, with a tracker that has its tables."""
    (tmp_path / "results").mkdir(exist_ok=True)
    shutil.copy(tables, tmp_path / "results" / "mlflow.db")


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


def drive_here(tmp_path, *, tracker=None, experiment=None, screen=None, **changes):
    study = load(write_study(tmp_path, **changes))
    where = Where(Store(tmp_path / "results"), here=True, tracker=tracker, experiment=experiment)
    return study, drive(Design(study), selected(Design(study), ()), where, screen or Silent())


def trained(tmp_path, **changes):
    """A study, its store and its trials, trained without a tracker."""
    study, store = load(write_study(tmp_path, **changes)), Store(tmp_path / "results")
    trials = selected(Design(study), ())
    for trial in trials:
        list(run_trial(trial, Site(results=store.root.resolve())))
    return study, store, trials


def opened(store, study, session: str, **options) -> Mirror:
    mirror = Mirror(store, study, session=session, **options)
    mirror.open([], [])
    return mirror


def rows_of(result):
    return [(row, 1_700_000_000_000 + row.epoch) for row in result.curve]


def test_a_class_may_be_called_anything(tmp_path):
    experiment = Experiment(local_uri(tmp_path / "results"), "names", tmp_path)
    run = experiment.create({"a\0b; c": "zero\0byte"})
    names = {"IoU/traffic light": 0.5, "IoU/door;double (door)": 0.25, "IoU/..": 0.75, "no": math.nan, "end": math.inf}
    experiment.log(run, [(name, value, 1, 1) for name, value in names.items()])
    assert client(experiment.uri).get_run(run).data.metrics == {
        "IoU/traffic light": 0.5, "IoU/door_double _door_": 0.25, "IoU/_": 0.75,
    }  # fmt: skip
    assert client(experiment.uri).get_run(run).data.tags["a_b_ c"] == "zero\N{REPLACEMENT CHARACTER}byte"


def test_a_run_is_mirrored_once(tmp_path):
    study, outcome = drive_here(tmp_path)
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
    assert not list((tmp_path / "results").glob("mlflow.behind*"))

    # `track` finds all there; a larger study adds its own and links the old ones.
    assert Tracker(store, Design(study)).fill() == (4, 0)
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
    """Ctrl-C twice after the first epoch."""

    def epoch(self, trial, row):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow
def test_an_interrupted_run_is_killed_and_its_trial_taken_up_again(tmp_path):
    _, outcome = drive_here(tmp_path, screen=Stopped(), budget={"checkpoint_minutes": 0})
    assert (outcome.stopped, outcome.status) == ("Ctrl-C", 130)
    store, uri = Store(tmp_path / "results"), local_uri(tmp_path / "results")
    parents, children = runs(uri)
    assert (statuses(parents), statuses(children)) == (["KILLED"], ["KILLED"])
    drive_here(tmp_path)
    parents, children = runs(uri)
    assert statuses(parents) == ["FINISHED", "KILLED"]
    assert len(children) == 4  # the killed one went on under its own name
    assert_mirrors(uri, store, tmp_path / "artifacts")


def test_a_tracker_that_is_away_costs_no_training(tmp_path):
    """Results are all there, with one line of trouble; `track` fills in later."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    study, outcome = drive_here(tmp_path, tracker=f"sqlite:///{blocked}/below/mlflow.db")
    assert outcome.mirror_trouble
    assert "\n" not in outcome.mirror_trouble
    store, uri = Store(tmp_path / "results"), local_uri(tmp_path / "results")
    assert len(store.read().results) == 4
    assert list(store.root.glob("mlflow.behind*"))
    with pytest.raises(ServiceError, match="MLflow at sqlite:"):
        Tracker(store, Design(study), f"sqlite:///{blocked}/below/mlflow.db").fill()
    _, again = drive_here(tmp_path)  # nothing to train, and the default tracker is filled in
    assert again.planned == []
    assert again.mirror_trouble == ""
    assert not list(store.root.glob("mlflow.behind*"))
    assert_mirrors(uri, store, tmp_path / "artifacts")
    assert Tracker(store, Design(study)).fill() == (4, 0)
    assert len(runs(uri)[1]) == 4


def test_a_good_end_forgets_no_other_driver(tmp_path):
    """Two drivers share a study; the second is killed after the first ended well: its marks and runs are taken over."""
    study, store, trials = trained(tmp_path, seeds=1)
    uri = local_uri(store.root)
    tracker = Tracker(store, Design(study))
    second = subprocess.Popen(["sleep", "600"])
    mark = store.root / f"{tracker._about}.second"
    mark.write_text(f"{process._machine()}/{second.pid}/{process._start(second.pid)}")
    writer = tracker.follow([trials[0]], [])
    writer.ended(trials[0])
    assert tracker.finish(writer, "FINISHED") == ""
    assert list(store.root.glob("mlflow.behind*")) == [mark]
    assert tracker.fill_if_behind() == ""
    assert len(runs(uri)[1]) == 1  # the second may still write its own
    second.kill()
    second.wait()
    assert tracker.fill_if_behind() == ""
    assert not list(store.root.glob("mlflow.behind*"))
    assert_mirrors(uri, store, tmp_path / "artifacts")


def test_what_is_said_twice_is_kept_once(tmp_path):
    """A request whose answer was lost is made again: by the same mirror, and by one that was opened anew."""
    study, store, trials = trained(tmp_path, seeds=1)
    results = [store.get(trial.id) for trial in trials]
    mirror = opened(store, study, "a" * 32)
    for trial, result in zip(trials, results, strict=True):
        mirror.started(trial)
        mirror.epochs(trial, rows_of(result)[:2])
        mirror.children[trial.id].epoch = 0  # as if no answer had come
        mirror.epochs(trial, rows_of(result)[:2])
    mirror = opened(store, study, "a" * 32)
    for trial, result in zip(trials, results, strict=True):
        mirror.started(trial)
        mirror.epochs(trial, rows_of(result))
        mirror.ended(trial, result)
        mirror.children[trial.id].holds = ("", "")
        mirror.ended(trial, result)
    mirror.close("FINISHED")
    assert len(runs(local_uri(store.root))[0]) == 1
    assert_mirrors(local_uri(store.root), store, tmp_path / "artifacts")


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

    for method in ("create", "log", "document", "close", "reopen", "drop"):
        setattr(experiment, method, cuttable(getattr(experiment, method)))


@pytest.mark.parametrize("calls", range(8))
def test_a_run_cut_short_at_any_point_is_completed(tmp_path, calls):
    """The tracker is away after each possible number of calls, and the driver dies; the next session mends it."""
    study, store, trials = trained(tmp_path, seeds=1)
    uri, trial, result = local_uri(store.root), trials[0], store.get(trials[0].id)
    (store.root / "trials" / trials[1].id / "result.json").unlink()
    mirror = opened(store, study, "a" * 32)
    mirror.experiment.log(mirror.parent, tags={"ablate.process": dead_mark()})
    cut(mirror.experiment, calls)

    def mirrored() -> None:
        mirror.started(trial)  # a run, its parameters
        mirror.epochs(trial, rows_of(result)[:1])
        mirror.ended(trial, result)  # other epochs, the summary, the status, two documents, the result's mark

    with pytest.raises(OSError, match="cable"):
        mirrored()
    assert Tracker(store, Design(study)).fill()[0] == 1
    assert statuses(runs(uri)[0]) == ["FINISHED", "KILLED"]
    assert_mirrors(uri, store, tmp_path / "artifacts")


def test_another_try_takes_the_place_of_the_first(tmp_path):
    """Failed in its second epoch with other losses, then done: the run shows the latter curve alone."""
    study, store, trials = trained(tmp_path, seeds=1)
    uri, mirror = local_uri(store.root), opened(store, study, "a" * 32)
    for trial in trials:
        result = store.get(trial.id)
        curve = [row.model_copy(update={"loss": row.loss + 1}) for row in result.curve[:2]]
        first = result.model_copy(
            update={
                "status": "failed",
                "curve": curve,
                "scores": {},
                "reason": "bad luck",
                "finished": "2025-01-01T00:00:00+00:00",
            }
        )
        mirror.started(trial)
        mirror.epochs(trial, rows_of(first))
        mirror.ended(trial, first)
    assert statuses(runs(uri)[1]) == ["FAILED", "FAILED"]
    live, late = trials
    mirror.started(live)
    assert statuses(runs(uri)[1]) == ["FAILED", "FAILED"]  # not before it is known to be trained again
    mirror.epochs(live, rows_of(store.get(live.id))[:1])
    assert statuses(runs(uri)[1]) == ["FAILED", "RUNNING"]
    mirror.ended(live, store.get(live.id))
    mirror.close("FINISHED")
    assert Tracker(store, Design(study)).fill() == (2, 0)  # the other one was trained while no tracker was there
    assert_mirrors(uri, store, tmp_path / "artifacts")
    assert late.id in {run.data.tags["ablate.trial"] for run in runs(uri)[1]}


def test_a_run_that_shows_another_curve_is_replaced(tmp_path):
    """Epochs seen live, lost with their machine, and trained again with other numbers."""
    study, store, trials = trained(tmp_path, seeds=1)
    mirror = opened(store, study, "a" * 32)
    for trial in trials:
        result = store.get(trial.id)
        mirror.epochs(trial, [(row.model_copy(update={"loss": row.loss + 1}), 1) for row in result.curve[:2]])
        mirror.ended(trial, result)
    mirror.close("FINISHED")
    assert_mirrors(local_uri(store.root), store, tmp_path / "artifacts")


def test_the_end_of_a_try_whose_result_was_lost_is_not_doubled(tmp_path):
    """The driver died before it marked the run; the result was damaged, and came out the same, later and slower."""
    study, store, trials = trained(tmp_path, seeds=1)
    for trial in trials:
        result = store.get(trial.id)
        first = result.model_copy(update={"finished": "2025-01-01T00:00:00+00:00", "seconds": result.seconds / 2})
        mirror = opened(store, study, trial.id * 2)
        mirror.experiment.log(mirror.parent, tags={"ablate.process": dead_mark()})
        cut(mirror.experiment, 5 if trial is trials[0] else 6)  # after its summary, or its status too
        with pytest.raises(OSError, match="cable"):
            mirror.ended(trial, first)
    Tracker(store, Design(study)).fill()
    assert_mirrors(local_uri(store.root), store, tmp_path / "artifacts")


def test_second_runs_of_one_trial_are_dropped(tmp_path):
    """A request to open a run seemed lost, another was made, and both were carried out."""
    study, store, trials = trained(tmp_path, seeds=1)
    mirror = opened(store, study, "a" * 32)
    for _ in range(2):
        mirror.children.clear()
        mirror._begin(trials[0])
    mirror.epochs(trials[0], rows_of(store.get(trials[0].id)))
    mirror.close("KILLED")
    assert len(runs(local_uri(store.root))[1]) == 2
    assert Tracker(store, Design(study)).fill() == (2, 1)
    assert_mirrors(local_uri(store.root), store, tmp_path / "artifacts")


def dead_mark() -> str:
    """Of a process that ran on this machine."""
    process = subprocess.Popen(["sleep", "60"])
    mark = process.own().split("/")
    mark[1:] = [str(process.pid), process._start(process.pid)]
    assert process.lives("/".join(mark), 1e9)
    process.kill()
    while process.lives("/".join(mark), 0):  # dead before anyone asks how it ended
        time.sleep(0.01)
    process.wait()
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


def test_what_a_dead_driver_left_is_mended_and_a_living_ones_is_not(tmp_path):
    study, store, trials = trained(tmp_path)
    done, failed, begun, living = trials
    result = store.get(failed.id)
    store.put(result.model_copy(update={"status": "failed", "scores": {}}), {})
    for trial in (begun, living):
        (store.root / "trials" / trial.id / "result.json").unlink()
    uri = local_uri(store.root)
    other, dead = opened(store, study, "a" * 32), opened(store, study, "b" * 32)
    dead.experiment.log(dead.parent, tags={"ablate.process": dead_mark()})
    other.started(living)
    for trial in (done, failed, begun):
        dead.started(trial)
    assert statuses(all_runs(uri)) == ["RUNNING"] * 6
    mirror = Mirror(store, study, session="c" * 32)
    assert mirror.reconcile() == 4
    assert mirror.reconcile() == 0
    parents, children = runs(uri)
    assert statuses(parents) == ["KILLED", "RUNNING"]
    found = {run.data.tags["ablate.trial"]: run.info.status for run in children}
    assert found == {done.id: "FINISHED", failed.id: "FAILED", begun.id: "KILLED", living.id: "RUNNING"}

    # Another driver leaves the living one's run alone, but for a result of its own to be written by whoever has it.
    mirror.open([], [])
    mirror.started(living)
    mirror.ended(living, store.get(done.id).model_copy(update={"seed": living.seed}))
    mirror.busy(living)
    mirror.close("FINISHED")
    parents, children = runs(uri)
    assert statuses(parents) == ["FINISHED", "KILLED", "RUNNING"]
    assert next(run for run in children if run.data.tags["ablate.trial"] == living.id).info.status == "RUNNING"


def test_a_driver_that_was_taken_for_dead_goes_on(tmp_path):
    study, store, trials = trained(tmp_path, seeds=1)
    mirror = opened(store, study, "a" * 32)
    mirror.started(trials[0])
    for run in (mirror.parent, mirror.children[trials[0].id].run):
        mirror.experiment.close(run, "KILLED")
    mirror = opened(store, study, "a" * 32)
    mirror.epochs(trials[0], rows_of(store.get(trials[0].id))[:1])
    assert statuses(all_runs(local_uri(store.root))) == ["RUNNING", "RUNNING"]


def test_a_trial_that_another_driver_has_leaves_no_run_of_ours(tmp_path):
    study, store, trials = trained(tmp_path, seeds=1)
    mirror = opened(store, study, "a" * 32)
    mirror.started(trials[0])
    mirror.busy(trials[0])
    mirror.busy(trials[0])
    assert runs(local_uri(store.root))[1] == []


def test_the_writer_tries_again_and_keeps_the_rest_small(tmp_path):
    """The tracker does not open at first; what was heard is written later, but epochs of ended trials are not kept."""
    study, store, trials = trained(tmp_path, seeds=1)
    away = threading.Event()

    def mirror():
        if not away.is_set():
            raise OSError("the cable\nis out")
        return opened(store, study, "a" * 32)

    writer = Writer(store, mirror)
    for trial in trials:
        writer.started(trial)
        for row in store.get(trial.id).curve:
            writer.epoch(trial, row)
    assert [len(news.rows) for news in writer._news.values()] == [3, 3]
    for trial in trials:
        writer.ended(trial)
    assert [len(news.rows) for news in writer._news.values()] == [0, 0]
    while not writer._down:
        time.sleep(0.01)
    assert writer._down == "OSError: the cable is out"
    away.set()
    while writer._down:
        time.sleep(0.01)
    assert writer.close("FINISHED", 300) == ""
    assert_mirrors(local_uri(store.root), store, tmp_path / "artifacts")


def test_one_trial_that_cannot_be_written_does_not_stop_the_others(tmp_path):
    study, store, trials = trained(tmp_path, seeds=1)

    def mirror():
        mirror = opened(store, study, "a" * 32)
        document = mirror.experiment.document

        def refused(run, name, content):
            if content.get("id") == trials[0].id:
                raise OSError("the bucket is full")
            document(run, name, content)

        mirror.experiment.document = refused
        return mirror

    writer = Writer(store, mirror)
    for trial in trials:
        writer.ended(trial)
    while writer._news:
        time.sleep(0.01)
    assert "the bucket is full" in writer.close("FINISHED", 300)
    parents, children = runs(local_uri(store.root))
    assert (statuses(parents), statuses(children)) == (["FINISHED"], ["FINISHED", "FINISHED"])
    assert Tracker(store, Design(study)).fill() == (2, 0)
    assert_mirrors(local_uri(store.root), store, tmp_path / "artifacts")


@pytest.mark.slow
def test_an_experiment_may_be_named(tmp_path):
    drive_here(tmp_path, seeds=1, experiment="elsewhere")
    assert len(runs(local_uri(tmp_path / "results"), "elsewhere")[1]) == 2


def test_a_link_holds_no_password(tmp_path):
    experiment = Experiment(local_uri(tmp_path / "results"), "links", tmp_path)
    experiment.uri = "https://lab:secret@tracker.example:5000/"
    assert experiment.link() == f"https://tracker.example:5000/#/experiments/{experiment.id}"


def test_a_server_that_is_not_there_is_known_before_training(tmp_path):
    uri = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ServiceError, match=f"MLflow at {uri} cannot be reached"):
        check_reachable(uri)
    with pytest.raises(ServiceError):
        drive_here(tmp_path, tracker=uri)
    assert not list((tmp_path / "results").glob("trials/*"))
    for bad in ("http://", "http://127.0.0.1:99999", "http://localhost:50OO", "https://no.such.host.invalid"):
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


@pytest.mark.parametrize("what", ["not utf-8", "folder", "pipe"])
def test_files_of_a_strangers_folder_do_not_stop_a_run(tmp_path, what):
    """What a server's name and a driver's mark would be."""
    (tmp_path / "results").mkdir(exist_ok=True)
    design = Design(load(write_study(tmp_path)))
    for name in (
        "mlflow.link",
        f"{Tracker(Store(tmp_path / 'results'), design)._about}.x",
    ):
        path = tmp_path / "results" / name
        if what == "pipe":
            os.mkfifo(path)
        elif what == "folder":
            path.mkdir()
        else:
            path.write_bytes(b"\xff\xfe")
    if what == "not utf-8":
        _, outcome = drive_here(tmp_path, seeds=1)
        assert outcome.mirror_trouble == ""
    tracker = Tracker(
        Store(tmp_path / "results"), Design(load(write_study(tmp_path))), f"http://127.0.0.1:{free_port()}"
    )
    with pytest.raises(ServiceError, match="cannot be reached"):
        tracker.refuse_unreachable()


def test_a_tracker_that_leads_elsewhere_is_not_written(tmp_path):
    """Its SQLite file is a link, or says that its artifacts lie in another place."""
    elsewhere = tmp_path / "elsewhere"
    Experiment(local_uri(elsewhere), "small", elsewhere / "mlflow")
    before = sorted(elsewhere.rglob("*"))
    (tmp_path / "results").mkdir(exist_ok=True)
    (tmp_path / "results" / "mlflow.db").unlink(missing_ok=True)
    (tmp_path / "results" / "mlflow.db").symlink_to(elsewhere / "mlflow.db")
    assert "a link that leads out of" in drive_here(tmp_path, seeds=1)[1].mirror_trouble
    (tmp_path / "results" / "mlflow.db").unlink()
    shutil.copy(elsewhere / "mlflow.db", tmp_path / "results" / "mlflow.db")
    assert "its files lie in " in drive_here(tmp_path, seeds=1)[1].mirror_trouble
    assert sorted(elsewhere.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.0, 0.2, 0.5])
def test_tables_are_made_whole_or_not_at_all(tmp_path, after):
    """A process that is killed while MLflow makes them leaves nothing that stops the next one."""
    place = tmp_path / "place"
    code = "import sys, pathlib, ablate.experiment as e; e.make_file(pathlib.Path(sys.argv[1], 'mlflow.db'))"
    command = [COMMAND[0], "-c", code, place]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True, env=environment) as process:
        while not list(tmp_path.glob("ablate-mlflow-*/mlflow.db")) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(after)
        os.killpg(process.pid, signal.SIGKILL)
    make_file(place / "mlflow.db")
    assert Experiment(local_uri(place), "name", place).children() == []
