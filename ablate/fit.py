"""The one training loop: every model, task and data set goes through it, so that a comparison is fair.

Pairing: the order of samples depends on (seed, epoch), an image's augmentation on (seed, epoch, image), both
independent of arm and of the number of data workers. The state is saved at the end of an epoch and holds tensors and
plain numbers only; from it, training goes on bit for bit as if it had not stopped.
"""

import hashlib
import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from ablate.heartbeat import beat
from ablate.result import Epoch
from ablate.site import Site
from ablate.store import write_atomically
from ablate.trial import TrainSpec, Trial


class Diverged(Exception):
    """The loss is no longer a number; the text says when."""


class Encoded(Dataset[dict[str, Any]]):
    """Samples as the network takes them; `(epoch, index)` is augmented, `index` alone is not."""

    def __init__(self, samples: Any, task: Any, info: Any, *, seed: int) -> None:
        self.samples, self.task, self.info, self.seed = samples, task, info, seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        if isinstance(index, tuple):
            epoch, position = index
            rng = np.random.default_rng([self.seed, epoch, position])
            return dict(self.task.encode(self.samples[position], self.info, rng))
        return dict(self.task.encode(self.samples[index], self.info, None))


class Shuffled(Sampler[tuple[int, int]]):
    """All samples in an order drawn from (seed, epoch)."""

    def __init__(self, length: int, *, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 1

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        return iter([(self.epoch, int(index)) for index in order])


class Training:
    """Network, optimiser and curve of one trial: what a saved state holds."""

    def __init__(self, trial: Trial, net: nn.Module, device: torch.device) -> None:
        self.spec, self.device = trial.recipe.train, device
        self.layout = torch.channels_last if self.spec.memory_format == "channels_last" else torch.contiguous_format
        self.net = net.to(device, memory_format=self.layout)  # type: ignore[call-overload]  # stubs lack it
        self.optimizer = optimizer(self.net, self.spec)
        self.curve: list[Epoch] = []

    def autocast(self) -> AbstractContextManager[None]:
        """The precision of forward passes; losses and metrics stay in float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.spec.precision == "bf16")

    def step(self, task: Any, batch: dict[str, Any], lr: float) -> Tensor:
        """One optimiser step; returns the detached loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        images = task.prepare(batch).contiguous(memory_format=self.layout)
        with self.autocast():
            outputs = self.net(images)
        loss: Tensor = task.loss(outputs, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def state(self) -> bytes:
        """All that training goes on from: safetensors, in its header the curve as JSON and a digest of it all."""
        tensors = {f"net/{name}": value for name, value in self.net.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in state.items()}
        flat = {name: value.cpu().contiguous() for name, value in tensors.items()}
        curve = json.dumps([epoch.model_dump(mode="json") for epoch in self.curve])
        header = {"curve": curve, "digest": _digest(flat, curve)}
        content: bytes = safetensors.torch.save(flat, header)
        return content

    def resume(self, state: bytes) -> bool:
        """Take up a saved state; False, and nothing is changed, when it is damaged."""
        try:
            header = json.loads(state[8 : 8 + int.from_bytes(state[:8], "little")])["__metadata__"]
            tensors = safetensors.torch.load(state)
            if header["digest"] != _digest(tensors, header["curve"]):
                return False
        except (ValueError, TypeError, KeyError, RecursionError, safetensors.SafetensorError):
            return False
        self.curve = [Epoch.model_validate(row) for row in json.loads(header["curve"])]
        self.net.load_state_dict({name[4:]: value for name, value in tensors.items() if name.startswith("net/")})
        self._load_optimizer(tensors)
        return True

    def _load_optimizer(self, tensors: dict[str, Tensor]) -> None:
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer/"):
                _, index, field = name.split("/")
                # In its parameter's memory layout again: steps over mixed layouts round differently.
                alike = parameters[int(index)] if value.dim() else value
                state.setdefault(int(index), {})[field] = torch.empty_like(alike, dtype=value.dtype).copy_(value)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})


def _digest(tensors: dict[str, Tensor], curve: str) -> str:
    content = hashlib.blake2b(curve.encode(), digest_size=16)
    for name in sorted(tensors):
        content.update(name.encode())
        content.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()


def fit(
    training: Training,
    trial: Trial,
    task: Any,
    info: Any,
    samples: Any,
    site: Site,
    *,
    state: Path,
    score: Callable[[nn.Module], dict[str, float]],
) -> Iterator[Epoch]:
    """Train to the recipe's last epoch, yielding each epoch as it ends. Closed there, it saves its state.

    Raises:
        Diverged: the loss is not finite.
        StoreError: the state cannot be written.
    """
    spec, sampler = trial.recipe.train, Shuffled(len(samples), seed=trial.seed)
    loader = batches(Encoded(samples, task, info, seed=trial.seed), spec.batch, site, task, sampler=sampler)
    saved = time.monotonic()
    for number in range(len(training.curve) + 1, spec.epochs + 1):
        sampler.epoch = number
        # Dropout and the like draw from (seed, epoch), so that a resumed epoch draws what the first try drew.
        torch.manual_seed(int(np.random.SeedSequence([trial.seed, number]).generate_state(1)[0]))
        row = _epoch(training, task, loader, number)
        if site.evaluate_every and (number % site.evaluate_every == 0 or number == 1) and number < spec.epochs:
            row = row.model_copy(update={"scores": score(training.net)})
        training.curve.append(row)
        due = number == spec.epochs or time.monotonic() - saved >= 60 * site.checkpoint_minutes
        if due:
            write_atomically(state, training.state())
            saved = time.monotonic()
        try:
            yield row
        except GeneratorExit:  # whoever drives this stops here, and loses nothing
            if not due:
                write_atomically(state, training.state())
            raise


def batches(
    encoded: Encoded, batch: int, site: Site, task: Any, *, sampler: Sampler[tuple[int, int]] | None = None
) -> DataLoader[dict[str, Any]]:
    """A loader over encoded samples, in the sampler's order or in their own."""
    return DataLoader(
        encoded,
        batch_size=batch,
        sampler=sampler,
        # A batch of one image has no deviation to normalise by; officially the last batch is left out, if smaller.
        drop_last=sampler is not None and len(encoded) % batch == 1 and len(encoded) > 1,
        num_workers=site.workers,
        worker_init_fn=_leave_interrupts,
        collate_fn=task.collate,
        persistent_workers=site.workers > 0,
        pin_memory=site.gpu,
    )


def _leave_interrupts(worker: int) -> None:
    """A terminal's Ctrl-C goes to loading processes too; the epoch that they serve is to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch with its tensors on the device."""
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}


def optimizer(net: nn.Module, spec: TrainSpec) -> torch.optim.Optimizer:
    """The recipe's optimiser over all parameters; weight decay is applied as written, normalisation included."""
    parameters = list(net.parameters())
    if spec.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, spec.lr, momentum=spec.momentum or 0.0, weight_decay=spec.weight_decay, fused=True
        )
    kind = torch.optim.AdamW if spec.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, spec.lr, weight_decay=spec.weight_decay, fused=True)


def learning_rate(spec: TrainSpec, epoch: int, fraction: float) -> float:
    """The learning rate within an epoch (0 is the first) at a fraction of its steps."""
    progress = (epoch + fraction) / spec.epochs
    if spec.schedule == "step":
        return spec.lr * spec.gamma ** sum(epoch >= round(point * spec.epochs) for point in spec.milestones)
    if spec.schedule == "poly":
        return float(spec.lr * (1 - progress) ** spec.power)
    if spec.schedule == "cosine":
        return spec.lr * 0.5 * (1 + math.cos(math.pi * progress))
    return spec.lr


def _epoch(training: Training, task: Any, loader: DataLoader[dict[str, Any]], number: int) -> Epoch:
    training.net.train()
    start, total, images, lr = time.perf_counter(), 0.0, 0, 0.0
    for index, batch in enumerate(loader):
        lr = learning_rate(training.spec, number - 1, index / len(loader))
        loss = float(training.step(task, to_device(batch, training.device), lr))
        if not math.isfinite(loss):
            raise Diverged(f"the loss was {loss} in epoch {number}, step {index + 1} of {len(loader)}")
        beat()
        size = len(batch["image"])
        total, images = total + loss * size, images + size
    seconds = time.perf_counter() - start
    return Epoch(epoch=number, loss=total / images, lr=lr, seconds=seconds, images_per_second=images / seconds)
