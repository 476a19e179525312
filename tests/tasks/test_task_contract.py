"""What every task of the shelf keeps to."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from ablate import registry, tasks
from ablate.study import Part
from ablate.study.presets import presets
from ablate.tasks import passes

TASKS = registry.names("task")
PLAIN = [name for name in TASKS if name != "detection"]  # its head takes what is annotated: test_detection.py
EASY = {  # knobs: little is to be learned
    "pose": {"size": [32, 32], "sigma": 1.0},
    "bottom_up_pose": {"size": [64, 64], "sigma": 1.0},
    "segmentation": {"size": [64, 64]},
    "detection": {"size": [64, 64], "scale": [0.8, 1.2]},
    "classification": {"size": [48, 48]},
}
FINE = {  # knobs at which the truth survives being encoded
    "pose": {"size": [256, 256]},
    "bottom_up_pose": {"size": [256, 256]},
    "segmentation": {},
    "classification": {"size": [64, 64]},
}
REST = {  # of the loss, once overfitted: outlines are finer than maps of stride 4
    "pose": 0.02,
    "bottom_up_pose": 0.02,
    "segmentation": 0.1,
    "classification": 0.02,
}
HEADLINE = {  # scores that nonsense cannot have
    "pose": ("AP", "AR", "PCK"),
    "bottom_up_pose": ("AP", "AR"),
    "segmentation": ("mIoU",),
    "classification": ("top1",),
}


class TwoLayers(nn.Module):
    """A backbone that sees far with two convolutions: one map of stride 4."""

    channels, strides = (48,), (4,)

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 48, 15, stride=4, padding=7), nn.BatchNorm2d(48), nn.ReLU(),
            nn.Conv2d(48, 48, 9, padding=4), nn.BatchNorm2d(48), nn.ReLU(),
        )  # fmt: skip

    def forward(self, images):
        return [self.layers(images)]


def scores(name, predictions, truth, info):
    found = {}
    for metric in registry.describe("task", name).facts["metrics"]:
        part = registry.build("metric", metric, {})
        found |= part.aggregate(part.per_image(predictions, truth, info))
    return found


def test_the_contract_covers_the_shelf():
    assert set(TASKS) == set(EASY), "add the new task"
    assert set(PLAIN) == set(FINE) == set(REST) == set(HEADLINE), "add the new task"


@pytest.mark.parametrize("name", TASKS)
def test_facts_name_metrics_that_exist(name):
    metrics = registry.describe("task", name).facts["metrics"]
    assert metrics
    assert set(metrics) <= set(registry.names("metric"))
    for kind in ("task", "protocol"):
        for knob in registry.describe(kind, name).knobs:
            assert knob.doc, f"{knob.name} has no comment on its line"


@pytest.mark.parametrize("name", TASKS)
def test_facts_name_the_inputs_knob_and_what_a_bare_model_is_priced_with(name, figures):
    part = registry.describe("task", name)
    task = tasks.build_task(Part(name=name))
    assert part.facts["input"] in {knob.name for knob in part.knobs}
    if name in PLAIN:
        assert task.input_size(figures[0], training=True) == getattr(task, part.facts["input"])
    assert name in registry.describe("dataset", part.facts["dataset"]).facts["tasks"]
    assert part.facts["preset"] in presets()


FLIPPED_PYRAMID = {"flip": True, "scales": [0.5, 1.0, 2.0]}
PASSES = [
    ("pose", {"flip": False}, 1),
    ("pose", {}, 2),
    ("bottom_up_pose", {}, 2),
    ("bottom_up_pose", {"scales": [0.5, 1.0, 2.0]}, 10.5),
    ("segmentation", {}, 1),
    ("segmentation", FLIPPED_PYRAMID, 10.5),
    ("classification", {}, 1),
    ("classification", {"flip": True}, 2),
]


@pytest.mark.parametrize(("name", "knobs", "count"), PASSES)
def test_a_protocol_says_how_much_it_computes(name, knobs, count):
    assert passes(tasks.build_protocol(Part(name=name), registry.check_knobs("protocol", name, knobs))) == count


def test_a_protocol_that_does_not_say_computes_one_pass():
    assert passes(True) == passes(object()) == 1


@pytest.mark.parametrize("name", TASKS)
def test_encoding_is_decided_by_its_generator(name, figures, build_task):
    info, train, _ = figures
    task = build_task(name, **EASY[name])
    sample = task.samples(train)[0]

    def encoded(rng):
        return {key: np.asarray(value).tobytes() for key, value in task.encode(sample, info, rng).items()}

    assert encoded(None) == encoded(None)
    assert encoded(np.random.default_rng([0, 1])) == encoded(np.random.default_rng([0, 1]))
    assert encoded(np.random.default_rng([0, 1])) != encoded(np.random.default_rng([0, 2]))


@pytest.mark.parametrize("name", TASKS)
def test_encoding_leaves_the_sample_alone(name, figures, build_task):
    info, train, _ = figures
    task = build_task(name, **EASY[name])
    sample = task.samples(train)[0]
    before = pickle.dumps(sample)
    for seed in range(5):
        task.encode(sample, info, np.random.default_rng(seed))
    assert pickle.dumps(sample) == before


@pytest.mark.parametrize("name", PLAIN)
def test_four_samples_are_overfitted_by_two_layers(name, small_figures, build_task):
    info, train, _ = small_figures
    torch.manual_seed(0)
    task, backbone = build_task(name, **EASY[name]), TwoLayers()
    net = nn.Sequential(backbone, task.head(info, backbone.channels, backbone.strides))
    batch = task.collate([task.encode(task.samples(train)[index], info, None) for index in range(4)])
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    losses = []
    for _ in range(100):
        loss = task.loss(net(task.prepare(batch)), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < REST[name] * losses[0]
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("name", PLAIN)
def test_the_loss_is_float32_under_autocast(name, figures, build_task):
    info, train, _ = figures
    task, backbone = build_task(name, **EASY[name]), TwoLayers()
    net = nn.Sequential(backbone, task.head(info, backbone.channels, backbone.strides))
    batch = task.collate([task.encode(task.samples(train)[index], info, None) for index in range(2)])
    with torch.autocast("cpu", torch.bfloat16):
        outputs = net(task.prepare(batch))
        loss = task.loss(outputs, batch)
    assert (outputs[0] if isinstance(outputs, list) else outputs).dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert loss.shape == ()


PIXELS = {
    "RMSE",
    "RMSE_cut",
    "pixel_error",
    "pixel_error_cut",
    "HD95",
    "HD95_undefined",
}  # scores that are errors; less is better


@pytest.mark.parametrize("name", PLAIN)
def test_the_encoded_truth_scores_nearly_one(name, figures, build_task, build_protocol, truthful):
    info, _, val = figures
    task, protocol = build_task(name, **FINE[name]), build_protocol(name)
    predictions = truthful(name, task, task.samples_for_evaluation(val, protocol), info, protocol)
    found = scores(name, task.finish(predictions, protocol, info), task.ground_truth(val), info)
    errors = {score: found.pop(score) for score in list(found) if score.partition("/")[0] in PIXELS}
    for score, value in found.items():
        assert np.isnan(value) or value > 0.98, score
    assert sum(value > 0.98 for value in found.values()) >= len(found) / 2
    assert all(value < 1 for value in errors.values())


@pytest.mark.parametrize("name", PLAIN)
def test_nonsense_scores_nearly_nothing(name, figures, build_task, build_protocol):
    info, _, val = figures
    task, protocol = build_task(name, **EASY[name]), build_protocol(name)
    torch.manual_seed(0)
    backbone = TwoLayers()
    net = nn.Sequential(backbone, task.head(info, backbone.channels, backbone.strides)).eval()
    chosen = task.samples_for_evaluation(val, protocol)
    batch = task.collate([task.encode(chosen[index], info, None) for index in range(len(chosen))])
    found = scores(name, task.finish(task.predict(net, batch, protocol), protocol, info), task.ground_truth(val), info)
    assert all(found[score] < 0.2 for score in HEADLINE[name])


@pytest.mark.parametrize("name", PLAIN)
def test_what_it_trains_on_is_as_large_as_it_says(name, figures, build_task):
    info, train, val = figures
    task = build_task(name, **EASY[name])
    assert task.sample_counts(info) == {"train": len(task.samples(train)), "val": len(task.samples(val))}
    for rng in (np.random.default_rng(0), None):
        seen = task.encode(task.samples(train)[0], info, rng)["image"].shape
        assert seen == (3, *task.input_size(info, training=rng is not None))
        assert task.prepare(task.collate([task.encode(task.samples(train)[0], info, rng)])).dtype == torch.float32


@pytest.mark.parametrize("name", PLAIN)
def test_predictions_are_written(name, figures, build_task, build_protocol, truthful, tmp_path):
    info, _, val = figures
    task, protocol = build_task(name, **FINE[name]), build_protocol(name)
    chosen = task.samples_for_evaluation(val, protocol)
    task.write_predictions(task.finish(truthful(name, task, chosen, info, protocol), protocol, info), val, tmp_path)
    assert all(file.stat().st_size for file in tmp_path.iterdir())
    assert any(tmp_path.iterdir())
