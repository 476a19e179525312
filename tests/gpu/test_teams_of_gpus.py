"""Several GPUs train one trial: NCCL, torch's SyncBatchNorm and a device for each process."""

from pathlib import Path

import pytest
import torch
from gpu_trials import finish, trial
from torch import nn
from trained import at

from ablate.errors import DataError
from ablate.training.run_trial import run_trial
from ablate.training.team import Team
from ablate.training.team_norm import synchronise

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
two_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")


def test_norms_become_those_that_torch_synchronises() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    names = list(net.state_dict())
    synchronise(net, Team(0, 2), gpu=True)
    assert type(net[1]) is nn.SyncBatchNorm
    assert list(net.state_dict()) == names


def test_fewer_gpus_than_processes_is_one_line(tmp_path: Path) -> None:
    most = torch.cuda.device_count()
    with pytest.raises(
        DataError, match=rf"budget.gpus: {most + 1} processes need a GPU each, this machine shows {most}"
    ):
        list(run_trial(trial("fp32"), at(tmp_path, gpus=1, processes=most + 1)))


@two_gpus
def test_two_gpus_give_the_first_loss_of_one(tmp_path: Path) -> None:
    alone = finish(trial("fp32", epochs=1), at(tmp_path / "1", gpus=1))
    together = finish(trial("fp32", epochs=1), at(tmp_path / "2", gpus=1, processes=2))
    assert together.curve[0].loss == pytest.approx(alone.curve[0].loss, rel=1e-3)
    assert together.env["processes"] == "2"


@two_gpus
def test_bf16_on_two_gpus_goes_on_from_the_state_of_one(tmp_path: Path) -> None:
    events = run_trial(trial("bf16"), at(tmp_path, gpus=1, checkpoint_minutes=0))
    first = next(events)
    events.close()
    result = finish(trial("bf16"), at(tmp_path, gpus=1, processes=2))
    assert result.status == "done", result.reason
    assert result.curve[0] == first
