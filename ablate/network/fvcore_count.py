"""fvcore's count of a network beside ours: its flop is one multiply-add, as ours is."""

import warnings
from dataclasses import dataclass

import torch

from ablate.network.build import build
from ablate.network.cost import Size, input_size
from ablate.storage import Cost
from ablate.study import Recipe

LAYERS = ("conv", "linear")  # what `Cost.macs` counts, in fvcore's names
PRODUCTS = ("matmul", "bmm", "einsum", "scaled_dot_product_attention")  # what `Cost.matmul_macs` counts, likewise


@dataclass(frozen=True)
class Beside:
    """What fvcore counts of one image, in multiply-adds."""

    layers: int  # of convolution and linear layers
    products: int  # of matrix products outside these
    others: dict[str, int]  # that we leave out, by operator

    @property
    def total(self) -> int:
        """All of it, as fvcore prints it."""
        return self.layers + self.products + sum(self.others.values())

    def why(self, ours: Cost) -> str:
        """Why fvcore's total is not our MACs, in a sentence."""
        attention, layers = _millions(ours.matmul_macs), self.layers - ours.macs
        largest_first = sorted(self.others.items(), key=lambda item: -item[1])
        found = [f"{_millions(count)} of {name}" for name, count in largest_first]
        if self.products or ours.matmul_macs:
            found.append(f"{_millions(self.products)} of matrix products (ours, under attention: {attention})")
        if layers:
            found.append(f"{_millions(layers)} of convolutions and linear layers called as functions")
        return f"fvcore counts beside these layers: {', '.join(found) or 'nothing'}."


def beside(recipe: Recipe, *, size: Size | None = None) -> Beside:
    """fvcore's `FlopCountAnalysis` of the recipe's network in evaluation mode, traced with one image of zeros."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit, which fvcore traces with
        from fvcore.nn import FlopCountAnalysis

        net, image = build(recipe).eval(), torch.zeros(1, 3, *(size or input_size(recipe)))
        analysis = FlopCountAnalysis(net, image).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counts = {name: int(count) for name, count in analysis.by_operator().items() if count}
    return Beside(
        layers=sum(counts.pop(name, 0) for name in LAYERS),
        products=sum(counts.pop(name, 0) for name in PRODUCTS),
        others=counts,
    )


def _millions(count: int) -> str:
    return f"{count / 1e6:,.4g} M"
