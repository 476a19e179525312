"""What the processes of a trial do together is what one process would do alone."""

import datetime
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import team_member
import torch
from small_studies import write_study
from torch import nn
from torch.distributed import TCPStore
from torch.utils.data import BatchSampler

from ablate.errors import PartError
from ablate.storage import packed_rows, unpacked_rows
from ablate.training.team import Shares, Team
from ablate.training.team_norm import apart, synchronise
from hrnet_core import HRNet, HRNetConfig


@pytest.mark.parametrize(("length", "size"), [(10, 1), (10, 3), (2, 3), (0, 2), (7, 7)])
def test_shares_are_the_whole_in_order_and_even(length, size):
    parts = [Team(rank, size).share(range(length)) for rank in range(size)]
    assert [item for part in parts for item in part] == list(range(length))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_every_batch_is_shared_and_a_tiny_one_goes_to_all():
    whole = BatchSampler(range(11), 9, drop_last=False)
    parts = [list(Shares(whole, Team(rank, 3))) for rank in range(3)]
    assert [part[0] for part in parts] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert [part[1] for part in parts] == [[9, 10]] * 3


def test_rows_travel_as_they_are():
    rows = [
        {"id": 3, "xy": [0.1, float("inf")], "labels": np.arange(6, dtype=np.uint8).reshape(2, 3), "of": {"a": None}},
        {"id": np.int64(4), "score": np.float32(0.1), "text": "ä", "labels": np.zeros((0, 2), bool), "sure": True},
    ]
    one, other = unpacked_rows(packed_rows(rows), at="here")
    assert (one["id"], one["xy"], one["of"]) == (3, [0.1, float("inf")], {"a": None})
    assert (other["id"], other["score"], other["text"], other["sure"]) == (4, float(np.float32(0.1)), "ä", True)
    for row, came in ((rows[0], one), (rows[1], other)):
        assert (row["labels"] == came["labels"]).all()
        assert (row["labels"].dtype, row["labels"].shape) == (came["labels"].dtype, came["labels"].shape)
    assert unpacked_rows(packed_rows([]), at="here") == []


def test_nothing_that_would_be_pickled_travels():
    with pytest.raises(TypeError, match="arrays, not object"):
        packed_rows([{"what": object()}])
    with pytest.raises(ValueError, match="Object arrays"):
        packed_rows([{"what": np.array([object()])}])


def test_a_norm_that_nobody_can_divide_is_refused():
    class Odd(nn.BatchNorm2d):
        def forward(self, inputs):
            return -super().forward(inputs)

    net = nn.Sequential(nn.Sequential(Odd(2)))
    with pytest.raises(PartError, match=r"^0\.0: a Odd cannot be shared among the 2 processes of a trial$"):
        synchronise(net, Team(0, 2), gpu=False)
    synchronise(net, Team(), gpu=False)
    assert type(net[0][0]) is Odd


def test_a_norm_in_two_places_stays_one():
    norm = nn.BatchNorm2d(2)
    net = nn.ModuleDict({"a": norm, "b": nn.Sequential(norm)})
    names, parameters = list(net.state_dict()), list(net.parameters())
    synchronise(net, Team(0, 2), gpu=False)
    assert net["a"] is net["b"][0]
    assert list(net.state_dict()) == names
    assert all(one is other for one, other in zip(net.parameters(), parameters, strict=True))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What three processes found, by file name."""
    folder = tmp_path_factory.mktemp("team")
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    store = TCPStore(
        "127.0.0.1", port, is_master=True, timeout=datetime.timedelta(minutes=10), wait_for_workers=False,
        master_listen_fd=server.detach(),
    )  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, team_member.__file__]
    members = [
        subprocess.Popen([*command, str(rank), str(port), str(folder)], env=environment)
        for rank in range(len(team_member.SHARES))
    ]
    assert [member.wait(timeout=600) for member in members] == [0, 0, 0]
    del store
    files = {}
    for file in folder.glob("*.npz"):
        with np.load(file) as arrays:
            files[file.stem] = dict(arrays)
    return files


@pytest.mark.slow
@pytest.mark.parametrize("name", team_member.CASES)
def test_norms_find_what_one_norm_finds_in_the_whole_batch(found, name):
    """Outputs, all gradients and running statistics; in bf16 to its 8 bits."""
    expected, parts = team_member.passed_through(name, None), [found[f"{name} {rank}"] for rank in range(3)]
    tolerance = {"atol": 1e-2, "rtol": 1e-2} if name == "bf16" else {"atol": 1e-6, "rtol": 2e-6}
    if name == "far from zero":
        tolerance = {"atol": 1e-4, "rtol": 1e-4}  # float32 has 100.00001 after 100
    assert expected.keys() == parts[0].keys()
    for key, value in expected.items():
        if " equal " in key or key == "equal names":
            assert all((part[key] == parts[0][key]).all() for part in parts), key
            together = parts[0][key]
        elif " sum " in key:
            together = sum(part[key] for part in parts)
        else:
            together = np.concatenate([part[key] for part in parts])
        if key == "equal names":
            assert list(together) == list(value)
        else:
            np.testing.assert_allclose(together, value, **tolerance, err_msg=key)


@pytest.mark.slow
def test_gradients_are_summed_and_absent_ones_stay_absent(found):
    for rank in range(3):
        sums = found[f"sums {rank}"]
        assert sums["everywhere"].tolist() == [111, 111]
        assert sums["somewhere"].tolist() == [1, 1]
        assert sums["loss"] == 3


@pytest.mark.slow
def test_parts_of_a_weighted_mean_add_up_to_it(found):
    parts = [float(found[f"sums {rank}"]["part"]) for rank in range(3)]
    assert sum(parts) == pytest.approx((1 * 2 + 4 * 6) / 8)


@pytest.mark.slow
def test_a_batch_that_all_have_whole_is_counted_once(found):
    for rank in range(3):
        sums = found[f"sums {rank}"]
        np.testing.assert_allclose(sums["variance"], sums["expected"], rtol=1e-6)


def test_stages_that_are_computed_twice_are_counted_once():
    """HRNet with recomputed stages: the same statistics as without, for shared norms too."""
    kept = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        net = HRNet(HRNetConfig(width=4, blocks=1, stage1_blocks=1, checkpointing=checkpointing))
        synchronise(net, Team(0, 2), gpu=False)
        with apart(net, Team(0, 2), when=True):
            sum(level.sum() for level in net(torch.ones(2, 3, 64, 64) * torch.arange(2).view(2, 1, 1, 1))).backward()
        kept.append(dict(net.named_buffers()))
    for name, value in kept[0].items():
        torch.testing.assert_close(kept[1][name], value, msg=name)


# --- what can be known before


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"gpus": 1.5}, "budget.gpus: a fraction of one GPU or a whole number of them, not 1.5"),
        ({"gpus": 0.5, "processes": 2}, "budget.processes: a process has one GPU; 2 of them do not go with gpus: 0.5"),
        ({"gpus": 4, "processes": 2}, "budget.processes: a process has one GPU; 2 of them do not go with gpus: 4"),
        ({"across_nodes": True}, "budget.across_nodes: a trial of one process is on one node"),
        ({"processes": 9}, "budget: 9 processes cannot share a batch of 8; at most 8"),
        ({"gpus": 16}, "budget: 16 processes cannot share a batch of 8; at most 8"),
    ],
)
def test_impossible_numbers_of_processes_are_one_line(called, tmp_path, budget, message):
    status, _, said = called("plan", write_study(tmp_path, budget=budget))
    assert status == 2
    assert message in said
    assert len(said.strip().splitlines()) == 1
