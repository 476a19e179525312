"""Verdicts in plain sentences, which the answer begins with."""

import math

from ablate.analysis import FEW, SEEDS_ALONE, Comparison, Effect, Evidence, one_point
from ablate.report.blocks import decimals, interval, listed, percent, probability, signed

MARGIN = ", by less than the margin"
ORDER = (
    "higher", "higher" + MARGIN, "lower", "lower" + MARGIN, "no difference beyond the margin", "not shown", "undecided",
    "not testable",
)  # fmt: skip


def verdicts(evidence: Evidence, comparisons: list[Comparison]) -> list[str]:
    """A sentence for all comparisons with one verdict and one reference."""
    groups = {(ORDER.index(c.verdict or "not shown"), c.control): c.verdict for c in comparisons}
    found = []
    for (_, reference), verdict in sorted(groups.items(), key=lambda group: group[0][0]):
        chosen = [c for c in comparisons if c.verdict == verdict and c.control == reference]
        found += _sentences(evidence, verdict or "", reference, chosen)
    return found + _few(evidence, comparisons) + _stopped(evidence, comparisons)


def population(evidence: Evidence) -> list[str]:
    """What the verdicts speak of: new seeds on these images, or new images too."""
    if not any(c.verdict not in (None, "not testable") for c in evidence.comparisons_in(evidence.primary)):
        return []
    others = [] if len(evidence.datasets) == 1 else ["Of other data sets it says nothing."]
    if not evidence.rule.images:
        return ["This is about new seeds on these test images.", *others]
    scored = [c for c in evidence.comparisons_in(evidence.primary) if c.effect.n]
    narrow = [c.arm for c in scored if math.isnan(c.image_low)]
    if len(narrow) == len(scored):
        return ["This is about new seeds on these test images alone: draws of them give no interval.", *others]
    by = f", drawn as {evidence.drawn_together}" if evidence.drawn_together else ""
    but = f"; for {listed(narrow)} on these images alone, as draws of them give no interval" if narrow else ""
    return [f"This is about new seeds and new test images{by}{but}.", *others]


def interval_of(evidence: Evidence) -> str:
    """What the intervals of the verdicts are, in words."""
    rule, deciding = evidence.rule, evidence.standing
    over = "paired seeds" if rule.pairing == "seeds" else "seeds that are not paired"
    kind = f"t interval over {over}"
    if rule.looks:
        kind = f"repeated t interval, which holds at every look, over {over}"
    if rule.test == "e_value":
        kind = f"confidence sequence, which holds at every number of seeds, over {over}"
    drawn = any(math.isfinite(c.image_low) for c in evidence.comparisons_in(evidence.primary))
    images = ", widened by what the choice of test images leaves open" if rule.images and drawn else ""
    alone = "; of the seeds alone that were added" if deciding.added else ""
    return f"{kind}{images}{alone}"


def _sentences(evidence: Evidence, verdict: str, reference: str, chosen: list[Comparison]) -> list[str]:
    metric, digits = evidence.primary, decimals(evidence.ends)
    controls = {row.label for row in evidence.rows if row.is_control}
    control = f"{reference}, the control" if reference in controls else reference
    within = f"{control}," if control != reference else control  # in the middle of a sentence
    effects = listed(_effect(comparison, digits) for comparison in chosen)
    word, _, _ = verdict.partition(",")
    if word in ("higher", "lower"):
        less = f", by less than the margin of {_margin(evidence)}" if verdict != word else ""
        return [f"{metric} is {word} with {effects} than with {control}{less}."]
    if verdict == "no difference beyond the margin":
        narrow = listed(f"{c.arm} ({signed(c.effect.diff, digits)}, 90% interval {_narrow(c, digits)})" for c in chosen)
        return [f"{metric} differs from {within} by less than the margin of {_margin(evidence)} with {narrow}."]
    if verdict == "undecided":
        until = f"{listed(map(str, sorted({c.until for c in chosen if c.until})))} seeds"
        until += " of those that were added" if evidence.standing.added else ""
        when = f"the next look is at {until}" if evidence.rule.looks else f"that takes all {until}"
        return [f"Whether {metric} differs from {within} is not decided yet for {effects}; {when}."]
    if verdict == "not shown":
        return [f"No difference in {metric} from {within} is shown for {effects}.", *_found(evidence, chosen)]
    counts = sorted({comparison.effect.n for comparison in chosen})
    smallest = min(comparison.smallest_p for comparison in chosen)
    return [
        f"Whether {metric} differs from {within} is not testable with {_seeds(counts)}: "
        f"over {_comparisons(evidence.planned)} no outcome could give a p below {probability(smallest)}, "
        f"and a verdict takes at least {evidence.rule.seeds_needed} seeds. Measured, without a verdict: {effects}."
    ]


def _found(evidence: Evidence, chosen: list[Comparison]) -> list[str]:
    """What would have been found, and how many seeds one point would take."""
    known = [c for c in chosen if not math.isnan(c.detectable)]
    if not known:
        return []
    largest = max(known, key=lambda c: c.detectable)
    said = percent(largest.detectable, decimals(evidence.ends))
    where = f" in the noisier comparison ({largest.arm})" if len(known) > 1 else ""
    line = f"A true difference of {said} would have been found four times in five{where}."
    effect = largest.effect
    lines = [f"{line} {one_point(evidence.rule, effect.sd_diff, effect.freedom, of=len(known))}"]
    return lines + [SEEDS_ALONE] * evidence.rule.images


def _few(evidence: Evidence, comparisons: list[Comparison]) -> list[str]:
    """What makes a verdict unsafe, or its numbers strange."""
    counts = [c.effect.n for c in comparisons if c.effect.n < FEW and c.verdict not in ("undecided", "not testable")]
    lines = []
    if evidence.rule.test == "t" and counts:
        lines.append(f"A t test of {_seeds([min(counts)])} is not calibrated; {FEW} seeds are the fewest.")
    outside = [c.arm for c in comparisons if c.effect.diff > c.effect.high or c.effect.diff < c.effect.low]
    if outside:
        lines.append(
            f"The mean difference of {listed(outside)} lies outside its interval: later seeds are unlike those before."
        )
    return lines


def _stopped(evidence: Evidence, comparisons: list[Comparison]) -> list[str]:
    """What a look has ended, and what may be said of effects that were found early."""
    last = evidence.rule.looks[-1] if evidence.rule.looks else 0
    early = [c for c in comparisons if c.look and c.look < last and c.verdict != "undecided"]
    if not early:
        return []
    stops = listed(f"{c.arm} at {c.look} of {last}" for c in early)
    futile = [c.arm for c in early if c.futile]
    large = "; an effect that ended a comparison early is more often too large than too small"
    lines = [
        f"Stopped early, by the planned looks: {stops} seeds. The intervals hold for that"
        f"{large if any(c.shown for c in early) else ''}."
    ]
    if futile:
        lines.append(f"For {listed(futile)} going on would hardly have shown a difference.")
    return lines


def _margin(evidence: Evidence) -> str:
    points = 100 * (evidence.rule.margin or 0.0)
    return f"{points:g} point{'s' * (points != 1)}"


def _narrow(comparison: Comparison, digits: int) -> str:
    return interval(*comparison.narrow, digits)


def _effect(comparison: Comparison, digits: int) -> str:
    return spelt(comparison.arm, comparison.effect, digits)


def spelt(arm: str, effect: Effect, digits: int) -> str:
    """An arm with its difference and the interval of that."""
    spread = f", 95% interval {interval(effect.low, effect.high, digits)}" if math.isfinite(effect.low) else ""
    return f"{arm} ({signed(effect.diff, digits)}{spread})"


def _seeds(counts: list[int]) -> str:
    return "1 seed" if counts == [1] else f"{' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seeds"


def _comparisons(count: int) -> str:
    return "1 planned comparison" if count == 1 else f"{count} planned comparisons"
