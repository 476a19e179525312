"""The answer, first: what the verdicts say about the question, in plain sentences."""

import math
from collections.abc import Callable, Mapping
from statistics import stdev

from ablate.analysis import Breakdown, Comparison, Evidence
from ablate.registry import section
from ablate.report.blocks import Block, Text, decimals, listed, percent, signed
from ablate.report.verdicts import population, spelt, verdicts

SLOPES = 6  # arms whose slope a sentence gives
NAMED = 8  # classes or joints that a sentence names; the table has them all


@section("answer", meaning=1, place=10)
def answer() -> Callable[[Evidence], list[Block]]:
    """The question answered in one or two sentences, as far as the seeds allow."""

    def blocks(evidence: Evidence) -> list[Block]:
        return [Text("Answer", "heading"), *(Text(sentence, "answer") for sentence in _sentences(evidence))]

    return blocks


def _sentences(evidence: Evidence) -> list[str]:
    control, metric = evidence.control, evidence.primary
    if not any(row.scores[metric] for row in evidence.rows):
        ended = len(evidence.failures)
        why = f"all {ended} trials that ended did so without a score" if ended else "no trial has ended yet"
        return [f"There is nothing to answer with: {why}."]
    planned = evidence.comparisons_in(metric)
    comparisons = [c for c in planned if c.effect.n]
    if not control.scores[metric] and not comparisons:
        return [f"Nothing can be compared: the control ({control.label}) has no finished trial."]
    nothing = _nothing(evidence, [c.arm for c in planned if not c.effect.n])
    over_all = [c for c in comparisons if len(c.datasets) > 1]
    said = verdicts(evidence, over_all) + verdicts(evidence, [c for c in comparisons if c not in over_all]) + nothing
    if not comparisons:
        return said + _plan(evidence, planned)
    return said + population(evidence) + evidence.doubts + _plan(evidence, planned) + _cautions(evidence, comparisons)


def _nothing(evidence: Evidence, alone: list[str]) -> list[str]:
    """Of which comparisons there is nothing to say, and why."""
    gaps, added = _gaps(evidence), evidence.standing.added
    why, yet = ("of the seeds that decide none has a score", " yet") if added else ("no seed has a score", "")
    if alone and gaps:
        return [f"Nothing can be said yet of {listed(alone)}.", gaps]
    if alone:
        return [f"Nothing can be said{yet} of {listed(alone)}: {why} there and in the control."]
    return [gaps] if gaps else []


def _gaps(evidence: Evidence) -> str:
    """Of an e-value the seeds that later ones wait for."""
    order = list(evidence.standing.seeds)
    if evidence.rule.test != "e_value":
        return ""
    gaps = [
        f"seed {seed} of {row.label}"
        for row in evidence.rows
        for seed in [next((seed for seed in order if seed not in row.documents), None)]
        if seed is not None and any(later in row.documents for later in order[order.index(seed) :])
    ]
    if not gaps:
        return ""
    more = [f"{len(gaps) - NAMED} more"] if len(gaps) > NAMED else []
    return f"An e-value takes seeds in their order, and waits for {listed(gaps[:NAMED] + more)} to end."


def _plan(evidence: Evidence, comparisons: list[Comparison]) -> list[str]:
    """Whether this was planned, and what all seeds together give where only those that were added decide."""
    digits = decimals(evidence.ends)
    pooled = [spelt(c.arm, c.pooled, digits) for c in comparisons if c.pooled and c.pooled.n]
    return evidence.standing.sentences + ([f"From all seeds: {listed(pooled)}."] if pooled else [])


def _cautions(evidence: Evidence, comparisons: list[Comparison]) -> list[str]:
    """What the table cannot show, said in the same breath as the verdict."""
    found = evidence.cautions
    lines = [_survivors(label, ended, of, evidence) for label, (ended, of) in found.lost.items() if ended < of]
    lines += [_at_chance(breakdown, evidence) for breakdown in evidence.breakdowns]
    lines += [_still_rising(evidence, comparisons)]
    lines += [
        f"Means changed places during training: at epoch {crossing.epoch} that of {crossing.arm} was "
        f"{'above' if crossing.ahead else 'below'} that of {crossing.control}, at the end it is not."
        for crossing in found.crossings
    ]
    if found.reversed:
        lie = "lies" if len(found.reversed) == 1 else "lie"
        lines.append(f"In the published table {listed(found.reversed)} {lie} on the other side of the control.")
    return [line for line in lines if line]


def _survivors(label: str, ended: int, of: int, evidence: Evidence) -> str:
    statuses = {failure.status for failure in evidence.failures if failure.arm == label}
    how = "diverged" if statuses == {"diverged"} else "ended without a score"
    return f"{ended} of {of} seeds of {label} {how}: what is said of it rests on the others."


def _at_chance(breakdown: Breakdown, evidence: Evidence) -> str:
    """How many classes or joints nothing was learned of, in the arm where they are most."""
    low = {row.label: breakdown.at_chance(row.label) for row in evidence.rows if row.label in breakdown.seeds}
    worst = max(low, key=lambda label: len(low[label]))
    if not low[worst]:
        return ""
    control, more = next(iter(low)), len(low[worst]) - NAMED
    named = listed([*low[worst][:NAMED], *([f"{more} more"] if more > 0 else [])])
    least = "" if worst == control else f"; with {control}, the control, {len(low[control])}"
    count = f"{len(low[worst])} of {len(breakdown.names)} {breakdown.kinds}"
    return f"{breakdown.low.capitalize()} in {breakdown.measure} are {count} with {worst} ({named}){least}."


def _still_rising(evidence: Evidence, comparisons: list[Comparison]) -> str:
    """Whether the arms were still learning: by more than their seeds differ, or than half of the largest difference."""
    known = {label: slope for label, slope in evidence.cautions.slopes.items() if math.isfinite(slope)}
    if not known:
        return (
            "Whether scores still rise at the end is not known: "
            "fewer than two scores lie in the last quarter of training."
        )
    gap = max((abs(comparison.effect.diff) for comparison in comparisons), default=0.0)
    digits = 2
    rises = evidence.cautions.rises
    spreads = {row.label: _spread(row.scores[evidence.primary]) for row in evidence.rows}
    least = max(known, key=lambda label: abs(rises[label]) - min(gap / 2, spreads[label]))  # the least settled
    rise, spread = rises[least], spreads[least]
    slopes = ", ".join(f"{label} {signed(slope, digits)}" for label, slope in list(known.items())[:SLOPES])
    more = f" and {len(known) - SLOPES} more arms" if len(known) > SLOPES else ""
    line = f"Change of {evidence.primary} in the last quarter of training, in points an epoch: {slopes}{more}."
    if abs(rise) > min(gap / 2, spread):
        over = f"its standard deviation over seeds is {percent(spread, digits)}, " if math.isfinite(spread) else ""
        line = (
            f"Training had not converged. {line} {least} changed by {signed(rise, digits)} in "
            f"that quarter; {over}the largest planned difference {percent(gap, digits)}."
        )
    return line


def _spread(scores: Mapping[int, float]) -> float:
    """The standard deviation over seeds; infinite where one seed cannot show any."""
    return stdev(scores.values()) if len(scores) > 1 else math.inf
