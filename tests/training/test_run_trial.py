"""One trial: it goes on bit for bit where it stopped, arms are paired, and whatever goes wrong has a reason."""

import hashlib
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from small_studies import TESTS, write_study
from trained import finish, site, trials

from ablate import registry
from ablate.errors import DataError
from ablate.network.build import build, initialise
from ablate.running.ray import worker
from ablate.storage import Epoch, Store
from ablate.study import Design, TrainSpec, Trial, load
from ablate.training import fit
from ablate.training.batches import Encoded, Shuffled, batches
from ablate.training.fit import Training
from ablate.training.reports import reports
from ablate.training.run_trial import run_trial
from ablate.training.site import Site, packed, unpacked
from ablate.training.updates import learning_rate, optimizer

pytestmark = pytest.mark.usefixtures("small_shelf")


def numbers(epochs: list[Epoch]) -> list[tuple]:
    return [(row.epoch, row.loss, row.lr, row.scores) for row in epochs]


def assert_same(one, other, trial: Trial, places: tuple[Site, Site]) -> None:
    """Curve, weights and optimiser, scores and per-image statistics are equal bit for bit."""
    assert numbers(one[0]) == numbers(other[0])
    assert one[2] == other[2]
    assert len(one[2]) > 4
    assert one[1].scores == other[1].scores
    assert numbers(one[1].curve) == numbers(other[1].curve)
    mine, theirs = (Store(place.results).statistics(trial.id) for place in places)
    assert mine.keys() == theirs.keys()
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


# -- going on --------------------------------------------------------------------------------------------------

HARD = {"dropout": 0.3, "depth": 2}
SPECS = {
    "adam": {"epochs": 4},
    "sgd": {"epochs": 4, "optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01, "schedule": "cosine"},
    "adamw in bf16": {"epochs": 4, "optimizer": "adamw", "precision": "bf16", "schedule": "step", "milestones": [0.5]},
    "an average": {"epochs": 4, "ema": 0.7, "score_over": 2},
    "groups": {
        "epochs": 4, "optimizer": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.01, "head_lr": 3.0,
        "weight_decay_on": "weights", "layer_decay": 0.8, "clip_norm": 0.5, "norm_momentum": 0.03,
    },
    "frozen": {"epochs": 4, "frozen": ["first"], "ema": 0.5, "optimizer": "adamw", "head_lr": 2.0},
    "warm": {
        "epochs": 4, "warmup": "linear", "warmup_epochs": 2.5, "schedule": "poly", "lr_floor": 1e-4,
        "frozen_norms": True, "clip_norm": 1.0,
    },
}  # fmt: skip


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("after", [1, 3, 4])
def test_a_stopped_trial_goes_on_bit_for_bit(tmp_path, spec, after):
    trial = trials(tmp_path, model=HARD, train=spec)[0]
    calm, cut = site(tmp_path, "calm"), site(tmp_path, "cut", checkpoint_minutes=0)
    whole = finish(trial, calm)
    events = run_trial(trial, cut)
    first = [next(events) for _ in range(after)]
    events.close()
    assert Store(cut.results).get(trial.id) is None
    second = finish(trial, cut)
    assert numbers(second[0][:after]) == numbers(first)
    assert_same(whole, second if after < 4 else (second[0], second[1], whole[2]), trial, (calm, cut))


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from ablate.study import Design
from ablate.training.run_trial import run_trial
from ablate.study import load
from trained import at
trial = Design(load({file!r})).trials[0]
for event in run_trial(trial, at(Path({results!r}), checkpoint_minutes=0)):
    if event.epoch == {epoch}:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_is_gone_on_from_by_another(tmp_path):
    trial = trials(tmp_path, model=HARD, train={"epochs": 4})[0]
    calm, cut = site(tmp_path, "calm"), site(tmp_path, "cut")
    whole = finish(trial, calm)
    script = KILLED.format(tests=str(TESTS), file=str(tmp_path / "small.yaml"), results=str(cut.results), epoch=2)
    run = subprocess.run([sys.executable, "-c", script], env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert run.returncode == -signal.SIGKILL
    assert (cut.results / "trials" / trial.id / "state").exists()
    assert_same(whole, finish(trial, cut), trial, (calm, cut))


def test_evaluating_on_the_way_changes_nothing(tmp_path):
    trial = trials(tmp_path, model=HARD)[0]
    plain, curious = site(tmp_path, "plain"), site(tmp_path, "curious", evaluate_every=1)
    one, other = finish(trial, plain), finish(trial, curious)
    assert [bool(row.scores) for row in other[0]] == [True, True, False]
    assert [(row.epoch, row.loss) for row in one[0]] == [(row.epoch, row.loss) for row in other[0]]
    assert (one[1].scores, one[2]) == (other[1].scores, other[2])


def test_a_finished_trial_is_not_run_again(tmp_path):
    trial, place = trials(tmp_path)[0], site(tmp_path)
    done = finish(trial, place)[1]
    assert [event.model_dump_json() for event in run_trial(trial, place)] == [done.model_dump_json()]


def test_a_trial_that_another_process_has_is_left_alone(tmp_path):
    trial, place = trials(tmp_path)[0], site(tmp_path)
    with Store(place.results).lock(trial.id) as mine:
        assert mine
        assert list(run_trial(trial, place)) == []
    assert finish(trial, place)[1].status == "done"


def damage(state: Path, how: str) -> None:
    content = state.read_bytes()
    values = safetensors.torch.load(content)
    with safetensors.safe_open(state, "pt") as file:
        header = file.metadata()
    if how == "empty":
        state.write_bytes(b"")
    elif how == "cut short":
        state.write_bytes(content[: len(content) // 2])
    elif how == "rubbish":
        state.write_bytes(os.urandom(2000))
    elif how == "a bit flipped":
        state.write_bytes(content[:-3] + bytes([content[-3] ^ 16]) + content[-2:])
    elif how == "no curve":
        state.write_bytes(safetensors.torch.save(values))
    elif how == "another network":
        last = max(name for name in values if name.startswith("net/"))
        state.write_bytes(safetensors.torch.save(values | {last: values[last].new_zeros(99)}, header))
    elif how == "strange optimiser":
        state.write_bytes(safetensors.torch.save(values | {"optimizer/first/exp_avg": torch.zeros(1)}, header))
    elif how == "a moment of another shape":  # by somebody who seals it anew
        name = next(name for name in values if name.endswith("/exp_avg") and values[name].dim())
        changed = values | {name: torch.zeros(())}
        digest = fit._digest(changed, header["curve"])
        state.write_bytes(safetensors.torch.save(changed, header | {"digest": digest}))
    elif how == "an average that nobody asked for":
        changed = values | {
            f"average/module.{name[4:]}": v.clone() for name, v in values.items() if name.startswith("net/")
        }
        digest = fit._digest(changed, header["curve"])
        state.write_bytes(safetensors.torch.save(changed, header | {"digest": digest}))
    elif how == "no optimiser":
        state.write_bytes(safetensors.torch.save({k: v for k, v in values.items() if k.startswith("net/")}, header))


@pytest.mark.parametrize(
    "how",
    ["empty", "cut short", "rubbish", "a bit flipped", "no curve", "another network", "strange optimiser",
     "a moment of another shape", "no optimiser", "an average that nobody asked for"],
)  # fmt: skip
def test_a_damaged_state_is_not_gone_on_from(tmp_path, how):
    """The trial starts anew, and nothing of the damaged state is in its weights."""
    trial = trials(tmp_path, model=HARD)[0]
    calm, cut = site(tmp_path, "calm"), site(tmp_path, "cut", checkpoint_minutes=0)
    whole = finish(trial, calm)
    events = run_trial(trial, cut)
    next(events), next(events)
    events.close()
    damage(cut.results / "trials" / trial.id / "state", how)
    assert_same(whole, finish(trial, cut), trial, (calm, cut))


# -- pairing ---------------------------------------------------------------------------------------------------


def start(trial: Trial) -> dict[str, torch.Tensor]:
    net = build(trial.recipe)
    initialise(net, trial.recipe.train.init, seed=trial.seed)
    return dict(net.state_dict())


@pytest.mark.parametrize("init", ["torch", "normal", "kaiming"])
def test_layers_that_two_arms_share_start_equal(tmp_path, init):
    one, other, again = trials(tmp_path, train={"init": init})[:3]
    a, b, c = start(one), start(other), start(again)
    assert (one.arm, other.arm, again.seed) == ({"depth": "1"}, {"depth": "2"}, 1)
    assert set(b) - set(a) == {"backbone.second.0.weight", "backbone.second.0.bias"}
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["backbone.first.0.weight"], c["backbone.first.0.weight"])
    torch.manual_seed(123)  # nor does the process' own generator matter, or what was built before
    assert all(torch.equal(value, start(one)[name]) for name, value in a.items())


def test_layers_of_one_shape_start_differently(tmp_path):
    trial = trials(tmp_path, model={"width": 4})[0]
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    initialise(net, "torch", seed=trial.seed)
    assert not torch.equal(net[0].weight, net[1].weight)


def test_initial_weights_of_their_own_seed_are_those_of_a_trial_of_that_seed(tmp_path):
    drawn_by = {name: trials(tmp_path, train={"epochs": 2, **seed}) for name, seed in
                {"none": {}, "zero": {"init_seed": 0}, "one": {"init_seed": 1}}.items()}  # fmt: skip
    ends = {name: finish(some[0], site(tmp_path, name)) for name, some in drawn_by.items()}  # all of seed 0
    assert drawn_by["none"][0].id != drawn_by["zero"][0].id
    assert numbers(ends["zero"][0]) == numbers(ends["none"][0])
    assert ends["zero"][1].scores == ends["none"][1].scores
    assert numbers(ends["one"][0]) != numbers(ends["none"][0])
    other = finish(drawn_by["none"][1], site(tmp_path, "other"))  # seed 1: the same weights, in another order of images
    assert numbers(ends["one"][0]) != numbers(other[0])


def test_hrnet_arms_start_equal_where_they_are_equal(tmp_path):
    recipe = {
        "task": {"name": "pose", "size": [64, 64]}, "dataset": "figures",
        "model": {"name": "hrnet", "width": 4, "blocks": 1, "stage1_blocks": 1}, "train": {"preset": "pose"},
    }  # fmt: skip
    factors = {"fusions": {"at": "model.fusions", "levels": ["within", "final"]}}
    within, final = Design(load(write_study(tmp_path, recipe=recipe, factors=factors, metrics=["AP"], seeds=1))).trials
    a, b = start(within), start(final)
    common = a.keys() & b.keys()
    assert len(common) > 100
    assert len(a) > len(b)
    assert all(torch.equal(a[name], b[name]) for name in common)


def test_initialisation_rules_draw_what_they_say():
    net = torch.nn.Sequential(torch.nn.Conv2d(64, 128, 3), torch.nn.BatchNorm2d(128), torch.nn.Linear(128, 9))
    initialise(net, "normal", seed=0)
    assert net[0].weight.std().item() == pytest.approx(0.001, rel=0.02)  # official pose code
    assert net[0].bias.abs().max() == 0
    initialise(net, "kaiming", seed=0)
    assert net[0].weight.std().item() == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.02)  # He et al., fan out
    initialise(net, "torch", seed=0)
    assert net[0].weight.abs().max().item() == pytest.approx(1 / math.sqrt(64 * 9), rel=0.01)  # torch's own bound
    assert (net[1].weight == 1).all()
    assert (net[1].bias == 0).all()


def shown(tmp_path, monkeypatch, trial: Trial, place: Site) -> list[str]:
    """What the network is trained on: the ids and a digest of every batch."""
    trace = tmp_path / f"trace-{hashlib.md5(f'{trial.id}{place}'.encode()).hexdigest()}"
    monkeypatch.setenv("SMALL_PARTS_TRACE", str(trace))
    assert finish(trial, place)[1].status == "done"
    return trace.read_text().splitlines()


def test_arms_see_the_same_images_in_the_same_order_equally_augmented(tmp_path, monkeypatch):
    one, other, again = trials(tmp_path)[:3]
    batches_of = [shown(tmp_path, monkeypatch, trial, site(tmp_path)) for trial in (one, other, again)]
    assert batches_of[0] == batches_of[1]
    assert len(batches_of[0]) == 9  # 20 pictures in batches of 8, 3 epochs
    ids = [line.rpartition(" ")[0] for line in batches_of[0]]
    assert ids[:3] != ids[3:6]  # another order in every epoch
    assert sorted(eval("+".join(ids[:3]))) == list(range(1, 21))
    assert not set(batches_of[0]) & set(batches_of[2])  # and for another seed


def test_a_state_that_finds_no_room_on_the_device_is_kept(tmp_path, monkeypatch):
    trial, place = trials(tmp_path)[0], site(tmp_path, checkpoint_minutes=0, gpu_share=0.5)
    events = run_trial(trial, place)
    next(events)
    events.close()
    states = list(Store(place.results).states(trial.id))

    def no_room(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_moments", no_room)
        with pytest.raises(torch.OutOfMemoryError):
            list(run_trial(trial, place))
    assert list(Store(place.results).states(trial.id)) == states
    calm = site(tmp_path, "calm")
    assert_same(finish(trial, calm), finish(trial, place), trial, (calm, place))


def test_trouble_with_the_place_is_told_not_raised(tmp_path):
    (tmp_path / "results").write_text("a file")
    (report,) = reports(trials(tmp_path)[0], site(tmp_path))
    assert report["trouble"].endswith("results: is a file, not a folder of results")


def test_a_process_with_other_code_trains_nothing(tmp_path):
    one = worker.trainable(SimpleNamespace(Trainable=object))()
    one.pulse, one.nodes, one.team = SimpleNamespace(at=lambda trial_id: None), ["a"], None
    trial = trials(tmp_path)[0]
    config = {"trial": trial.model_dump_json(), "site": packed(site(tmp_path)), "gpus": 0}
    one.begin(config | {"code": "another", "plugins": []})
    assert "other code of ablate, or other packages, than the driver began with" in one.step()["trouble"]
    one.cleanup()
    assert not (tmp_path / "results").exists()


def test_a_resumed_trial_sees_what_it_would_have_seen(tmp_path, monkeypatch):
    trial = trials(tmp_path)[0]
    whole = shown(tmp_path, monkeypatch, trial, site(tmp_path, "calm"))
    cut = site(tmp_path, "cut", checkpoint_minutes=0)
    events = run_trial(trial, cut)
    next(events)
    events.close()
    assert shown(tmp_path, monkeypatch, trial, cut) == whole[3:]


def test_the_number_of_loader_processes_changes_nothing(tmp_path):
    """Nor what dropout draws."""
    trial = trials(tmp_path, model=HARD, train={"epochs": 3})[0]
    alone, shared = site(tmp_path, "alone"), site(tmp_path, "shared", workers=2)
    assert_same(finish(trial, alone), finish(trial, shared), trial, (alone, shared))


def test_an_augmentation_depends_on_seed_epoch_and_image_alone():
    task = registry.build("task", "brightness", {})
    data = registry.build("dataset", "noise", {})
    encoded = Encoded(data.open("train", None), task, data.info, seed=3)
    same = [encoded[1, 7]["image"] for _ in range(2)]
    others = [
        encoded[2, 7]["image"],
        Encoded(encoded.samples, task, data.info, seed=4)[1, 7]["image"],
        encoded[7]["image"],
    ]
    assert np.array_equal(*same)
    assert not any(np.array_equal(same[0], other) for other in others)


def test_an_epoch_shows_every_image_once(tmp_path):
    order = Shuffled(11, seed=0)
    task, data = registry.build("task", "brightness", {}), registry.build("dataset", "noise", {"train": 11})
    loader = batches(Encoded(data.open("train", None), task, data.info, seed=0), 4, site(tmp_path), task, sampler=order)
    seen = [batch["image_id"].tolist() for batch in loader]
    assert [len(ids) for ids in seen] == [4, 4, 3]
    assert sorted(i for ids in seen for i in ids) == list(range(1, 12))


def test_a_last_batch_of_one_image_is_left_out_of_training_alone(tmp_path):
    task, data = registry.build("task", "brightness", {}), registry.build("dataset", "noise", {"train": 9})
    encoded = Encoded(data.open("train", None), task, data.info, seed=0)
    trained = batches(encoded, 4, site(tmp_path), task, sampler=Shuffled(9, seed=0))
    assert [len(batch["image_id"]) for batch in trained] == [4, 4]
    assert [len(batch["image_id"]) for batch in batches(encoded, 4, site(tmp_path), task)] == [4, 4, 1]


# -- what goes wrong -------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_a_number_is_a_result(tmp_path):
    bad, good = trials(tmp_path, model={"fault": "nan", "at": 5})[0], trials(tmp_path)[0]
    epochs, result, _ = finish(bad, site(tmp_path))
    assert result.status == "diverged"
    assert result.reason == "the loss was nan in epoch 2, step 2 of 3"
    assert result.scores == {}
    assert numbers(result.curve) == numbers(epochs)
    assert len(epochs) == 1
    assert Store(site(tmp_path).results).read().results[bad.id].reason == result.reason
    assert finish(good, site(tmp_path))[1].status == "done"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("error", "RuntimeError: the dots went astray"),
        ("strange", "ValueError: no picture ?"),
        ("slip", "KeyError: 'dots'"),
    ],
)
def test_a_network_that_raises_is_a_result_and_the_next_trial_is_as_ever(tmp_path, fault, reason):
    calm, after = site(tmp_path, "calm"), site(tmp_path, "after")
    good, bad = trials(tmp_path)[0], trials(tmp_path, model={"fault": fault, "at": 2})[0]
    before = finish(good, calm)
    result = finish(bad, after)[1]
    assert (result.status, result.reason) == ("failed", reason)
    assert_same(before, finish(good, after), good, (calm, after))


def test_a_trial_that_fails_in_its_last_epoch_keeps_its_curve(tmp_path):
    trial = trials(tmp_path, model={"fault": "error", "at": 9})[0]
    result = finish(trial, site(tmp_path))[1]
    assert [row.epoch for row in result.curve] == [1, 2]


def test_a_picture_that_cannot_be_read_stops_the_run_and_stores_nothing(tmp_path):
    trial = trials(tmp_path, dataset={"damaged": 3, "unverified": True})[0]
    with pytest.raises(DataError, match=r"noise/3\.png: is cut short"):
        finish(trial, site(tmp_path))
    assert Store(site(tmp_path).results).read().results == {}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_a_loader_process_cannot_read_is_named_too(tmp_path, workers):
    trial = trials(tmp_path, dataset={"damaged": 3, "unverified": True})[0]
    with pytest.raises(DataError) as caught:
        finish(trial, site(tmp_path, workers=workers))
    assert str(caught.value) == "noise/3.png: is cut short"  # and nothing of the process that found it


@pytest.mark.slow
def test_settings_of_the_process_do_not_leak_into_the_next_trial(tmp_path):
    """Workers are kept warm, so a trial may find what the last one left."""
    trial = trials(tmp_path, model=HARD)[0]
    calm, after = site(tmp_path, "calm"), site(tmp_path, "after")
    before = finish(trial, calm)
    torch.manual_seed(99)
    np.random.seed(99)
    torch.set_num_threads(2)
    assert_same(before, finish(trial, after), trial, (calm, after))


# -- what a result says ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_result_says_what_it_cost_and_where_it_ran(tmp_path):
    trial = trials(tmp_path)[0]
    result = finish(trial, site(tmp_path))[1]
    assert result.id == trial.id
    # first: 4 * 27 + 4 of the convolution and 8 of the normalisation; head: 4 + 1
    assert (result.cost.parameters, result.cost.used_parameters) == (125, 125)
    assert result.cost.macs == 8 * 8 * 4 * 27 + 4
    assert result.cost.images_per_second > 0
    assert result.cost.peak_memory > 10**7
    assert result.env["threads"] == "1"
    assert result.env["device"] == "cpu"
    assert {"revision", "dirty", "torch", "python", "processor"} <= result.env.keys()
    assert result.data_digest == {"train": f"{20:016x}", "val": f"{8:016x}"}
    assert [row.epoch for row in result.curve] == [1, 2, 3]
    statistics = Store(site(tmp_path).results).statistics(trial.id)
    assert statistics["closeness/image_ids"].tolist() == list(range(1, 9))
    assert 1 - statistics["closeness/error"].mean() == pytest.approx(result.scores["closeness"])


def test_training_learns(tmp_path):
    """Sixty epochs on eight pictures that are also the test: the mean of a channel is easy."""
    changes = {"train": {"epochs": 60, "lr": 0.02}, "dataset": {"train": 24}}
    trial = trials(tmp_path, **changes)[0]
    _, result, _ = finish(trial, site(tmp_path))
    assert result.curve[-1].loss < 0.1 * result.curve[0].loss
    assert result.scores["closeness"] > 0.9


# -- the schedule, worked out by hand --------------------------------------------------------------------------


def test_the_official_pose_schedule():
    """lr 1e-3 for epochs 0..169, 1e-4 for 170..199, 1e-5 for 200..209 (w32_256x192_adam_lr1e-3.yaml)."""
    train = registry_preset()
    rates = [learning_rate(train, epoch, fraction) for epoch in range(210) for fraction in (0.0, 0.99)]
    expected = [1e-3] * 340 + [1e-4] * 60 + [1e-5] * 20
    assert rates == pytest.approx(expected, rel=1e-12)


def registry_preset() -> TrainSpec:
    from ablate.study import presets

    return TrainSpec.model_validate(presets.presets()["pose"]["train"])


def test_a_shorter_training_keeps_the_schedules_shape():
    train = registry_preset().model_copy(update={"epochs": 21})
    drops = [epoch for epoch in range(1, 21) if learning_rate(train, epoch, 0) < learning_rate(train, epoch - 1, 0)]
    assert drops == [17, 20]


@pytest.mark.parametrize(
    ("spec", "epoch", "fraction", "rate"),
    [
        ({"schedule": "constant"}, 9, 0.9, 0.1),
        ({"schedule": "poly", "power": 0.9}, 0, 0.0, 0.1),
        ({"schedule": "poly", "power": 0.9}, 5, 0.0, 0.1 * 0.5**0.9),
        ({"schedule": "poly", "power": 0.9}, 9, 0.5, 0.1 * 0.05**0.9),
        ({"schedule": "poly", "power": 2.0}, 7, 0.5, 0.00625),
        ({"schedule": "cosine"}, 0, 0.0, 0.1),
        ({"schedule": "cosine"}, 5, 0.0, 0.05),
        ({"schedule": "cosine"}, 2, 0.5, 0.1 * (2 + math.sqrt(2)) / 4),
        ({"schedule": "step", "milestones": [0.5, 0.9], "gamma": 0.5}, 4, 0.99, 0.1),
        ({"schedule": "step", "milestones": [0.5, 0.9], "gamma": 0.5}, 5, 0.0, 0.05),
        ({"schedule": "step", "milestones": [0.5, 0.9], "gamma": 0.5}, 9, 0.0, 0.025),
    ],
)
def test_schedules_by_hand(spec, epoch, fraction, rate):
    train = TrainSpec.model_validate({"epochs": 10, "lr": 0.1} | spec)
    assert learning_rate(train, epoch, fraction) == pytest.approx(rate, rel=1e-12)


def test_the_curve_shows_the_rate_of_the_last_step(tmp_path):
    trial = trials(tmp_path, train={"schedule": "poly", "power": 1.0, "lr": 0.09, "epochs": 3})[0]
    result = finish(trial, site(tmp_path))[1]
    # Three steps an epoch; the last begins at 2/3 of it.
    assert [row.lr for row in result.curve] == pytest.approx([0.09 * (1 - (e + 2 / 3) / 3) for e in range(3)])


def test_a_step_is_the_optimisers_own(tmp_path):
    """One SGD step with weight decay, by hand: w - lr (g + decay w)."""
    trial = trials(
        tmp_path, train={"optimizer": "sgd", "weight_decay": 0.1, "momentum": 0.0, "memory_format": "contiguous"}
    )[0]
    net = build(trial.recipe)
    initialise(net, "torch", seed=0)
    training = Training(trial, net.train(), torch.device("cpu"))
    task, data = registry.build("task", "brightness", {}), registry.build("dataset", "noise", {})
    samples = data.open("train", None)
    batch = task.collate([task.encode(samples[i], data.info) for i in range(4)])
    before = {name: value.detach().clone() for name, value in net.named_parameters()}
    loss = task.loss(net(task.prepare(batch)), batch)
    gradients = dict(zip(before, torch.autograd.grad(loss, list(net.parameters())), strict=True))
    net.load_state_dict(net.state_dict() | before)
    assert training.step(task, batch, 0.5).item() == pytest.approx(loss.item(), rel=1e-6)
    for name, value in net.named_parameters():
        torch.testing.assert_close(value, before[name] - 0.5 * (gradients[name] + 0.1 * before[name]))


def test_optimisers_are_torchs():
    net = torch.nn.Linear(2, 2)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    for name, kind in kinds.items():
        made = optimizer(net, TrainSpec(optimizer=name, lr=0.3, weight_decay=0.2), {})
        assert type(made) is kind
        assert (made.defaults["lr"], made.defaults["weight_decay"]) == (0.3, 0.2)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_memory_format_is_what_the_recipe_says(tmp_path, layout):
    trial = trials(tmp_path, train={"memory_format": layout})[0]
    training = Training(trial, build(trial.recipe), torch.device("cpu"))
    weight = training.net.backbone.first[0].weight
    assert weight.is_contiguous(memory_format=getattr(torch, f"{layout}_format", None) or torch.channels_last)


@pytest.mark.parametrize("results", ["s3://bucket/prefix", "/srv/results"])
def test_where_results_lie_is_the_same_in_other_processes(results):
    assert unpacked(packed(Site(results))) == Site(results)
