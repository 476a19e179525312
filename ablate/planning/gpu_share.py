"""What trials take beside time: memory and disk, and how many fit on one GPU.

Of a shared GPU each trial gets, by its predicted memory, a fraction such as 1/2, 1/3 or 1/4.
"""

import math
from collections import Counter
from collections.abc import Sequence

from ablate.network import cost
from ablate.planning.arm_costs import ArmPrice
from ablate.study import Arm, Design, Recipe, TrainSpec, Trial

MARGIN = 1.2  # times the estimate, which leaves out the loss, passing results and the workspace of kernels
CONTEXT = 3 * 2**28  # bytes that a process's CUDA context and libraries take beside torch's own memory
MOST = 8  # trials on one device: more of them only wait for each other's kernels
ASSUMED = 80 * 2**30  # bytes of a GPU, for plans
GENERATIONS = 2  # of training states that are kept, and the one that is written
MOMENTS = {"adam": 2, "adamw": 2, "sgd": 1}  # tensors of an optimiser for each parameter


def parts(recipe: Recipe, device: int) -> int:
    """How many such trials a device of so many bytes takes; 1 also for one that is predicted not to fit."""
    needed = MARGIN * cost.training_memory(recipe) + CONTEXT
    return max(1, min(MOST, int(device / needed)))


def shares(trials: list[Trial], device: int) -> dict[str, float]:
    """The fraction of a device of so many bytes that each trial gets, by its id."""
    counts = _of_arms(trials, device)
    return {trial.id: 1 / counts[_arm(trial)] for trial in trials}


def in_words(trials: list[Trial]) -> str:
    """What a plan says of it."""
    of_arm = _of_arms(trials, ASSUMED)
    counts = Counter(of_arm[_arm(trial)] for trial in trials)
    fractions = ", ".join(
        f"{count} trials get {'a whole one' if part == 1 else f'1/{part}'}" for part, count in sorted(counts.items())
    )
    return (
        f"GPUs are shared by predicted memory, {MARGIN:g} times the estimate and {CONTEXT / 2**30:g} GiB each: of "
        f"{ASSUMED / 2**30:g} GiB, assumed here and asked of the nodes in a run, {fractions}."
    )


def _of_arms(trials: list[Trial], device: int) -> dict[tuple[tuple[str, str], ...], int]:
    one_each = {_arm(trial): trial for trial in trials}
    return {arm: parts(trial.recipe, device) for arm, trial in one_each.items()}


def _arm(trial: Trial) -> tuple[tuple[str, str], ...]:
    return tuple(trial.arm.items())


def of_a_trial(design: Design, prices: Sequence[ArmPrice]) -> str:
    """In a sentence, of the arms that take most; empty where no arm was counted."""
    counted = [(arm, price.cost) for arm, price in zip(design.arms, prices, strict=True) if price.counted]
    if not counted:
        return ""
    budget = design.study.budget
    dearest = max(counted, key=lambda pair: pair[1].activations * pair[0].recipe.train.batch)[0]
    memory = MARGIN * cost.training_memory(dearest.recipe) / budget.team + (CONTEXT if budget.gpus else 0)
    largest, parameters = max(((arm, price.parameters) for arm, price in counted), key=lambda pair: pair[1])
    states = (GENERATIONS + 1) * 4 * parameters * _tensors(largest.recipe.train)
    kept = f", and keeps its weights, {_bytes(4 * parameters)}" if budget.keep_weights else ""
    process = "each of its processes" if budget.team > 1 else "a trial"
    device = "GPU memory" if budget.gpus else "memory"
    said = f"{process.capitalize()} takes about {_bytes(memory)} of {device}{_named(dearest, design)}"
    return (
        f"{said}; while it runs, a trial has up to {_bytes(states)} of states on disk{_named(largest, design)}{kept}."
    )


def _tensors(train: TrainSpec) -> int:
    """Of a saved state, for each parameter: the weight, the optimiser's moments, the average."""
    moments = 0 if train.optimizer == "sgd" and not train.momentum else MOMENTS[train.optimizer]
    return 1 + moments + bool(train.ema)


def _named(arm: Arm, design: Design) -> str:
    return f" ({arm.label})" if len(design.arms) > 1 else ""


def _bytes(count: float) -> str:
    power = min(3, int(math.log(max(count, 1), 1024)))
    return f"{count / 1024**power:.3g} {('B', 'KiB', 'MiB', 'GiB')[power]}"
