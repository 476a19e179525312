"""What a network costs, counted without data or training, on the meta device.

MACs are the multiply-adds of convolution and linear layers. The papers' "GFLOPs" are MACs / 2**30 (the official
`get_model_summary`); decimal GMACs are MACs / 10**9. What else computes is listed as uncounted, not guessed.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ablate.datasets import build_dataset
from ablate.models import Staged
from ablate.network.build import Network, build
from ablate.network.count import Counter
from ablate.storage import Cost
from ablate.study import Recipe, TrainSpec
from ablate.tasks import Outputs, build_task

MOMENTS = {"adam": 2, "adamw": 2}  # tensors that an optimiser keeps for each parameter; sgd: one with momentum
MOST = 0.5  # of the multiply-adds: a stage that has more is said to hold most of the cost
Size = tuple[int, int]  # height and width in pixels


class Lopsided(NamedTuple):
    """What is out of proportion in a network; empty where nothing is."""

    stage: str = ""  # that has most of the multiply-adds
    share: float = 0.0  # of them
    channels: int = 0  # that the last layer reads, fewer than
    outputs: int = 0  # that it gives


def price(recipe: Recipe, *, size: Size | None = None) -> Cost:
    """Parameters and MACs of a settled recipe's network for one image, of the size that the task evaluates on.

    Raises:
        ValueError: an impossible combination of knobs, or an input too small for it.
    """
    return priced(recipe, size=size)[0]


def priced(recipe: Recipe, *, size: Size | None = None) -> tuple[Cost, Lopsided]:
    """The same, and what is lopsided about the network."""
    with torch.device("meta"):
        net = build(recipe).eval()
    cost, counter = _counted(net, size or input_size(recipe))
    return cost, lopsided(net, counter)


def price_network(net: nn.Module, size: Size) -> Cost:
    """The same of any network on the meta device, in evaluation mode."""
    return _counted(net, size)[0]


def lopsided(net: Network, counter: Counter) -> Lopsided:
    """What a count tells of the network's proportions."""
    backbone, last = net.backbone, next(reversed(counter.by_layer), None)
    stage, share = "", 0.0
    for name, modules in backbone.modules_of_stages.items() if isinstance(backbone, Staged) else ():
        layers = (layer for module in modules for layer in module.modules())
        of_stage = sum(counter.by_layer.get(layer, 0) for layer in layers) / counter.macs
        if of_stage > MOST:
            stage, share = name, of_stage
    if isinstance(last, nn.Conv2d) and last.groups == 1 and last.in_channels < last.out_channels:
        return Lopsided(stage, share, last.in_channels, last.out_channels)
    return Lopsided(stage, share)


def _counted(net: nn.Module, size: Size) -> tuple[Cost, Counter]:
    with Counter(net) as counter:
        output = net(torch.empty(1, 3, *size, device="meta"))
    cost = Cost(
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        used_parameters=used_parameters(output),
        macs=counter.macs,
        image=size,
        transposed_excess=counter.transposed_excess,
        matmul_macs=counter.matmul_macs,
        activations=counter.activations,
        uncounted=sorted(counter.uncounted),
    )
    return cost, counter


def used_parameters(output: Outputs) -> int:
    """How many parameters an output depends on; those of streams that nothing reads are not among them."""
    waiting = [leaf.grad_fn for leaf in leaves(output) if leaf.grad_fn]
    seen, used = set(waiting), 0
    while waiting:  # the graph that a backward pass would walk, without its arithmetic
        node = waiting.pop()
        variable = getattr(node, "variable", None)  # of the nodes that gradients accumulate in
        used += variable.numel() if variable is not None else 0
        fresh = {before for before, _ in node.next_functions if before} - seen
        seen |= fresh
        waiting += fresh
    return used


def training_memory(recipe: Recipe, *, size: Size | None = None) -> int:
    """Bytes that a training step takes at its peak, estimated for one device that trains a whole batch.

    Counted are parameters, gradients, the optimiser's moments, buffers, the images and their outputs, and what autograd
    keeps of the forward pass in the recipe's precision; the loss, passing results and the workspace of kernels are not.
    Peaks measured on a CPU were within 5 % of it for HRNet and SimpleBaseline, and up to a third higher for small
    networks with large outputs, whose loss weighs more (U-Net, SegFormer, FPN).
    """
    spec, batch = recipe.train, max(2, recipe.train.batch)  # one value of a batch has no deviation to normalise by
    with torch.device("meta"):
        net = build(recipe).train()
        images = torch.empty(batch, 3, *(size or input_size(recipe, training=True)))
    state = [*net.parameters(), *net.buffers()]
    kept: dict[int, Tensor] = {}  # by storage, for several operators may keep the same one

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with Counter(net), torch.autograd.graph.saved_tensors_hooks(keep, keep):
        for tensor in [images, *leaves(net(images))]:
            keep(tensor)
    for tensor in state:
        kept.pop(tensor.untyped_storage()._cdata, None)
    of_batch = sum(_bytes(tensor.untyped_storage().nbytes(), tensor, spec) for tensor in kept.values())
    return _state_bytes(net, spec) + of_batch * spec.batch // batch


def _state_bytes(net: nn.Module, spec: TrainSpec) -> int:
    """Parameters, gradients, moments, buffers and their average; in bf16 also the copies that layers multiply with."""
    weights = sum(parameter.nbytes for parameter in net.parameters())
    copies = sum(parameter.nbytes // 2 for parameter in net.parameters() if parameter.dim() > 1)
    moments = MOMENTS.get(spec.optimizer, int(bool(spec.momentum)))
    buffers = sum(buffer.nbytes for buffer in net.buffers())
    average = weights + buffers if spec.ema else 0
    return weights * (2 + moments) + buffers + average + (copies if spec.precision == "bf16" else 0)


def _bytes(size: int, tensor: Tensor, spec: TrainSpec) -> int:
    return size // 2 if spec.precision == "bf16" and tensor.dtype == torch.float32 else size


def input_size(recipe: Recipe, *, training: bool = False) -> Size:
    """Height and width of what the network sees in evaluation, or in training, in pixels."""
    info = build_dataset(recipe.dataset).info
    height, width = build_task(recipe.task).input_size(info, training=training)
    return int(height), int(width)


def leaves(output: Outputs) -> list[Tensor]:
    """All tensors of a nested output."""
    if isinstance(output, Tensor):
        return [output]
    return [leaf for item in output for leaf in leaves(item)]
