"""One question on several data sets: a verdict for each, and one over all."""

from collections.abc import Callable

from ablate.analysis import Comparison, Evidence
from ablate.registry import section
from ablate.report.blocks import MISSING, Block, Cell, Column, Figure, Panel, Series, Table, Text, decimals, signed
from ablate.report.blocks import interval as ends

ALL = "all"
PANELS = 4  # comparisons that are drawn


@section("datasets", meaning=1, place=15)
def datasets() -> Callable[[Evidence], list[Block]]:
    """The verdict of every comparison on each data set and over all, corrected together."""

    def blocks(evidence: Evidence) -> list[Block]:
        if len(evidence.datasets) == 1:
            return []
        found = evidence.comparisons_in(evidence.primary)
        whole = [comparison for comparison in found if len(comparison.datasets) > 1]
        apart = [comparison for comparison in found if len(comparison.datasets) == 1]
        lines = [[*apart[at :: len(whole)], over_all] for at, over_all in enumerate(whole)]
        if not any(comparison.effect.n for comparison in found):
            return []
        return [Text("Data sets", "heading"), _table(evidence, lines), _figure(evidence, lines)]

    return blocks


def _name(comparison: Comparison) -> str:
    return comparison.datasets[0] if len(comparison.datasets) == 1 else ALL


def _what(line: list[Comparison]) -> str:
    """A comparison without its data set."""
    return line[-1].arm.removesuffix(" over all data sets")


def _table(evidence: Evidence, lines: list[list[Comparison]]) -> Table:
    digits = decimals(evidence.ends)
    columns = [Column(" + ".join(evidence.study.factors), "left")]
    columns += [Column(name, "center") for name in (*evidence.datasets, ALL)]
    columns.append(Column("Higher on", minor=f"of {len(evidence.datasets)}"))
    rows = [[Cell(_what(line)), *(_cell(one, digits) for one in line), Cell(_higher(line))] for line in lines]
    notes = [
        f"Δ {evidence.primary} × 100 from the control of the data set, its 95% interval, and the verdict; all "
        f"{evidence.planned} are corrected together. The last one, over all, is of the unweighted mean of the "
        "differences on these data sets, seed by seed: it is about them, and not about data sets that are not named. "
        "It may hide that they differ among themselves. Higher on: how many of the differences are above 0."
    ]
    return Table(f"{evidence.primary} on each data set and over all.", columns, rows, notes)


def _cell(comparison: Comparison, digits: int) -> Cell:
    effect = comparison.effect
    if not effect.n:
        return Cell(MISSING)
    said = f"{ends(effect.low, effect.high, digits)} {comparison.verdict or ''}".strip()
    return Cell(signed(effect.diff, digits), said, strong=comparison.shown)


def _higher(line: list[Comparison]) -> str:
    known = [comparison.effect.diff for comparison in line[:-1] if comparison.effect.n]
    return str(sum(diff > 0 for diff in known)) if len(known) == len(line) - 1 else MISSING


def _figure(evidence: Evidence, lines: list[list[Comparison]]) -> Figure:
    more = f" Drawn are the first {PANELS} of {len(lines)}." if len(lines) > PANELS else ""
    caption = f"Differences in {evidence.primary} on each data set and over all, × 100, with 95% intervals.{more}"
    return Figure("datasets", caption, [_panel(line) for line in lines[:PANELS]])


def _panel(line: list[Comparison]) -> Panel:
    series = []
    for at, comparison in enumerate(line):
        effect, colour = comparison.effect, 0 if comparison is line[-1] else 1
        if effect.n:
            series.append(Series("points", [100 * effect.diff], [float(at)], colour=colour))
        if effect.n > 1:
            series.append(Series("x_interval", [], [float(at)], [100 * effect.low], [100 * effect.high], colour=colour))
    return Panel(f"Δ {_what(line)}", "", series, rows=[_name(comparison) for comparison in line], zero=True)
