"""Counts one forward pass on the meta device: multiply-adds, activations, and what else computes.

Two countings run side by side. Layers are counted as the papers' tool does it, convolution and linear modules alone;
operators are counted as they run. What the second finds beyond the first are matrix products outside such layers,
those of attention above all. The shapes that convolutions, pooling, joined maps and normalisations give are worked out
here: torch's own meta kernels for them are slow, and the first of them imports a second's worth of compiler.
"""

import math
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

Call = Any  # type: ignore[explicit-any]  # an operator of torch's, what it is called with and what it gives
# Moving and reshaping data is not arithmetic.
SILENT = {
    *("alias", "as_strided", "cat", "clone", "contiguous", "copy", "detach", "empty", "empty_like", "expand", "full"),
    *("im2col", "index", "index_select", "lift_fresh", "narrow", "new_empty", "new_zeros", "ones", "pad"),
    *("constant_pad_nd", "permute", "pixel_shuffle", "pixel_unshuffle", "repeat", "reshape", "roll", "scalar_tensor"),
    *("select", "slice", "split", "split_with_sizes", "squeeze", "stack", "t", "to_copy", "transpose", "unbind"),
    *("unsafe_view", "unsqueeze", "view", "zeros", "zeros_like", "arange", "unfold", "unsafe_split", "reshape_alias"),
}
NORMS = ("native_batch_norm", "native_layer_norm", "native_group_norm")
RESIZED = ("upsample_nearest2d", "upsample_bilinear2d")
ELEMENTWISE = ("relu", "hardtanh", "hardswish", "hardsigmoid", "silu", "gelu", "leaky_relu", "elu", "add", "sub", "mul")


class Counter(TorchDispatchMode):
    """Counts what runs within its block, of one network whose weights and inputs are on the meta device.

    Values are neither computed nor needed; shapes are. Gradients' graphs are built as ever.

    Raises, from within the block:
        ValueError: a convolution that its input is too small for, or has the wrong channels for.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.by_layer: dict[nn.Module, int] = {}  # multiply-adds of each convolution and linear layer, in their order
        self.transposed_excess = 0  # what the papers' tool adds for transposed convolutions
        self.activations = 0  # elements of these layers' outputs
        self.uncounted: set[str] = set()  # operators with arithmetic that no count covers
        self._products = 0  # multiply-adds of all convolutions and matrix products, within such layers or not
        self._layers = [layer for layer in net.modules() if isinstance(layer, nn.modules.conv._ConvNd | nn.Linear)]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch asks; yes would import its compiler."""
        return False

    @property
    def macs(self) -> int:
        """Multiply-adds of convolution and linear layers."""
        return sum(self.by_layer.values())

    @property
    def matmul_macs(self) -> int:
        """Multiply-adds outside convolution and linear layers: attention's products."""
        return self._products - self.macs

    def __enter__(self) -> Self:
        self._handles = [layer.register_forward_hook(self._count_layer) for layer in self._layers]
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        for handle in self._handles:
            handle.remove()

    def _count_layer(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.activations += output.numel()
        if isinstance(layer, nn.Linear):
            self._add(layer, output.numel() * layer.in_features)
            return
        assert isinstance(layer, nn.modules.conv._ConvNd)
        positions, weights = output.numel() // layer.out_channels, layer.weight.numel()
        if layer.transposed:  # every weight meets every position of the input, not of the output
            of_input = inputs[0].numel() // layer.in_channels
            self.transposed_excess += weights * (positions - of_input)
            positions = of_input
        self._add(layer, weights * positions)

    def _add(self, layer: nn.Module, macs: int) -> None:
        self.by_layer[layer] = self.by_layer.pop(layer, 0) + macs  # the last to run stands last

    def __torch_dispatch__(self, func: Call, types: object, args: Call = (), kwargs: Call = None) -> Call:
        name = func.overloadpacket.__name__
        if name == "convolution":
            return self._convolve(*args)
        plain = name.removesuffix("_")
        products = _matrix_products(name, args)
        if products is not None:
            self._products += products
        elif (said := plain.removeprefix("_").removeprefix("native_")) not in SILENT:
            self.uncounted.add(said)
        found = _worked_out(name, args)
        return func(*args, **(kwargs or {})) if found is None else found

    def _convolve(self, image: Tensor, weight: Tensor, bias: Tensor | None, *how: Call) -> Tensor:
        stride, padding, dilation, transposed, more, groups = how
        kernel, sizes = weight.shape[2:], image.shape[2:]
        reads = weight.shape[0] if transposed else weight.shape[1] * groups
        knobs = [list(values) * (len(sizes) // len(values)) for values in (stride, padding, dilation, more)]
        shape = [_convolved(*size, transposed=transposed) for size in zip(sizes, kernel, *knobs, strict=True)]
        if image.shape[1] != reads or min(shape) < 1:
            raise ValueError(f"a convolution of {tuple(weight.shape)} weights cannot take maps of {tuple(image.shape)}")
        self._products += len(image) * weight.numel() * math.prod(sizes if transposed else shape)
        return image.new_empty(len(image), weight.shape[1] * groups if transposed else weight.shape[0], *shape)


def _worked_out(name: str, args: Call) -> Call:
    """What an operator gives, by the rules for its shape; None of one that is left to torch."""
    if name in NORMS:
        few = args[0].new_empty(args[0].shape[1])  # mean and deviation: their number does not matter here
        return args[0].new_empty(args[0].shape), few, few
    if name in RESIZED:
        return args[0].new_empty(*args[0].shape[:2], *args[1])
    if name == "cat" and (shape := _joined(*args)):
        return args[0][0].new_empty(shape)
    if name == "max_pool2d_with_indices" and (shape := _pooled(*args)):
        return args[0].new_empty(shape), args[0].new_empty(shape, dtype=torch.int64)
    if name.removesuffix("_") in ELEMENTWISE and not any(_differ(args[0], other) for other in args[1:]):
        return args[0] if name.endswith("_") else args[0].new_empty(args[0].shape)
    return None


def _differ(one: Tensor, other: object) -> bool:
    """Whether an elementwise operator on the two may give another shape or type than the first's."""
    return isinstance(other, Tensor) and (one.shape != other.shape or one.dtype != other.dtype)


def _joined(parts: list[Tensor], dim: int = 0) -> list[int] | None:
    """The shape of maps of one type that are alike but for the dimension they are joined along; None of others."""
    first = parts[0]
    rest = [(part.dtype, part.shape[:dim], part.shape[dim:][1:]) for part in parts] if -first.dim() <= dim else []
    if not first.dim() or any(part.dim() != first.dim() for part in parts) or any(one != rest[0] for one in rest):
        return None
    shape = list(first.shape)
    shape[dim] = sum(part.shape[dim] for part in parts)
    return shape


def _pooled(
    image: Tensor, kernel: list[int], stride: Call = (), padding: Call = (0,), dilation: Call = (1,), ceil: bool = False
) -> list[int] | None:
    """The shape of pooled maps; None where a fault is torch's to tell."""
    knobs = [list(values) * (2 // len(values)) for values in (kernel, stride or kernel, padding, dilation)]
    shape = []
    for size, own, step, margin, apart in zip(image.shape[-2:], *knobs, strict=True):
        places = _convolved(size + (step - 1) * ceil, own, step, margin, apart, 0, transposed=False)
        shape.append(places - (ceil and (places - 1) * step >= size + margin))  # none begins beyond the maps
    return None if min(shape) < 1 else [*image.shape[:-2], *shape]


def _convolved(  # the arguments are those of torch's convolution, for one dimension
    size: int, kernel: int, stride: int, padding: int, dilation: int, more: int, *, transposed: bool
) -> int:
    reach = dilation * (kernel - 1)
    if transposed:
        return (size - 1) * stride - 2 * padding + reach + more + 1
    return (size + 2 * padding - reach - 1) // stride + 1


def _matrix_products(name: str, args: Call) -> int | None:
    """Multiply-adds of a matrix product; None of any other operator."""
    if name in ("mm", "bmm"):
        return int(args[0].numel() * args[1].shape[-1])
    if name in ("addmm", "baddbmm"):
        return int(args[1].numel() * args[2].shape[-1])
    if "scaled_dot_product" in name:
        query, key, value = args[:3]
        return int(query.numel() * key.shape[-2] + query.numel() // query.shape[-1] * key.shape[-2] * value.shape[-1])
    return None
