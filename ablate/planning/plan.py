"""What a study would train, before anything is trained: trials, cost, time, and what its seeds can show.

What a trial costs is found in arm_costs.py, how long it takes in durations.py, when all are done in schedule.py.
"""

import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ablate.analysis import LAST, Shown
from ablate.errors import StudyError
from ablate.planning import arm_costs, gpu_share
from ablate.planning.durations import durations
from ablate.planning.power import power
from ablate.planning.schedule import Cluster, Forecast, Job, forecast, longest_first, makespan
from ablate.storage import Cost, Result, Shelf, Store, kept_plans, kind_to_train, left_out, little_trained
from ablate.study import (
    Arm,
    Design,
    Recipe,
    Study,
    Trial,
    beside_published,
    check_study,
    one_recipe,
    starts_from,
    unlike_starts,
)

MOST_DEVICES = 64  # that makespans are given for, unasked


@dataclass(frozen=True)
class ArmPlan:
    """One arm's line: how many of its trials exist, what a trial costs."""

    label: str
    start: str  # where its backbone's weights come from
    cost: Cost
    counted: bool  # else the cost's MACs are an estimate, and there is nothing more
    planned: int
    done: int
    failed: int
    seconds: float  # one trial, predicted; nan when nothing tells
    saved_every: float  # seconds of training between saved states


@dataclass(frozen=True)
class Plan:
    """All that is known of a study before it runs."""

    design: Design
    arms: list[ArmPlan]
    missing: list[Trial]
    tuning: "Plan | None"  # that of the tries, which run first; None where nothing is tuned
    results: Mapping[str, Result]  # all of the results folder, by trial id
    damaged: list[str]
    basis: str  # where the seconds come from
    estimated: str  # how many costs are estimates, and how near, in a sentence
    parallel: int  # trials at once that the times assume
    standing: kept_plans.Standing  # to the plans that are kept: which seeds decide
    power: list[str]  # sentences
    curves: str  # what would tell whether scores still rise at the end, in a sentence; empty where the budget does
    one_recipe: str  # whether all arms share one recipe of training, in a sentence
    unlike_starts: str  # where arms start from other weights than the control, unasked, in a sentence
    left_out: str  # how many results are of another kind of device, in a sentence; empty where none are
    space: str  # what a trial takes of memory and disk, in a sentence
    published: str  # what differs from the published recipes, in a sentence; empty where the study stands for none

    def __repr__(self) -> str:
        return self._shown().text()

    def _repr_html_(self) -> str:
        return self._shown().html()

    def _shown(self) -> Shown:
        rows = [
            {
                "arm": arm.label, "trials": arm.planned, "done": arm.done, "failed": arm.failed,
                "params (M)": arm.cost.parameters / 1e6 if arm.counted else math.nan, "GMACs": arm.cost.macs / 1e9,
                "a trial (s)": arm.seconds,
            }
            for arm in self.arms
        ]  # fmt: skip
        scale = f", {self.study.scale}" if self.study.scale else ""
        planned, hours = sum(arm.planned for arm in self.arms), self.makespan_hours
        time = f", about {hours:.2g} hours with {self.parallel} at once" if math.isfinite(hours) and hours else ""
        return Shown(f"{self.study.name}{scale}: {len(self.missing)} of {planned} trials to run{time}.", rows)

    @property
    def study(self) -> Study:
        """What is planned."""
        return self.design.study

    @property
    def little_trained(self) -> str:
        """Whose parameters get a gradient only for the smaller part, in a sentence; empty if nobody's."""
        return little_trained((arm.label, arm.cost) for arm in self.arms)

    @property
    def lopsided(self) -> str:
        """Whose networks are lopsided, and how, in a sentence; empty if nobody's."""
        return arm_costs.lopsided(self.design)

    @property
    def trial_hours(self) -> float:
        """Hours of trials still to run, one after the other."""
        return sum(arm.seconds * (arm.planned - arm.done - arm.failed) for arm in self.arms) / 3600

    @property
    def steps(self) -> "list[Plan]":
        """What runs one after the other: the tries, where arms are tuned, and the trials for the verdict."""
        return [*([self.tuning] if self.tuning else []), self]

    @property
    def makespan_hours(self) -> float:
        """Hours until all are done, `parallel` at once, in the order of their launch; nan when nothing tells."""
        jobs = self.jobs()
        return makespan(jobs, Cluster(devices=self.parallel)) / 3600 if jobs is not None else math.nan

    def jobs(self, devices: float = 1) -> list[Job] | None:
        """The trials still to run as they will be launched; None where their times are unknown."""
        arms = {arm.label: arm for arm in self.arms}
        waiting = [arms[self.design.arm(trial).label] for trial in self.missing]
        if not all(math.isfinite(arm.seconds) for arm in waiting):
            return None
        order = longest_first([arm.seconds for arm in waiting])
        return [Job(waiting[index].seconds, devices, waiting[index].saved_every) for index in order]


def plan(design: Design, store: Store) -> Plan:
    """Check, price and time a study. What counts as done is of one kind of device: the store's, where it is of one, or
    else that which `run` would complete.

    Raises:
        StudyError, PartError: one line with the key and the nearest valid choice.
    """
    check_study(design)
    study, everything = design.study, store.of(None).read()
    kind = store.kind or kind_to_train(study, design.trials, everything)
    shelf = everything.of(kind)
    priced = arm_costs.arm_prices(design)
    seconds, basis = durations(design, [price.cost for price in priced], everything)
    stands = kept_plans.standing(design, kept_plans.read(store, study.name)[0], shelf.results)
    return Plan(
        design=design,
        arms=[_row(study, *line, shelf) for line in zip(design.arms, priced, seconds, strict=True)],
        missing=store.missing(design.trials, shelf=shelf),
        tuning=plan(design.tries, store) if design.tries else None,
        results=shelf.results,
        damaged=shelf.damaged,
        basis=basis,
        estimated=arm_costs.sentence(priced),
        parallel=at_once(study),
        standing=stands,
        power=power(design, shelf, stands),
        curves=_curves(design),
        one_recipe=one_recipe(design),
        unlike_starts=unlike_starts(design),
        left_out=left_out(design.trials, everything, kind),
        space=gpu_share.of_a_trial(design, priced),
        published=beside_published(design),
    )


def _row(study: Study, arm: Arm, price: arm_costs.ArmPrice, seconds: float, shelf: Shelf) -> ArmPlan:
    ended = Counter(shelf.results[trial.id].status == "done" for trial in arm.trials if trial.id in shelf.results)
    return ArmPlan(
        label=arm.label,
        start=starts_from(arm.recipe),
        cost=price.cost,
        counted=price.counted,
        planned=len(arm.trials),
        done=ended[True],
        failed=ended[False],
        seconds=seconds,
        saved_every=_saved_every(study, arm.recipe, seconds),
    )


def at_once(study: Study) -> int:
    """Trials that run at the same time on this machine, as far as the study tells."""
    if study.budget.gpus:
        return study.budget.parallel or 1  # how many GPUs there will be is not known here
    fits = max(1, int((os.cpu_count() or 1) // study.budget.devices))
    return min(fits, study.budget.parallel or fits)


def device_counts(study: Study, trials: int, nodes: int) -> list[int]:
    """Devices of a node: powers of two, from what one trial needs to what all need at once, at most 64."""
    share = study.budget.devices
    counts = [2**power for power in range(int(math.log2(MOST_DEVICES)) + 1)]
    most = max(1, min(trials, study.budget.parallel or trials)) * share / nodes
    return [count for count in counts if count >= share and (count < 2 * most or count == 1)]


def forecast_on(
    made: Plan, *, devices: int, nodes: int = 1, preempted_every: float = math.inf, back_after: float = 0.0
) -> Forecast | None:
    """When all is done on so many nodes with so many devices each: GPUs, or CPUs of a study that needs no GPU.

    Tries come first, and all of them. Times are in seconds. None where those of trials are unknown.

    Raises:
        StudyError: a trial does not fit, or its saved states are too far apart for such preemptions.
    """
    budget = made.study.budget
    share = budget.devices
    if share > devices * nodes:
        raise StudyError(f"--devices {devices}: a trial needs {share:g} (budget), there are {devices * nodes}")
    spanned = math.ceil(share / devices)  # nodes that one trial needs; it is hit by what hits any of them
    per_node = devices * spanned
    if not budget.gpus:  # CPUs are not told apart, so trials may take one and a half
        per_node, share = int(per_node / share + 1e-9), 1
    cluster = Cluster(nodes // spanned, per_node, preempted_every / spanned, back_after, budget.parallel or math.inf)
    jobs = [step.jobs(share) for step in made.steps]
    try:
        ends = [forecast(step, cluster) for step in jobs if step is not None]
    except ValueError as error:
        raise StudyError(f"--preempted-every: {error}; see budget.checkpoint_minutes") from None
    if len(ends) < len(jobs):
        return None
    return Forecast(sum(e.seconds for e in ends), sum(e.low for e in ends), sum(e.high for e in ends))


def _curves(design: Design) -> str:
    """Two scores in the last quarter of training, the final one among them, are what a slope takes."""
    every, last = design.study.budget.evaluate_every, min(arm.recipe.train.epochs for arm in design.arms)
    if last < 2 or (every and any(epoch >= LAST * last for epoch in range(every, last, every))):
        return ""
    if last - 1 < LAST * last:
        why = f"{last} epochs are too few for two evaluations in the last quarter of training."
    else:
        why = f"budget.evaluate_every: {max(1, last // 4)} would evaluate twice in the last quarter of training."
    return f"Whether scores still rise at the end will not be known: {why}"


def _saved_every(study: Study, recipe: Recipe, seconds: float) -> float:
    """A state is saved at the end of an epoch, once the budget's time has gone by since the last."""
    epoch = seconds / recipe.train.epochs
    if not epoch > 0:
        return math.inf
    return epoch * max(1, math.ceil(60 * study.budget.checkpoint_minutes / epoch))
