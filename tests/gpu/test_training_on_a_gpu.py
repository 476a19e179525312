"""The same trial on a CUDA device: it trains, goes on from its state, and lands where the CPU lands."""

from pathlib import Path

import pytest
import torch
from gpu_trials import finish, trial
from trained import at

from ablate.storage import Epoch
from ablate.training.run_trial import run_trial

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_a_gpu_trial_ends_with_scores_memory_and_the_devices_name(tmp_path: Path) -> None:
    result = finish(trial("bf16"), at(tmp_path, gpus=1))
    assert result.status == "done", result.reason
    assert result.cost
    assert 0 < result.cost.peak_memory < torch.cuda.get_device_properties(0).total_memory
    assert result.env["device"] == torch.cuda.get_device_name()


def test_the_first_step_in_float32_agrees_with_the_cpu(tmp_path: Path) -> None:
    """Of one step: Adam's first ones turn differences of rounding into differences of 0.3 % after four."""
    losses = []
    for gpu in (False, True):
        first = next(iter(run_trial(trial("fp32", train=16), at(tmp_path / str(gpu), gpus=int(gpu)))))
        assert isinstance(first, Epoch)
        losses.append(first.loss)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_an_interrupted_gpu_trial_goes_on_from_its_state(tmp_path: Path) -> None:
    site = at(tmp_path, gpus=1, checkpoint_minutes=0)
    events = run_trial(trial("fp32"), site)
    first = next(events)
    events.close()
    result = finish(trial("fp32"), site)
    assert result.curve[0] == first
    assert len(result.curve) == 3
