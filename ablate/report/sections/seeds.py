"""Every seed as a point, so that a mean never hides what it is made of."""

from collections.abc import Callable

from ablate.analysis import Evidence, Row
from ablate.registry import section
from ablate.report.blocks import Block, Figure, Panel, Series, Text


@section("seeds", meaning=1, place=30)
def seeds() -> Callable[[Evidence], list[Block]]:
    """The primary score of every seed, lines joining what is paired."""

    def blocks(evidence: Evidence) -> list[Block]:
        metric = evidence.primary
        if not any(row.scores[metric] for row in evidence.rows):
            return []
        caption = f"{metric} of every seed. Lines join equal seeds, bars are means.{evidence.drawn_note}"
        panels = []
        for name in evidence.datasets:
            drawn = [row for row in evidence.drawn if row.dataset == name]
            series = _lines(evidence, drawn) + _points(evidence, drawn)
            panels += [Panel(f"{metric} × 100", "", series, rows=[row.label for row in drawn])] if drawn else []
        return [Text("Seeds", "heading"), Figure("seeds", caption, panels)]

    return blocks


def _lines(evidence: Evidence, drawn: list[Row]) -> list[Series]:
    lines = []
    for seed in evidence.study.seeds:
        scores = [row.scores[evidence.primary].get(seed) for row in drawn]
        present = [(100 * score, float(at)) for at, score in enumerate(scores) if score is not None]
        lines.append(Series("line", [x for x, _ in present], [y for _, y in present], faint=True))
    return lines


def _points(evidence: Evidence, drawn: list[Row]) -> list[Series]:
    series = []
    for at, row in enumerate(drawn):
        scores = [100 * score for score in row.scores[evidence.primary].values()]
        if scores:
            series.append(Series("points", scores, [float(at)] * len(scores), colour=at))
            mean = 100 * row.summaries[evidence.primary].mean
            series.append(Series("y_interval", [mean], [], [at - 0.3], [at + 0.3], colour=at))
    return series
