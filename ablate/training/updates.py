"""How a network's parameters change: learning rates, what decays, what stays as it is, and their running average."""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ablate.network.build import frozen
from ablate.study import TrainSpec
from ablate.training.team_norm import SyncNorm

CONTAINERS = nn.Sequential | nn.ModuleList | nn.ModuleDict
NORMS = _NormBase | nn.LayerNorm | nn.GroupNorm


def learning_rate(spec: TrainSpec, epoch: int, fraction: float, *, steps: int = 1) -> float:
    """The learning rate within an epoch (0 is the first) at a fraction of its steps, of which it has so many."""
    rate = _scheduled(spec, epoch, (epoch + fraction) / spec.epochs)
    if spec.warmup == "none":
        return rate
    passed, length = round((epoch + fraction) * steps), spec.warmup_steps or spec.warmup_epochs * steps
    if passed >= length:
        return rate
    grown = passed / length if spec.warmup == "linear" else 0.0
    return rate * (spec.warmup_ratio + (1 - spec.warmup_ratio) * grown)


def _scheduled(spec: TrainSpec, epoch: int, progress: float) -> float:
    if spec.schedule == "step":
        return spec.lr * spec.gamma ** sum(epoch >= round(point * spec.epochs) for point in spec.milestones)
    above = spec.lr - spec.lr_floor
    if spec.schedule == "poly":
        return float(above * (1 - progress) ** spec.power) + spec.lr_floor
    if spec.schedule == "cosine":
        return above * 0.5 * (1 + math.cos(math.pi * progress)) + spec.lr_floor
    return spec.lr


def optimizer(net: nn.Module, spec: TrainSpec, times: Mapping[str, float]) -> torch.optim.Optimizer:
    """The recipe's optimiser over all parameters; weight decay is applied as written, normalisation included, unless
    the recipe leaves it out. Each group's `times` is what the learning rate is multiplied by there."""
    groups = _groups(net, spec, times)
    if spec.optimizer == "sgd":
        return torch.optim.SGD(
            groups, spec.lr, momentum=spec.momentum or 0.0, weight_decay=spec.weight_decay, nesterov=spec.nesterov,
            fused=True,
        )  # fmt: skip
    kind = torch.optim.AdamW if spec.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, spec.lr, weight_decay=spec.weight_decay, fused=True)


def _groups(net: nn.Module, spec: TrainSpec, times: Mapping[str, float]) -> list[dict[str, object]]:
    """Parameters that share a learning rate and a decay, in the order in which the network has them."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        spared = spec.weight_decay_on == "weights" and (parameter.dim() <= 1 or name.endswith(".bias"))
        decay = 0.0 if spared else spec.weight_decay
        groups.setdefault((times.get(name, 1.0), decay), []).append(parameter)
    return [{"params": own, "times": rate, "weight_decay": decay} for (rate, decay), own in groups.items()]


def rates(net: nn.Module, spec: TrainSpec) -> dict[str, float]:
    """What the learning rate is multiplied by, by parameter, where that is not 1. Of the network as it was built: norms
    that talk to other processes are modules of another make."""
    times = {}
    if spec.layer_decay < 1:
        depths = blocks(net.get_submodule("backbone"))
        head = 1 + max(depths.values(), default=-1)
        times = {f"backbone.{name}": spec.layer_decay ** (head - depth) for name, depth in depths.items()}
    if spec.head_lr != 1:
        times |= {f"head.{name}": spec.head_lr for name, _ in net.get_submodule("head").named_parameters()}
    return times


def blocks(backbone: nn.Module) -> dict[str, int]:
    """Which of the backbone's blocks, 0 being the first, a parameter belongs to, by its name.

    Blocks are the backbone's modules in the order in which it has them; those inside a list of several-layered modules
    count one by one, as the layers of a transformer, and a norm belongs to the block before it. What the backbone has
    beside its modules, such as the embedding of positions, is of the first.
    """
    found: dict[str, int] = {}
    number = -1
    for path, block in _blocks(backbone, ""):
        number += not (isinstance(block, NORMS) and number >= 0)
        found |= {f"{path}.{name}": number for name, _ in block.named_parameters()}
    return {name: found.get(name, 0) for name, _ in backbone.named_parameters()}


def _blocks(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    children = [(name, child) for name, child in module.named_children() if any(True for _ in child.parameters())]
    for name, child in children:
        within = any(True for grandchild in child.children() for _ in grandchild.children())
        at = f"{path}.{name}".lstrip(".")
        if (isinstance(child, CONTAINERS) and within) or (len(children) == 1 and within):
            yield from _blocks(child, at)
        else:
            yield at, child


def prepare(net: nn.Module, spec: TrainSpec) -> None:
    """Set the momentum of batch norms, and have what is frozen take no gradient."""
    if spec.norm_momentum is not None:
        for norm in net.modules():
            if isinstance(norm, _BatchNorm):
                norm.momentum = spec.norm_momentum
    for part in frozen(net, spec.frozen):
        part.requires_grad_(False)


def train_mode(net: nn.Module, spec: TrainSpec) -> None:
    """Have the network train, but for what is frozen: it neither drops values nor tracks statistics."""
    net.train()
    for part in frozen(net, spec.frozen):
        part.eval()
    for module in net.get_submodule("backbone").modules() if spec.frozen_norms else ():
        if isinstance(module, _BatchNorm | SyncNorm):
            module.eval()


def clip(net: nn.Module, spec: TrainSpec) -> None:
    """Shorten the gradient to the recipe's norm if it is longer."""
    if spec.clip_norm:
        nn.utils.clip_grad_norm_(net.parameters(), spec.clip_norm)


def average(net: nn.Module, spec: TrainSpec, device: torch.device, layout: torch.memory_format) -> AveragedModel | None:
    """A running average of the network's parameters and buffers, where the recipe wants one.

    It is a copy of the whole network, made before its norms talk to those of other processes: each evaluates alone.
    """
    if not spec.ema:
        return None
    made = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(spec.ema), use_buffers=True)
    made.to(device, memory_format=layout)  # type: ignore[call-overload]  # stubs lack it
    made.n_averaged = made.n_averaged.cpu()  # it is read at every step
    return made


@torch.no_grad()
def follow(average: AveragedModel, net: nn.Module, decay: float) -> None:
    """Move the running average towards the network, as `update_parameters` does, which would wait for a GPU: it sends
    it the number of updates, for averages that depend on it."""
    if not int(average.n_averaged):
        average.update_parameters(net)
        return
    move = get_ema_multi_avg_fn(decay)
    pairs = [*zip(*([*module.parameters(), *module.buffers()] for module in (average.module, net)), strict=True)]
    for real in (True, False):
        if some := [pair for pair in pairs if pair[0].is_floating_point() == real]:
            move([own for own, _ in some], [theirs for _, theirs in some], None)
    average.n_averaged += 1


def averaged(tensors: dict[str, Tensor], own: AveragedModel | None) -> dict[str, Tensor]:
    """Of a saved state's tensors those of the running average.

    Raises:
        ValueError: the recipe's average is another one, or there is none.
    """
    given = {name.removeprefix("average/"): value for name, value in tensors.items() if name.startswith("average/")}
    wanted = own.state_dict() if own else {}
    if {n: (v.shape, v.dtype) for n, v in given.items()} != {n: (v.shape, v.dtype) for n, v in wanted.items()}:
        raise ValueError("average")
    return given
