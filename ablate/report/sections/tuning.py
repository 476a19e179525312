"""What every arm chose: its tries with their scores on held-out training images, as many for each."""

import math
from collections.abc import Callable
from statistics import fmean

from ablate.analysis import Evidence
from ablate.registry import section
from ablate.report.blocks import MISSING, Block, Cell, Column, Table, Text, listed, percent


@section("tuning", meaning=1, place=27)
def tuning() -> Callable[[Evidence], list[Block]]:
    """The values that each arm was tuned to, and all tries of all arms with their scores."""

    def blocks(evidence: Evidence) -> list[Block]:
        tune = evidence.study.tune
        if tune is None:
            return []
        waiting = [row.label for row in evidence.rows if row.label not in evidence.choices]
        said = [Text(f"Not tuned yet: {listed(waiting)}.")] if waiting else []
        tables = [_table(evidence)] if evidence.choices else []
        return [Text("Tuning", "heading"), *said, *tables]

    return blocks


def _table(evidence: Evidence) -> Table:
    tune = evidence.study.tune
    assert tune
    columns = [Column("Try", "left"), *(Column(arm) for arm in evidence.choices)]
    rows = [
        [
            Cell(label),
            *(_cell(choice.scores[label], strong=choice.label == label) for choice in evidence.choices.values()),
        ]
        for label in tune.tries
    ]
    notes = [
        f"Every arm had {tune.said}; groups of images stay together, and no try saw the test images. Seeds are others "
        "than the study's. Bold: the best mean score, with whose values the arm was trained on all training images for "
        "the verdict."
    ]
    edges = _edges(evidence)
    if edges:
        notes.append(f"At the end of what was tried, and perhaps better beyond: {'; '.join(edges)}.")
    lost = [arm for arm, choice in evidence.choices.items() if not any(map(_known, choice.scores.values()))]
    if lost:
        notes.append(f"No try of {listed(lost)} has a score: the first one stands for it.")
    return Table(f"{evidence.primary} × 100 of each try on held-out training images.", columns, rows, notes)


def _known(scores: tuple[float, ...]) -> bool:
    return math.isfinite(fmean(scores))


def _cell(scores: tuple[float, ...], *, strong: bool) -> Cell:
    spread = f"({', '.join(percent(score, 1) for score in scores)})" if len(scores) > 1 else ""
    return Cell(percent(fmean(scores), 1), spread, strong=strong) if _known(scores) else Cell(MISSING)


def _edges(evidence: Evidence) -> list[str]:
    """Of each arm the paths whose chosen value is the least or the greatest that was tried; a list has no end."""
    tune, found = evidence.study.tune, []
    assert tune
    for arm, choice in evidence.choices.items():
        for path in tune.knobs if any(map(_known, choice.scores.values())) else ():
            tried = [setting[path] for setting in tune.tries.values()]
            numbers = [value for value in tried if isinstance(value, int | float) and not isinstance(value, bool)]
            ends = {min(numbers), max(numbers)} if len(numbers) == len(tried) else set()
            if len(ends) > 1 and choice.setting[path] in ends:
                found.append(f"{arm} in {path} {choice.setting[path]:g}")
    return found
