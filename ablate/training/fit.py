"""The one training loop: every model, task and data set goes through it, so that a comparison is fair.

Pairing: the order of samples depends on (seed, epoch), an image's augmentation on (seed, epoch, image), both
independent of arm and of the number of data workers. The state is saved at the end of an epoch and holds tensors and
plain numbers only; from it, training goes on bit for bit as if it had not stopped.

Several processes of a trial run this same loop: each takes its share of every batch, gradients are summed, and only
process 0 writes the state.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress

import numpy as np
import safetensors
import safetensors.torch
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from ablate.datasets import Info
from ablate.machine import beat, clock
from ablate.storage import Epoch
from ablate.study import Trial
from ablate.tasks import Batch, GivesHead, Items, LossParts, SomeTask, WeighsBatches
from ablate.training import team_norm, updates
from ablate.training.batches import Encoded, Loader, Shuffled, batches, placed
from ablate.training.site import Site
from ablate.training.team import ALONE, Team

ADAM = {"step", "exp_avg", "exp_avg_sq"}
MOMENTS = {"adam": ADAM, "adamw": ADAM, "sgd": {"momentum_buffer"}}  # what an optimiser keeps of a parameter


class Diverged(Exception):
    """The loss or an output in evaluation is no longer finite; the text says which and when."""


class Unlabelled(Exception):
    """Nothing that was trained on had a label; the text says how that was seen."""


class Training:
    """Network, optimiser and curve of one trial: what a saved state holds."""

    def __init__(self, trial: Trial, net: nn.Module, device: torch.device, team: Team = ALONE) -> None:
        self.spec, self.device, self.team = trial.recipe.train, device, team
        self.layout = torch.channels_last if self.spec.memory_format == "channels_last" else torch.contiguous_format
        updates.prepare(net, self.spec)
        times, self.average = updates.rates(net, self.spec), updates.average(net, self.spec, device, self.layout)
        team_norm.synchronise(net, team, gpu=device.type == "cuda")
        self.net = net.to(device, memory_format=self.layout)  # type: ignore[call-overload]  # stubs lack it
        self.optimizer = updates.optimizer(self.net, self.spec, times)
        self.curve: list[Epoch] = []
        self.parts: dict[str, Tensor] = {}  # of the last step's loss, where the task names them; of one process alone

    @property
    def evaluated(self) -> nn.Module:
        """The network whose scores count: that of averaged weights, where the recipe has them averaged."""
        return self.average.module if self.average else self.net

    def autocast(self) -> AbstractContextManager[None]:
        """The precision of forward passes; losses and metrics stay in float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.spec.precision == "bf16")

    def step(self, task: SomeTask, batch: Batch, lr: float) -> Tensor:
        """One optimiser step; returns the detached loss, of all processes' shares together."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["times"]
        images = task.prepare(batch).contiguous(memory_format=self.layout)
        given = task.given(batch) if isinstance(task, GivesHead) else ()
        with self.autocast(), team_norm.apart(self.net, self.team, when=bool(batch.get("share", 0) == 1)):
            outputs = self.net(images, *given)
        loss: Tensor = task.loss(outputs, batch)
        if isinstance(task, LossParts) and self.team.size == 1:
            self.parts = {name: part.detach() for name, part in task.loss_parts(outputs, batch).items()}
        if self.team.size > 1:
            loss = self.team.part(loss, _weight(task, batch))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        loss = self.team.add_up(self.net.parameters(), loss.detach())
        updates.clip(self.net, self.spec)
        self.optimizer.step()
        if self.average and self.spec.ema:
            updates.follow(self.average, self.net, self.spec.ema)
        return loss

    def state(self) -> bytes:
        """All that training goes on from: safetensors, in its header the curve as JSON and a digest of it all."""
        tensors = {f"net/{name}": value for name, value in self.net.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in state.items()}
        if self.average:
            tensors |= {f"average/{name}": value for name, value in self.average.state_dict().items()}
        flat = {name: value.cpu().contiguous() for name, value in tensors.items()}
        curve = json.dumps([epoch.model_dump(mode="json") for epoch in self.curve])
        header = {"curve": curve, "digest": _digest(flat, curve)}
        content: bytes = safetensors.torch.save(flat, header)
        return content

    def resume(self, state: bytes) -> bool:
        """Take up a saved state; False, and nothing is changed, when it is damaged or of another training.

        Raises:
            torch.OutOfMemoryError, torch.AcceleratorError: the device has no room for it, or is broken.
        """
        try:
            header = json.loads(state[8 : 8 + int.from_bytes(state[:8], "little")])["__metadata__"]
            tensors = safetensors.torch.load(state)
            if header["digest"] != _digest(tensors, header["curve"]):
                return False
            curve = TypeAdapter(list[Epoch]).validate_json(header["curve"])
            net = {name[4:]: value for name, value in tensors.items() if name.startswith("net/")}
            moments, average = self._moments(tensors), updates.averaged(tensors, self.average)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise  # says nothing of the state
        except (ValueError, TypeError, KeyError, RuntimeError, RecursionError, safetensors.SafetensorError):
            return False
        if _kinds(net) != _kinds(self.net.state_dict()):
            return False
        if [row.epoch for row in curve] != list(range(1, min(len(curve), self.spec.epochs) + 1)):
            return False
        self.curve = curve
        self.net.load_state_dict(net)
        if self.average:
            self.average.load_state_dict(average)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        return True

    def _moments(self, tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
        """The optimiser's state by parameter; those that no loss reached have none.

        Raises:
            ValueError: it is that of another optimiser or network.
        """
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer/"):
                _, index, field = name.split("/")
                own = parameters[int(index)] if 0 <= int(index) < len(parameters) else None
                if own is None or value.dtype != own.dtype:
                    raise ValueError(name)
                # In its parameter's memory layout again: steps over mixed layouts round differently.
                alike = value if field == "step" else own
                if value.shape != (() if field == "step" else own.shape):  # fused kernels would write beyond its end
                    raise ValueError(name)
                state.setdefault(int(index), {})[field] = torch.empty_like(alike, dtype=value.dtype).copy_(value)
        if not all(moments.keys() == MOMENTS[self.spec.optimizer] for moments in state.values()):
            raise ValueError("optimizer")
        return state


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (value.shape, value.dtype) for name, value in tensors.items()}


def _digest(tensors: dict[str, Tensor], curve: str) -> str:
    content = hashlib.blake2b(curve.encode(), digest_size=16)
    for name in sorted(tensors):
        content.update(name.encode())
        content.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()


def fit(
    training: Training,
    trial: Trial,
    task: SomeTask,
    info: Info,
    samples: Items[object],
    site: Site,
    *,
    save: Callable[[bytes], None] | None,
    score: Callable[[], dict[str, float]],
) -> Iterator[Epoch]:
    """Train to the recipe's last epoch, yielding each epoch as it ends. Closed there, it saves its state.

    States go to `save`, where one is given.

    Raises:
        Diverged: the loss is not finite.
        Unlabelled: the loss is 0 before anything was learned.
        StoreError: the state cannot be saved.
    """
    spec, team, sampler = trial.recipe.train, training.team, Shuffled(len(samples), seed=trial.seed)
    loader = batches(Encoded(samples, task, info, seed=trial.seed), spec.batch, site, task, sampler=sampler, team=team)
    saved = time.monotonic()
    for number in range(len(training.curve) + 1, spec.epochs + 1):
        sampler.epoch = number
        # Dropout and the like draw from (seed, epoch), so that a resumed epoch draws what the first try drew; and from
        # the rank of a further process, whose samples are others.
        source = [trial.seed, number] if team.leads else [trial.seed, number, team.rank]
        torch.manual_seed(int(np.random.SeedSequence(source).generate_state(1)[0]))
        torch.empty((), dtype=torch.int64).random_()  # the first one was the loader's before it had its own
        row = _epoch(training, task, loader, number)
        if number < spec.epochs and number in spec.evaluated_after(site.budget.evaluate_every):
            row = row.model_copy(update={"scores": score()})
        training.curve.append(row)
        due = number == spec.epochs or time.monotonic() - saved >= 60 * site.budget.checkpoint_minutes
        if due and save:
            save(training.state())
            saved = time.monotonic()
        try:
            yield row
        except GeneratorExit:  # whoever drives this stops here, and loses nothing
            if save and not due:
                save(training.state())
            raise


def _epoch(training: Training, task: SomeTask, loader: Loader, number: int) -> Epoch:
    updates.train_mode(training.net, training.spec)
    losses = Losses(number, len(loader), late=training.device.type == "cuda" and training.team.size == 1)
    start, images, lr = clock.now(), 0, 0.0
    with losses.first():
        for index, batch in enumerate(placed(loader, training.device)):
            lr = updates.learning_rate(training.spec, number - 1, index / len(loader), steps=len(loader))
            samples = len(loader.dataset)  # type: ignore[arg-type]  # torch lets a data set be without a length; ours have one
            size = min(training.spec.batch, samples - index * training.spec.batch)
            if training.team.size > 1:
                batch["share"] = len(batch["image"]) / size  # type: ignore[assignment]  # a number among tensors
            losses.add(training.step(task, batch, lr), training.parts, size)
            images += size
            beat()
        total, parts = losses.read()
    if number == 1 and total == 0:  # later it may be what was learned
        raise Unlabelled("the loss was 0 in every step of epoch 1: nothing that was trained on has a label")
    seconds = clock.now() - start
    return Epoch(
        epoch=number,
        loss=total / images,
        lr=lr,
        seconds=seconds,
        images_per_second=images / seconds,
        loss_parts={name: part / images for name, part in parts.items()},
    )


class Losses:
    """The losses of an epoch's steps, in their order, and what they add up to.

    Late, they stay on their device until the epoch's end: whoever reads one waits for the device, which then waits for
    its next step. So a loss that is no number is found there, and the step that it came from is named all the same.
    """

    def __init__(self, epoch: int, steps: int, *, late: bool) -> None:
        self._epoch, self._steps, self._late = epoch, steps, late
        self._sizes: list[int] = []  # samples of each step
        self._losses: list[Tensor | float] = []
        self._parts: dict[str, list[Tensor | float]] = {}

    def add(self, loss: Tensor, parts: Mapping[str, Tensor], size: int) -> None:
        """One step's, over so many samples. Raises Diverged, unless it is late."""
        if not self._late:
            self._refuse(float(loss), len(self._sizes))
        self._sizes.append(size)
        self._losses.append(self._kept(loss))
        for name, part in parts.items():
            self._parts.setdefault(name, []).append(self._kept(part))

    def read(self) -> tuple[float, dict[str, float]]:
        """The sums over samples, of the loss and of its parts. Raises Diverged."""
        losses = _numbers(self._losses)
        for step, loss in enumerate(losses):
            self._refuse(loss, step)
        return self._total(losses), {name: self._total(_numbers(of)) for name, of in self._parts.items()}

    @contextmanager
    def first(self) -> Iterator[None]:
        """Has what went wrong after a loss that is no number be put down to this."""
        try:
            yield
        except Exception:
            with suppress(RuntimeError):  # a broken device tells no losses
                self.read()
            raise

    def _kept(self, scalar: Tensor) -> Tensor | float:
        """The scalar itself, or its value alone: it may be a view of all gradients."""
        return scalar if self._late else float(scalar)

    def _refuse(self, loss: float, step: int) -> None:
        if not math.isfinite(loss):
            raise Diverged(f"the loss was {loss} in epoch {self._epoch}, step {step + 1} of {self._steps}")

    def _total(self, values: list[float]) -> float:
        total = 0.0
        for value, size in zip(values, self._sizes, strict=True):
            total += value * size
        return total


def _numbers(scalars: list[Tensor | float]) -> list[float]:
    """Tensors all at once: their device is waited for once."""
    tensors = [scalar for scalar in scalars if isinstance(scalar, Tensor)]
    return list(map(float, torch.stack(tensors).tolist() if tensors else scalars))


def _weight(task: SomeTask, batch: Batch) -> Tensor:
    """What the task's loss of a batch is a mean over: its samples, unless the task says otherwise."""
    if isinstance(task, WeighsBatches):
        return task.loss_weight(batch)
    return torch.tensor(float(len(batch["image"])), device=batch["image"].device)
