"""What a network costs, counted without data or training, on the meta device.

MACs are the multiply-adds of convolutions and linear layers. The papers' "GFLOPs" are MACs / 2**30 (the
official `get_model_summary`); decimal GMACs are MACs / 10**9. What else computes is listed as uncounted, not guessed.
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ablate import network, registry
from ablate.result import Cost
from ablate.trial import Recipe

# Moving and reshaping data is not arithmetic.
SILENT = (
    *(
        "view",
        "reshape",
        "detach",
        "empty",
        "clone",
        "copy",
        "cat",
        "expand",
        "permute",
        "transpose",
        "select",
    ),
    *(
        "slice",
        "as_strided",
        "_to_copy",
        "alias",
        "unsqueeze",
        "squeeze",
        "zeros",
        "ones",
        "contiguous",
        "t.",
    ),
)
COUNTED = ("convolution", "addmm", "mm.", "bmm", "baddbmm", "scaled_dot_product")


def price(recipe: Recipe) -> Cost:
    """Parameters and MACs of a settled recipe's network for one image.

    Raises:
        ValueError: an impossible combination of knobs, or an input too small for it.
    """
    with torch.device("meta"):
        net = network.build(recipe).eval()
        images = torch.empty(1, 3, *input_size(recipe))
    macs, uncounted = count(net, images)
    used = used_parameters(net, images)
    total = sum(parameter.numel() for parameter in net.parameters())
    return Cost(parameters=total, used_parameters=used, macs=macs, uncounted=uncounted)


def count(net: nn.Module, images: Tensor) -> tuple[int, list[str]]:
    """MACs of one forward pass, and the names of the operators that were not counted."""
    flops, operators = FlopCounterMode(display=False), _Operators()
    with torch.no_grad(), flops, operators:
        net(images)
    names = [name for name in operators.seen if not name.startswith(COUNTED + SILENT)]
    return flops.get_total_flops() // 2, sorted({name.partition(".")[0] for name in names})


def used_parameters(net: nn.Module, images: Tensor) -> int:
    """How many parameters the output depends on; streams that nothing reads are not among them."""
    waiting = [leaf.grad_fn for leaf in leaves(net(images)) if leaf.grad_fn]
    seen, used = set(waiting), 0
    while waiting:  # the graph that a backward pass would walk, without its arithmetic
        node = waiting.pop()
        variable = getattr(node, "variable", None)  # of the nodes that gradients accumulate in
        used += variable.numel() if variable is not None else 0
        fresh = {before for before, _ in node.next_functions if before} - seen
        seen |= fresh
        waiting += fresh
    return used


def input_size(recipe: Recipe, *, training: bool = False) -> tuple[int, int]:
    """Height and width of what the network sees in evaluation, or in training, in pixels."""
    info = registry.build("dataset", recipe.dataset.name, recipe.dataset.knobs).info
    task = registry.build("task", recipe.task.name, recipe.task.knobs)
    height, width = task.input_size(info, training=training)
    return int(height), int(width)


def leaves(output: Any) -> list[Tensor]:
    """All tensors of a nested output."""
    if isinstance(output, Tensor):
        return [output]
    return [leaf for item in output for leaf in leaves(item)]


class _Operators(TorchDispatchMode):
    """Remembers the name of every operator that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[func.__name__] += 1
        return func(*args, **(kwargs or {}))
