"""What a study's seeds can and cannot show by the rule that it declares, in sentences."""

import math
from statistics import fmean

from scipy.special import ndtri, stdtrit

from ablate.analysis import (
    FEW,
    SEEDS_ALONE,
    Effect,
    Rule,
    doubts,
    one_point,
    pooled_freedom,
    rule_of,
    sequential,
    stats,
)
from ablate.storage import Shelf, kept_plans
from ablate.study import Arm, Contrast, Design

TESTS = {
    ("e_value", "seeds"): "e-values, to which seeds may be added at any time",
    ("t", "seeds"): "paired t tests",
    ("t", "none"): "Welch's t tests, as seeds are not paired",
}
LEAST = 6  # seeds at the first look, from which on levels hold
REACH = 5  # standard deviations of an arm: gaps beyond are not what studies are made for


def power(design: Design, shelf: Shelf, stands: kept_plans.Standing) -> list[str]:
    """From the rule and the seeds that decide, and from the spread of the results that are there."""
    if not design.contrasts:
        return []
    rule = rule_of(design).of_added(len(stands.seeds))
    return (stands.sentences if stands.added else []) + _power(design, rule, len(stands.seeds), shelf)


def _power(design: Design, rule: Rule, n: int, shelf: Shelf) -> list[str]:
    asked = f"{n} seeds and {rule.comparisons} comparison{'s' * (rule.comparisons > 1)}"
    if not rule.testable(n):
        lines = [
            f"{asked} are not testable: the smallest corrected p is {rule.floor(n):.3f}; "
            f"{rule.seeds_needed} seeds would be."
        ]
        return lines + _instead(rule, n)
    by = f" by {TESTS[rule.test, rule.pairing]}" if rule.test != "sign_flip" else ""
    least = f": the smallest corrected p is {rule.floor(n):.4f}" if rule.test == "sign_flip" else ""
    lines = [f"{asked} are testable{by}{least}.", *_looks(design, rule)]
    if rule.test == "t" and n < FEW:
        lines.append(f"t tests of fewer than {FEW} seeds are not calibrated: see docs/verdicts.md.")
    scores = _scores(design, shelf)
    effects = list(zip(design.contrasts, _effects(design, rule, scores), strict=True))
    if len(design.sets) == 1:
        return [*lines, *_shown_by(design, rule, n, *_noisiest(effects)), *_doubts(design, rule, scores)]
    for where, several in (("On one data set", False), (f"Over all {len(design.sets)} of them", True)):
        chosen, which = _noisiest([one for one in effects if (len(_sets(design, one[0])) > 1) == several])
        lines += _shown_by(design, rule, n, chosen, f"{where}, {which[0].lower()}{which[1:]}" if which else f"{where} ")
    return lines + _doubts(design, rule, scores)


def _instead(rule: Rule, n: int) -> list[str]:
    """What seeds that are too few leave open."""
    if rule.test == "e_value":
        return ["Further seeds may be added at any time: an e-value goes on from these."]
    return ["Sign flips of so few seeds cannot reach the level; test: t can."] * (rule.test == "sign_flip" and n >= FEW)


def _noisiest(effects: list[tuple[Contrast, Effect]]) -> tuple[list[Effect], str]:
    """The effects whose weights make them the noisiest, and what they are; interactions have twice the spread of main
    effects."""
    norms = [_norm(contrast) for contrast, _ in effects]
    where = "In the noisiest comparisons, the interactions, " if len(set(norms)) > 1 else ""
    return [effect for (_, effect), norm in zip(effects, norms, strict=True) if norm == max(norms)], where


def _norm(contrast: Contrast) -> float:
    """The spread of a comparison of arms that spread by one, independently of each other."""
    return round(math.hypot(*contrast.weights.values()), 6)


def _doubts(design: Design, rule: Rule, scores: dict[str, dict[int, float]]) -> list[str]:
    """Of each data set, whose arms are compared with each other."""
    lines, effects = [], list(zip(design.contrasts, _effects(design, rule, scores), strict=True))
    for name in design.sets:
        own = [effect for contrast, effect in effects if _sets(design, contrast) == {name} and effect.sd_diff > 0]
        said = doubts(rule, {arm.label: scores[arm.label] for arm in design.on(name)}, own)
        lines += [f"On {name}: {line}" if name else line for line in said]
    return lines


def _sets(design: Design, contrast: Contrast) -> set[str]:
    return {arm.dataset for arm in design.arms if arm.label in contrast.weights}


def _shown_by(design: Design, rule: Rule, n: int, effects: list[Effect], where: str) -> list[str]:
    """The difference that the seeds detect, and what one point and the margin would take."""
    metric, lines = design.study.metrics[0], []
    effects = [effect for effect in effects if effect.sd_diff > 0]
    spread = math.sqrt(fmean(effect.sd_diff**2 for effect in effects)) if effects else None
    detectable = rule.detectable(spread or 1.0, n)
    unit = "" if spread else f" standard deviations of the {'paired ' * (rule.pairing == 'seeds')}differences"
    known = f" (their standard deviation so far: {spread:.4f})" if spread else ""
    at_most = "at the last look " if rule.looks else ""
    they = f"{where}they detect with 80 % power " if where else "With 80 % power they detect "
    lines.append(f"{they}{at_most}a difference of {detectable:.3g}{unit} in {metric}{known}.")
    if spread:
        lines.append(one_point(rule, spread, pooled_freedom([effect.n for effect in effects])))
        lines += [SEEDS_ALONE] * rule.images
    return lines + _margin(rule, spread, n)


def _margin(rule: Rule, spread: float | None, n: int) -> list[str]:
    if rule.margin is None:
        return []
    points = f"{100 * rule.margin:g} points"
    if not spread:
        return [f"How many seeds a margin of {points} takes is known once some trials have ended."]
    needed = rule.seeds_for_equivalence(spread)
    chance = rule.equivalence_power(spread, n)
    return [
        f"That there is no difference beyond {points} is shown with {chance:.0%} power by {n} seeds, if there is none; "
        f"{needed or 'more than a thousand'} seeds would show it with 80 %."
    ]


def _looks(design: Design, rule: Rule) -> list[str]:
    """For each look its boundary, and the gap of the noisiest comparisons that is decided there as often as not."""
    if not rule.looks:
        return []
    lines, norms = [], {_norm(contrast) for contrast in design.contrasts}
    of_an_arm = "standard deviations of an arm" + " in the noisiest comparisons" * (len(norms) > 1)
    for look, level in zip(rule.looks, sequential.levels(rule.each, rule.looks), strict=True):
        freedom = look - 1 if rule.pairing == "seeds" else 2 * look - 2
        gap = -float(stdtrit(freedom, level / 2)) * max(norms) / math.sqrt(look)
        floor = stats.smallest_p(look, 1)
        idle = " and cannot decide here" if floor > level else ""
        flips = f"sign flips, the cross-check, give no p below {floor:.2g}{idle}"
        reach = f"a gap of {gap:.2g} {of_an_arm} is decided here as often as not"
        if gap > REACH:
            reach = f"cannot decide here: only a gap above {gap:.2g} {of_an_arm} would"
        lines.append(f"Look at {look} seeds: p below {level:.2g} (z {-float(ndtri(level / 2)):.2f}); {reach}; {flips}.")
    if rule.looks[0] < LEAST:
        lines.append(f"A first look below {LEAST} seeds gives .055 to .06 false alarms instead of .05.")
    return [*lines, "How many of the trials are needed shows at the looks; at most all are."]


def _scores(design: Design, shelf: Shelf) -> dict[str, dict[int, float]]:
    """Of each arm by seed the finite scores in the primary metric that are there."""

    def of(arm: Arm) -> dict[int, float]:
        found = {trial.seed: shelf.results.get(trial.id) for trial in arm.trials}
        scores = {
            seed: result.scores.get(design.study.metrics[0], math.nan) for seed, result in found.items() if result
        }
        return {seed: score for seed, score in scores.items() if math.isfinite(score)}

    return {arm.label: of(arm) for arm in design.arms}


def _effects(design: Design, rule: Rule, scores: dict[str, dict[int, float]]) -> list[Effect]:
    found = []
    for contrast in design.contrasts:
        arms = [scores[label] for label in contrast.weights]
        shared = [seed for seed in arms[0] if all(seed in arm for arm in arms)]
        values = [[arm[s] for s in shared] if rule.pairing == "seeds" else list(arm.values()) for arm in arms]
        found.append(stats.contrast(values, list(contrast.weights.values()), test="t", pairing=rule.pairing))
    return found
