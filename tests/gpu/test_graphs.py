"""A step that is replayed as a graph gives the losses of the loop's own; where it cannot be, it is one of these."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from graphed import Graphed
from test_no_waiting import loaded, training
from torch import Tensor

from ablate.training.batches import placed

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
STEPS = 20
SGD = {"optimizer": "sgd", "momentum": 0.9}
ROUNDING = 1e-4  # the rate is a float32 in a graph


def losses(step: Callable[[object, float], Tensor], batches: Iterable[object]) -> Tensor:
    """Of twenty steps at a falling rate."""
    cycle = [*batches] * STEPS
    return torch.stack([step(cycle[i], 1e-2 * (1 - i / STEPS)).detach().clone() for i in range(STEPS)]).cpu()


@pytest.mark.parametrize("name", ["pose", "segmentation", "classification"])
def test_twenty_steps_have_the_losses_of_twenty_eager_ones(tmp_path: Path, name: str) -> None:
    found = []
    for graphed in (False, False, True):
        torch.manual_seed(0)
        made, recipe = training(name, "fp32", train=SGD)
        task, loader = loaded(recipe, tmp_path)
        step = (
            Graphed(made, task).step if graphed else lambda batch, lr, made=made, task=task: made.step(task, batch, lr)
        )
        found.append(losses(step, placed(loader, made.device)))
    first, second, graph = found
    spread = (first - second).abs().max().item()
    assert (graph - first).abs().max().item() <= 2 * spread + ROUNDING * first.abs().max().item()
    assert graph[-1] != graph[-2]  # a replay that computes nothing would repeat its loss


def test_a_smaller_batch_is_a_step_of_the_loops_own(tmp_path: Path) -> None:
    made, recipe = training("pose", "fp32", train=SGD)
    task, loader = loaded(recipe, tmp_path)
    graphed, whole = Graphed(made, task), next(iter(placed(loader, made.device)))
    for _ in range(5):
        graphed.step(whole, 1e-3)
    before = [parameter.clone() for parameter in made.net.parameters()]
    graphed.step({name: value[:3] for name, value in whole.items()}, 1e-3)
    graphed.step(whole, 1e-3)
    assert any(not torch.equal(old, new) for old, new in zip(before, made.net.parameters(), strict=True))
