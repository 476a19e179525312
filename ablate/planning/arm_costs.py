"""What each arm of a study costs, where arms are too many for every network to be built.

Building and counting a network takes a twentieth to a quarter of a second. A full factorial design of a thousand
networks is therefore counted level by level: each factor's levels with all other factors at their controls. The cost of
a combination follows as if its levels' ratios multiplied, and some combinations are counted to tell how nearly that is.
`run` builds them all before it trains.
"""

import math
from dataclasses import dataclass

from ablate.errors import StudyError, one_line
from ablate.network import cost
from ablate.network.probe import probe
from ablate.storage import Cost
from ablate.study import Design, Levels, Recipe

MOST_COUNTED = 64  # networks
PROBES = 8  # combinations that are counted to tell how near the others are
NAMED = 3  # arms in a sentence
_PRICED: dict[str, tuple[Cost, cost.Lopsided]] = {}  # by network; a run orders its trials by cost, then checks them


@dataclass(frozen=True)
class ArmPrice:
    """One arm's cost; if not counted, its MACs are estimated and nothing else is known."""

    cost: Cost
    counted: bool = True
    gap: float = 0.0  # where combinations are estimated, of one counted too: MACs as estimated / as counted - 1


def arm_prices(design: Design) -> list[ArmPrice]:
    """The costs of all arms of a study, in their order.

    Raises:
        StudyError: an impossible combination of knobs, in the model's own words.
    """
    study, arms = design.study, design.arms
    if study.design != "full_factorial" or len({network_key(arm.recipe) for arm in arms}) <= MOST_COUNTED:
        return [ArmPrice(counted(arm.recipe, arm.levels, file=study.file)) for arm in arms]
    control = design.control.levels
    changed = [[(name, level) for name, level in arm.levels.items() if level != control[name]] for arm in arms]
    combined = [at for at, levels in enumerate(changed) if len(levels) > 1]
    probes = set(combined[:: max(1, len(combined) // PROBES)][:PROBES])
    costs = {
        at: counted(arms[at].recipe, arms[at].levels, file=study.file)
        for at, levels in enumerate(changed)
        if len(levels) <= 1 or at in probes
    }
    base = costs[0].macs
    by_level = {levels[0]: costs[at].macs for at, levels in enumerate(changed) if len(levels) == 1}
    prices = []
    for at, levels in enumerate(changed):
        macs = round(base * math.prod(by_level[level] / base for level in levels))
        if at in costs:
            prices.append(ArmPrice(costs[at], gap=macs / costs[at].macs - 1))
        else:
            prices.append(ArmPrice(Cost(parameters=0, used_parameters=0, macs=macs), counted=False))
    return prices


def counted(recipe: Recipe, levels: Levels, *, file: str = "") -> Cost:
    """The cost of an arm's network, built on the meta device once in this process.

    Raises:
        StudyError: an impossible combination of knobs, in the model's own words.
        PartError: a plug-in that does not keep its contract; what its own code raises is raised as it is.
    """
    network = network_key(recipe)
    if network not in _PRICED:
        probe(recipe)
        try:
            _PRICED[network] = cost.priced(recipe)
        except (ValueError, RuntimeError) as error:
            arm = ", ".join(f"{name}={level}" for name, level in levels.items())
            where = f"{file}: " if file else ""
            raise StudyError(f"{where}recipe.model: arm {arm}: {one_line(error)}") from None
    return _PRICED[network][0]


def lopsided(design: Design) -> str:
    """What is out of proportion in the networks counted in this process, in a sentence; empty if nothing is."""
    keys = [(arm.label, network_key(arm.recipe)) for arm in design.arms]
    found = [(label, _PRICED[network][1]) for label, network in keys if network in _PRICED]
    faults = []
    for stage in dict.fromkeys(one.stage for _, one in found if one.stage):
        shares = {label: f"{100 * one.share:.0f}" for label, one in found if one.stage == stage}
        low, high = min(shares.values(), key=int), max(shares.values(), key=int)
        span = high if low == high else f"{low} to {high}"
        faults.append(f"{stage} take{'s' * (' and ' not in stage)} {span} % of the multiply-adds of {_few([*shares])}")
    for channels, outputs in dict.fromkeys(one[2:] for _, one in found if one.outputs):
        labels = [label for label, one in found if one[2:] == (channels, outputs)]
        faults.append(f"{outputs} outputs are computed from {channels} channels in {_few(labels)}")
    return f"Lopsided networks: {'; '.join(faults)}. See docs/laptop.md." if faults else ""


def _few(labels: list[str]) -> str:
    return ", ".join(labels[:NAMED]) + (f" and {len(labels) - NAMED} more arms" if len(labels) > NAMED else "")


def network_key(recipe: Recipe) -> str:
    """Equal for recipes whose networks cost the same, and have the modules that are frozen, or lack them."""
    return recipe.model_copy(
        update={"train": type(recipe.train)(frozen=recipe.train.frozen), "weights": None}
    ).model_dump_json()


def sentence(prices: list[ArmPrice]) -> str:
    """How many arms' costs were estimated, and how nearly; empty if none was."""
    estimated = sum(not price.counted for price in prices)
    if not estimated:
        return ""
    worst = 100 * max(abs(price.gap) for price in prices)
    return (
        f"The networks of {len(prices) - estimated} arms were counted; the MACs of the other {estimated} follow from "
        f"those of their levels (off by up to {worst:.0f} % in {PROBES} combinations that were counted too)."
    )
