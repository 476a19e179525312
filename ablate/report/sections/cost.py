"""Accuracy against price: parameters, multiply-adds and memory of every arm."""

import math
from collections.abc import Callable

from ablate.analysis import Evidence
from ablate.registry import section
from ablate.report.blocks import MISSING, Block, Cell, Column, Figure, Panel, Series, Table, Text


@section("cost", meaning=1, place=50)
def cost() -> Callable[[Evidence], list[Block]]:
    """The primary score against the papers' GFLOPs; all counts, and memory as measured."""

    def blocks(evidence: Evidence) -> list[Block]:
        if not any(row.cost for row in evidence.rows):
            return []
        return [Text("Cost", "heading"), *_figure(evidence), _table(evidence)]

    return blocks


def _figure(evidence: Evidence) -> list[Block]:
    series = []
    for at, row in enumerate(evidence.drawn):
        summary = row.summaries[evidence.primary]
        if row.cost is None or not summary.n:
            continue
        x, y = [row.cost.gflops], [100 * summary.mean]
        series.append(Series("points", x, y, colour=at, name=row.label))
        if math.isfinite(summary.sd):
            low, high = ([100 * (summary.mean + sign * summary.sd)] for sign in (-1, 1))
            series.append(Series("y_interval", x, y, low, high, colour=at, faint=True))
    if not series:
        return []
    caption = (
        f"{evidence.primary} (mean and standard deviation over seeds) against GFLOPs (MACs / 2³⁰).{evidence.drawn_note}"
    )
    return [Figure("cost", caption, [Panel("GFLOPs", f"{evidence.primary} × 100", series)])]


def _table(evidence: Evidence) -> Table:
    costs = [row.cost for row in evidence.rows]
    columns = {
        Column("Arm", "left"): [row.label for row in evidence.rows],
        Column("GFLOPs", minor="MACs / 2³⁰"): [cost and f"{cost.gflops:.4g}" for cost in costs],
    }
    if any(cost and cost.transposed_excess for cost in costs):
        columns[Column("GFLOPs", minor="papers' tool")] = [cost and f"{cost.tool_gflops:.4g}" for cost in costs]
    if any(cost and cost.matmul_macs for cost in costs):
        columns[Column("Attention", minor="10⁹ MACs")] = [cost and f"{cost.matmul_macs / 1e9:.3g}" for cost in costs]
    columns |= {
        Column("Activations", minor="10⁶"): [cost and _known(cost.activations / 1e6, ".4g") for cost in costs],
        Column("Peak memory", minor="MiB"): [cost and _known(cost.peak_memory / 2**20, ",.0f") for cost in costs],
        Column("Not counted", "left", wide=True): [cost and ", ".join(cost.uncounted) for cost in costs],
    }
    rows = [[Cell(text or MISSING) for text in texts] for texts in zip(*columns.values(), strict=True)]
    notes = [
        "Counted for one image. MACs: multiply-adds of convolution and linear layers; the papers' tool counts "
        "transposed convolutions by their output's size; attention: matrix products outside such layers; activations: "
        "elements of such layers' outputs. Not counted: other operators with arithmetic.",
        "Memory (the highest over seeds) is as measured, and holds for the machine it ran on. Speed is not printed: "
        "trials share processors and wait for images; ablate cost --measure times a network by itself.",
    ]
    return Table("What the arms cost.", list(columns), rows, notes)


def _known(value: float, style: str) -> str:
    """A number as text; nothing for the zero of what was not counted or measured."""
    return f"{value:{style}}" if value else ""
