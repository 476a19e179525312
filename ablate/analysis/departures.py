"""Whether a study is what was planned before its scores were known, and which of its seeds may decide.

A test at 5 % is spent when its seeds have been looked at. Seeds that are added later are a new test, and its verdict
rests on them alone: 8 seeds, then all 32, both at 5 %, would find a difference that is not there in 8.7 % of studies.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ablate.storage import KeptPlan, kept_plans
from ablate.study import Design

MOST = 3  # plans that sentences tell of before they only count
NO_PLAN = "No plan is stored with these results: nothing tells whether seeds, arms and metric were chosen before."


@dataclass(frozen=True)
class Standing:
    """How a study stands to the plans that are kept with its results."""

    sentences: list[str]  # for the answer; empty where all is as planned
    seeds: tuple[int, ...]  # that its verdicts rest on
    added: bool  # whether these are fewer than all, because others were known when they were added
    planned: str  # when this very plan was stored, in a sentence; empty where it was not


def standing(design: Design, plans: list[KeptPlan]) -> Standing:
    """From the study as its file has it and the plans that are kept, the oldest first."""
    now, seeds = kept_plans.asked(design), tuple(design.study.seeds)
    alike = [plan for plan in plans if set(plan.arms.values()) & set(now.arms.values())]
    if not alike:
        return Standing([NO_PLAN], seeds, added=False, planned="")
    own = next((plan for plan in alike if plan.digest == now.digest), None)
    earlier = [plan for plan in alike if own is None or (plan.when, plan.digest) < (own.when, own.digest)]
    later = [plan for plan in alike if plan is not own and plan not in earlier]
    blind = own is not None and not own.known  # planned when no score was known
    seen = set() if blind else {seed for plan in earlier for seed in plan.seeds}
    fresh = tuple(seed for seed in seeds if seed not in seen)
    added = 0 < len(fresh) < len(seeds)
    sentences = _departures(now, earlier, blind=blind) + _later(now, later)
    if added:
        sentences.append(
            f"Verdicts rest on the {_seeds(fresh)} alone: the others were known when these were added. "
            "The estimate from all of them has no verdict."
        )
    elif own is not None and own.known and not earlier:
        total = len(own.arms) * len(own.seeds)
        sentences.append(f"The plan was stored when {own.known} of its {total} trials already had a result.")
    return Standing(sentences, fresh if added else seeds, added, _stored(own))


def _stored(own: KeptPlan | None) -> str:
    if own is None:
        return ""
    before = "before any of its trials had a result" if not own.known else f"when {own.known} trials had a result"
    return f"The plan {own.digest} was stored on {_date(own)}, {before}."


def _departures(now: KeptPlan, earlier: list[KeptPlan], *, blind: bool) -> list[str]:
    when = ", before any result of the new plan was known" if blind else ""
    lines = [f"Departs from the plan of {_date(plan)}{when}: {'; '.join(_differences(plan, now))}." for plan in earlier]
    return lines[:MOST] + [f"There are {len(lines) - MOST} more earlier plans."] * (len(lines) > MOST)


def _later(now: KeptPlan, later: list[KeptPlan]) -> list[str]:
    lines = [f"Another plan was made on {_date(plan)}: {'; '.join(_differences(now, plan))}." for plan in later]
    return lines[:MOST] + [f"There are {len(lines) - MOST} more later plans."] * (len(lines) > MOST)


def _differences(old: KeptPlan, new: KeptPlan) -> list[str]:
    """What the new plan changes, in words."""
    said = []
    for what, ours, theirs in (("added", new, old), ("dropped", old, new)):
        if seeds := [seed for seed in ours.seeds if seed not in theirs.seeds]:
            said.append(f"{_seeds(seeds)} {'was' if len(seeds) == 1 else 'were'} {what}")
        if arms := [label for label in ours.arms if label not in theirs.arms]:
            said.append(f"{_arms(arms)} {'was' if len(arms) == 1 else 'were'} {what}")
    if changed := [label for label, arm in new.arms.items() if old.arms.get(label, arm) != arm]:
        said.append(f"{_arms(changed)} {'trains' if len(changed) == 1 else 'train'} otherwise")
    if old.metric != new.metric:
        said.append(f"the primary metric was {old.metric} and is {new.metric}")
    if set(old.arms) == set(new.arms) and old.contrasts != new.contrasts:
        said.append(f"{len(old.contrasts)} comparisons were planned and {len(new.contrasts)} are made")
    return said or ["the order of its parts changed"]


def _date(plan: KeptPlan) -> str:
    return f"{plan.when[:16].replace('T', ' ')} UTC"


def _arms(labels: list[str]) -> str:
    shown = labels[:MOST] + [f"{len(labels) - MOST} more"] * (len(labels) > MOST)
    joined = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
    return f"{'the arm' if len(labels) == 1 else 'the arms'} {joined}"


def _seeds(seeds: Iterable[int]) -> str:
    """Seeds in words, runs of them by their ends: seeds 0 to 7, 9 and 12."""
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    words = [f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    words = words[:MOST] + ["others"] * (len(words) > MOST)
    joined = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    return f"seed{'s' * (len(runs) > 1 or len(runs[0]) > 1)} {joined}"
