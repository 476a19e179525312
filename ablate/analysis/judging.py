"""Planned comparisons become effects and verdicts, by the rule that the study declared."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from statistics import fmean

from scipy.special import ndtri, stdtr, stdtrit

from ablate.analysis import sequential, stats
from ablate.analysis.evidence import Comparison, Row
from ablate.analysis.resample import NO_INTERVAL, TestImages
from ablate.analysis.rule import ALPHA, Rule
from ablate.analysis.stats import Effect, Verdict
from ablate.study import Contrast, Study

Rows = dict[str, Row]  # by label
Images = Mapping[str, TestImages]  # by data set; none where they are not drawn anew


def compared(
    study: Study,
    rows: list[Row],
    contrasts: Sequence[Contrast],
    rule: Rule,
    images: Images,
    deciding: Sequence[int],
) -> list[Comparison]:
    """Every planned comparison in every metric; verdicts in the primary one, over the seeds that decide."""
    arms, (primary, *others) = {row.label: row for row in rows}, study.metrics
    found = [
        _compare(contrast, arms, primary, rule, images, _in_order(contrast, arms, rule, deciding))
        for contrast in contrasts
    ]
    judged = _looked_at(found, contrasts, arms, primary, rule, deciding) if rule.looks else _judged(found, rule)
    everything = [_compare(c, arms, metric, rule, images, study.seeds) for metric in others for c in contrasts]
    if set(study.seeds) - set(deciding):
        alls = [_effect(contrast, arms, primary, rule, study.seeds) for contrast in contrasts]
        judged = [replace(one, pooled=effect) for one, effect in zip(judged, alls, strict=True)]
    return judged + everything


def _in_order(contrast: Contrast, arms: Rows, rule: Rule, deciding: Sequence[int]) -> Sequence[int]:
    """Of an e-value the seeds up to the first that has not ended in all of its arms: it takes them in their order."""
    if rule.test != "e_value":
        return deciding
    return list(takewhile(lambda seed: all(seed in arms[label].documents for label in contrast.weights), deciding))


def _compare(
    contrast: Contrast, arms: Rows, metric: str, rule: Rule, images: Images, seeds: Collection[int]
) -> Comparison:
    low, high = _over_draws(contrast, arms, metric, _chosen(contrast, arms, metric, rule, seeds), images)
    effect = _effect(contrast, arms, metric, rule, seeds)
    if rule.images and math.isfinite(low):
        effect = _over_images(effect, low, high)
    return Comparison(
        arm=contrast.label,
        control=contrast.reference,
        metric=metric,
        effect=effect,
        datasets=tuple(dict.fromkeys(arms[label].dataset for label in contrast.weights)),
        image_low=low,
        image_high=high,
        p_holm=math.nan,
        smallest_p=math.nan,
        detectable=math.nan,
        verdict=None,
    )


def _over_draws(
    contrast: Contrast, arms: Rows, metric: str, chosen: Mapping[str, Sequence[int]], images: Images
) -> tuple[float, float]:
    """The interval over draws of test images; over several data sets, whose images are drawn independently, the
    distances of its ends from the difference are added in quadrature."""
    parts = []
    for name, of_set in images.items():
        own = {label: seeds for label, seeds in chosen.items() if arms[label].dataset == name}
        if own:
            weights = contrast.weights
            drawn = [(weights[label], [arms[label].ids[seed] for seed in seeds]) for label, seeds in own.items()]
            scores = {label: [arms[label].scores[metric][seed] for seed in seeds] for label, seeds in own.items()}
            mean = math.fsum(weights[label] * fmean(values) for label, values in scores.items() if values)
            parts.append((mean, *of_set.interval(drawn, metric)))
    if len(parts) < 2:
        return parts[0][1:] if parts else NO_INTERVAL
    mean = math.fsum(part[0] for part in parts)
    below, above = (math.hypot(*(part[0] - part[end] for part in parts)) for end in (1, 2))
    return mean - below, mean + above


def _chosen(contrast: Contrast, arms: Rows, metric: str, rule: Rule, seeds: Collection[int]) -> dict[str, list[int]]:
    """For each arm the seeds that count: those that all arms finished, or its own where seeds are not paired."""
    finished = {label: arms[label].scores[metric] for label in contrast.weights}
    wanted = {label: [seed for seed in scores if seed in seeds] for label, scores in finished.items()}
    if rule.pairing == "none":
        return wanted
    return {label: [s for s in own if all(s in other for other in wanted.values())] for label, own in wanted.items()}


def _effect(contrast: Contrast, arms: Rows, metric: str, rule: Rule, seeds: Collection[int]) -> Effect:
    chosen = _chosen(contrast, arms, metric, rule, seeds)
    scores = [[arms[label].scores[metric][seed] for seed in own] for label, own in chosen.items()]
    return stats.contrast(scores, list(contrast.weights.values()), test=rule.test, pairing=rule.pairing)


def _judged(found: list[Comparison], rule: Rule) -> list[Comparison]:
    """One test of all seeds, Holm over all comparisons; with a margin both tests of a comparison share its level."""
    raw = [one.effect.p for one in found]
    if rule.margin is None:
        adjusted = [float(p) for p in stats.holm(raw)]
        smallest = [_smallest(raw[:at] + raw[at + 1 :], one.effect) for at, one in enumerate(found)]
    else:
        adjusted = [_corrected(p, rule) for p in raw]
        smallest = [rule.floor(one.effect.n) for one in found]
    return [
        _with_verdict(one, rule, p=p, smallest=floor, equivalent=_equivalence(one.effect, rule))
        for one, p, floor in zip(found, adjusted, smallest, strict=True)
    ]


def _smallest(others: list[float], effect: Effect) -> float:
    return float(stats.holm([effect.p_floor if effect.n > 1 else 1.0, *others])[0])


def _with_verdict(one: Comparison, rule: Rule, *, p: float, smallest: float, equivalent: float) -> Comparison:
    effect = one.effect
    difference = stats.verdict(effect, p, smallest=smallest)
    return replace(
        one,
        p_holm=p,
        smallest_p=smallest,
        detectable=rule.detectable(effect.sd_diff, effect.n),
        p_equivalent=_corrected(equivalent, rule),
        narrow=_narrow(effect, rule),
        verdict=_both(difference, shown=equivalent * rule.comparisons < ALPHA),
    )


def _corrected(p: float, rule: Rule) -> float:
    """Bonferroni's: of a comparison only one of both nulls can hold, so that k comparisons have at most k true ones."""
    return p if math.isnan(p) else min(1.0, p * rule.comparisons)


def _both(difference: Verdict, *, shown: bool) -> Verdict:
    """What a difference and no difference beyond the margin come to together."""
    if not shown:
        return difference
    if difference == "higher":
        return "higher, by less than the margin"
    return "lower, by less than the margin" if difference == "lower" else "no difference beyond the margin"


def _equivalence(effect: Effect, rule: Rule) -> float:
    """The larger p of two one-sided t tests against a difference as large as the margin; nan without a margin."""
    if rule.margin is None or not effect.error > 0:
        return math.nan
    return float(stdtr(effect.freedom, (abs(effect.diff) - rule.margin) / effect.error))


def _narrow(effect: Effect, rule: Rule) -> tuple[float, float]:
    """The 90 % interval, which lies within the margin where one comparison's two tests show it; nan without one."""
    if rule.margin is None or not effect.error > 0:
        return NO_INTERVAL
    half = float(stdtrit(effect.freedom, 1 - ALPHA)) * effect.error
    return effect.diff - half, effect.diff + half


def _over_images(effect: Effect, low: float, high: float) -> Effect:
    """The effect for new seeds and new images: half-widths of both intervals added in quadrature.

    What images leave open is taken as normal, by the end of their interval that is nearer to 0.
    """
    from scipy.optimize import brentq  # a fifth of a second, and most studies need no root

    ends = [
        effect.diff - math.hypot(effect.diff - effect.low, effect.diff - low),
        effect.diff + math.hypot(effect.high - effect.diff, high - effect.diff),
    ]
    spread = max(effect.diff - low if effect.diff > 0 else high - effect.diff, 0.0) / float(-ndtri(ALPHA / 2))

    def reaches(p: float) -> float:
        half = math.hypot(float(stdtrit(effect.freedom, 1 - p / 2)) * effect.error, float(-ndtri(p / 2)) * spread)
        return half - abs(effect.diff)

    if not effect.error > 0:
        return replace(effect, low=ends[0], high=ends[1])
    p = float(brentq(reaches, 1e-15, 1.0)) if reaches(1e-15) > 0 else 1e-15
    error = math.hypot(effect.error, spread)
    return replace(effect, low=ends[0], high=ends[1], p=max(effect.p, p), error=error)


def _looked_at(
    found: list[Comparison],
    contrasts: Sequence[Contrast],
    arms: Rows,
    metric: str,
    rule: Rule,
    deciding: Sequence[int],
) -> list[Comparison]:
    """Sequential tests: each comparison as it was at the last look that all of its arms have reached."""
    made = [_looks_made(contrast, arms, rule, deciding) for contrast in contrasts]
    effects = [
        [_effect(contrast, arms, metric, rule, deciding[:look]) for look in rule.looks[:count]]
        for contrast, count in zip(contrasts, made, strict=True)
    ]
    flips = [
        _effect(contrast, arms, metric, Rule(rule.comparisons), deciding).p if count == len(rule.looks) else math.nan
        for contrast, count in zip(contrasts, made, strict=True)
    ]
    differing = [_sequential([effect.p for effect in own], rule) for own in effects]
    alike = [[2 * _equivalence(effect, rule) for effect in own] for own in effects]
    equivalent = [_sequential([min(p, 1.0) for p in own], rule) / 2 for own in alike]
    if rule.margin is None:
        adjusted = [float(p) for p in stats.holm(differing)]
    else:
        adjusted = [_corrected(p, rule) for p in differing]
    return [
        replace(_at_look(one, rule, own, p=p, equivalent=q), flips=flip)
        for one, own, p, q, flip in zip(found, effects, adjusted, equivalent, flips, strict=True)
    ]


def _looks_made(contrast: Contrast, arms: Rows, rule: Rule, deciding: Sequence[int]) -> int:
    """How many looks all trials of a comparison's arms have ended for, with or without a score."""
    ended = [set(arms[label].documents) for label in contrast.weights]
    possible = [look for look in rule.looks if look <= len(deciding)]
    return sum(all(set(deciding[:look]) <= seeds for seeds in ended) for look in possible)


def _sequential(p_values: list[float], rule: Rule) -> float:
    return float(sequential.sequential_p(p_values, rule.looks)[-1]) if p_values else math.nan


def _at_look(one: Comparison, rule: Rule, effects: list[Effect], *, p: float, equivalent: float) -> Comparison:
    if not effects:
        return replace(one, verdict="undecided", look=0, until=rule.looks[0])
    count, effect = len(effects), _repeated(effects[-1], rule, len(effects))
    shown = p < ALPHA
    difference: Verdict = ("higher" if effect.diff > 0 else "lower") if shown else "not shown"
    verdict = _both(difference, shown=equivalent * rule.comparisons < ALPHA)
    chance = sequential.conditional_power(effects[-1].p, rule.looks[count - 1], rule.looks, alpha=rule.each)
    last = count == len(rule.looks)
    futile = verdict == "not shown" and rule.margin is None and chance < sequential.HOPELESS and not last
    over = verdict != "not shown" or futile or last
    return replace(
        one,
        effect=effect,
        p_holm=p,
        smallest_p=0.0,
        detectable=rule.detectable(effect.sd_diff, rule.looks[-1]) if last else math.nan,
        p_equivalent=_corrected(equivalent, rule),
        narrow=_narrow(effect, rule),
        verdict=verdict if over else "undecided",
        look=rule.looks[count - 1],
        until=rule.looks[count - 1] if over else rule.looks[count],
        futile=futile,
    )


def _repeated(effect: Effect, rule: Rule, count: int) -> Effect:
    """The effect with its repeated confidence interval: right at every look, whenever the study stops."""
    level = float(sequential.levels(ALPHA, rule.looks)[count - 1])
    half = float(stdtrit(effect.freedom, 1 - level / 2)) * effect.error if effect.error > 0 else math.nan
    return replace(effect, low=effect.diff - half, high=effect.diff + half)
