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
from ablate.storage import Cost
from ablate.study import Arm, Recipe, Study, Trial

MOST_COUNTED = 64  # networks
PROBES = 8  # combinations that are counted to tell how near the others are
_PRICED: dict[str, Cost] = {}  # by network, for this process: a run orders its trials by cost, then checks them


@dataclass(frozen=True)
class ArmPrice:
    """One arm's cost; if not counted, its MACs are estimated and nothing else is known."""

    cost: Cost
    counted: bool = True
    gap: float = 0.0  # where combinations are estimated, of one counted too: MACs as estimated / as counted - 1


def arm_prices(study: Study, trials: list[Trial]) -> list[ArmPrice]:
    """The costs of all arms of a study, from one trial of each.

    Raises:
        StudyError: an impossible combination of knobs, in the model's own words.
    """
    networks = {trial.id: network_key(trial.recipe) for trial in trials}
    if study.design != "full_factorial" or len(set(networks.values())) <= MOST_COUNTED:
        costs = price_arms(trials, file=study.file)
        return [ArmPrice(costs[trial.id]) for trial in trials]
    control = study.control
    single = [trial for trial in trials if len(_changed(trial.arm, control)) <= 1]
    combined = [trial for trial in trials if len(_changed(trial.arm, control)) > 1]
    probes = combined[:: max(1, len(combined) // PROBES)][:PROBES]
    counted = price_arms(single + probes, file=study.file)
    base = next(counted[trial.id].macs for trial in single if trial.arm == control)
    by_level = {level: counted[trial.id].macs for trial in single for level in _changed(trial.arm, control)}
    prices = []
    for trial in trials:
        macs = _estimated(_changed(trial.arm, control), base, by_level)
        if trial.id in counted:
            prices.append(ArmPrice(counted[trial.id], gap=macs / counted[trial.id].macs - 1))
        else:
            prices.append(ArmPrice(Cost(parameters=0, used_parameters=0, macs=macs), counted=False))
    return prices


def price_arms(trials: list[Trial], *, file: str = "") -> dict[str, Cost]:
    """Build every arm's network on the meta device and price it; by trial id.

    Raises:
        StudyError: an impossible combination of knobs, in the model's own words.
    """
    priced: dict[str, Cost] = {}
    for trial in trials:
        network = network_key(trial.recipe)
        if network not in _PRICED:
            try:
                _PRICED[network] = cost.price(trial.recipe)
            except (ValueError, RuntimeError) as error:
                arm = ", ".join(f"{name}={level}" for name, level in trial.arm.items())
                where = f"{file}: " if file else ""
                raise StudyError(f"{where}recipe.model: arm {arm}: {one_line(error)}") from None
        priced[trial.id] = _PRICED[network]
    return priced


def network_key(recipe: Recipe) -> str:
    """Equal for recipes whose networks cost the same."""
    return recipe.model_copy(update={"train": type(recipe.train)(), "weights": None}).model_dump_json()


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


def _changed(arm: Arm, control: Arm) -> list[tuple[str, str]]:
    return [(name, level) for name, level in arm.items() if level != control[name]]


def _estimated(changed: list[tuple[str, str]], base: int, by_level: dict[tuple[str, str], int]) -> int:
    return round(base * math.prod(by_level[level] / base for level in changed))
