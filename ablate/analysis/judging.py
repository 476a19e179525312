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
    if rule.looks:
        judged = _looked_at(found, contrasts, arms, primary, rule, images, deciding)
    else:
        ended = [rule.test == "e_value" or _ended(contrast, arms, deciding) for contrast in contrasts]
        judged = _judged(found, rule, ended, len(deciding))
    everything = [_compare(c, arms, metric, rule, images, study.seeds) for metric in others for c in contrasts]
    if set(study.seeds) - set(deciding):
        alls = [_compare(contrast, arms, primary, rule, images, study.seeds).effect for contrast in contrasts]
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
    """The interval over draws of test images. Over several data sets the distances of its ends from the difference are
    added: in quadrature, as their images are drawn independently, but plainly where their test images are the same."""
    parts: dict[str, list[tuple[float, float, float]]] = {}  # by the files that were tested on
    for name, of_set in images.items():
        own = {label: seeds for label, seeds in chosen.items() if arms[label].dataset == name}
        if own:
            weights = contrast.weights
            drawn = [(weights[label], [arms[label].ids[seed] for seed in seeds]) for label, seeds in own.items()]
            scores = {label: [arms[label].scores[metric][seed] for seed in seeds] for label, seeds in own.items()}
            mean = math.fsum(weights[label] * fmean(values) for label, values in scores.items() if values)
            parts.setdefault(of_set.files or name, []).append((mean, *of_set.interval(drawn, metric)))
    everything = [part for group in parts.values() for part in group]
    if len(everything) < 2:
        return everything[0][1:] if everything else NO_INTERVAL
    mean = math.fsum(part[0] for part in everything)
    below, above = (
        math.hypot(*(math.fsum(part[0] - part[end] for part in group) for group in parts.values())) for end in (1, 2)
    )
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


def _ended(contrast: Contrast, arms: Rows, deciding: Sequence[int]) -> bool:
    """Whether all seeds that decide have ended in all of a comparison's arms, with or without a score."""
    return all(set(deciding) <= set(arms[label].documents) for label in contrast.weights)


def _judged(found: list[Comparison], rule: Rule, ended: list[bool], seeds: int) -> list[Comparison]:
    """One test of all seeds, Holm over all comparisons; with a margin both tests of a comparison share its level.

    Nothing is judged, and no p is given, before all seeds of a comparison have ended: who stops when it pleases finds
    what is not there. Among the comparisons it counts from the start.
    """
    raw = [one.effect.p if whole else math.nan for one, whole in zip(found, ended, strict=True)]
    if rule.margin is None:
        adjusted = [float(p) for p in stats.holm(raw)]
        smallest = [_smallest(raw[:at] + raw[at + 1 :], one.effect) for at, one in enumerate(found)]
    else:
        adjusted = [_corrected(p, rule) for p in raw]
        smallest = [rule.floor(one.effect.n) for one in found]
    judged = [
        _with_verdict(one, rule, p=p, smallest=floor, equivalent=_equivalence(one.effect, rule))
        for one, p, floor in zip(found, adjusted, smallest, strict=True)
    ]
    early: Verdict = "undecided" if rule.testable(seeds) else "not testable"
    return [
        done if whole else replace(one, smallest_p=done.smallest_p, verdict=early, until=seeds)
        for one, done, whole in zip(found, judged, ended, strict=True)
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


def _narrow(effect: Effect, rule: Rule, *, level: float = 2 * ALPHA) -> tuple[float, float]:
    """The 90 % interval, which lies within the margin where one comparison's two tests show it; nan without one.

    `level` is what it leaves out: with looks less, so that it holds at all of them.
    """
    if rule.margin is None or not effect.error > 0:
        return NO_INTERVAL
    half = float(stdtrit(effect.freedom, 1 - level / 2)) * effect.error
    return effect.diff - half, effect.diff + half


def _over_images(effect: Effect, low: float, high: float) -> Effect:
    """The effect for new seeds and new images: half-widths of both intervals added in quadrature.

    What images leave open is taken as normal: of a difference by the end of their interval that is nearer to 0, of no
    difference beyond the margin by the end that is further off.
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
    error = math.hypot(effect.error, max(effect.diff - low, high - effect.diff) / float(-ndtri(ALPHA / 2)))
    return replace(effect, low=ends[0], high=ends[1], p=max(effect.p, p), error=error)


def _looked_at(
    found: list[Comparison],
    contrasts: Sequence[Contrast],
    arms: Rows,
    metric: str,
    rule: Rule,
    images: Images,
    deciding: Sequence[int],
) -> list[Comparison]:
    """Sequential tests, look by look. A comparison stays as it was at the look that decided it, though others may need
    its arms longer; any other one is at the last look that all of its arms have reached."""
    made = [_looks_made(contrast, arms, rule, deciding) for contrast in contrasts]
    effects = [
        [_effect(contrast, arms, metric, rule, deciding[:look]) for look in rule.looks[:count]]
        for contrast, count in zip(contrasts, made, strict=True)
    ]
    found = _decided([_before_looks(one, rule) for one in found], effects, made, rule)
    return [
        _beside(one, contrast, arms, rule, images, deciding) for one, contrast in zip(found, contrasts, strict=True)
    ]


def _beside(
    one: Comparison, contrast: Contrast, arms: Rows, rule: Rule, images: Images, deciding: Sequence[int]
) -> Comparison:
    """What stands beside the verdict of a look: an interval over test images of its seeds, and at the last look sign
    flips."""
    chosen = _chosen(contrast, arms, one.metric, rule, deciding[: one.look or 0])
    low, high = _over_draws(contrast, arms, one.metric, chosen, images)
    flips = math.nan
    if one.look == rule.looks[-1]:
        flips = _effect(contrast, arms, one.metric, Rule(rule.comparisons), deciding).p
    return replace(one, image_low=low, image_high=high, flips=flips)


def _decided(found: list[Comparison], effects: list[list[Effect]], made: list[int], rule: Rule) -> list[Comparison]:
    """From the effects of each comparison at each look: Holm over all of them at every look."""
    differing = [_look_p([effect.p for effect in own], rule) for own in effects]
    alike = [[q / 2 for q in _look_p([2 * _equivalence(effect, rule) for effect in own], rule)] for own in effects]
    counts = [0] * len(found)
    for look in range(1, max(made, default=0) + 1):
        counts = [at if _settled(one) else min(look, own) for one, at, own in zip(found, counts, made, strict=True)]
        raw = [p[at - 1] if at else math.nan for p, at in zip(differing, counts, strict=True)]
        adjusted = [float(p) for p in stats.holm(raw)] if rule.margin is None else [_corrected(p, rule) for p in raw]
        for place, (one, at, p) in enumerate(zip(found, counts, adjusted, strict=True)):
            if _settled(one):
                found[place] = replace(one, p_holm=p)
            elif at:
                equivalent = alike[place][at - 1] if rule.margin is not None else math.nan
                found[place] = _at_look(one, rule, effects[place][:at], p=p, equivalent=equivalent)
    return found


def _looks_made(contrast: Contrast, arms: Rows, rule: Rule, deciding: Sequence[int]) -> int:
    """How many looks all trials of a comparison's arms have ended for, with or without a score."""
    ended = [set(arms[label].documents) for label in contrast.weights]
    possible = [look for look in rule.looks if look <= len(deciding)]
    return sum(all(set(deciding[:look]) <= seeds for seeds in ended) for look in possible)


def _look_p(p_values: list[float], rule: Rule) -> list[float]:
    """Of each look, its p over all looks."""
    return sequential.look_p([min(p, 1.0) for p in p_values], rule.looks).tolist() if p_values else []


def _settled(one: Comparison) -> bool:
    """Whether a look has shown something, which later seeds do not take back."""
    return one.verdict not in ("undecided", "not shown", "not testable")


def _before_looks(one: Comparison, rule: Rule) -> Comparison:
    """There is no interval yet that would hold at the looks to come."""
    effect = replace(one.effect, low=math.nan, high=math.nan)
    return replace(one, effect=effect, verdict="undecided", look=0, until=rule.looks[0])


def _at_look(one: Comparison, rule: Rule, effects: list[Effect], *, p: float, equivalent: float) -> Comparison:
    count, look = len(effects), rule.looks[len(effects) - 1]
    effect, last = _repeated(effects[-1], rule, count), count == len(rule.looks)
    smallest = rule.floor(effect.n)
    difference = stats.verdict(effect, p, smallest=smallest)
    verdict = _both(difference, shown=equivalent * rule.comparisons < ALPHA)
    chance = sequential.conditional_power(effects[-1].p, look, rule.looks, alpha=ALPHA)
    futile = verdict == "not shown" and rule.margin is None and chance < sequential.HOPELESS and not last
    over = verdict not in ("not shown", "not testable") or futile or last
    return replace(
        one,
        effect=effect,
        p_holm=p,
        smallest_p=smallest,
        detectable=rule.detectable(effect.sd_diff, rule.looks[-1]) if last else math.nan,
        p_equivalent=_corrected(equivalent, rule),
        narrow=_narrow(effect, rule, level=float(sequential.levels(2 * ALPHA, rule.looks)[count - 1])),
        verdict=verdict if over else "undecided",
        look=look,
        until=look if over else rule.looks[count],
        futile=futile,
    )


def _repeated(effect: Effect, rule: Rule, count: int) -> Effect:
    """The effect with its repeated confidence interval: right at every look, whenever the study stops."""
    if not effect.error > 0:
        return effect
    level = float(sequential.levels(ALPHA, rule.looks)[count - 1])
    half = float(stdtrit(effect.freedom, 1 - level / 2)) * effect.error
    return replace(effect, low=effect.diff - half, high=effect.diff + half)
