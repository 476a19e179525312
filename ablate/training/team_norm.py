"""Batch normalisation over all processes of a trial, with the statistics that one process would find.

On GPUs it is torch's SyncBatchNorm, which refuses CPU tensors; there a small norm that sums over processes stands in.
Names in the state dict stay, so that a state saved by any number of processes is taken up by any other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ablate.errors import PartError
from ablate.training.team import ALONE, Team

Context = Any  # type: ignore[explicit-any]  # torch's, on which functions keep what they like


class SyncNorm(nn.Module):
    """What nn.BatchNorm2d would compute from the inputs (B, C, ...) of all processes together; B may differ."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: _BatchNorm, team: Team) -> None:
        super().__init__()
        self.team, self.eps, self.momentum = team, norm.eps, norm.momentum
        self.weight, self.bias = norm.weight, norm.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))
        self.drop: nn.Module = getattr(norm, "drop", nn.Identity())  # timm's norms hold what comes after them
        self.act: nn.Module = getattr(norm, "act", nn.Identity())
        self.train(norm.training)

    def forward(self, inputs: Tensor) -> Tensor:
        tracked = self.running_mean is not None
        if self.training or not tracked:
            team = self.team if self.training else ALONE
            outputs, *statistics = Normalised.apply(inputs, self.weight, self.bias, self.eps, team)
            if self.training and tracked:
                self._track(*statistics)
        else:
            mean, variance = self.running_mean, self.running_var
            outputs = F.batch_norm(inputs, mean, variance, self.weight, self.bias, False, 0.0, self.eps)
        result: Tensor = self.act(self.drop(outputs))
        return result

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked.add_(1)
        step = 1.0 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, step)
        self.running_var.lerp_(variance, step)


class Normalised(torch.autograd.Function):
    """(outputs, mean, unbiased variance); sums are float64, as in torch's own norm, statistics float32."""

    @staticmethod
    def forward(
        ctx: Context, inputs: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, team: Team
    ) -> tuple[Tensor, Tensor, Tensor]:
        axes = [axis for axis in range(inputs.dim()) if axis != 1]
        variance, mean = torch.var_mean(inputs.double(), axes, correction=0)
        own = mean.new_full((1,), inputs.numel() // inputs.shape[1])
        # Each process writes a row of its own, so that variances are joined without cancellation.
        rows = mean.new_zeros(team.size, 2 * len(mean) + 1)
        rows[team.rank] = torch.cat([mean, variance, own])
        means, variances, counts = team.sum(rows).split([len(mean), len(mean), 1], dim=1)
        count = counts.sum()
        if count <= 1:
            raise ValueError("a batch of one value per channel has no deviation to normalise by")
        mean = (means * counts).sum(0) / count
        variance = ((variances + (means - mean) ** 2) * counts).sum(0) / count
        unbiased = (variance * count / (count - 1)).float()
        ctx.save_for_backward(inputs, weight, mean.float(), torch.rsqrt(variance + eps).float(), count)
        ctx.team, ctx.axes = team, axes
        mean, variance = mean.float(), variance.float()
        ctx.mark_non_differentiable(mean, unbiased)
        return F.batch_norm(inputs, mean, variance, weight, bias, False, 0.0, eps), mean, unbiased

    @staticmethod
    def backward(ctx: Context, gradient: Tensor, *unused: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight, mean, inverse, count = ctx.saved_tensors
        shape = [-1 if axis == 1 else 1 for axis in range(inputs.dim())]
        slope, normal = gradient.float(), (inputs.float() - mean.view(shape)) * inverse.view(shape)
        # Gradients of weight and bias stay those of the own share, for all parameters' are summed after the backward.
        own = torch.stack([part.sum(ctx.axes, dtype=torch.float64) for part in (slope * normal, slope)])
        along, level = (ctx.team.sum(own.clone()) / count).float().view(2, *shape)
        scale = inverse if weight is None else inverse * weight
        result = ((slope - level - normal * along) * scale.view(shape)).to(inputs.dtype)
        parameters = (None, None) if weight is None else own.float()
        return result, *parameters, None, None


def synchronise(net: nn.Module, team: Team, *, gpu: bool) -> None:
    """Replace every batch normalisation inside `net`, in place; nothing is done where one process is all.

    Raises:
        PartError: one has a forward pass of its own, which nobody here can divide among processes.
    """
    if team.size == 1:
        return
    from timm.layers import BatchNormAct2d, convert_sync_batchnorm  # takes a second

    made: dict[nn.Module, nn.Module] = {}  # one that stands in two places stays one
    for path, norm in list(net.named_modules(remove_duplicate=False)):
        if isinstance(norm, _BatchNorm):
            if type(norm).forward is not _BatchNorm.forward and not isinstance(norm, BatchNormAct2d):
                kind = type(norm).__name__
                raise PartError(f"{path}: a {kind} cannot be shared among the {team.size} processes of a trial")
            if norm not in made:
                made[norm] = convert_sync_batchnorm(norm) if gpu else SyncNorm(norm, team)
            parent, _, name = path.rpartition(".")
            setattr(net.get_submodule(parent), name, made[norm])


@contextmanager
def apart(net: nn.Module, team: Team, *, when: bool) -> Iterator[None]:
    """Every process normalises by its own inputs for a while: for a batch that all of them have whole."""
    shared = [m for m in net.modules() if isinstance(m, SyncNorm | nn.SyncBatchNorm)] if when else []
    for layer in shared:
        layer.team, layer.process_group = ALONE, team.itself
    try:
        yield
    finally:
        for layer in shared:
            layer.team, layer.process_group = team, None
