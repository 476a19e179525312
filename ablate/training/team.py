"""Several processes that train one trial: what they say to each other, and how they share a batch.

Every process runs the same code on its share; what one process computes over a batch, they compute over the same
batch together. They talk through torch.distributed (NCCL between GPUs, gloo elsewhere), in numbers and bytes only:
nothing is pickled. Process 0 leads: it alone reads and writes files of the results folder.
"""

import fcntl
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import Store  # type: ignore[attr-defined]  # the stubs lack it
from torch.utils.data import BatchSampler, Sampler

from ablate.errors import TeamError
from ablate.storage import packed_rows, unpacked_rows
from ablate.tasks import Prediction

Item = TypeVar("Item")
MOST = 2**40  # bytes of a process's predictions: more than any data set has
GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"
ADDRESS_OF_INTERFACE = 0x8915  # SIOCGIFADDR of Linux
PATIENCE = timedelta(minutes=30)  # for the others at one point of the way, such as while process 0 scores


@dataclass(frozen=True)
class Team:
    """The processes of one trial, as one of them sees it; with `size` 1 nothing here does anything."""

    rank: int = 0
    size: int = 1
    itself: dist.ProcessGroup | None = None  # torch's group of this process alone, where GPUs are joined

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's part of a sequence; all parts in the order of ranks are the sequence."""
        return items[len(items) * self.rank // self.size : len(items) * (self.rank + 1) // self.size]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place and equal bit for bit in all of them.

        Raises:
            TeamError: another process is gone or silent.
        """
        if self.size > 1:
            with talking():
                dist.all_reduce(values)
        return values

    def part(self, loss: Tensor, weight: Tensor) -> Tensor:
        """This process's term of the loss of the whole batch, where `loss` is a mean over `weight`."""
        if self.size == 1:
            return loss
        total = self.sum(weight.detach().clone())
        share = weight / total.clamp(min=torch.finfo(total.dtype).tiny)
        return torch.where(weight > 0, loss, torch.zeros_like(loss)) * share

    def add_up(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """Sum gradients over all processes, in one message with the loss, whose sum is returned.

        A parameter that has a gradient in no process stays without one, as it would in one process.
        """
        if self.size == 1:
            return loss
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        present = loss.new_tensor([parameter.grad is not None for parameter in trained])
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        total = self.sum(torch.cat([loss.reshape(1), present, *(gradient.reshape(-1) for gradient in gradients)]))
        anywhere = total[1 : 1 + len(trained)].tolist()
        parts = total[1 + len(trained) :].split([gradient.numel() for gradient in gradients])
        for parameter, gradient, part, some in zip(trained, gradients, parts, anywhere, strict=True):
            parameter.grad = gradient.copy_(part.view_as(gradient)) if some else None
        return total[0]

    def broadcast(self, content: bytes) -> bytes:
        """What process 0 has, in all of them."""
        if self.size == 1:
            return content
        with talking():
            length = torch.tensor(len(content))
            dist.broadcast(length, src=0)
            buffer = _tensor(content) if self.leads else torch.empty(int(length), dtype=torch.uint8)
            if length:
                dist.broadcast(buffer, src=0)
        return buffer.numpy().tobytes()

    def gather(self, rows: list[Prediction]) -> list[Prediction]:
        """The rows of all processes in the order of ranks, in process 0; nothing in the others.

        Raises:
            TypeError: a row holds more than numbers, texts, lists, dicts and arrays.
        """
        if self.size == 1:
            return rows
        content = b"" if self.leads else packed_rows(rows)
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(content)
        self.sum(lengths)
        if not self.leads:
            with talking():
                dist.send(_tensor(content), dst=0)
            return []
        for rank in range(1, self.size):
            buffer = torch.empty(int(lengths[rank]), dtype=torch.uint8)
            with talking():
                dist.recv(buffer, src=rank)
            rows = rows + unpacked_rows(buffer.numpy().tobytes(), at=f"process {rank}", most=MOST)
        return rows


ALONE = Team()


class Shares(Sampler[list[int]]):
    """A process's share of every batch; a batch of fewer samples than processes goes to all of them whole."""

    def __init__(self, batches: BatchSampler, team: Team) -> None:
        self.batches, self.team = batches, team

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches:
            yield batch if len(batch) < self.team.size else list(self.team.share(batch))


@contextmanager
def joined(rank: int, size: int, store: Store, address: str, *, gpu: bool) -> Iterator[Team]:
    """Meet the others at `store`; this process listens for them at its own `address`.

    Raises:
        TeamError: another process did not come, or is gone.
    """
    backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
    with talking(), _gloo_at(address):
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        yield Team(rank, size, dist.new_subgroups(group_size=1)[0] if gpu else None)
    finally:
        with suppress(RuntimeError):
            dist.destroy_process_group()


@contextmanager
def talking() -> Iterator[None]:
    """Turns what torch raises when others are gone or silent into a TeamError."""
    try:
        yield
    except RuntimeError as error:
        raise TeamError(f"the processes of a trial lost each other: {str(error)[:200]}") from None


@contextmanager
def _gloo_at(address: str) -> Iterator[None]:
    """Let gloo listen at an address: by itself it takes the one that the host's name stands for.

    It is told a network interface, unless the user has; the system's default remains where none is found.
    """
    name = "" if GLOO_INTERFACE in os.environ else _interface(address)
    if name:
        os.environ[GLOO_INTERFACE] = name
    try:
        yield
    finally:
        if name:
            del os.environ[GLOO_INTERFACE]


def _interface(address: str) -> str:
    """The network interface that has an IPv4 address, as Linux names it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                answer = fcntl.ioctl(probe, ADDRESS_OF_INTERFACE, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return ""


def _tensor(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
