"""Measures how fast a recipe's network predicts on this machine, with random weights and pictures."""

import os
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime

import torch
from torch import Tensor

from ablate.beside import Speed, speeds
from ablate.machine import origin
from ablate.network import cost
from ablate.network.build import build
from ablate.study import Recipe

WARM_UP = 3  # passes that are not timed
LEAST, MOST, SECONDS = 5, 50, 3.0  # so many are timed: as many as fit the seconds, within these bounds
PASS_SECONDS = 1.0  # a batch for throughput is as large as one pass in about this time allows


def load_now() -> float:
    """How many processes ran or waited in the last minute, on average; to be asked before anything is computed."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def measure(recipe: Recipe, *, size: cost.Size | None = None, label: str = "", load: float = 0.0) -> Speed:
    """Time a settled recipe's network in evaluation: on the GPU where there is one, else on all threads of torch.

    Raises:
        ValueError, RuntimeError: an impossible combination of knobs, or an input too small for it.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.allow_tf32 = False  # as in training
    layout = torch.channels_last if recipe.train.memory_format == "channels_last" else torch.contiguous_format
    net = build(recipe).eval().to(device, memory_format=layout)  # type: ignore[call-overload]  # stubs lack it
    image = torch.rand(1, 3, *(size or cost.input_size(recipe)), device=device)

    def seconds(batch: int) -> list[float]:
        images = image.expand(batch, -1, -1, -1).contiguous(memory_format=layout)
        return _seconds(lambda: net(images), device, _autocast(device, recipe))

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = seconds(1)
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    low, latency, high = statistics.quantiles(times, n=4, method="inclusive")
    batch = max(1, min(recipe.train.batch, int(PASS_SECONDS / latency)))
    throughput = batch / statistics.median(seconds(batch)) if batch > 1 else 1 / latency
    where = torch.cuda.get_device_name() if device.type == "cuda" else origin.processor()
    return Speed(
        network=speeds.network_of(recipe),
        label=label,
        image=(image.shape[2], image.shape[3]),
        latency=latency,
        low=low,
        high=high,
        runs=len(times),
        memory=memory,
        images_per_second=throughput,
        batch=batch,
        where=f"{where}, {torch.get_num_threads()} CPU threads, {recipe.train.precision}, {recipe.train.memory_format}",
        load=load,
        processors=os.cpu_count() or 0,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _autocast(device: torch.device, recipe: Recipe) -> AbstractContextManager[None]:
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.train.precision == "bf16")


def _seconds(run: Callable[[], Tensor], device: torch.device, precision: AbstractContextManager[None]) -> list[float]:
    """What each timed run took."""
    times: list[float] = []
    with torch.inference_mode(), precision:
        for _ in range(WARM_UP):
            run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        while len(times) < LEAST or (len(times) < MOST and sum(times) < SECONDS):
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return times
