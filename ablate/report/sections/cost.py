"""Accuracy against price."""

import math
from collections.abc import Callable

from ablate.evidence import Evidence
from ablate.registry import section
from ablate.report.blocks import MISSING, Block, Cell, Column, Figure, Panel, Series, Table, Text


@section("cost", meaning=1, place=50)
def cost() -> Callable[[Evidence], list[Block]]:
    """The primary score against the papers' GFLOPs, with throughput and memory as measured."""

    def blocks(evidence: Evidence) -> list[Block]:
        if not any(row.cost for row in evidence.rows):
            return []
        return [Text("Cost", "heading"), *_figure(evidence), _table(evidence)]

    return blocks


def _figure(evidence: Evidence) -> list[Block]:
    series = []
    for at, row in enumerate(evidence.rows):
        summary = row.summaries[evidence.primary]
        if row.cost is None or not summary.n:
            continue
        x, y = [row.cost.macs / 2**30], [100 * summary.mean]
        series.append(Series("points", x, y, colour=at, name=row.label))
        if math.isfinite(summary.sd):
            low, high = ([100 * (summary.mean + sign * summary.sd)] for sign in (-1, 1))
            series.append(Series("y_interval", x, y, low, high, colour=at, faint=True))
    if not series:
        return []
    caption = f"{evidence.primary} (mean and standard deviation over seeds) against GFLOPs (MACs / 2³⁰)."
    return [Figure("cost", caption, [Panel("GFLOPs", f"{evidence.primary} × 100", series)])]


def _table(evidence: Evidence) -> Table:
    columns = [
        Column("Arm", "left"),
        Column("Images/s", minor="evaluation"),
        Column("Peak memory", minor="MiB"),
        Column("Not counted", "left", wide=True),
    ]
    rows = []
    for row in evidence.rows:
        price = row.cost
        speed = f"{price.images_per_second:.0f}" if price and price.images_per_second else MISSING
        memory = f"{price.peak_memory / 2**20:,.0f}" if price and price.peak_memory else MISSING
        uncounted = ", ".join(price.uncounted) if price else ""
        rows.append([Cell(row.label), Cell(speed), Cell(memory), Cell(uncounted or MISSING)])
    note = "Not counted: operators with arithmetic that the MACs leave out. Speeds hold for the machine they ran on."
    return Table("Throughput (median over seeds) and memory (highest) as measured.", columns, rows, [note])
