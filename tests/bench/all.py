"""All benchmarks one after the other, and of their ratios the table of docs/speed.md.

    python tests/bench/all.py [--only loader evaluation] [--write]

Those of one run stand in one table: with `--only` the others' rows stay away. `--write` leaves out those without a
peer, which tell no ratio. Nothing is asserted of time.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from ratios import MARK

from ablate.machine import origin
from ablate.training.batches import AHEAD

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs/speed.md"
NO_BENCHMARK = {"all", "ratios"}
NO_PEER = {"driver_memory", "makespan", "scale_plan"}
HEAD = """# Speed

What `ablate` takes against a fair peer: the tool that most people would use for that work, or the same work by hand. A
ratio says how many times as long the peer takes, so above 1 ours is quicker; below its limit something is wrong with
ours. Both sides ran in turns in the same run, on the same inputs, and where they compute scores these are equal.
`make speed` writes this page; the benchmarks are `tests/bench/*.py`, and each says at its top what is compared. What
was tried and dropped is in DECISIONS.md.

On a GPU no step of one process waits for the processor to read a number, hard pixels and running averages included.
What still waits: detectors, whose second stages take as many boxes as there are; processes that share a trial, which
tell each other at every step which parameters have a gradient; the end of an epoch, where losses are read; and a step
that is {ahead} behind the last one launched. What a trial costs on a GPU, `tests/gpu/price.py` measures; it has not run
on one yet, so its figures are missing here.

"""


def run(name: str) -> list[list[str]]:
    """The rows of one benchmark, whose output is shown as it comes."""
    rows = []
    with subprocess.Popen([sys.executable, HERE / f"{name}.py"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            print(line, end="", flush=True)
            kind, *cells = (cell.strip() for cell in line.split("|"))
            rows += [cells] if kind == MARK else []
    if process.returncode:
        print(f"{name}: ended with status {process.returncode}", flush=True)
    return rows


def page(rows: list[list[str]], load: float) -> str:
    """The document: each row is work, peer, ratio, limit."""
    machine = f"{origin.processor()}, {os.cpu_count()} cores"
    free = (
        ""
        if load < 0.5
        else f" Others were at work on it as the run began (load {load:.1f}): take the ratios as rough."
    )
    lines = [f"Measured on {machine}.{free}", "", "| work | peer | ratio | limit |", "|---|---|---:|---|"]
    return HEAD.format(ahead=AHEAD) + "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows]) + "\n"


def main() -> None:
    names = sorted({path.stem for path in HERE.glob("*.py")} - NO_BENCHMARK)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=names)
    parser.add_argument("--write", action="store_true", help="write docs/speed.md")
    arguments = parser.parse_args()
    load, rows = os.getloadavg()[0], []
    for name in arguments.only or [name for name in names if not (arguments.write and name in NO_PEER)]:
        print(f"== {name}", flush=True)
        rows += run(name)
    if arguments.write:
        PAGE.write_text(page(rows, load), encoding="utf-8")


if __name__ == "__main__":
    main()
