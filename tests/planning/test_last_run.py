"""What a run was predicted to take is kept from its start, and compared with what it took."""

import json
import math

import pytest
from small_studies import write_study

from ablate.planning.arm_costs import MOST_COUNTED, arm_prices, sentence
from ablate.planning.durations import launch_order
from ablate.planning.last_run import Run, compared, last_run
from ablate.planning.plan import forecast_on, plan
from ablate.storage import Cost, Epoch, Result, Shelf, Store, whose
from ablate.study import Design, load

WIDTHS = {"width": {"at": "model.width", "levels": [2, 4, 8]}}


def finished(trial, seconds: float, macs: int) -> Result:
    from ablate.machine import origin

    return Result(
        **whose(trial), status="done", seconds=seconds,
        cost=Cost(parameters=1, used_parameters=1, macs=macs),
        curve=[Epoch(epoch=1, loss=1, lr=1, seconds=1, images_per_second=1000)],
        env={"processor": origin.processor(), "threads": "1", "device": "cpu"},
    )  # fmt: skip


@pytest.mark.usefixtures("small_shelf")
def test_longest_trials_start_first_and_equal_ones_keep_seeds_together(tmp_path):
    study = load(write_study(tmp_path, factors=WIDTHS, seeds=2))
    order = [(trial.arm["width"], trial.seed) for trial in launch_order(Design(study), Design(study).trials, Shelf())]
    assert order == [("8", 0), ("8", 1), ("4", 0), ("4", 1), ("2", 0), ("2", 1)]
    alike = load(write_study(tmp_path, factors={"rate": {"at": "train.lr", "levels": [0.1, 0.2, 0.3]}}))
    assert launch_order(Design(alike), Design(alike).trials, Shelf()) == Design(alike).trials


@pytest.mark.usefixtures("small_shelf")
def test_what_ran_here_outdoes_multiply_adds(tmp_path):
    """The widest network has the most MACs, but its trial was the shortest."""
    study = load(write_study(tmp_path, factors=WIDTHS, seeds=2))
    trials = Design(study).trials
    times = {"2": 50.0, "4": 90.0, "8": 10.0}
    shelf = Shelf()
    for t in trials:
        if t.seed == 0:
            shelf.add(finished(t, times[t.arm["width"]], 1000))
    order = [trial.arm["width"] for trial in launch_order(Design(study), trials[3:], shelf)]
    assert order == ["4", "2", "8"]


@pytest.mark.usefixtures("small_shelf")
def test_a_makespan_on_nodes_counts_what_a_trial_needs(tmp_path):
    file = write_study(tmp_path, factors=WIDTHS, seeds=4, budget={"gpus": 2, "checkpoint_minutes": 0})
    made = plan(Design(load(file)), Store(tmp_path / "results"))
    total = sum(arm.seconds * 4 for arm in made.arms)
    assert forecast_on(made, devices=2).seconds == pytest.approx(total)
    assert forecast_on(made, devices=4).seconds == pytest.approx(forecast_on(made, devices=2, nodes=2).seconds)
    assert forecast_on(made, devices=1, nodes=2).seconds == pytest.approx(total)  # a trial over two nodes
    with pytest.raises(Exception, match="--devices 1: a trial needs 2"):
        forecast_on(made, devices=1)
    every = total / 3
    disturbed = forecast_on(made, devices=2, preempted_every=every, back_after=every / 2)
    assert disturbed.low < disturbed.seconds < disturbed.high
    assert disturbed.seconds > total * 1.3  # 3 preemptions and more, each half of `every` away


@pytest.mark.usefixtures("small_shelf")
def test_a_plan_says_when_it_will_be_done(called, tmp_path):
    file = write_study(tmp_path, budget={"gpus": 1})
    out = called("plan", file)[1]
    assert "Done on 1, 2, 4 GPUs after " in out
    status, out, err = called("plan", file, "--devices", 1, "--nodes", 2, "--preempted-every", 1, "--json")
    assert status == 0
    (row,) = json.loads(out)["makespans"]
    assert (row["nodes"], row["devices"], row["preempted every"], row["back after"]) == (2, 1, 1, 5)
    assert row["low"] <= row["hours"] <= row["high"]
    assert "Done on 2 nodes of 1 GPU, each preempted every 1 h and back after 5 min, after about" in err
    assert called("plan", file, "--preempted-every", 0)[0] == 2
    assert "Done on" not in called("plan", write_study(tmp_path))[1]  # this machine's time is said already


@pytest.mark.usefixtures("small_shelf")
def test_a_run_keeps_its_prediction_and_says_how_far_it_was_off(called, tmp_path):
    study = write_study(tmp_path)
    assert called("run", study, "--local")[0] == 0
    first = last_run(load(study), Store(tmp_path / "results"))
    assert (len(first.predicted_seconds), first.ran, first.at_once, first.ran_at_once) == (4, 4, 1, 1)
    assert all(math.isnan(value) for value in first.predicted_seconds.values())  # nothing is timed for seconds of work
    assert first.started <= first.ended
    status, _, err = called("run", write_study(tmp_path, seeds=4), "--local")
    assert status == 0
    second = last_run(load(study), Store(tmp_path / "results"))
    assert second.basis == "4 trials of this kind of machine"
    assert not second.predicted_seconds.keys() & first.predicted_seconds.keys()
    assert "; its 4 trials took " in err
    assert " were predicted (" in err
    status, out, _ = called("plan", study, "--json")
    assert json.loads(out)["last run"]["ran"] == 4
    (tmp_path / "results" / "plans" / "small.json").write_text("{")
    assert last_run(load(study), Store(tmp_path / "results")) is None
    assert called("plan", study)[0] == 0


def test_a_comparison_in_words():
    run = Run(started="2026-01-02T03:04:05+00:00", basis="a guess", predicted_seconds={"a": 60, "b": 60}, at_once=1)
    assert compared(run, {}) == [
        "The last run began 2026-01-02 03:04 UTC and has not ended, or was killed; "
        "2.0 min were predicted for its trials."
    ]
    ended = run.model_copy(update={"ended": "later", "seconds": 130, "busy_seconds": 120, "ran_at_once": 2, "ran": 2})
    assert compared(ended, {}) == [
        "The last run began 2026-01-02 03:04 UTC; its 2 trials took 2.0 min, 2.0 min were predicted (+0 %).",
        "1 at once were assumed, 2 ran at once: for so many, 60.0 s were predicted (-50 %).",
    ]
    stopped = ended.model_copy(update={"ran": 1})
    assert compared(stopped, {})[0].endswith("stopped after 2.2 min with 1 of 2 trials.")


@pytest.mark.usefixtures("small_shelf")
def test_a_thousand_networks_are_priced_by_their_levels(tmp_path):
    factors = {
        "width": {"at": "model.width", "levels": list(range(2, 42, 2))},
        "size": {"at": "task.size", "levels": [[8 * i, 8] for i in range(1, 11)]},
    }
    study = load(write_study(tmp_path, factors=factors, design="full_factorial", seeds=1))
    trials = Design(study).trials
    assert len(trials) == 200 > MOST_COUNTED
    prices = arm_prices(Design(study))
    assert sum(price.counted for price in prices) == 1 + 19 + 9 + 8
    assert max(abs(price.gap) for price in prices) < 0.01  # width and area do multiply, in this network
    assert sentence(prices).startswith("The networks of 37 arms were counted; the MACs of the other 163 follow")
    few = study.model_copy(update={"design": "one_at_a_time"})
    assert all(price.counted for price in arm_prices(Design(few)))
