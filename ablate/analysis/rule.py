"""How a study's verdicts come about, fixed before its data, and what a number of seeds can show by that rule."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy.special import chdtri, nctdtrinc, ndtr, ndtri, stdtrit

from ablate.analysis import sequential, stats
from ablate.analysis.stats import Effect, Pairing, Test
from ablate.study import Design, Study

ALPHA = 0.05  # of false verdicts, over all planned comparisons together
POINT = 0.01  # of a score: what papers argue about
MOST_SEEDS = 1_000  # looked for no further
FEW = 5  # seeds below which a spread tells nothing
UNEQUAL = 3  # times the smallest spread of an arm: with skewed scores this breaks every test
OPPOSED = -0.3  # correlation below which seeds are not independent of each other
MIDDLE = 0.9  # of the pilots in which the range of a number of seeds holds the true one
SEEDS_ALONE = (
    "These numbers are for these test images alone: no number of seeds narrows what the choice of images leaves open."
)


@dataclass(frozen=True)
class Rule:
    """A test with everything that its error rate depends on."""

    comparisons: int  # that are planned
    test: Test = "sign_flip"
    pairing: Pairing = "seeds"
    looks: tuple[int, ...] = ()  # numbers of seeds; none: one test of all seeds
    margin: float | None = None  # of a score: less counts as no difference; a study's are points
    images: bool = False  # whether verdicts are about new test images, too

    @property
    def each(self) -> float:
        """The level that every comparison has at the least."""
        return ALPHA / self.comparisons

    def of_added(self, n: int) -> "Rule":
        """The rule of a study of which only n seeds decide: its looks at these, of those that it plans at all seeds."""
        known = self.looks[-1] - n if self.looks else 0
        rest = tuple(look - known for look in self.looks if look > known)
        return replace(self, looks=tuple(look for look in rest if look > 1) or rest)

    def floor(self, n: int) -> float:
        """The smallest corrected p that n seeds can give."""
        if self.test == "sign_flip":
            return stats.smallest_p(n, self.comparisons)
        if self.test == "e_value":
            return min(1.0, self.comparisons * sequential.anytime_floor(n))
        return 0.0 if n > 1 else 1.0

    def testable(self, n: int) -> bool:
        """Whether n seeds can show anything at all."""
        return self.floor(n) < ALPHA

    @property
    def seeds_needed(self) -> int:
        """The fewest seeds with which a verdict is possible."""
        return next(n for n in itertools.count(2) if self.testable(n))

    def detectable(self, sd: float, n: int, *, power: float = 0.8) -> float:
        """The smallest true effect that n seeds show with the given power; nan when they can show none.

        `sd` is that of a comparison's differences (`Effect.sd_diff`). With looks n is that of the last one.
        """
        if self.test == "sign_flip":
            return stats.minimum_detectable(sd, n, comparisons=self.comparisons, power=power)
        if n < 2 or not sd > 0:
            return math.nan
        if self.test == "e_value":  # at the last seed; that it may be found before makes it a little easier
            bound = sequential.anytime_bound(n, self.each)
            return sd * float(nctdtrinc(n - 1, 1 - power, bound)) / math.sqrt(n) if bound < math.inf else math.nan
        found = _detectable(self._freedom(n), self.each, power)
        if self.looks:  # more than for one test, in the proportion that normal scores have
            found *= _drift(self.looks, self.each, power) / (float(ndtri(power)) - float(ndtri(self.each / 2)))
        return sd * found / math.sqrt(n)

    def seeds_for(self, effect: float, sd: float, *, power: float = 0.8) -> int | None:
        """The fewest seeds that show a true effect with the given power; None when 1000 are too few."""
        return _first(lambda n: self._detects(effect, sd, n, power), self.seeds_needed)

    def _detects(self, effect: float, sd: float, n: int, power: float) -> bool:
        if self.test == "sign_flip":
            return stats.detects(effect, sd, n, comparisons=self.comparisons, power=power)
        return self.detectable(sd, n, power=power) < abs(effect)

    def equivalence_power(self, sd: float, n: int) -> float:
        """How often n seeds show that there is no difference beyond the margin, where there is none at all.

        Two one-sided t tests (Schuirmann 1987), each at the level of one comparison; with looks at that of the last
        one, though a few such studies show it at an earlier one alone.
        """
        freedom, error = self._freedom(n), sd / math.sqrt(n)
        level = float(sequential.levels(2 * self.each, self.looks)[-1]) / 2 if self.looks else self.each
        critical = float(stdtrit(freedom, 1 - level))
        shares = (np.arange(400) + 0.5) / 400
        spread = np.sqrt(chdtri(freedom, shares) / freedom)  # what a standard deviation is found to be, of its true one
        return float(np.maximum(2 * ndtr((self.margin or 0.0) / error - critical * spread) - 1, 0).mean())

    def seeds_for_equivalence(self, sd: float, *, power: float = 0.8) -> int | None:
        """The fewest seeds that show it with the given power; None when 1000 are too few."""
        return _first(lambda n: self.equivalence_power(sd, n) > power, 2)

    def _freedom(self, n: int) -> float:
        return float((n - 1) * (1 if self.pairing == "seeds" else 2))


def rule_of(design: Design) -> Rule:
    """The rule that a study declares for its planned comparisons."""
    study = design.study
    return Rule(
        comparisons=len(design.contrasts),
        test=study.testing,
        pairing=study.pairing,
        looks=tuple(study.looks or ()),
        margin=study.margin * POINT if study.margin else None,
        images=study.population == "seeds+images",
    )


def one_point(rule: Rule, sd: float, freedom: float, *, of: int = 1) -> str:
    """How many seeds one point would take, with the range that a standard deviation from so few seeds leaves.

    `of` is from how many comparisons the noisiest was taken, for that makes it seem noisier than it is.
    """
    seeds = rule.seeds_for(POINT, sd)
    low, high = (rule.seeds_for(POINT, sd * factor) for factor in spread_range(freedom, of=of))
    said = f"One point ({POINT}) would take {seeds or 'more than a thousand'} seeds"
    if not seeds or not low:
        return f"{said}."
    return f"{said}; the spread is known roughly: {low} to {high or 'more than a thousand'} (90% range)."


def spread_range(freedom: float, *, of: int = 1) -> tuple[float, float]:
    """By what the standard deviation found is to be multiplied for both ends of its 90 % interval.

    That of any of so many holds it in 90 %, by Bonferroni's inequality.
    """
    tail = (1 - MIDDLE) / 2 / of
    low, high = (float(chdtri(freedom, share)) for share in (tail, 1 - tail))
    return math.sqrt(freedom / low), math.sqrt(freedom / high)


def pooled_freedom(counts: list[int]) -> float:
    """Degrees of freedom of the mean variance of k comparisons of so many seeds that share a control.

    Two of their differences have half of their variance in common, so that their squares correlate by a quarter.
    """
    k = len(counts)
    return math.fsum(n - 1 for n in counts) / (1 + (k - 1) / 4)


def declared(study: Study, looks: Sequence[int]) -> str:
    """The rule of a study in a sentence's words, with the looks that are made: those at the seeds that decide."""
    how = {
        ("sign_flip", "seeds"): "exact sign-flip test",
        ("t", "seeds"): "paired t test",
        ("t", "none"): "Welch's t test",
        ("e_value", "seeds"): "e-value of a paired t test, which holds at every number of seeds",
    }
    made = f", looks at {', '.join(map(str, looks))} seeds" if looks else ""
    return how[study.testing, study.pairing] + made


def doubts(rule: Rule, scores: Mapping[str, Mapping[int, float]], effects: Iterable[Effect]) -> list[str]:
    """Where scores, by arm and seed, look unlike those for which the rule keeps its error rate, in sentences."""
    spreads = {label: stats.summary(list(own.values())).sd for label, own in scores.items() if len(own) >= FEW}
    found = []
    if spreads and 0 < max(spreads.values()) >= UNEQUAL * min(spreads.values()):
        wide, tight = max(spreads, key=spreads.__getitem__), min(spreads, key=spreads.__getitem__)
        rate = "8 to 16" if rule.looks else "7 to 13" if rule.test == "e_value" else "6 to 14"
        sds = {label: f"{100 * spreads[label]:.2g}" for label in (wide, tight)}
        sizes = " and ".join(f"{sd} point{'s' * (sd != '1')} with {label}" for label, sd in sds.items())
        found.append(
            f"Arms spread unlike, {sizes}: where such scores are skewed too, {rate} % of studies find a difference "
            "that is not there."
        )
    known = [effect.correlation for effect in effects if effect.n >= FEW and math.isfinite(effect.correlation)]
    if rule.pairing == "none" and known and math.fsum(known) / len(known) < OPPOSED:
        found.append(
            f"Over seeds the arms' scores correlate by {math.fsum(known) / len(known):.2f}: taken as independent, "
            "7 to 12 % of studies find a difference that is not there. pairing: seeds is right here."
        )
    return found


def _first(suffices: Callable[[int], bool], start: int) -> int | None:
    return next((n for n in range(max(start, 2), MOST_SEEDS + 1) if suffices(n)), None)


@cache
def _detectable(freedom: float, alpha: float, power: float) -> float:
    """In standard errors, by the noncentral t."""
    return float(nctdtrinc(freedom, 1 - power, stdtrit(freedom, 1 - alpha / 2)))


@cache
def _drift(looks: tuple[int, ...], alpha: float, power: float) -> float:
    """In standard errors of the last look, what looks with these levels find with the given power."""
    from scipy.optimize import brentq  # a fifth of a second, and most studies need no root

    return float(brentq(lambda drift: sequential.crossing(alpha, looks, drift).sum() - power, 0, 20, xtol=1e-6))
