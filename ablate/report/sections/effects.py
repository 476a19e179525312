"""The difference from the control in every metric, with the two chances it is exposed to: seeds and test images."""

import math
from collections.abc import Callable

from ablate.analysis import Comparison, Evidence
from ablate.registry import section
from ablate.report.blocks import (
    MISSING,
    Block,
    Cell,
    Column,
    Figure,
    Panel,
    Series,
    Table,
    Text,
    decimals,
    interval,
    probability,
    signed,
)
from ablate.report.verdicts import interval_of

PANELS = 4  # metrics that fit side by side; the table has them all


@section("effects", meaning=1, place=40)
def effects() -> Callable[[Evidence], list[Block]]:
    """Differences from the control with intervals over seeds and over test images, and what pairing achieved."""

    def blocks(evidence: Evidence) -> list[Block]:
        comparisons = [comparison for comparison in evidence.comparisons if comparison.effect.n]
        if not comparisons:
            return []
        return [Text("Effects", "heading"), _figure(evidence), _table(evidence, comparisons)]

    return blocks


def _figure(evidence: Evidence) -> Figure:
    known = {comparison.metric for comparison in evidence.comparisons if comparison.effect.n}
    metrics = [metric for metric in evidence.study.metrics if metric in known][:PANELS]
    caption = f"Differences{_reference(evidence)}, × 100. Thick: 95% {interval_of(evidence)}."
    if len(metrics) > 1 and (evidence.rule.looks or evidence.standing.added):
        caption += f" Of metrics other than {evidence.primary}: {_plain_intervals(evidence)}, over all seeds."
    if evidence.images:
        caption += " Thin: 95% interval over draws of test images with the trained networks held fixed."
    shown = {metric: [c for c in evidence.comparisons_in(metric) if _drawn(c, evidence)] for metric in metrics}
    panels = [_panel(metric, comparisons) for metric, comparisons in shown.items()]
    return Figure("effects", caption + evidence.drawn_note, panels)


def _reference(evidence: Evidence) -> str:
    """What the differences are from; each effect of a factorial has its own."""
    how, _, factor = evidence.study.comparing.partition("within ")
    if factor:
        return f" from the control of the same {factor}"
    if how == "control":
        return f" from {evidence.control.label}, the control" if len(evidence.datasets) == 1 else " from the control"
    references = {comparison.control for comparison in evidence.comparisons}
    return f" from {references.pop()}" if len(references) == 1 else ""


def _plain_intervals(evidence: Evidence) -> str:
    """What the intervals of other metrics are, for which no looks and no added seeds count."""
    kind = "confidence sequences" if evidence.rule.test == "e_value" else "plain 95% t intervals"
    return f"{kind}, widened alike" if evidence.rule.images else kind


def _drawn(comparison: Comparison, evidence: Evidence) -> bool:
    return len(comparison.datasets) > 1 or comparison.arm in {row.label for row in evidence.drawn}


def _panel(metric: str, comparisons: list[Comparison]) -> Panel:
    series = []
    for at, comparison in enumerate(comparisons):
        effect = comparison.effect
        if not effect.n:
            continue
        series.append(Series("points", [100 * effect.diff], [at - 0.1], colour=at + 1))
        ends = [(effect.low, effect.high, at - 0.1, False)]
        ends.append((comparison.image_low, comparison.image_high, at + 0.16, True))
        series += [
            Series("x_interval", [], [y], [100 * low], [100 * high], colour=at + 1, faint=faint)
            for low, high, y, faint in ends
            if math.isfinite(low)
        ]
    return Panel(f"Δ {metric}", "", series, rows=[c.arm for c in comparisons], zero=True)


def _table(evidence: Evidence, comparisons: list[Comparison]) -> Table:
    apart = len({comparison.control for comparison in comparisons}) > 1
    columns = [
        Column("Metric", "left"),
        Column("Arm", "left"),
        *([Column("From", "left")] if apart else []),
        Column("Pairs"),
        Column("Δ"),
        Column("Paired seeds", "center"),
        Column("Unpaired", "center"),
        Column("Correlation"),
        Column("Test images", "center"),
        Column("p", minor="Holm"),
    ]
    digits, looks = decimals(evidence.ends), " nor for looks" if evidence.rule.looks else ""
    notes = [
        f"Every interval is one 95% interval, not corrected for the others{looks}. Correlation: of the two arms' "
        "scores over seeds; near 0 the unpaired (Welch) interval is about as wide as the paired one, below 0 it is "
        "too narrow. "
        f"p belongs to the primary metric, {evidence.primary}, alone."
    ]
    if evidence.images:
        by = f" as {evidence.drawn_together}" if evidence.drawn_together else ""
        notes.append(
            f"Test images: {evidence.images} images, redrawn{by} with replacement, the same for all arms; the trained "
            "networks are kept, so that this says nothing of other seeds."
        )
    if evidence.rule.test == "e_value":
        notes.append(
            "p: one over the largest e-value so far, seed by seed, which stays right whenever seeds are added."
        )
    flips = [f"{c.arm} {probability(c.flips)}" for c in comparisons if math.isfinite(c.flips)]
    if flips:
        notes.append(f"Sign flips at the last look, as a cross-check, before Holm: {', '.join(flips)}.")
    firsts = {comparison.metric: comparison for comparison in reversed(comparisons)}
    rows = [_row(c, digits, name=firsts[c.metric] is c, reference=apart) for c in comparisons]
    caption = f"Differences{_reference(evidence)}, × 100, with 95% intervals."
    return Table(caption, columns, rows, notes, names=2 + apart)


def _row(comparison: Comparison, digits: int, *, name: bool, reference: bool) -> list[Cell]:
    effect = comparison.effect
    ends = [
        (effect.paired_low, effect.paired_high),
        (effect.unpaired_low, effect.unpaired_high),
        (comparison.image_low, comparison.image_high),
    ]
    paired, unpaired, images = (Cell(interval(low, high, digits) or MISSING) for low, high in ends)
    correlation = f"{effect.correlation:+.2f}".replace("-", "−") if math.isfinite(effect.correlation) else MISSING
    return [
        Cell(comparison.metric if name else ""),
        Cell(comparison.arm),
        *([Cell(comparison.control)] if reference else []),
        Cell(str(effect.n)),
        Cell(signed(effect.diff, digits), strong=comparison.shown),
        paired,
        unpaired,
        Cell(correlation),
        images,
        Cell(probability(comparison.p_holm)),
    ]
