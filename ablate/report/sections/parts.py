"""The score of every class or joint: a mean over all hides those that nothing was learned of."""

import math
from collections.abc import Callable

from ablate.analysis import Breakdown, Evidence
from ablate.registry import section
from ablate.report.blocks import Block, Cell, Column, Table, Text, percent


@section("parts", meaning=1, place=45)
def parts() -> Callable[[Evidence], list[Block]]:
    """The score of every class or joint of every arm, as a mean over seeds, and which are at chance."""

    def blocks(evidence: Evidence) -> list[Block]:
        found: list[Block] = []
        for breakdown in evidence.breakdowns:
            shown = _table(evidence, breakdown) if breakdown.names else Text(_silent(breakdown))
            found += [Text(breakdown.kinds.capitalize(), "heading"), shown]
        return found

    return blocks


def _silent(breakdown: Breakdown) -> str:
    return (
        f"The scores of single classes or joints ({breakdown.measure}) are not known: "
        f"none of the {breakdown.lacking} results holds the statistics that they take."
    )


def _table(evidence: Evidence, breakdown: Breakdown) -> Table:
    """Classes below each other and arms side by side, or the other way where that is narrower."""
    cells = {row.label: _cells(breakdown, row.label) for row in evidence.rows if row.label in breakdown.seeds}
    shares = [Cell(percent(share, 1)) for share in breakdown.share]
    if len(cells) > len(breakdown.names):
        columns = [Column("Arm", "left"), *map(Column, breakdown.names)]
        rows = [[Cell("labelled, %"), *shares], *([Cell(arm), *own] for arm, own in cells.items())]
    else:
        columns = [Column(breakdown.kind.capitalize(), "left"), Column("Labelled", minor="%"), *map(Column, cells)]
        rows = [
            [Cell(name), shares[at], *(own[at] for own in cells.values())] for at, name in enumerate(breakdown.names)
        ]
    all_of = f"{len(breakdown.names)} {breakdown.kinds}" if len(breakdown.names) > 1 else f"one {breakdown.kind}"
    caption = f"{breakdown.measure} × 100 of the {all_of}, the mean over seeds."
    return Table(caption, columns, rows, _notes(breakdown))


def _cells(breakdown: Breakdown, arm: str) -> list[Cell]:
    low, scores = breakdown.at_chance(arm), breakdown.scores.get(arm, (math.nan,) * len(breakdown.names))
    return [
        Cell(percent(score, 1), breakdown.low if name in low else "")
        for name, score in zip(breakdown.names, scores, strict=True)
    ]


def _notes(breakdown: Breakdown) -> list[str]:
    below = f"{breakdown.low.capitalize()}: below 2.0"
    best = max(range(len(breakdown.names)), key=lambda at: breakdown.trivial[at])
    if breakdown.trivial[best]:
        everywhere = f"predicting {breakdown.names[best]} everywhere"
        below += f", or not above what {everywhere} gives: {percent(breakdown.trivial[best], 1)} to it, 0 to the others"
    said = f"{below}. " if any(map(breakdown.at_chance, breakdown.scores)) else ""
    notes = [f"{said}Labelled: of all that is labelled in the test images."]
    if breakdown.absent:
        notes.append(f"Without a label in the test images, and left out: {', '.join(breakdown.absent)}.")
    if breakdown.lacking:
        notes.append(
            f"{breakdown.lacking} results do not hold the statistics that this takes, and are in no mean here."
        )
    return notes
