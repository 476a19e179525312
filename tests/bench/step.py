"""A training step of timm's classification HRNet and of ours, with the same weights: time, loss, peak memory.

    python tests/bench/step.py [--threads 1] [--pairs 9] [--batch 8] [--model hrnet_w32] [--device cuda] [--compiled]

Both networks take turns in one process, so that what else the machine does hits both; ratios are of medians, and
the median of the turns' own ratios stands beside them. Memory is the peak resident size of a process of its own,
less what it held before its first step; on a GPU, what torch allocated there. Nothing is asserted.
"""

import argparse
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from ratios import told
from torch import nn

from hrnet_core import from_checkpoint

SIZE = (256, 192)


@dataclass(frozen=True)
class Mode:
    """How a network is run: precision, and the memory format of its weights and of the image."""

    precision: str
    channels_last: bool

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format


PLAIN, LAST, BEST = Mode("fp32", False), Mode("fp32", True), Mode("bf16", True)
COMPARISONS = {  # name -> (timm's mode, ours); only the equal ones compare networks
    "equal: fp32, NCHW": (PLAIN, PLAIN),
    "equal: fp32, channels_last": (LAST, LAST),
    "equal: bf16, channels_last": (BEST, BEST),
    "best against default: ours bf16, channels_last": (PLAIN, BEST),
}
COMPILED = "compiled timm: both bf16, channels_last"


class Training:
    """One network, its optimiser and its batch; `step` returns seconds and loss."""

    def __init__(self, network: str, mode: Mode, *, model: str, batch: int, device: str) -> None:
        torch.manual_seed(0)
        built: nn.Module = timm.create_model(model)
        if network == "ours":
            built = from_checkpoint(built.state_dict())
        self.mode = mode
        self.device = device
        self.network = built.train().to(device, memory_format=mode.memory_format)
        if network == "compiled timm":
            self.network = torch.compile(self.network)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=1e-3, momentum=0.9)
        self.images = torch.randn(batch, 3, *SIZE).to(device, memory_format=mode.memory_format)
        self.labels = torch.randint(1000, (batch,)).to(device)

    def step(self) -> tuple[float, float]:
        start = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.mode.precision == "bf16"):
            loss = nn.functional.cross_entropy(self.network(self.images), self.labels)
        loss.backward()
        self.optimizer.step()
        value = loss.item()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start, value


def compare(name: str, modes: tuple[Mode, Mode], arguments: argparse.Namespace, peer: str = "timm") -> None:
    """One line: seconds of both, their ratio, and how far the first losses lie apart."""
    pair = [
        Training(network, mode, model=arguments.model, batch=arguments.batch, device=arguments.device)
        for network, mode in zip((peer, "ours"), modes, strict=True)
    ]
    losses = [training.step()[1] for training in pair]  # also the warm-up
    seconds: list[list[float]] = [[], []]
    for turn in range(arguments.pairs):
        for i in (0, 1) if turn % 2 else (1, 0):
            seconds[i].append(pair[i].step()[0])
    theirs, ours = map(statistics.median, seconds)
    by_turn = statistics.median(a / b for a, b in zip(*seconds, strict=True))
    print(
        f"{name:50} timm {theirs:7.4f} s  ours {ours:7.4f} s  ratio {theirs / ours:5.2f} (by turn {by_turn:.2f})  "
        f"loss {losses[0]:.5f} {losses[1]:.5f} ({abs(losses[1] / losses[0] - 1):.1e} apart)",
        flush=True,
    )

    told(f"a training step of {arguments.model}, {name}", peer, by_turn, "0.95" if name.startswith("equal") else "")


def print_memory(arguments: argparse.Namespace) -> None:
    """Peak memory of three steps in a process of its own, for every network and mode."""
    for mode in (PLAIN, LAST, BEST):
        used = {}
        for network in ("timm", "ours"):
            command = [sys.executable, __file__, "--peak", network, mode.precision, str(mode.channels_last)]
            command += ["--model", arguments.model, "--batch", str(arguments.batch)]
            command += ["--threads", str(arguments.threads), "--device", arguments.device]
            used[network] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        form = "channels_last" if mode.channels_last else "NCHW"
        print(
            f"peak memory: {mode.precision}, {form:30} timm {used['timm']:6.0f} MB  ours {used['ours']:6.0f} MB  "
            f"ratio {used['ours'] / used['timm']:5.2f}",
            flush=True,
        )


def peak(network: str, mode: Mode, arguments: argparse.Namespace) -> float:
    """Megabytes that three training steps need on top of the network at rest."""
    training = Training(network, mode, model=arguments.model, batch=arguments.batch, device=arguments.device)
    before = held(arguments.device)
    for _ in range(3):
        training.step()
    return held(arguments.device) - before


def held(device: str) -> float:
    """Megabytes this process has held at most (Linux; getrusage would inherit the parent's peak)."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--model", default="hrnet_w32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compiled", action="store_true", help="torch.compile takes minutes on a CPU")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak:
        network, precision, channels_last = arguments.peak
        print(peak(network, Mode(precision, channels_last == "True"), arguments))
        return
    where = f"{arguments.threads} thread(s)" if arguments.device == "cpu" else torch.cuda.get_device_name()
    print(f"{arguments.model}, batch {arguments.batch}, {SIZE[0]}x{SIZE[1]}, {where}")
    for name, modes in COMPARISONS.items():
        compare(name, modes, arguments)
    if arguments.compiled or arguments.device == "cuda":
        compare(COMPILED, (BEST, BEST), arguments, peer="compiled timm")
    print_memory(arguments)


if __name__ == "__main__":
    main()
