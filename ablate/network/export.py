"""A whole network, head included, as a file that others run: ONNX or torch's exported program.

What is written is run again and compared with the network at two sizes before the file counts.
"""

import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import torch
from torch import Tensor, nn

from ablate.errors import PartError, one_line
from ablate.machine.files import in_words, make
from ablate.network.cost import Size
from ablate.tasks import NamedOutputs, PlainOutputs

CLOSE = 1e-3  # of the largest output: kernels of other libraries add in another order
INPUT, OUTPUT = "images", "maps"
Run = Callable[[Tensor], Sequence[Tensor]]


@dataclass(frozen=True)
class Agreement:
    """How far a written network's output is from the network's own, at one size of images."""

    size: Size
    difference: float  # the largest, relative to the largest output


class Main(nn.Module):
    """images (B, 3, H, W) -> the network's main output, (B, joints or classes, h, w), or what its head says instead, by
    `PlainOutputs` or `NamedOutputs`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, head = network, getattr(network, "head", None)
        self.names = head.output_names if isinstance(head, NamedOutputs) else (OUTPUT,)
        self.only_size = head.only_size if isinstance(head, NamedOutputs) else None

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        head = getattr(self.network, "head", None)
        if isinstance(head, PlainOutputs):
            return (head.plain(self.network.get_submodule("backbone")(images)),)
        outputs = self.network(images)
        listed = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
        return tuple(listed[-len(self.names) :])


def export(network: nn.Module, file: Path, sizes: Sequence[Size]) -> list[Agreement]:
    """Write .onnx or .pt2, for images of any number and size, and compare the outputs at each of the sizes.

    A network whose head reads one size is written for that, and compared at it.

    Raises:
        PartError: the network cannot be exported, or the outputs differ; no file is left then.
        StoreError: no room, or no right to write.
    """
    net = Main(network).eval()
    auto = torch.export.Dim.AUTO
    free = {0: auto, 2: auto, 3: auto}
    if net.only_size:
        if sizes[0] != net.only_size:
            wanted, asked = (" x ".join(map(str, size)) for size in (net.only_size, sizes[0]))
            raise PartError(f"{file}: the network's head reads images of {wanted} alone, not of {asked}")
        sizes, free = sizes[:1], {0: auto}
    example = torch.zeros(2, 3, *sizes[0])
    part = file.with_name(f"{file.name}.part")
    with in_words(file):
        make(file.parent)
    try:
        with in_words(file), torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings(action="ignore"):
            program = torch.export.export(net, (example,), dynamic_shapes={INPUT: free})
            run = _onnx(program, net.names, part) if file.suffix == ".onnx" else _program(program, part)
            found = [Agreement(size, _difference(net, run, size)) for size in sizes]
        worst = max(one.difference for one in found)
        if not worst <= CLOSE:
            raise PartError(f"{file}: what was written differs from the network by {worst:.2g} of its largest output")
        part.replace(file)
    except (RuntimeError, ValueError, torch.onnx.OnnxExporterError) as error:
        raise PartError(
            f"{file}: the network cannot be exported: {one_line(error)}; "
            "its weights can be, to a file that ends in .safetensors"
        ) from None
    finally:
        part.unlink(missing_ok=True)
    return found


def _onnx(program: "torch.export.ExportedProgram", names: Sequence[str], file: Path) -> Run:
    import onnxruntime

    with redirect_stdout(StringIO()):
        made = torch.onnx.export(program, (), input_names=[INPUT], output_names=list(names), verbose=False)
    assert made is not None
    made.save(file, external_data=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> list[Tensor]:
        try:
            return [torch.from_numpy(found) for found in session.run(list(names), {INPUT: images.numpy()})]
        except Exception as error:  # onnxruntime's own have no common ancestor that it names
            raise RuntimeError(f"at {tuple(images.shape[2:])} onnxruntime says: {error}") from None

    return run


def _program(program: "torch.export.ExportedProgram", file: Path) -> Run:
    with file.open("wb") as stream:
        torch.export.save(program, stream)
    return program.module()


def _difference(net: nn.Module, run: Run, size: Size) -> float:
    """The largest of all outputs, of one image and of three."""
    images = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(0))
    pairs = [pair for many in (1, 3) for pair in zip(net(images[:many]), run(images[:many]), strict=True)]
    if any(wanted.shape != found.shape for wanted, found in pairs):
        return float("inf")
    return max(float((wanted - found).abs().max() / wanted.abs().max().clamp(min=1e-12)) for wanted, found in pairs)
