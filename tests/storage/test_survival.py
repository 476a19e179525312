"""Whatever dies or breaks, a trial goes on from its last good state and ends as if nothing had happened."""

import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
from s3fs import S3FileSystem
from small_studies import COMMAND, TESTS, small_study, write_study
from stored import ARRAYS, result, trial
from trained import at

from ablate.errors import StoreError
from ablate.running.outcome import dead
from ablate.storage import Result, Store, cleaning, lease, notes, sweep
from ablate.study import Design, load
from ablate.training.run_trial import run_trial
from ablate.training.site import Site

pytestmark = pytest.mark.usefixtures("small_shelf")


def numbers(where: str) -> dict[tuple[str, int], tuple]:
    """What a place holds, bit for bit, without what time changes."""
    store, found = Store(where), {}
    for one in store.read().results.values():
        arrays = {name: value.tobytes() for name, value in store.statistics(one.id).items()}
        curve = [(row.epoch, row.loss, row.lr) for row in one.curve]
        found[one.recipe.model.knobs["depth"], one.seed] = (one.status, one.scores, curve, arrays)
    return found


def test_results_on_an_object_store_equal_those_of_a_folder(called, s3, tmp_path):
    study = write_study(tmp_path)
    status, out, err = called("run", study, "--local", "--results", s3)
    assert status == 0, err
    assert called("run", study, "--local", "--results", "here")[0] == 0
    assert len(numbers("here")) == 4
    assert numbers(s3) == numbers("here")
    local = tmp_path / "results-of" / s3.replace("://", "/")
    assert (local / "mlflow.db").exists()
    assert f"{local.relative_to(tmp_path)}/reports/small/report.md" in out
    status, out, err = called("status", study, "--results", s3, "--json")
    assert out.count('"done"') == 4
    assert f"4 of 4 trials done in {s3}" in err
    one = next(iter(Store(s3).read().results.values()))
    assert called("show", one.id[:8], "--results", s3)[0] == 0
    assert "4 results taken in" in called("import", "here", "--results", f"{s3}/copy")[1]
    assert numbers(f"{s3}/copy") == numbers("here")
    names = {name.rpartition("/")[2] for name in Store(s3).place.sizes("trials")}
    assert names == {"result.json", "per_image.npz"}


@pytest.mark.slow
def test_workers_of_ray_write_to_an_object_store(ablate, s3, tmp_path):
    study = write_study(tmp_path)
    run = ablate("run", study, "--results", s3, env={name: os.environ[name] for name in os.environ if "AWS" in name})
    assert run.returncode == 0, run.stderr
    assert "4 trials ran, none failed" in run.stderr
    here = ablate("run", study, "--local", "--results", "here")
    assert here.returncode == 0, here.stderr
    assert numbers(s3) == numbers(str(tmp_path / "here"))


WORKER = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from ablate.study import Design
from ablate.training.run_trial import run_trial
from ablate.study import load
from trained import at
trial = Design(load({file!r})).trials[0]
for event in run_trial(trial, at({where!r}, checkpoint_minutes=0, owner={owner!r})):
    if event.epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("owner", ["", "one driver"])
def test_a_holder_is_killed_and_another_goes_on(s3, tmp_path, monkeypatch, owner):
    """A worker of the same driver goes on at once, any other when the lease has expired."""
    recipe = small_study()["recipe"]
    recipe["train"] |= {"epochs": 5}
    study = write_study(tmp_path, recipe=recipe)
    first = Design(load(study)).trials[0]
    script = WORKER.format(tests=str(TESTS), file=str(study), where=s3, owner=owner)
    killed = subprocess.run([sys.executable, "-c", script], env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    store = Store(s3)
    assert store.place.is_held(store.name(first.id))
    if not owner:
        monkeypatch.setattr(lease, "EXPIRY", 3.0)
        monkeypatch.setattr(lease, "POLL", 0.2)
    *_, end = run_trial(first, Site(results=s3, owner=owner))
    *_, calm = run_trial(first, Site(results=str(tmp_path / "calm")))
    assert isinstance(end, Result)
    assert [row.loss for row in end.curve] == [row.loss for row in calm.curve]
    assert end.curve[0].seconds != calm.curve[0].seconds
    assert numbers(s3) == numbers(str(tmp_path / "calm"))
    assert len(store.place.sizes("trials")) == 2


def begun(tmp_path, where: str, epochs: int):
    """A trial of 5 epochs, stopped after some of them."""
    recipe = small_study()["recipe"]
    recipe["train"] |= {"epochs": 5}
    first = Design(load(write_study(tmp_path, recipe=recipe))).trials[0]
    events = run_trial(first, at(where, checkpoint_minutes=0))
    rows = [next(events) for _ in range(epochs)]
    events.close()
    return first, rows


def cut_short(store: Store, name: str) -> None:
    content = store.place.read(name)
    store.place.write(name, content[: len(content) // 2])


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_damaged_state_is_named_and_the_one_before_is_gone_on_from(called, request, tmp_path, kind):
    where = request.getfixturevalue("s3") if kind == "s3" else str(tmp_path / "results")
    first, rows = begun(tmp_path, where, 3)
    store = Store(where)
    cut_short(store, store.name(first.id, "state"))
    status, out, err = called("status", tmp_path / "small.yaml", "--results", where, "--json")
    assert status == 0
    assert "begun" in out
    assert f"damaged: {where}/trials/{first.id}/state: cut short" in err
    events = run_trial(first, at(where, checkpoint_minutes=0))
    again = [next(events) for _ in range(3)]
    assert again[:2] == rows[:2]  # the very rows, with their times: they were not trained again
    assert (again[2].loss, again[2] != rows[2]) == (rows[2].loss, True)
    events.close()
    assert f"damaged: {where}/trials/{first.id}/state.damaged: was renamed" in called(
        "status", tmp_path / "small.yaml", "--results", where
    )[2]  # fmt: skip
    *_, end = run_trial(first, Site(results=where))
    assert end.env["damaged states"] == "state"
    *_, calm = run_trial(first, Site(results=str(tmp_path / "calm")))
    assert "damaged states" not in calm.env
    assert numbers(where) == numbers(str(tmp_path / "calm"))
    assert "damaged: " not in called("status", tmp_path / "small.yaml", "--results", where)[2]


def test_two_damaged_states_are_named_and_the_trial_starts_anew(tmp_path):
    first, rows = begun(tmp_path, str(tmp_path / "results"), 3)
    store = Store(tmp_path / "results")
    for state in ("state", "state.previous"):
        cut_short(store, store.name(first.id, state))
    start, *_, end = run_trial(first, Site(results=str(tmp_path / "results")))
    assert start.seconds != rows[0].seconds
    assert end.env["damaged states"] == "state, state.previous"


def test_a_damaged_result_is_named_and_made_again(tmp_path):
    first, _ = begun(tmp_path, str(tmp_path / "results"), 1)
    *_, before = run_trial(first, Site(results=str(tmp_path / "results")))
    store = Store(tmp_path / "results")
    cut_short(store, store.name(first.id, "result.json"))
    assert len(store.read().damaged) == 1
    *_, end = run_trial(first, Site(results=str(tmp_path / "results")))
    assert (end.scores, end.env["damaged results"]) == (before.scores, "result.json")
    assert store.read().damaged == []


# -- no room ---------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_while_training_stops_the_trial_and_room_lets_it_go_on(tmp_path, tiny_disk):
    recipe = small_study()["recipe"]
    recipe["model"]["width"] = 64  # states of some tens of kilobytes
    first = Design(load(write_study(tmp_path, recipe=recipe))).trials[0]
    place = at(str(tiny_disk / "results"), checkpoint_minutes=0)
    events = run_trial(first, place)
    rows = [next(events)]
    filler = tiny_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(b"x" * 2**20)
    with pytest.raises(StoreError, match=r"trials/\w+/state: no room left on the disk"):
        list(events)
    assert not list(tiny_disk.rglob(".*"))
    filler.unlink()
    again = list(run_trial(first, place))
    assert again[0] == rows[0]
    *_, calm = run_trial(first, Site(results=str(tmp_path / "calm")))
    assert again[-1].scores == calm.scores


@pytest.mark.slow
def test_a_run_that_may_not_write_its_states_is_one_line(tmp_path, ablate):
    """Files above a size are refused by the system, as a quota does; the next run has no such limit."""
    recipe = small_study()["recipe"]
    recipe["model"]["width"] = 512
    study = write_study(tmp_path, recipe=recipe, seeds=1, factors={"depth": {"at": "model.depth", "levels": [1, 2]}})

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    command = [*COMMAND, "run", study, "--local"]
    run = subprocess.run(
        command, cwd=tmp_path, env=ablate.environment, preexec_fn=limited, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2, run.stderr
    assert "/state: File too large" in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr
    assert not list((tmp_path / "results").rglob(".*"))
    assert Store(tmp_path / "results").read().results == {}
    assert ablate("run", study, "--local").returncode == 0


# -- what the driver writes, and where results cannot be ---------------------------------------------------------


def test_a_trial_whose_process_died_fails_unless_it_is_stored_or_held(tmp_path):
    store = Store(tmp_path / "results")
    with store.lock(trial().id):
        assert dead(store, trial(), "the process died", owner="driver") == "busy"
    assert store.get(trial().id) is None
    assert dead(store, trial(), "the process died", owner="driver") == "failed"
    assert store.get(trial().id).reason == "the process died"
    store.put(result(1), ARRAYS)
    assert dead(store, trial(1), "the process died", owner="driver") == "done"
    assert store.get(trial(1).id).status == "done"


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("s4://bucket/x", "no kind of place 's4'; did you mean 's3'?"),
        ("s3://key:secret@bucket/x", "holds neither credentials"),
        ("s3://bucket/../x", "nor .."),
        ("s3://absent-bucket/x", "bucket does not exist"),
        ("gs://bucket/x", "the package for gs:// is missing"),
    ],
)
def test_a_place_that_cannot_be_is_one_line(called, s3, tmp_path, where, words):
    for command in ("status", "run"):
        status, out, err = called(command, write_study(tmp_path), "--results", where)
        assert (status, out, err.count("\n")) == (2, "", 1), err
        assert words in err
        assert "secret" not in err


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_one_line(called, s3, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    S3FileSystem.clear_instance_cache()
    status, _, err = called("status", write_study(tmp_path), "--results", s3.replace("some", "other"))
    assert (status, err.count("\n")) == (2, 1), err
    assert "Could not connect" in err


def test_credentials_that_are_missing_are_one_line(called, s3, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    S3FileSystem.clear_instance_cache()
    status, _, err = called("status", write_study(tmp_path), "--results", s3.replace("some", "third"))
    assert (status, err.count("\n")) == (2, 1), err
    assert "credentials" in err.lower()


# -- house-keeping ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_gc_drops_what_nobody_needs_and_nothing_else(called, request, tmp_path, kind):
    where = request.getfixturevalue("s3") if kind == "s3" else str(tmp_path / "results")
    study = write_study(tmp_path)
    assert called("run", study, "--local", "--results", where)[0] == 0
    store, (one, two, three, four) = Store(where), Design(load(study)).trials
    place, before = store.place, store.place.sizes("trials")
    place.write(store.name(one.id, "state"), b"x" * 1000)
    place.write(store.name(two.id, ".result.json.123"), b"x" * 100)
    place.write(store.name("ab", "per_image.npz"), b"x" * 10)
    place.write(".gitignore", b"*")
    place.write(store.name("cd", "state"), b"x")  # begun
    place.write(store.name(three.id, "state"), b"x")  # held
    place.write(store.name(four.id, "state"), b"x")  # its result is damaged
    store.put(result(9, status="failed"), {})
    place.write(store.name(trial(9).id, "state"), b"x")  # may be tried again
    cut_short(store, store.name(four.id, "result.json"))
    with store.lock(three.id) as hold:
        assert hold
        full = place.sizes("trials")
        status, out, err = called("gc", "--all", "--dry-run", "--results", where)
        assert (status, place.sizes("trials")) == (0, full)
        assert "would free 1,110 bytes of 3 trials" in err
        assert "1 trials are held" in err
        assert "neither result nor state" in out
        assert "freed 1,100 bytes of 2 trials" in called("gc", study, "--results", where)[2]
        assert "freed 10 bytes of 1 trials" in called("gc", "--all", "--results", where)[2]
        assert "freed 0 bytes of 0 trials" in called("gc", "--all", "--results", where)[2]
        assert store.name(three.id, "state") in place.sizes("trials")
    after = place.sizes("trials")
    extra = {store.name(three.id, "state"), store.name(four.id, "state"), store.name("cd", "state")}
    extra |= {name for name in after if trial(9).id in name}
    assert store.name(trial(9).id, "state") in after
    assert after.keys() == before.keys() | extra
    assert "ab" not in place.children("trials")
    assert ".gitignore" in place.children("")
    assert len(store.read().results) == 4


def test_gc_takes_the_questions_of_drivers_that_were_killed(called, tmp_path, monkeypatch):
    store = Store(tmp_path / "results")
    store.create()
    store.place.write("preflight/12", b"x")
    assert called("gc", "--all")[0] == 0
    assert store.place.read("preflight/12") == b"x"  # one may be at work
    monkeypatch.setattr(cleaning, "HOUR", -1)
    assert "unfinished writes" in called("gc", "--all")[1]
    assert store.place.read("preflight/12") is None


def test_gc_asks_for_a_study_or_all(called, tmp_path):
    for arguments in ([], [write_study(tmp_path), "--all"]):
        assert called("gc", *arguments)[::2] == (2, "ablate: gc: name a study, or --all\n")


def test_expired_leases_go(s3, called, monkeypatch):
    store = Store(s3)
    store.put(result(), ARRAYS)
    store.place.write(store.name(trial().id, "lease.000007"), b"{}")
    assert "1 trials are held" in called("gc", "--all", "--results", s3)[2]
    monkeypatch.setattr(lease, "EXPIRY", -100.0)
    assert "expired leases" in called("gc", "--all", "--results", s3, "--dry-run")[1]
    monkeypatch.setattr(lease, "EXPIRY", -100.0)
    assert "freed 2 bytes of 1 trials" in called("gc", "--all", "--results", s3)[2]
    assert len(store.place.sizes("trials")) == 2


def test_status_says_what_trials_take(called, tmp_path):
    study = write_study(tmp_path)
    assert called("run", study, "--local")[0] == 0
    store = Store("results")
    store.put(result(9), {"closeness/error": np.zeros(3)})
    _, out, err = called("status", study, "--csv")
    header, *rows = (line.split(",") for line in out.splitlines())
    own = sum(int(row[header.index("bytes")]) for row in rows)
    total = sum(store.place.sizes("trials").values())
    assert 0 < own < total
    assert f"{own:,} bytes, {total:,} with other trials" in err


# -- a cleaner beside trials that start ------------------------------------------------------------------------

TAKER = """
import os, sys
from ablate.storage import Store
store, trial, mark = Store(sys.argv[1]), "a" * 16, sys.argv[2]
held = 0
while held < int(sys.argv[3]):
    with store.lock(trial) as hold:  # as a worker takes its trial
        if hold:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))  # raises where another process holds it too
            held += 1
            os.unlink(mark)
print(held)
"""


def test_a_cleaner_and_trials_that_start_harm_each_other_in_nothing(tmp_path):
    """A lock file that a killed run left is removed while two workers take the trial: nobody raises, one holds."""
    store = Store(tmp_path / "results")
    store.create()
    command = [sys.executable, "-c", TAKER, str(store.root), str(tmp_path / "held"), "200"]
    takers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    swept = 0
    while any(taker.poll() is None for taker in takers):
        swept += len(sweep(store, None, dry=False)[0])
        notes.leave(store, "a" * 16, notes.CANCEL, "now")  # nor does one who writes a wish there
    assert swept
    for taker in takers:
        out, err = taker.communicate()
        assert (out, err) == ("200\n", "")
