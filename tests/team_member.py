"""One process of a team of three, for test_team.py: `python team_member.py RANK PORT FOLDER` writes what it found."""

import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.distributed import TCPStore

from ablate.training.team import PATIENCE, Team, joined
from ablate.training.team_norm import apart, synchronise

SHARES = (5, 2, 1)  # uneven
CASES = {
    "plain": (lambda: nn.BatchNorm2d(3), (8, 3, 4, 5), {}),
    "flat": (lambda: nn.BatchNorm1d(3), (8, 3), {}),
    "with what follows": (lambda: BatchNormAct2d(3, act_layer=nn.SiLU), (8, 3, 4, 5), {}),
    "averaged": (lambda: nn.BatchNorm2d(3, momentum=None), (8, 3, 4, 5), {}),
    "bare": (lambda: nn.BatchNorm2d(3, affine=False, track_running_stats=False), (8, 3, 4, 5), {}),
    "far from zero": (lambda: nn.BatchNorm2d(3), (8, 3, 4, 5), {"offset": 100.0}),
    "channels last": (lambda: nn.BatchNorm2d(3), (8, 3, 4, 5), {"layout": torch.channels_last}),
    "bf16": (lambda: nn.BatchNorm2d(3), (8, 3, 4, 5), {"bf16": True}),
}


def passed_through(name: str, team: Team | None) -> dict[str, np.ndarray]:
    """Two training steps and a look in evaluation of a norm, on a share of the batch or, without a team, on it all."""
    build, shape, options = CASES[name]
    torch.manual_seed(len(name))
    net = nn.Sequential(build())
    for parameter in net.parameters():
        nn.init.uniform_(parameter, 0.5, 2)
    if team:
        synchronise(net, team, gpu=False)
    found = {}
    for step in range(2):
        whole = (torch.randn(shape) * torch.rand(3).view(3, *[1] * (len(shape) - 2)) + options.get("offset", 0)).float()
        slopes = torch.randn(shape)
        start = sum(SHARES[: team.rank]) if team else 0
        rows = slice(start, start + SHARES[team.rank]) if team else slice(None)
        inputs = whole[rows].contiguous(memory_format=options.get("layout", torch.contiguous_format))
        inputs = (inputs.bfloat16() if options.get("bf16") else inputs).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16) if options.get("bf16") else nullcontext():
            outputs = net(inputs)
        assert outputs.dtype == inputs.dtype
        assert outputs.is_contiguous(memory_format=options.get("layout", torch.contiguous_format))
        net.zero_grad()
        (outputs * slopes[rows]).sum().backward()
        found |= {f"{step} outputs": outputs.detach().float(), f"{step} slopes": inputs.grad.float()}
        found |= {f"{step} sum {key}": value.grad.clone() for key, value in net.named_parameters()}
        found |= {f"{step} equal {key}": value.clone() for key, value in net.named_buffers()}
    return {key: value.numpy() for key, value in found.items()} | {"equal names": np.array(list(net.state_dict()))}


def summed(team: Team) -> dict[str, np.ndarray]:
    """Gradients that all have, one has, and none has."""
    everywhere, somewhere, nowhere = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    everywhere.grad = torch.full((2,), 10.0**team.rank)
    if team.rank == 1:
        somewhere.grad = torch.ones(2)
    loss = team.add_up([everywhere, somewhere, nowhere], torch.tensor(float(team.rank)))
    assert nowhere.grad is None
    return {"everywhere": everywhere.grad.numpy(), "somewhere": somewhere.grad.numpy(), "loss": loss.numpy()}


def shared(team: Team) -> dict[str, np.ndarray]:
    """A weighted mean by its parts, of which one has neither weight nor a number."""
    loss, weight = [(1.0, 2.0), (4.0, 6.0), (float("nan"), 0.0)][team.rank]
    return {"part": team.part(torch.tensor(loss), torch.tensor(weight)).numpy()}


def whole_batch(team: Team) -> dict[str, np.ndarray]:
    """All processes have the same two pictures, and normalise by these alone."""
    torch.manual_seed(0)
    net, pictures = nn.Sequential(nn.BatchNorm2d(3)), torch.randn(2, 3, 2, 2)
    synchronise(net, team, gpu=False)
    with apart(net, team, when=True):
        net(pictures)
    return {"variance": net[0].running_var.numpy(), "expected": 0.9 + 0.1 * pictures.var((0, 2, 3)).numpy()}


def main() -> None:
    rank, port, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    store = TCPStore("127.0.0.1", port, is_master=False, timeout=PATIENCE, wait_for_workers=False)
    with joined(rank, len(SHARES), store, "127.0.0.1", gpu=False) as team:
        for name in CASES:
            np.savez(folder / f"{name} {rank}.npz", **passed_through(name, team))
        assert team.broadcast(b"so be it" if team.leads else b"") == b"so be it"
        assert team.broadcast(b"") == b""
        rows = [{"rank": rank, "map": np.full((rank, 2), rank, np.uint8)} for _ in range(rank)]
        gathered = team.gather(rows)
        assert [row["rank"] for row in gathered] == ([1, 2, 2] if team.leads else [])
        assert all((row["map"] == row["rank"]).all() and row["map"].dtype == np.uint8 for row in gathered)
        np.savez(folder / f"sums {rank}.npz", **summed(team), **shared(team), **whole_batch(team))


if __name__ == "__main__":
    main()
