"""Evidence: all results of a study with their statistics, as plain data that every report section reads.

Nothing is trained, drawn or worded here. What is notable:

- Only finished trials with a finite score enter a mean; the others are counted and listed with their reason.
- Every other arm is compared with the control, paired by seed. Test, Holm's adjustment and verdict belong to the
  primary metric; other metrics have effects with intervals, for no test of them was planned.
- Test images are another source of chance and have their own interval (resample.py).
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import median

from ablate import stats
from ablate.arrays import Arrays
from ablate.comparable import (
    SCRATCH,
    one_recipe,
    refuse_different_data,
    refuse_different_protocols,
    starts_from,
    unlike_starts,
    varied,
)
from ablate.design import Arm, arms, contrasts, expand, label
from ablate.paper import Published, published
from ablate.resample import NO_INTERVAL, TestImages
from ablate.result import Cost, Epoch, Result
from ablate.stats import Effect, Summary, Verdict
from ablate.store import Store
from ablate.study import Study
from ablate.trial import Recipe, Trial

ALIKE = {"revision": "revisions", "dirty": "uncommitted changes", "device": "devices", "torch": "torch versions"}
MOST_DRAWN = 40  # arms in a figure: more could not be told apart, and drawing a thousand takes minutes


@dataclass(frozen=True)
class Row:
    """One arm: what its seeds scored and what its network costs."""

    arm: Arm
    label: str
    is_control: bool
    ids: dict[int, str]  # seed -> trial id, all that were planned
    scores: dict[str, dict[int, float]]  # metric -> seed -> score, finite ones of finished trials
    summaries: dict[str, Summary]  # metric -> mean and sd over seeds
    curves: dict[int, list[Epoch]]  # seed -> learning curve, of unfinished trials too
    cost: Cost | None  # throughput: the median over seeds; memory: the highest
    published: str | None  # the paper's number for this arm, as printed
    start: str  # where its backbone's weights come from


@dataclass(frozen=True)
class Comparison:
    """One planned comparison in one metric: an arm against the control over the seeds that both finished."""

    level: str  # the arm's label
    control: str
    metric: str
    effect: Effect  # level - control
    image_low: float  # interval of the same difference over draws of test images; nan when not resampled
    image_high: float
    p_holm: float  # nan outside the primary metric
    smallest_p: float  # that these seeds could give after Holm, beside what the other comparisons gave
    detectable: float  # true difference found with power .8 by these seeds; nan if not testable or not primary
    verdict: Verdict | None  # None outside the primary metric


@dataclass(frozen=True)
class Failure:
    """A trial that ended without a usable score."""

    id: str
    arm: str
    seed: int
    status: str  # failed, diverged, or 'no score' where the metric gave none
    reason: str


@dataclass(frozen=True)
class Evidence:
    """Everything a report says, before it is worded or drawn."""

    study: Study
    recipe: Recipe  # the control's, settled
    varied: tuple[str, ...]  # paths of the recipe that the factors change
    one_recipe: str  # whether all arms share one recipe of training, in a sentence
    unlike_starts: str  # where arms start from other weights than the control, unasked, in a sentence
    rows: list[Row]  # the control first
    comparisons: list[Comparison]  # by metric in the study's order, then by arm
    planned: int  # comparisons in the primary metric
    seeds_needed: int  # the fewest with which so many comparisons can have a verdict
    failures: list[Failure]
    missing: list[tuple[str, int]]  # arm and seed of trials without a result
    damaged: list[str]  # files that could not be trusted, one line each
    provenance: dict[str, dict[str, int]]  # fact -> value -> number of trials
    data: dict[str, dict[str, int]]  # declared version and digests found -> value -> number of trials
    finished: tuple[str, str] | None  # first and last end of a trial, UTC
    seconds: float  # training and evaluation, over all trials
    images: int  # in the evaluation split; 0 when images were not resampled
    published: Published | None

    @property
    def primary(self) -> str:
        """The metric that verdicts are about."""
        return self.study.metrics[0]

    @property
    def control(self) -> Row:
        return self.rows[0]

    @property
    def any_weights(self) -> bool:
        """Whether any arm starts from a checkpoint."""
        return any(row.start != SCRATCH for row in self.rows)

    @property
    def planned_trials(self) -> int:
        return sum(len(row.ids) for row in self.rows)

    @property
    def drawn(self) -> list[Row]:
        """The arms that figures show; tables have all."""
        return self.rows[:MOST_DRAWN]

    @property
    def drawn_note(self) -> str:
        """What a caption says of the arms that its figure leaves out, with a space before it; empty if none."""
        more = len(self.rows) > MOST_DRAWN
        return f" Drawn are the first {MOST_DRAWN} of {len(self.rows):,} arms." if more else ""

    def comparisons_in(self, metric: str) -> list[Comparison]:
        """The comparisons of one metric, in the order of the arms."""
        return [comparison for comparison in self.comparisons if comparison.metric == metric]

    @property
    def ends(self) -> list[float]:
        """Both ends of the primary metric's intervals: rounding in a report must not move them to 0."""
        effects = [comparison.effect for comparison in self.comparisons_in(self.primary)]
        return [end for effect in effects for end in (effect.low, effect.high)]

    @property
    def mixed(self) -> dict[str, list[str]]:
        """What the numbers do not have in common: states of the code, kinds of device, versions of torch."""
        found = {name: list(self.provenance.get(fact, {})) for fact, name in ALIKE.items()}
        return {name: values for name, values in found.items() if len(values) > 1}


def gather(study: Study, store: Store, *, images: bool = True) -> Evidence:
    """The evidence of a study at one scale, from a results folder. `images=False` leaves out resampling.

    Raises:
        StudyError: arms are evaluated by different protocols, or the study names an unknown published table.
        StoreError: results of one data set were made from different files.
        PartError: a part that no shelf has.
    """
    trials, shelf = expand(study), store.read()
    results = {trial.id: shelf.results[trial.id] for trial in trials if trial.id in shelf.results}
    refuse_different_protocols(study, trials)
    refuse_different_data(results.values())
    table = published(study.paper) if study.paper else None
    by_arm: dict[tuple[str, ...], list[Trial]] = {}
    for trial in trials:
        by_arm.setdefault(tuple(trial.arm.values()), []).append(trial)
    control = trials[0].arm
    rows = [_row(study, control, mine, results, table) for mine in by_arm.values()]
    images_of = TestImages(trials[0].recipe, _stored(store, results), draws=study.name) if images else None
    ends = sorted(result.finished for result in results.values() if result.finished)
    return Evidence(
        study=study,
        recipe=trials[0].recipe,
        varied=varied(study),
        one_recipe=one_recipe(study, trials),
        unlike_starts=unlike_starts(study, trials),
        rows=rows,
        comparisons=_comparisons(study, rows, images_of),
        planned=len(contrasts(study)),
        seeds_needed=stats.seeds_needed(len(contrasts(study))),
        failures=_failures(study, trials, results),
        missing=[(label(study, trial.arm), trial.seed) for trial in trials if trial.id not in results],
        damaged=[line.replace(f"{store.place.name}/", "") for line in shelf.damaged],
        provenance=_tally(result.env for result in results.values()),
        data=_tally({"version": r.data_version or "undeclared"} | r.data_digest for r in results.values()),
        finished=(ends[0], ends[-1]) if ends else None,
        seconds=sum(result.seconds for result in results.values()),
        images=images_of.count if images_of else 0,
        published=table if any(row.published for row in rows) else None,
    )


def _stored(store: Store, results: Mapping[str, Result]) -> Callable[[str], Arrays]:
    return lambda trial: store.statistics(results[trial].id)


def _row(
    study: Study, control: Arm, trials: list[Trial], results: Mapping[str, Result], table: Published | None
) -> Row:
    """The row of the arm that all of these trials belong to."""
    arm, recipe = trials[0].arm, trials[0].recipe
    ids = {trial.seed: trial.id for trial in trials}
    found = {seed: results[trial] for seed, trial in ids.items() if trial in results}
    scores = {
        metric: {seed: result.scores[metric] for seed, result in found.items() if _has_score(result, metric)}
        for metric in study.metrics
    }
    names = arm.values() if arm == control else [label(study, arm)]
    return Row(
        arm=arm,
        label=label(study, arm),
        is_control=arm == control,
        ids=ids,
        scores=scores,
        summaries={metric: stats.summary(list(values.values())) for metric, values in scores.items()},
        curves={seed: result.curve for seed, result in found.items() if result.curve},
        cost=_cost([result.cost for result in found.values() if result.cost]),
        published=next((table.levels[name] for name in names if name in table.levels), None) if table else None,
        start=starts_from(recipe),
    )


def _has_score(result: Result, metric: str) -> bool:
    return result.status == "done" and math.isfinite(result.scores.get(metric, math.nan))


def _cost(costs: list[Cost]) -> Cost | None:
    if not costs:
        return None
    speed, memory = median(cost.images_per_second for cost in costs), max(cost.peak_memory for cost in costs)
    return costs[0].model_copy(update={"images_per_second": speed, "peak_memory": memory})


def _comparisons(study: Study, rows: list[Row], images: TestImages | None) -> list[Comparison]:
    by_arm = {tuple(row.arm.items()): row for row in rows}
    control, *others = (by_arm[tuple(arm.items())] for arm in arms(study))
    found = [_compare(control, row, metric, images) for metric in study.metrics for row in others]
    k = len(others)
    raw = [comparison.effect.p for comparison in found[:k]]
    adjusted = stats.holm(raw)
    smallest = [stats.smallest_p_beside(raw[:at] + raw[at + 1 :], c.effect.n) for at, c in enumerate(found[:k])]
    tested = [
        _judge(c, p_holm=float(p), smallest=s, comparisons=k)
        for c, p, s in zip(found[:k], adjusted, smallest, strict=True)
    ]
    return tested + found[k:]


def _compare(control: Row, row: Row, metric: str, images: TestImages | None) -> Comparison:
    seeds = [seed for seed in control.scores[metric] if seed in row.scores[metric]]
    low, high = NO_INTERVAL
    if images:
        low, high = images.interval([control.ids[s] for s in seeds], [row.ids[s] for s in seeds], metric)
    return Comparison(
        level=row.label,
        control=control.label,
        metric=metric,
        effect=stats.paired(*([arm.scores[metric][seed] for seed in seeds] for arm in (control, row))),
        image_low=low,
        image_high=high,
        p_holm=math.nan,
        smallest_p=math.nan,
        detectable=math.nan,
        verdict=None,
    )


def _judge(comparison: Comparison, *, p_holm: float, smallest: float, comparisons: int) -> Comparison:
    effect = comparison.effect
    return replace(
        comparison,
        p_holm=p_holm,
        smallest_p=smallest,
        detectable=stats.minimum_detectable(effect.sd_diff, effect.n, comparisons=comparisons),
        verdict=stats.verdict(effect, p_holm, smallest=smallest),
    )


def _failures(study: Study, trials: list[Trial], results: Mapping[str, Result]) -> list[Failure]:
    failures = []
    for trial in trials:
        result = results.get(trial.id)
        if result is None or _has_score(result, study.metrics[0]):
            continue
        unscored = result.status == "done"
        status = "no score" if unscored else result.status
        reason = f"{study.metrics[0]} is not a finite number" if unscored else result.reason
        failures.append(Failure(trial.id, label(study, trial.arm), trial.seed, status, reason))
    return failures


def _tally(facts: Iterable[Mapping[str, str]]) -> dict[str, dict[str, int]]:
    """How many trials share each value of each fact."""
    counts: dict[str, Counter[str]] = {}
    for trial in facts:
        for fact, value in trial.items():
            counts.setdefault(fact, Counter())[value] += 1
    return {fact: dict(values.most_common()) for fact, values in counts.items()}
