"""Measures how fast a recipe's network predicts on this machine, with random weights and pictures."""

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from ablate.machine import origin
from ablate.network import cost
from ablate.network.build import build
from ablate.study import Recipe

WARM_UP, RUNS = 1, 5
PASS_SECONDS = 1.0  # a batch for throughput is as large as one pass in about this time allows


@dataclass(frozen=True)
class Speed:
    """Medians over several runs, without reading of images and without decoding of predictions."""

    latency: float  # seconds for one image
    images_per_second: float
    batch: int  # that the throughput was measured with
    where: str  # device, threads and precision in words


def measure(recipe: Recipe, *, size: cost.Size | None = None) -> Speed:
    """Time a settled recipe's network in evaluation: on the GPU where there is one, else on all threads of torch.

    Raises:
        ValueError, RuntimeError: an impossible combination of knobs, or an input too small for it.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.allow_tf32 = False  # as in training
    layout = torch.channels_last if recipe.train.memory_format == "channels_last" else torch.contiguous_format
    net = build(recipe).eval().to(device, memory_format=layout)  # type: ignore[call-overload]  # stubs lack it
    image = torch.rand(1, 3, *(size or cost.input_size(recipe)), device=device)

    def seconds(batch: int) -> float:
        images = image.expand(batch, -1, -1, -1).contiguous(memory_format=layout)
        return _median_seconds(lambda: net(images), device, _autocast(device, recipe))

    latency = seconds(1)
    batch = max(1, min(recipe.train.batch, int(PASS_SECONDS / latency)))
    throughput = batch / seconds(batch) if batch > 1 else 1 / latency
    where = torch.cuda.get_device_name() if device.type == "cuda" else origin.processor()
    where += f", {torch.get_num_threads()} CPU threads, {recipe.train.precision}, {recipe.train.memory_format}"
    return Speed(latency, throughput, batch, where)


def _autocast(device: torch.device, recipe: Recipe) -> AbstractContextManager[None]:
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.train.precision == "bf16")


def _median_seconds(run: Callable[[], Tensor], device: torch.device, precision: AbstractContextManager[None]) -> float:
    times = []
    with torch.inference_mode(), precision:
        for _ in range(WARM_UP + RUNS):
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return statistics.median(times[WARM_UP:])
