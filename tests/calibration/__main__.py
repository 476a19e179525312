"""Writes reports/calibration.md: `PYTHONPATH=.:tests python -m calibration`, minutes on two cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from calibration import tables
from calibration.tests_of_many import checked

REPORT = Path(__file__).parents[2] / "reports/calibration.md"
HEAD = Path(__file__).with_name("head.md")


def made(name: str) -> list[tables.Table]:
    """The tables of one function, from a seed of its own."""
    rng = np.random.default_rng([2026, *name.encode()])
    found = getattr(tables, name)(rng)
    return [found] if isinstance(found, tuple) else list(found)


def written(table: tables.Table) -> str:
    """A table in Markdown."""
    caption, heads, rows = table
    lines = [f"## {caption}", "", f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def main() -> None:
    checked(np.random.default_rng(0))
    names = ["false_alarms", *(single.__name__ for single in tables.SINGLE)]
    with ProcessPoolExecutor(2) as pool:
        parts = [table for found in pool.map(made, names) for table in found]
    REPORT.write_text("\n\n".join([HEAD.read_text().strip(), *map(written, parts)]) + "\n")


if __name__ == "__main__":
    main()
