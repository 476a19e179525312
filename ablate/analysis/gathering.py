"""From a study and a results folder to its evidence.

Results of one data set that were made from different files are refused.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from ablate.analysis import stats
from ablate.analysis.breakdown import Read, breakdowns, pictured
from ablate.analysis.cautions import cautions, together
from ablate.analysis.evidence import Comparison, Evidence, Failure, Row
from ablate.analysis.judging import compared
from ablate.analysis.resample import TestImages
from ablate.analysis.rule import doubts, rule_of
from ablate.beside import Evaluated, evaluations, speeds
from ablate.storage import RESULT, Arrays, Cost, Result, Store, kept_plans, kind_of, left_out, refuse_different_data
from ablate.study import (
    Arm,
    Design,
    Published,
    Recipe,
    Study,
    differences,
    one_recipe,
    published,
    refuse_different_protocols,
    starts_from,
    unlike_starts,
    varied,
)


def gather(
    design: Design,
    store: Store,
    *,
    images: bool = True,
    at: Store | None = None,
    data: Path | None = None,
    pictures: bool = False,
) -> Evidence:
    """The evidence of a study at one scale, from a results folder. `images=False` reads no per-image statistics,
    which leaves out intervals over test images and what is said of classes and joints. `at` is a place that
    the results will be copied to, and be known to lie in. `data` holds the data sets, whose test images are shown where
    the set allows it or, with `pictures`, the caller.

    It is of one kind of device: the store's, where it is of one, or else of which there are more results.

    Raises:
        StudyError: arms are evaluated by different protocols, or the study names an unknown published table.
        StoreError: results of one data set were made from different files.
        PartError: a part that no shelf has.
    """
    study, everything = design.study, store.of(None).read()
    kind = kind_of(study, design.trials, everything, store.kind)
    store, shelf = store.of(kind), everything.of(kind)
    results = {trial.id: shelf.results[trial.id] for trial in design.trials if trial.id in shelf.results}
    refuse_different_protocols(design)
    arms_of = {name: design.on(name) for name in design.sets}
    for arms in arms_of.values():
        ids = {trial.id for arm in arms for trial in arm.trials}
        refuse_different_data(result for trial, result in results.items() if trial in ids)
    table = published(study.paper) if study.paper else None
    documents = {trial: (at or store).name(result.id, RESULT) for trial, result in results.items()}
    rows = [_row(design, arm, results, documents, table) for arm in design.arms]
    recipes, stored = {name: arms[0].recipe for name, arms in arms_of.items()}, _stored(store, results)
    images_of = {
        name: TestImages(recipe, stored, draws=study.name, wanted=study.metrics) for name, recipe in recipes.items()
    }
    if not images and study.population == "seeds":
        images_of = {}
    ends = sorted(result.finished for result in results.values() if result.finished)
    planned = len(design.contrasts)
    plans, damaged = kept_plans.read(store, study.name, study.scale)
    stands = kept_plans.standing(design, plans)
    primary = study.metrics[0]
    rule, failures = rule_of(design), _failures(design, results, documents)
    comparisons = compared(study, rows, design.contrasts, rule, images_of, stands.seeds)
    lost = Counter(failure.arm for failure in failures)
    rows_of = {name: [row for row in rows if row.dataset == name] for name in design.sets}
    own_of = {name: [c for c in comparisons[:planned] if c.datasets == (name,)] for name in design.sets}
    done = {
        name: {row.label: {seed: row.ids[seed] for seed in row.scores[primary]} for row in own}
        for name, own in rows_of.items()
    }
    wanted = _wanted(design, comparisons[:planned], stands.seeds)
    evaluated, untrusted = _evaluated(store, recipes.values(), results)
    measured, unread = speeds.of_arms(store.place, {arm.label: arm.recipe for arm in design.arms})
    return Evidence(
        study=study,
        recipe=design.control.recipe,
        varied=varied(study),
        one_recipe=one_recipe(design),
        command=_command(study),
        unlike_starts=unlike_starts(design),
        device=kind,
        left_out=left_out(design.trials, everything, kind),
        rows=rows,
        cautions=together([cautions(own, own_of[name], primary, lost=lost) for name, own in rows_of.items()]),
        breakdowns=[
            found
            for name, of_arm in (done.items() if images else ())
            for found in breakdowns(recipes[name], {arm: list(ids.values()) for arm, ids in of_arm.items()}, stored)
        ],
        pictured=[
            found
            for name, of_arm in (done.items() if images else ())
            for found in pictured(recipes[name], of_arm, Read(stored, _kept(store, results)), primary, data, pictures)
        ],
        comparisons=comparisons,
        choices=design.choices,
        planned=planned,
        rule=rule,
        doubts=[
            line
            for name, own in rows_of.items()
            for line in doubts(rule, {row.label: row.scores[primary] for row in own}, [c.effect for c in own_of[name]])
        ],
        failures=failures,
        missing=[
            (label, trial.seed)
            for trial in design.trials
            if trial.id not in results and trial.seed in wanted[label := design.arm(trial).label]
        ],
        damaged=[line.replace(f"{store.place.name}/", "") for line in shelf.damaged + damaged + untrusted + unread],
        provenance=_tally(result.env | _plugins(result) for result in results.values()),
        data=_tally({"version": r.data_version or "undeclared"} | r.data_digest for r in results.values()),
        imported={
            trial: f"from {result.imported.source} on {result.imported.when}"
            for trial, result in results.items()
            if result.imported
        },
        finished=(ends[0], ends[-1]) if ends else None,
        seconds=sum(result.seconds for result in results.values()),
        images=sum(found.count for found in images_of.values()),
        drawn_together=" and ".join(found.drawn for found in images_of.values() if found.drawn),
        published=table if any(row.published for row in rows) else None,
        results=results,
        place=(at or store).place.address,
        standing=stands,
        evaluations=evaluated,
        speeds=measured,
    )


def _wanted(design: Design, comparisons: list[Comparison], deciding: Sequence[int]) -> dict[str, set[int]]:
    """The seeds that each arm is to be trained with: all, or with looks those up to the next one that it takes part in,
    and the control's as long as any comparison with it is undecided."""
    if not design.study.looks:
        return {arm.label: set(design.study.seeds) for arm in design.arms}
    until = {arm.label: 0 for arm in design.arms}
    for contrast, found in zip(design.contrasts, comparisons, strict=True):
        for label in contrast.weights:
            until[label] = max(until[label], found.until or 0)
    return {label: set(deciding[:count]) for label, count in until.items()}


def _stored(store: Store, results: Mapping[str, Result]) -> Callable[[str], Arrays]:
    """The statistics of a trial by its id, read once."""
    return cache(lambda trial: store.statistics(results[trial].id))


def _kept(store: Store, results: Mapping[str, Result]) -> Callable[[str], list[dict[str, Any]] | None]:
    """The predictions of a trial by its id, where they were kept."""
    return lambda trial: store.predictions(results[trial].id)


def _evaluated(
    store: Store, recipes: Iterable[Recipe], results: Mapping[str, Result]
) -> tuple[list[Evaluated], list[str]]:
    """The evaluations of single networks on the study's data sets, and what of them could not be trusted."""
    digests = {result.data_digest["val"] for result in results.values() if "val" in result.data_digest}
    pairs = [evaluations.of_study(store.place, recipe, digests) for recipe in recipes]
    unique = {one.id: one for found, _ in pairs for one in found}
    return list(unique.values()), pairs[0][1] if pairs else []


def _command(study: Study) -> str:
    scale = f" --scale {study.scale}" if study.scale and study.scale != study.default_scale else ""
    return f"ablate run {study.file or study.name}{scale}"


def _row(
    design: Design,
    arm: Arm,
    results: Mapping[str, Result],
    documents: Mapping[str, str],
    table: Published | None,
) -> Row:
    study, control = design.study, design.control_of(arm)
    ids = {trial.seed: trial.id for trial in arm.trials}
    found = {seed: results[trial] for seed, trial in ids.items() if trial in results}
    scores = {
        metric: {seed: result.scores[metric] for seed, result in found.items() if _has_score(result, metric)}
        for metric in study.metrics
    }
    names = (arm.label, *arm.bare) if arm.dataset == design.sets[0] else ()  # a table is of one data set
    return Row(
        label=arm.label,
        levels=arm.levels,
        dataset=arm.dataset,
        recipe=arm.recipe,
        is_control=arm is control,
        ids=ids,
        scores=scores,
        summaries={metric: stats.summary(list(values.values())) for metric, values in scores.items()},
        curves={seed: result.curve for seed, result in found.items() if result.curve},
        cost=_cost([result.cost for result in found.values() if result.cost]),
        published=next((table.levels[name] for name in names if name in table.levels), None) if table else None,
        start=starts_from(arm.recipe),
        epochs=arm.recipe.train.epochs,
        differs=differences(arm.recipe, (design.control if arm is control else control).recipe),
        documents={seed: documents[ids[seed]] for seed in found},
    )


def _has_score(result: Result, metric: str) -> bool:
    return result.status == "done" and math.isfinite(result.scores.get(metric, math.nan))


def _cost(costs: list[Cost]) -> Cost | None:
    if not costs:
        return None
    speed, memory = median(cost.images_per_second for cost in costs), max(cost.peak_memory for cost in costs)
    return costs[0].model_copy(update={"images_per_second": speed, "peak_memory": memory})


def _failures(design: Design, results: Mapping[str, Result], documents: Mapping[str, str]) -> list[Failure]:
    failures, metric = [], design.study.metrics[0]
    for trial in design.trials:
        result = results.get(trial.id)
        if result is None or _has_score(result, metric):
            continue
        unscored = result.status == "done"
        status = "no score" if unscored else result.status
        reason = f"{metric} is not a finite number" if unscored else result.reason
        arm, document = design.arm(trial).label, documents[trial.id]
        failures.append(Failure(trial.id, arm, trial.seed, status, reason, result.traceback, document))
    return failures


def _plugins(result: Result) -> dict[str, str]:
    return {f"plugin {plugin.name}": f"digest {plugin.digest}" for plugin in result.plugins.values()}


def _tally(facts: Iterable[Mapping[str, str]]) -> dict[str, dict[str, int]]:
    """How many trials share each value of each fact."""
    counts: dict[str, Counter[str]] = {}
    for trial in facts:
        for fact, value in trial.items():
            counts.setdefault(fact, Counter())[value] += 1
    return {fact: dict(values.most_common()) for fact, values in counts.items()}
