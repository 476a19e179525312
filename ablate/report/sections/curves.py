"""How the trials got there: loss and score over epochs."""

import math
from collections.abc import Callable
from statistics import fmean
from typing import Literal

from ablate.analysis import Evidence, Row, score_curve
from ablate.registry import section
from ablate.report.blocks import Block, Figure, Panel, Series, Text

Curve = dict[int, float]  # epoch -> value
THIN = 16  # seeds of an arm with a line of their own


@section("curves", meaning=1, place=60)
def curves() -> Callable[[Evidence], list[Block]]:
    """Learning curves: training loss, and the primary score where it was evaluated during training."""

    def blocks(evidence: Evidence) -> list[Block]:
        metric = evidence.primary
        losses = [_losses(row) for row in evidence.drawn]
        if not any(losses):
            return []
        scores = [_scores(row, metric) for row in evidence.drawn]
        panels = [_panel("training loss", evidence.drawn, losses, log=_positive(losses))]
        caption = "Learning curves: thin per seed, thick the mean of those that got furthest." + evidence.drawn_note
        if len(evidence.study.seeds) > THIN:
            caption += f" Thin are the first {THIN} seeds."
        if any(len(curve) > 1 for arm in scores for curve in arm):
            panels.append(_panel(f"{metric} × 100", evidence.drawn, scores, log=False))
            caption += " Scores of earlier epochs select nothing: the last one is what the table reports."
        return [Text("Learning curves", "heading"), Figure("curves", caption, panels)]

    return blocks


def _losses(row: Row) -> list[Curve]:
    return [{e.epoch: e.loss for e in curve if math.isfinite(e.loss)} for curve in row.curves.values()]


def _scores(row: Row, metric: str) -> list[Curve]:
    """By seed; the final score, which the table has, ends its curve."""
    found = [score_curve(row, seed, metric) for seed in row.curves]
    return [{epoch: 100 * score for epoch, score in curve.items()} for curve in found]


def _positive(arms: list[list[Curve]]) -> bool:
    return all(value > 0 for arm in arms for curve in arm for value in curve.values())


def _panel(label: str, rows: list[Row], arms: list[list[Curve]], *, log: bool) -> Panel:
    thin, thick = [], []
    for at, (row, found) in enumerate(zip(rows, arms, strict=True)):
        thin += [_line(curve, at, faint=True) for curve in found[:THIN] if curve]
        last = max((max(curve) for curve in found if curve), default=0)
        whole = [curve for curve in found if last in curve]  # a seed that diverged or goes on yet cuts no mean short
        shared = set.intersection(*(set(curve) for curve in whole)) if whole else set()
        if shared:
            mean = {epoch: fmean(curve[epoch] for curve in whole) for epoch in sorted(shared)}
            thick.append(_line(mean, at, name=row.label))
    return Panel("epoch", label, thin + thick, log_y=log)


def _line(curve: Curve, colour: int, *, faint: bool = False, name: str = "") -> Series:
    mark: Literal["line", "points"] = "line" if len(curve) > 1 else "points"
    return Series(mark, [float(e) for e in curve], list(curve.values()), colour=colour, faint=faint, name=name)
