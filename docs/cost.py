"""Writes docs/cost.md from `ablate cost --measure`, on a quiet machine: `python docs/cost.py`."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablate.beside.speeds import BUSY

PATIENCE = 180  # seconds in which the load of the minute before may fall

HEAD = """# Memory and time

What HRNet and its comparators take, as Table XIII of arXiv 1908.07919 asks: multiply-adds, the memory of a training
step, and the time of one image, for every model of the shelf with its default knobs. Each table is what its command
printed; `python docs/cost.py` runs them and writes this page. `ablate cost STUDY --measure` does the same for the arms
of a study.

Parameters and multiply-adds are counted (`ablate cost --check fvcore` compares them with fvcore's). Training memory is
counted too: parameters, gradients, the optimizer's moments and what autograd keeps of the batch, without the loss and
the workspace of kernels. Time is measured with random weights: the median of repeated passes of one image, with the
quartiles between them. *ms per GMAC* tells networks that use the machine well from those that do not. Accuracy is in
the reports of the studies. Memory of predictions is measured on GPUs alone; this page has not been made on one.
"""

TABLES = {
    "Pose, all models": ["--all", "--task", "pose"],
    "Segmentation, all models": ["--all", "--task", "segmentation", "--size", "256", "512"],
}


def table(title: str, arguments: Sequence[str]) -> list[str]:
    """One table, quickest network first, with where it was measured and whether the machine was quiet."""
    command = ["cost", *arguments, "--measure"]
    until = time.monotonic() + PATIENCE
    while os.getloadavg()[0] > BUSY * (os.cpu_count() or 1) and time.monotonic() < until:  # the last table's own load
        time.sleep(1)
    done = subprocess.run(
        [sys.executable, "-m", "ablate", *command, "--json"], check=True, capture_output=True, text=True
    )
    rows = sorted(json.loads(done.stdout), key=lambda row: row["latency (ms)"])
    measured = next(line for line in done.stderr.splitlines() if line.startswith("Latency: "))
    return [
        f"## {title}", "", f"`ablate {' '.join(command)}`", "",
        "| network | image | params (M) | GMACs | training memory (GiB) | time (ms) | quartiles (ms) | ms per GMAC |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
        *map(line, rows), "", measured, "",
    ]  # fmt: skip


def line(row: dict[str, Any]) -> str:
    """One network."""
    time, macs = row["latency (ms)"], row["GMACs (10^9)"]
    memory = f"{row['training memory (GiB)']:.2f}, {row['with a batch of']}"
    counted = f"{row['arm']} | {row['image']} | {row['parameters'] / 1e6:.2f} | {macs:.2f} | {memory}"
    return f"| {counted} | {time:.1f} | {row['quartiles (ms)']} | {time / macs:.1f} |"


if __name__ == "__main__":
    lines = [HEAD, *(text for title, arguments in TABLES.items() for text in table(title, arguments))]
    Path(__file__).with_name("cost.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
