"""One result of a trial for each kind of device: where it lies, who finds it, and which one evidence rests on."""

import json

import numpy as np
import pytest
from small_studies import TESTS, write_study
from stored import ARRAYS, result, trial

from ablate.analysis import gather
from ablate.errors import StoreError
from ablate.storage import (
    RESULT,
    Result,
    Store,
    begun,
    damage,
    holdings,
    imported,
    kind_of,
    kind_to_train,
    sweep,
    whose,
)
from ablate.storage.result import Imported
from ablate.storage.shelf import Shelf
from ablate.study import Budget, Design, load
from ablate.training.run_trial import run_trial
from ablate.training.site import Site

pytestmark = pytest.mark.usefixtures("small_shelf")

PUBLISHED = TESTS / "published"
GPU = {"device": "NVIDIA H100 80GB HBM3"}


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path):
    return str(tmp_path / "results") if request.param == "folder" else request.getfixturevalue("s3")


def both(place: str) -> Store:
    """A trial's result of a CPU, then of a GPU."""
    store = Store(place)
    store.of("cpu").put(result(), ARRAYS)
    exact = result(env=GPU, scores={"closeness": 1.0, "near": 1.0})
    store.of("cuda").put(exact, {**ARRAYS, "closeness/error": np.zeros(5)})
    return store


def test_each_kind_has_a_place_and_statistics_of_its_own(place):
    store = both(place)
    assert store.place.read(f"trials/{trial().id}/{RESULT}") is not None
    assert store.place.read(f"second/cuda/{trial().id}/{RESULT}") is not None
    for kind, score, error in (("cpu", 0.5, 1.0), ("cuda", 1.0, 0.0)):
        mine = Store(place, kind)
        assert mine.get(trial().id).scores["closeness"] == score
        assert mine.read().results[trial().id].kind == mine.find(trial().id[:6]).kind == kind
        assert mine.statistics(trial().id)["closeness/error"].max() == error
    everything = store.read()
    assert len(everything.everything) == 2
    assert everything.results[trial().id].kind == store.find(trial().id).kind == "cpu"  # which was there first


def test_results_of_one_kind_lie_where_they_always_lay(tmp_path):
    store = Store(tmp_path, "cuda")
    store.put(result(env=GPU), ARRAYS)
    assert (tmp_path / "trials" / trial().id / RESULT).exists()
    assert not (tmp_path / "second").exists()
    assert Store(tmp_path, "cpu").get(trial().id) is None


def test_a_trial_that_another_kind_has_finished_trains_beside_it(tmp_path):
    """A GPU's result stands; one of the CPU is trained, and its states lie in its own folder."""
    Store(tmp_path).put(result(env=GPU), ARRAYS)
    site = Site(str(tmp_path), budget=Budget(checkpoint_minutes=0))
    events = run_trial(trial(), site)
    next(events)
    assert (tmp_path / "second" / "cpu" / trial().id / "state").exists()
    events.close()
    swept, _ = sweep(Store(tmp_path), None, dry=False)
    assert swept == []  # the state is of a trial that goes on
    assert begun({"state": 1})
    *_, last = run_trial(trial(), site)
    assert (last.kind, Store(tmp_path).get(trial().id).env) == ("cpu", GPU)
    assert [event.kind for event in run_trial(trial(), site)] == ["cpu"]  # and is not trained again
    assert not (tmp_path / "second" / "cpu" / trial().id / "state").exists()


def test_whoever_waits_for_a_place_that_another_kind_takes_goes_to_its_own(tmp_path):
    """Both kinds begin before there is any result."""
    cpu, cuda = Store(tmp_path, "cpu"), Store(tmp_path, "cuda")
    assert cpu.name(trial().id) == cuda.name(trial().id)
    with cuda.lock(trial().id) as hold:
        with cpu.lock(trial().id) as other:
            assert other is None
        cuda.put(result(env=GPU), ARRAYS, hold=hold)
    with cpu.lock(trial().id) as hold:
        cpu.put(result(), ARRAYS, hold=hold)
    assert {r.kind for r in Store(tmp_path).read().everything} == {"cpu", "cuda"}
    assert cpu.name(trial().id) == f"second/cpu/{trial().id}"


def test_housekeeping_sees_the_second_kind(tmp_path):
    store = both(str(tmp_path))
    folder = tmp_path / "second" / "cuda" / trial().id
    (folder / "state.damaged").write_bytes(b"x")
    (folder / "state").write_bytes(b"x")
    assert holdings(store)[trial().id]["second cuda state"] == 1
    assert len([line for line in damage(store) if str(folder) in line]) == 2
    swept, _ = sweep(store, {trial().id}, dry=False)
    assert [sorted(litter.documents) for litter in swept] == [["state", "state.damaged"]]
    assert Store(tmp_path, "cuda").get(trial().id) is not None
    (folder / RESULT).write_text("{}")
    assert len(Store(tmp_path).read().damaged) == 1


def test_import_takes_one_of_each_kind(tmp_path):
    source = both(str(tmp_path / "published"))
    mine = Store(tmp_path / "mine")
    mine.put(result(env=GPU), ARRAYS)
    taken = imported(source.root, mine)
    assert (taken.new, len(taken.refused)) == ([trial().id], 1)  # the GPU's has other scores here, and stays
    assert Store(mine.root, "cpu").get(trial().id).scores["closeness"] == 0.5
    assert Store(mine.root, "cuda").get(trial().id).scores["closeness"] == 0.5
    assert imported(source.root, mine).new == []


def stored(store: Store, trials, env: dict[str, str], score: float) -> None:
    for t in trials:
        made = Result(**whose(t), status="done", scores={"closeness": score, "near": score}, env=env)
        store.of(made.kind).put(made, ARRAYS)


def test_evidence_is_of_one_kind_the_commoner_or_the_one_asked_for(tmp_path):
    study, store = load(write_study(tmp_path)), Store(tmp_path / "results")
    trials = Design(study).trials  # two arms, two seeds
    stored(store, trials, GPU, 0.5)
    stored(store, trials[:3], {}, 0.9)
    for kind, score, others in ((None, 0.5, "3 of cpu"), ("cpu", 0.9, "4 of cuda"), ("cuda", 0.5, "3 of cpu")):
        evidence = gather(Design(study), store.of(kind), images=False)
        assert {value for row in evidence.rows for value in row.scores["closeness"].values()} == {score}
        assert evidence.left_out.startswith(f"Results of {evidence.device} only: {others} are left out")
    assert kind_of(study, trials, store.read()) == "cuda"
    assert kind_to_train(study, trials, store.read()) == "cuda"  # all done, so there is nothing to train
    assert kind_of(study, trials[:3], store.read()) == "cpu"  # as many of both: the budget's
    stored(Store(tmp_path / "fewer"), trials[1:], GPU, 0.5)
    assert kind_to_train(study, trials, Store(tmp_path / "fewer").read()) == "cpu"


def test_imported_results_do_not_precede_those_trained_here(tmp_path):
    study, store = load(write_study(tmp_path)), Store(tmp_path / "results")
    trials = Design(study).trials
    for t in trials:
        made = Result(**whose(t), status="done", scores={"closeness": 0.5, "near": 0.2}, env=GPU)
        Store(tmp_path / "theirs").put(made, ARRAYS)
    assert len(imported(tmp_path / "theirs", store).new) == len(trials)
    assert (kind_of(study, trials, store.read()), kind_to_train(study, trials, store.read())) == ("cuda", "cuda")
    stored(store, trials[:1], {}, 0.9)
    assert (kind_of(study, trials, store.read()), kind_to_train(study, trials, store.read())) == ("cpu", "cpu")


def test_commands_take_one_kind_and_say_so(called, tmp_path):
    file, store = write_study(tmp_path), Store(tmp_path / "results")
    trials = Design(load(file)).trials
    stored(store, trials, GPU, 0.5)
    stored(store, trials[:3], {}, 0.9)
    for flags, done, others in (((), 4, "3 of cpu"), (("--device", "cpu"), 3, "4 of cuda")):
        _, out, err = called("status", file, "--json", *flags)
        assert [row["status"] for row in json.loads(out)].count("done") == done, err
        assert f"{others} are left out" in err
        out = called("plan", file, *flags)[1]
        assert f"{others} are left out" in out
        assert f"{4 - done} of 4 trials to run" in out
        err = called("report", file, "--format", "md", *flags)[2]
        assert f"{others} are left out" in err
        assert f"{others} are left out" in (tmp_path / "results" / "reports" / "small" / "report.md").read_text()
    out = called("show", trials[0].id, "--device", "cpu")[1]
    assert json.loads(out)["scores"]["closeness"] == 0.9
    with pytest.raises(StoreError, match="no trial of cpu with an id that begins"):
        store.of("cpu").find(trials[3].id)


@pytest.mark.slow
@pytest.mark.parametrize("order", [("fusion_count", "pose_baselines"), ("pose_baselines", "fusion_count")])
def test_two_published_studies_that_share_trials_keep_their_effects(called, tmp_path, order):
    """The shared control was trained on a CPU for one study and on a GPU for the other."""
    for study in order:
        assert called("import", PUBLISHED / study)[1].endswith(" 0 refused\n")
    file = PUBLISHED / "studies" / "pose_baselines.yaml"
    status, _, err = called("report", file, "--scale", "laptop", "--format", "md")
    assert status == 0
    assert "hourglass matched (+12.8, 95% interval [+11.5, +14.1])" in err


def test_what_was_trained_here_comes_before_what_others_published_on_another_device():
    theirs = result(imported=Imported(source="reports/x", when="2026-11-29T00:00:00+00:00", checked=True))
    ours = result(env=GPU, scores={"closeness": 0.25})
    for order in ([theirs, ours], [ours, theirs]):
        shelf = Shelf()
        for found in order:
            shelf.add(found)
        assert shelf.results[trial().id].scores["closeness"] == 0.25
