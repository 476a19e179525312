"""From a study and a results folder to its evidence.

Results of one data set that were made from different files are refused.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from statistics import median

from ablate.analysis import stats
from ablate.analysis.evidence import Comparison, Evidence, Failure, Row
from ablate.analysis.resample import NO_INTERVAL, TestImages
from ablate.errors import StoreError
from ablate.storage import Arrays, Cost, Result, Store
from ablate.study import (
    Arm,
    Published,
    Study,
    Trial,
    arms,
    contrasts,
    expand,
    label,
    one_recipe,
    published,
    refuse_different_protocols,
    starts_from,
    unlike_starts,
    varied,
)


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


def refuse_different_data(results: Iterable[Result]) -> None:
    """A data set without a declared version may lie in different states on two machines.

    Raises:
        StoreError: two results of one data set were made from different files.
    """
    seen: dict[tuple[str, str], tuple[str, Result]] = {}
    for result in results:
        part = result.recipe.dataset.model_dump_json()
        for split, digest in result.data_digest.items():
            known, other = seen.setdefault((part, split), (digest, result))
            if known != digest:
                raise StoreError(
                    f"trials {other.id} and {result.id} used different files as {split} split "
                    f"({known} and {digest}): their scores are not comparable"
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
