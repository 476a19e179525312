"""The price list of a study, before anything is spent: trials, cost, time, and what its seeds can show.

Times rest, in this order, on trials of this machine in the results folder, on a training step timed here, or, for
GPUs that this machine does not have, on an assumption that the plan states.
"""

import math
import os
import statistics
import time
from dataclasses import dataclass

from ablate import cost, env, registry, stats
from ablate.check import check_study, price_arms
from ablate.comparable import one_recipe, starts_from, unlike_starts
from ablate.design import Arm, contrasts, expand, label
from ablate.result import Cost, Result
from ablate.store import Shelf, Store
from ablate.study import Study
from ablate.trial import Recipe, Trial

GPU_MACS = 4e12  # multiply-adds a second that training sustains on a data-centre GPU: an assumption, stated as one
ONE_POINT = 0.01  # the gap that papers argue about
TRAIN_FACTOR = 3  # a training step computes about three forward passes
TIMED_MACS = 4e10  # a step that needs more is not timed: planning must stay quick


@dataclass(frozen=True)
class ArmPlan:
    """One arm's line: how many of its trials exist, what a trial costs."""

    label: str
    arm: Arm
    start: str  # where its backbone's weights come from
    cost: Cost
    planned: int
    done: int
    failed: int
    seconds: float  # one trial, predicted; nan when nothing tells


@dataclass(frozen=True)
class Plan:
    """All that is known of a study before it runs."""

    study: Study
    arms: list[ArmPlan]
    missing: list[Trial]
    damaged: list[str]
    basis: str  # where the seconds come from
    parallel: int  # trials at once that the times assume
    power: list[str]  # sentences
    one_recipe: str  # whether all arms share one recipe of training, in a sentence
    unlike_starts: str  # where arms start from other weights than the control, unasked, in a sentence

    @property
    def trial_hours(self) -> float:
        """Hours of trials still to run, one after the other."""
        return sum(arm.seconds * (arm.planned - arm.done - arm.failed) for arm in self.arms) / 3600

    @property
    def makespan_hours(self) -> float:
        """Hours until all are done, `parallel` at once: an even share, but no less than the longest trial."""
        waiting = [arm.seconds for arm in self.arms if arm.planned > arm.done + arm.failed]
        longest = max(waiting, default=0.0) / 3600
        return max(self.trial_hours / self.parallel, longest)


def plan(study: Study, store: Store) -> Plan:
    """Expand, check, price and time a study.

    Raises:
        StudyError, PartError: one line with the key and the nearest valid choice.
    """
    check_study(study)
    trials = expand(study)
    shelf = store.read()
    first = [trial for trial in trials if trial.seed == trials[0].seed]
    costs = price_arms(first, file=study.file)
    seconds, basis = _durations(study, first, costs, shelf)
    control = first[0].arm
    rows = []
    for trial in first:
        mine = [shelf.results.get(t.id) for t in trials if t.arm == trial.arm]
        done = sum(result is not None and result.status == "done" for result in mine)
        failed = sum(result is not None and result.status != "done" for result in mine)
        rows.append(
            ArmPlan(
                label(trial.arm, control),
                trial.arm,
                starts_from(trial.recipe),
                costs[trial.id],
                len(mine),
                done,
                failed,
                seconds[trial.id],
            )
        )
    missing = store.missing(trials, shelf=shelf)
    return Plan(
        study,
        rows,
        missing,
        shelf.damaged,
        basis,
        _parallel(study),
        power(study, shelf, trials),
        one_recipe(study, trials),
        unlike_starts(study, trials),
    )


def power(study: Study, shelf: Shelf, trials: list[Trial]) -> list[str]:
    """What the study's seeds can and cannot show, in sentences."""
    n, comparisons = len(study.seeds), len(contrasts(study))
    floor = stats.smallest_p(n, comparisons)
    asked = f"{n} seeds and {comparisons} comparison{'s' * (comparisons > 1)}"
    if not stats.testable(n, comparisons):
        return [
            f"{asked} are not testable: the smallest corrected p is {floor:.3f}; "
            f"{stats.seeds_needed(comparisons)} seeds would be."
        ]
    spread = _spread(study, shelf, trials)
    detectable = stats.minimum_detectable(spread or 1.0, n, comparisons=comparisons)
    unit = "" if spread else " standard deviations of the paired differences"
    known = f" (their standard deviation so far: {spread:.4f})" if spread else ""
    lines = [
        f"{asked} are testable: the smallest corrected p is {floor:.4f}.",
        f"With 80 % power they detect a difference of {detectable:.3g}{unit} in {study.metrics[0]}{known}.",
    ]
    if spread:
        needed = stats.seeds_for(ONE_POINT, spread, comparisons=comparisons)
        lines.append(f"One point ({ONE_POINT}) would take {needed or 'more than a thousand'} seeds.")
    return lines


def image_counts(recipe: Recipe) -> tuple[int, int] | None:
    """Declared numbers of training and evaluation samples; None where nobody has declared them."""
    info = registry.build("dataset", recipe.dataset.name, recipe.dataset.knobs).info
    sizes = registry.build("task", recipe.task.name, recipe.task.knobs).sample_counts(info)
    return (sizes["train"], sizes["val"]) if sizes else None


def _spread(study: Study, shelf: Shelf, trials: list[Trial]) -> float | None:
    """Standard deviation of the paired differences found so far, pooled over the comparisons."""
    values = {
        (tuple(t.arm.items()), t.seed): shelf.results[t.id].scores.get(study.metrics[0], math.nan)
        for t in trials
        if t.id in shelf.results
    }
    variances = []
    for contrast in contrasts(study):
        arm, control = tuple(contrast.arm.items()), tuple(contrast.control.items())
        gaps = [values.get((arm, seed), math.nan) - values.get((control, seed), math.nan) for seed in study.seeds]
        finite = [gap for gap in gaps if math.isfinite(gap)]
        if len(finite) >= 2:
            variances.append(statistics.variance(finite))
    return math.sqrt(statistics.mean(variances)) if variances and max(variances) > 0 else None


def _parallel(study: Study) -> int:
    if study.budget.gpus:
        return study.budget.parallel or 1  # how many GPUs there will be is not known here
    fits = max(1, int((os.cpu_count() or 1) // (study.budget.cpus * study.budget.team)))
    return min(fits, study.budget.parallel or fits)


def _durations(study: Study, trials: list[Trial], costs: dict[str, Cost], shelf: Shelf) -> tuple[dict[str, float], str]:
    """Seconds of one trial per arm, and in words what they rest on."""
    counts = image_counts(study.recipe.settled(on_gpu=study.budget.gpus > 0))
    if counts is None:
        return dict.fromkeys(costs, math.nan), "the data set declares no number of images, so no time can be told"
    known = _known_rates(study, shelf)
    if known:
        rates = {t.id: _from_known(t.recipe, costs[t.id], known) for t in trials}
        basis = f"{len(known)} trials of this machine"
    elif study.budget.gpus:
        rates = {t.id: GPU_MACS / (TRAIN_FACTOR * costs[t.id].macs * _crop_share(t.recipe)) for t in trials}
        basis = f"an assumed {GPU_MACS / 1e12:g} TMAC/s on each GPU, for no trial has run here yet"
    else:
        rates, basis = _timed_rates(study, trials, costs)
    train, val = counts
    return {
        t.id: (t.recipe.train.epochs * train + _evaluations(study, t.recipe) * val * _evaluation_share(t.recipe))
        / rates[t.id]
        / study.budget.team
        for t in trials
    }, basis


def _evaluation_share(recipe: Recipe) -> float:
    """What predicting a sample costs, in training samples: forward only, twice with a flip test, on the whole image."""
    passes = 2 if recipe.evaluation.get("flip") else 1
    area = math.fsum(scale**2 for scale in recipe.evaluation.get("scales", (1.0,)))
    return passes * area / TRAIN_FACTOR / _crop_share(recipe)


def _evaluations(study: Study, recipe: Recipe) -> int:
    """How often a trial is evaluated: at the end, and where the budget asks for a curve after the first epoch too."""
    every, last = study.budget.evaluate_every, recipe.train.epochs
    return 1 + (len({1, *range(every, last, every)} - {last}) if every else 0)


def _crop_share(recipe: Recipe) -> float:
    """How much of an evaluated image, for which costs are quoted, a training sample shows, by area."""
    seen, evaluated = (math.prod(cost.input_size(recipe, training=training)) for training in (True, False))
    return seen / evaluated


def _known_rates(study: Study, shelf: Shelf) -> list[tuple[Result, float]]:
    """Results of this kind of machine with their training images per second and process."""
    threads, processor = str(max(1, int(study.budget.cpus))), env.processor()
    return [
        (
            result,
            statistics.median(row.images_per_second for row in result.curve) / int(result.env.get("processes", "1")),
        )
        for result in shelf.results.values()
        if result.status == "done" and result.cost
        if result.env.get("processor") == processor and result.env.get("threads") == threads
        if (result.env.get("device") == "cpu") == (study.budget.gpus == 0)
    ]


def _from_known(recipe: Recipe, price: Cost, known: list[tuple[Result, float]]) -> float:
    """The rate of the same network at the same batch where it ran, else of the nearest in MACs, scaled."""

    def distance(entry: tuple[Result, float]) -> tuple[bool, float]:
        other = entry[0]
        assert other.cost
        same = other.recipe.model == recipe.model and other.recipe.task == recipe.task
        return (
            not same or other.recipe.train.precision != recipe.train.precision,
            abs(other.cost.macs - price.macs),
        )

    result, rate = min(known, key=distance)
    assert result.cost
    return rate * result.cost.macs * _crop_share(result.recipe) / (price.macs * _crop_share(recipe))


def _timed_rates(study: Study, trials: list[Trial], costs: dict[str, Cost]) -> tuple[dict[str, float], str]:
    control = trials[0]
    step_macs = TRAIN_FACTOR * costs[control.id].macs * _crop_share(control.recipe)  # for one image
    batch = min(control.recipe.train.batch, max(2, int(TIMED_MACS / step_macs)))  # 2: normalisation
    try:
        rate = _time_step(control, batch, threads=max(1, int(study.budget.cpus)))
    except (RuntimeError, ValueError, ArithmeticError) as error:  # the trials will say so too, as results
        return dict.fromkeys(costs, math.nan), f"a training step of the control failed ({' '.join(str(error).split())})"
    macs = {t.id: costs[t.id].macs * _crop_share(t.recipe) for t in trials}
    rates = {t.id: rate * macs[control.id] / macs[t.id] for t in trials}
    return rates, f"one training step of the control timed here ({batch} images), scaled by MACs"


def _time_step(trial: Trial, batch: int, *, threads: int) -> float:
    """Images per second of a training step on random pictures, the second of two."""
    import torch

    from ablate import network
    from ablate.fit import Training

    torch.set_num_threads(threads)
    training = Training(trial, network.build(trial.recipe).train(), torch.device("cpu"))
    images = torch.rand(batch, 3, *cost.input_size(trial.recipe, training=True)).contiguous(
        memory_format=training.layout
    )
    seconds = math.nan
    for _ in range(2):
        start = time.perf_counter()
        with training.autocast():
            output = training.net(images)
        torch.stack([leaf.float().square().mean() for leaf in cost.leaves(output)]).sum().backward()
        training.optimizer.step()
        seconds = time.perf_counter() - start
    return batch / seconds
