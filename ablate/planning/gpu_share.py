"""How many trials fit on one GPU: of each, by its predicted memory, a fraction such as 1/2, 1/3 or 1/4."""

from collections import Counter

from ablate.network import cost
from ablate.study import Recipe, Trial

MARGIN = 1.2  # times the estimate, which leaves out the loss, passing results and the workspace of kernels
CONTEXT = 3 * 2**28  # bytes that a process's CUDA context and libraries take beside torch's own memory
MOST = 8  # trials on one device: more of them only wait for each other's kernels
ASSUMED = 80 * 2**30  # bytes of a GPU, for plans


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
