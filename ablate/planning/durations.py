"""How long trials take, and in which order to launch them: from what ran here before, else from their MACs.

Times rest, in this order, on trials of this machine in the results folder, on a training step timed here, or, for
GPUs that this machine does not have, on an assumption that the plan states.
"""

import bisect
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence

from ablate.datasets import build_dataset
from ablate.errors import one_line
from ablate.machine import origin
from ablate.network import cost
from ablate.planning.arm_costs import arm_prices
from ablate.planning.schedule import longest_first
from ablate.storage import Cost, Result, Shelf
from ablate.study import Design, Recipe, Study, Trial
from ablate.tasks import build_protocol, build_task, passes

GPU_MACS = 4e12  # multiply-adds a second that training sustains on a data-centre GPU: an assumption, stated as one
GPU_STEP = 0.1  # seconds that a step takes besides: its images, and its kernels' launches, .08 to .13 on an H100
TRAIN_FACTOR = 3  # a training step computes about three forward passes
WORTH_TIMING = 4e12  # training MACs of a run, some minutes of one core: timing a step takes a second or two
UNTIMED = "no trial has run here yet, and the run was too short to time a step for"
TIMED_MACS = 4e10  # a step that needs more is not timed: planning must stay quick


def launch_order(design: Design, trials: list[Trial], shelf: Shelf) -> list[Trial]:
    """The trials longest first, so that none is left to run alone at the end; nothing is timed for it.

    Durations within a tenth of each other keep the design's order, seeds outermost: predictions are no better than
    that, and an unfinished study has then all of its arms with the same seeds.
    """
    if len(trials) < 2:
        return trials
    seconds, _ = of_trials(design, trials, shelf, timed=False)
    return [trials[index] for index in longest_first([seconds[trial.id] for trial in trials])]


def of_trials(
    design: Design, trials: list[Trial], shelf: Shelf, *, timed: bool | None = None
) -> tuple[dict[str, float], str]:
    """Seconds of each of these trials, and in words what they rest on; nan where nothing tells.

    Unless it is said, a step is timed only for a run that takes minutes: small studies are not to wait for it.
    """
    costs = [price.cost for price in arm_prices(design)]

    def found(*, timed: bool) -> tuple[dict[str, float], str]:
        seconds, basis = durations(design, costs, shelf, timed=timed)
        by_arm = {arm.label: of_one for arm, of_one in zip(design.arms, seconds, strict=True)}
        return {trial.id: by_arm[design.arm(trial).label] for trial in trials}, basis

    seconds, basis = found(timed=bool(timed))
    if timed is not None or basis != UNTIMED:
        return seconds, basis
    if sum(seconds.values()) * GPU_MACS > WORTH_TIMING:
        return found(timed=True)
    return dict.fromkeys(seconds, math.nan), basis


def durations(design: Design, costs: Sequence[Cost], shelf: Shelf, *, timed: bool = True) -> tuple[list[float], str]:
    """Seconds of one trial of each arm, and in words what they rest on; nan where nothing tells.

    Without `timed` no training step is run: on CPUs where no trial has run yet, seconds are right but for a factor.
    """
    study, recipes = design.study, [arm.recipe for arm in design.arms]
    counts = image_counts(design.control.recipe)
    if counts is None:
        return [math.nan] * len(costs), "the data set declares no number of images, so no time can be predicted"
    known = Known(study, shelf)
    if known.trials:
        rates = [known.rate(recipe, price) for recipe, price in zip(recipes, costs, strict=True)]
        basis = f"{known.trials} trial{'s' * (known.trials != 1)} of this kind of machine"
    elif study.budget.gpus or not timed:
        team = study.budget.team
        step = GPU_STEP if study.budget.gpus else 0.0
        rates = [_assumed_rate(r, price, team=team, step=step) for r, price in zip(recipes, costs, strict=True)]
        assumed = f"an assumed {GPU_MACS / 1e12:g} TMAC/s on each GPU and {GPU_STEP:g} s a step besides"
        basis = f"{assumed}, for no trial has run here yet" if study.budget.gpus else UNTIMED
    else:
        rates, basis = _timed_rates(design, costs)
    seconds = [
        known.seconds(recipe) or _samples(study, recipe, image_counts(recipe) or counts) / rate
        for recipe, rate in zip(recipes, rates, strict=True)
    ]
    return seconds, basis


def _samples(study: Study, recipe: Recipe, counts: tuple[int, int]) -> float:
    """How many training samples a trial costs, its evaluations among them."""
    train, val = counts
    return recipe.train.epochs * train + _evaluations(study, recipe) * val * _evaluation_share(recipe)


def image_counts(recipe: Recipe) -> tuple[int, int] | None:
    """Declared numbers of training and evaluation samples; None where nobody has declared them.

    Of a part of the training images, each is taken to have as many samples as the others.
    """
    info = build_dataset(recipe.dataset).info
    sizes = build_task(recipe.task).sample_counts(info)
    if not sizes:
        return None
    train, wanted = sizes["train"], recipe.train.images
    images, kept = info.images["train"] if info.images else train, 1 - recipe.train.held_out
    chosen = train * min(1, (wanted or images) / images)
    return max(1, round(kept * chosen)), sizes["val"] if kept == 1 else max(1, round((1 - kept) * chosen))


def _evaluation_share(recipe: Recipe) -> float:
    """What predicting a sample costs, in training samples: forward only, on the whole image, by the task's protocol."""
    return passes(build_protocol(recipe.task, recipe.evaluation)) / TRAIN_FACTOR / _crop_share(recipe)


def _evaluations(study: Study, recipe: Recipe) -> int:
    """How often a trial is evaluated."""
    return len(recipe.train.evaluated_after(study.budget.evaluate_every))


def _crop_share(recipe: Recipe) -> float:
    """How much of an evaluated image, for which costs are quoted, a training sample shows, by area."""
    seen, evaluated = (math.prod(cost.input_size(recipe, training=training)) for training in (True, False))
    return seen / evaluated


class Known:
    """What finished trials on this kind of machine tell of others."""

    def __init__(self, study: Study, shelf: Shelf) -> None:
        self.trials = 0
        seconds, rates = defaultdict(list), defaultdict(list)
        by_macs: dict[float, list[float]] = defaultdict(list)
        for result in _comparable(study, shelf):
            assert result.cost
            rate = statistics.median(row.images_per_second for row in result.curve)
            rates[_network(result.recipe)].append(rate)
            by_macs[result.cost.macs].append(rate * result.cost.macs * _crop_share(result.recipe))
            seconds[result.recipe.model_dump_json()].append(result.seconds)
            self.trials += 1
        self._seconds = {recipe: statistics.median(values) for recipe, values in seconds.items()}
        self._rates = {network: statistics.median(values) for network, values in rates.items()}
        self._by_macs = sorted((macs, statistics.median(values)) for macs, values in by_macs.items())

    def seconds(self, recipe: Recipe) -> float | None:
        """Of the same recipe with other seeds."""
        return self._seconds.get(recipe.model_dump_json())

    def rate(self, recipe: Recipe, price: Cost) -> float:
        """Training images per second: of the same network where it ran, else of the nearest in MACs, scaled."""
        if same := self._rates.get(_network(recipe)):
            return same
        at = bisect.bisect(self._by_macs, (price.macs, 0.0))
        nearest = min(self._by_macs[max(0, at - 1) : at + 1], key=lambda entry: abs(entry[0] - price.macs))
        return nearest[1] / (price.macs * _crop_share(recipe))


def _assumed_rate(recipe: Recipe, price: Cost, *, team: int, step: float) -> float:
    """Training images per second of so many GPUs together, each of whose steps takes `step` s besides its MACs."""
    computed = TRAIN_FACTOR * price.macs * _crop_share(recipe) / (team * GPU_MACS)
    return 1 / (computed + step / recipe.train.batch)


def _network(recipe: Recipe) -> tuple[str, str, str]:
    return recipe.model.model_dump_json(), recipe.task.model_dump_json(), recipe.train.precision


def _comparable(study: Study, shelf: Shelf) -> list[Result]:
    """Finished trials of this kind of machine, with as many processes."""
    threads, processor = str(max(1, int(study.budget.cpus))), origin.processor()
    return [
        result
        for result in shelf.everything
        if result.status == "done" and result.cost and result.curve
        if result.env.get("processor") == processor and result.env.get("threads") == threads
        if (result.env.get("device") == "cpu") == (study.budget.gpus == 0)
        if (result.env.get("share of the GPU", "1") != "1") == (study.budget.share or 0 < study.budget.gpus < 1)
        if result.env.get("processes", "1") == str(study.budget.team)
    ]


def _timed_rates(design: Design, costs: Sequence[Cost]) -> tuple[list[float], str]:
    study, control = design.study, design.control.trials[0]
    macs = [price.macs * _crop_share(arm.recipe) for arm, price in zip(design.arms, costs, strict=True)]
    batch = min(control.recipe.train.batch, max(2, int(TIMED_MACS / (TRAIN_FACTOR * macs[0]))))  # 2: normalisation
    try:
        rate = _time_step(control, batch, threads=max(1, int(study.budget.cpus)))
    except (RuntimeError, ValueError, ArithmeticError) as error:  # the trials will say so too, as results
        return [math.nan] * len(macs), f"a training step of the control failed ({one_line(error)})"
    rates = [study.budget.team * rate * macs[0] / own for own in macs]
    return rates, f"one training step of the control timed here ({batch} images), scaled by MACs"


def _time_step(trial: Trial, batch: int, *, threads: int) -> float:
    """Images per second of a training step on random pictures, the second of two; the update of the weights, a few per
    cent of a step, is left out, for the first optimiser of a process imports torch's compiler: a third of a plan."""
    import torch

    from ablate.network.build import build
    from ablate.training.updates import prepare

    torch.set_num_threads(threads)
    spec = trial.recipe.train
    layout = torch.channels_last if spec.memory_format == "channels_last" else torch.contiguous_format
    net = build(trial.recipe).train().to(memory_format=layout)
    prepare(net, spec)
    images = torch.rand(batch, 3, *cost.input_size(trial.recipe, training=True)).contiguous(memory_format=layout)
    seconds = math.nan
    for _ in range(2):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=spec.precision == "bf16"):
            output = net(images)
        torch.stack([leaf.float().square().mean() for leaf in cost.leaves(output)]).sum().backward()
        net.zero_grad()
        seconds = time.perf_counter() - start
    return batch / seconds
