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
        counted = any(row.cost for row in evidence.rows)
        if not counted and not evidence.speeds:
            return []
        tables = [*([_table(evidence)] if counted else []), *([_speeds(evidence)] if evidence.speeds else [])]
        return [Text("Cost", "heading"), *_figure(evidence), *tables]

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


def _speeds(evidence: Evidence) -> Table:
    """What `ablate cost --measure` kept of the arms, each machine by itself."""
    columns = [
        Column("Arm", "left"),
        Column("Latency", minor="ms"),
        Column("Images/s"),
        Column("Memory", minor="MiB"),
        Column("Load before", minor="of processors"),
        Column("Measured on", "left", wide=True),
    ]
    rows = [
        [
            Cell(label),
            Cell(f"{1000 * one.latency:.4g}", f"{1000 * one.low:.4g} to {1000 * one.high:.4g}, {one.runs} runs"),
            Cell(f"{one.images_per_second:.4g}", f"{one.batch} at once"),
            Cell(_known(one.memory / 2**20, ",.0f") or MISSING),
            Cell(f"{one.load:.2f} of {one.processors}", "not quiet" if one.shared else ""),
            Cell(f"{one.where}, {'x'.join(map(str, one.image))} pixels, {one.finished[:10]}"),
        ]
        for label, one in evidence.speeds
    ]
    notes = [
        "Median and quartiles of a network's predictions for one image with random weights, after runs to warm up; "
        "images are not read and outputs not decoded. Memory: what a GPU holds at most, weights included. They hold "
        "for the machine that is named, and are in no verdict.",
    ]
    return Table("What predictions take, measured apart from the trials.", columns, rows, notes)


def _known(value: float, style: str) -> str:
    """A number as text; nothing for the zero of what was not counted or measured."""
    return f"{value:{style}}" if value else ""
