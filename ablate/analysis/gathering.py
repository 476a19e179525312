"""From a study and a results folder to its evidence.

Results of one data set that were made from different files are refused.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from statistics import median
from typing import Any

from ablate.analysis import stats
from ablate.analysis.breakdown import Breakdown, Pictured, Read, breakdowns, pictured
from ablate.analysis.cautions import cautions, together
from ablate.analysis.evidence import Comparison, Evidence, Failure, Row
from ablate.analysis.judging import compared
from ablate.analysis.resample import TestImages
from ablate.analysis.rule import Rule, doubts, rule_of
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
    refuse_different_protocols(design)
    study, found = design.study, _found(design, store)
    results, primary = found.results, study.metrics[0]
    documents = {trial: (at or store).name(result.id, RESULT) for trial, result in results.items()}
    table = published(study.paper) if study.paper else None
    rows = [_row(design, arm, results, documents, table) for arm in design.arms]
    drawn = _images(design, found) if images or study.population != "seeds" else {}
    plans, unread_plans = kept_plans.read(found.store, study.name)
    stands = kept_plans.standing(design, plans, results)
    rule = rule_of(design).of_added(len(stands.seeds))
    comparisons = compared(study, rows, design.contrasts, rule, drawn, stands.seeds)
    planned, failures = comparisons[: len(design.contrasts)], _failures(design, results, documents)
    sets = [_set(design, name, rows, planned) for name in design.sets]
    lost = Counter(failure.arm for failure in failures)
    wanted = _wanted(design, planned, stands.seeds)
    evaluated, untrusted = _evaluated(found.store, [one.recipe for one in sets], results)
    measured, unread_speeds = speeds.of_arms(found.store.place, {arm.label: arm.recipe for arm in design.arms})
    unread = found.damaged + unread_plans + untrusted + unread_speeds
    return Evidence(
        study=study,
        recipe=design.control.recipe,
        varied=varied(study),
        one_recipe=one_recipe(design),
        command=_command(study),
        unlike_starts=unlike_starts(design),
        device=found.kind,
        left_out=found.left_out,
        rows=rows,
        cautions=together([cautions(one.rows, one.planned, primary, lost=lost) for one in sets]),
        breakdowns=[part for one in sets if images for part in one.breakdowns(found)],
        pictured=[picture for one in sets if images for picture in one.pictured(found, primary, data, pictures)],
        comparisons=comparisons,
        choices=design.choices,
        planned=len(planned),
        rule=rule,
        doubts=[doubt for one in sets for doubt in one.doubts(rule, primary)],
        failures=failures,
        missing=[
            (label, trial.seed)
            for trial in design.trials
            if trial.id not in results and trial.seed in wanted[label := design.arm(trial).label]
        ],
        damaged=[line.replace(f"{store.place.name}/", "") for line in unread],
        images=sum({one.files or name: one.count for name, one in drawn.items()}.values()),
        drawn_together=" and ".join(dict.fromkeys(one.drawn for one in drawn.values() if one.drawn)),
        published=table if any(row.published for row in rows) else None,
        results=results,
        tries=found.tries,
        place=(at or store).place.address,
        standing=stands,
        evaluations=evaluated,
        speeds=measured,
    )


@dataclass(frozen=True)
class _Found:
    """What a store holds for a design, of one kind of device."""

    store: Store
    kind: str
    results: Mapping[str, Result]  # by trial id
    tries: Mapping[str, Result]  # of `tune`, by trial id
    left_out: str  # of other kinds, in a sentence
    damaged: list[str]

    @cached_property
    def statistics(self) -> Callable[[str], Arrays]:
        """Of a trial by its id, read once."""
        return cache(lambda trial: self.store.statistics(self.results[trial].id))

    def tested(self, trials: Iterable[str]) -> str:
        """The digest of the test images of some trials, which are on one data set; empty where none has a result."""
        there = [self.results[trial].data_digest.get("val", "") for trial in trials if trial in self.results]
        return next(filter(None, there), "")

    def predictions(self, trial: str) -> list[dict[str, Any]] | None:
        """Of a trial by its id, where they were kept."""
        return self.store.predictions(self.results[trial].id)


def _found(design: Design, store: Store) -> _Found:
    """The results of one kind of device, and of each data set from the same files."""
    everything = store.of(None).read()
    kind = kind_of(design.study, design.trials, everything, store.kind)
    shelf = everything.of(kind)
    results = {trial.id: shelf.results[trial.id] for trial in design.trials if trial.id in shelf.results}
    for name in design.sets:
        ids = {trial.id for arm in design.on(name) for trial in arm.trials}
        refuse_different_data(result for trial, result in results.items() if trial in ids)
    tried = design.tries.trials if design.tries else []
    tries = {trial.id: shelf.results[trial.id] for trial in tried if trial.id in shelf.results}
    return _Found(store.of(kind), kind, results, tries, left_out(design.trials, everything, kind), list(shelf.damaged))


def _images(design: Design, found: _Found) -> dict[str, TestImages]:
    """The test images of each data set, to be drawn anew."""
    study = design.study
    return {
        name: TestImages(
            design.on(name)[0].recipe,
            found.statistics,
            draws=study.name,
            wanted=study.metrics,
            files=found.tested(trial.id for arm in design.on(name) for trial in arm.trials),
        )
        for name in design.sets
    }


@dataclass(frozen=True)
class _Set:
    """One of the study's data sets."""

    recipe: Recipe  # of its control
    rows: list[Row]
    planned: list[Comparison]
    scored: dict[str, dict[int, str]]  # arm -> seed -> id, of trials with the primary score

    def breakdowns(self, found: _Found) -> list[Breakdown]:
        return breakdowns(self.recipe, {arm: list(ids.values()) for arm, ids in self.scored.items()}, found.statistics)

    def pictured(self, found: _Found, primary: str, data: Path | None, allowed: bool) -> list[Pictured]:
        read = Read(found.statistics, found.predictions)
        return pictured(self.recipe, self.scored, read, primary, data, allowed)

    def doubts(self, rule: Rule, primary: str) -> list[str]:
        scores = {row.label: row.scores[primary] for row in self.rows}
        return doubts(rule, scores, [comparison.effect for comparison in self.planned])


def _set(design: Design, name: str, rows: Iterable[Row], planned: Iterable[Comparison]) -> _Set:
    own, primary = [row for row in rows if row.dataset == name], design.study.metrics[0]
    scored = {row.label: {seed: row.ids[seed] for seed in row.scores[primary]} for row in own}
    return _Set(design.on(name)[0].recipe, own, [one for one in planned if one.datasets == (name,)], scored)


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
