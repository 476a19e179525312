"""A GPU does not wait for the processor: a step reads nothing, batches are copied beside it, losses are read late."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from gpu_trials import finish, trial
from trained import at

from ablate import registry
from ablate.network.build import build
from ablate.study import Part, Recipe, TrainSpec, Trial
from ablate.tasks import build_task
from ablate.training.batches import Encoded, batches, placed
from ablate.training.fit import Diverged, Losses, Training

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
TASKS = {
    "pose": {"size": [64, 64]},
    "segmentation": {"size": [64, 64]},
    "classification": {"size": [64, 64]},
    "bottom_up_pose": {"size": [64, 64]},
}
CASES = {
    **{name: (name, {}, {}) for name in TASKS},
    "hard pixels": ("segmentation", {"ohem": True, "ohem_min_kept": 100}, {}),
    "a running average": ("pose", {}, {"ema": 0.9, "clip_norm": 1.0}),
}  # task, its knobs, and those of training


@pytest.fixture
def forbidden() -> Iterator[None]:
    """Whoever waits for the device fails."""
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def training(
    name: str, precision: str = "bf16", knobs: Mapping[str, object] = {}, train: Mapping[str, object] = {}
) -> tuple[Training, Recipe]:
    recipe = Recipe(
        task=Part(name=name, knobs=TASKS[name] | dict(knobs)),
        dataset=Part(name="figures", knobs={"train": 32, "val": 8}),
        model=Part(name="hrnet", knobs={"width": 8, "blocks": 1, "stage1_blocks": 1}),
        train=TrainSpec(epochs=2, batch=8, precision=precision, **train),
    ).settled(on_gpu=True)
    of = Trial(arm={}, seed=0, recipe=recipe, meanings=recipe.meanings())
    return Training(of, build(recipe).train(), torch.device("cuda")), recipe


def loaded(recipe: Recipe, folder: Path) -> tuple:
    task = build_task(recipe.task)
    opened = registry.build("dataset", "figures", recipe.dataset.knobs).open("train", None)
    encoded = Encoded(task.samples(opened), task, opened.info, seed=0)
    return task, batches(encoded, 8, at(folder, gpus=1), task)


@pytest.mark.parametrize("case", CASES)
def test_a_step_does_not_wait(tmp_path: Path, case: str, request: pytest.FixtureRequest) -> None:
    name, knobs, train = CASES[case]
    made, recipe = training(name, knobs=knobs, train=train)
    task, loader = loaded(recipe, tmp_path)
    here = list(placed(loader, made.device))
    made.step(task, here[0], 1e-3)  # constants are made, kernels chosen
    torch.cuda.synchronize()
    request.getfixturevalue("forbidden")
    for batch in here:
        made.step(task, batch, 1e-3)


def test_batches_arrive_whole_while_the_device_computes(tmp_path: Path) -> None:
    _, recipe = training("pose")
    _, loader = loaded(recipe, tmp_path)
    busy = torch.rand(4096, 4096, device="cuda")
    for there, here in zip(placed(loader, torch.device("cuda")), loader, strict=True):
        for _ in range(20):
            busy = busy @ busy / 4096
        assert there.keys() == here.keys()
        assert all(torch.equal(there[key].cpu(), here[key]) for key in here)


def test_losses_that_are_read_late_are_those_of_each_step(tmp_path: Path) -> None:
    made, recipe = training("pose", "fp32")
    task, loader = loaded(recipe, tmp_path)
    late, at_once = (Losses(1, len(loader), late=late) for late in (True, False))
    for batch in placed(loader, made.device):
        loss = made.step(task, batch, 1e-3)
        late.add(loss, {}, 8)
        at_once.add(loss, {}, 8)
    assert late.read() == at_once.read()


def test_a_trial_whose_loss_is_no_number_names_the_step(tmp_path: Path) -> None:
    made, recipe = training("pose", "fp32")
    task, loader = loaded(recipe, tmp_path)
    losses = Losses(2, len(loader), late=True)
    for number, batch in enumerate(placed(loader, made.device)):
        if number == 2:
            batch["joints"] = batch["joints"] * float("nan")
            batch["labelled"] = batch["labelled"] * float("nan")
        losses.add(made.step(task, batch, 1e-3), {}, 8)
    with pytest.raises(Diverged, match="in epoch 2, step 3 of"):
        losses.read()


def test_a_whole_trial_with_loading_processes(tmp_path: Path) -> None:
    result = finish(trial("bf16"), at(tmp_path, gpus=1, workers=2))
    assert result.status == "done", result.reason
