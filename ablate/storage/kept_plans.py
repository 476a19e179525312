"""The plans of a study, kept with its results from its first run on: what was asked before the scores were known.

results/asked/<study>/<digest>.json   one plan each, never changed; another plan lies beside it
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ValidationError

from ablate.errors import DamagedError, PartError, StoreError
from ablate.machine import fingerprint
from ablate.storage.result import Result
from ablate.storage.store import Store
from ablate.study import FROZEN, Arm, Design, Plugin, Recipe, Study, trial_keys

FOLDER = "asked"
MOST = 3  # plans that sentences tell of before they only count
NO_PLAN = "No plan is stored with these results: nothing tells whether seeds, arms and metric were chosen before."


class KeptPlan(BaseModel):
    """What a study asked and how it was to be answered. More results of the same plan change nothing in it."""

    model_config = FROZEN
    scale: str  # of the study; empty where it has none
    arms: dict[str, str]  # label -> digest of all that its trials are but seed and tuned values; the control first
    metric: str  # the primary one
    contrasts: list[str]  # labels of the planned comparisons
    rule: dict[str, str | float | list[int]]  # how verdicts come about: the test, pairing, looks ...
    seeds: list[int]  # rising, but with looks or e-values in the order in which they are trained
    when: str  # it was stored: UTC, ISO 8601
    known: int  # how many of its trials had a result then, whatever they were tuned to and scored in
    known_seeds: list[int] | None = None  # of these; None in plans of before this was stored

    @property
    def digest(self) -> str:
        """Of what defines the question: equal for equal plans, whenever they were stored."""
        return fingerprint(self.model_dump(exclude={"when", "known", "known_seeds"}), digits=16)


def asked(design: Design, *, results: Mapping[str, Result]) -> KeptPlan:
    """The plan of a study as its file has it now; `results` are those that there are, by trial id."""
    study, known = design.study, _known(design, results)
    return KeptPlan(
        scale=study.scale,
        arms={arm.label: _digest(arm) for arm in _untuned(design).arms},
        metric=study.metrics[0],
        contrasts=[contrast.label for contrast in design.contrasts],
        rule=_rule(study),
        seeds=study.seeds if study.looks or study.testing == "e_value" else sorted(study.seeds),
        when=datetime.now(UTC).isoformat(timespec="milliseconds"),
        known=len(known),
        known_seeds=sorted(set(known)),
    )


def _untuned(design: Design) -> Design:
    """The arms before any tries: what is asked is to tune them by the rule, whatever they choose."""
    study = design.study
    return Design(study.model_copy(update={"tune": None})) if study.tune and not design.trying else design


def _known(design: Design, results: Mapping[str, Result]) -> list[int]:
    """The seed of each trial that has a result. Other metrics and other tuned values give a trial another id and make
    no other question of it."""
    tuned, seeds = tuple(design.study.tune.knobs) if design.study.tune else (), set(design.study.seeds)
    ended = {(one.seed, _trained_by(one, tuned)) for one in results.values() if one.seed in seeds}
    arms = [(arm, _trained_in(arm, tuned)) for arm in design.arms]
    return [t.seed for arm, trained in arms for t in arm.trials if t.id in results or (t.seed, trained) in ended]


def _trained_by(result: Result, tuned: Iterable[str]) -> str:
    recipe = result.recipe
    with suppress(PartError):  # of a part that is on no shelf any more
        recipe = recipe.filled()
    return _trained(recipe, tuned, result.data_version, result.meanings, result.plugins)


def _trained_in(arm: Arm, tuned: Iterable[str]) -> str:
    return _trained(arm.recipe, tuned, arm.trials[0].data_version, arm.recipe.meanings(()), arm.recipe.plugins(()))


def _trained(
    recipe: Recipe,
    tuned: Iterable[str],
    version: str | None,
    meanings: Mapping[str, int],
    plugins: Mapping[str, Plugin],
) -> str:
    """A digest of what a trial trains, but for its seed and the paths that are tuned; metrics have no say."""
    document = recipe.model_dump(mode="json")
    for path in (*tuned, "weights.file"):
        *parts, last = path.split(".")
        within = document
        for part in parts:
            within = within.get(part) or {}
        within.pop(last, None)
    numbers = {role: number for role, number in meanings.items() if not role.startswith("metric ")}
    code = {role: plugin.digest for role, plugin in plugins.items() if not role.startswith("metric ")}
    return fingerprint([document, version, numbers, code])


def _rule(study: Study) -> dict[str, str | float | list[int]]:
    """What is not as it is by default."""
    rule = {
        "test": study.testing, "looks": study.looks, "margin": study.margin, "pairing": study.pairing,
        "population": study.population, "tune": study.tune.said if study.tune else None,
    }  # fmt: skip
    return {name: value for name, value in rule.items() if value is not None and value not in ("sign_flip", "seeds")}


def _digest(arm: Arm) -> str:
    """Metrics have no say in it: which one is primary stands beside the arms."""
    recipe, version = arm.recipe, arm.trials[0].data_version
    return next(trial_keys(recipe, 0, version, recipe.meanings(()), recipe.plugins(())))


def keep(store: Store, design: Design, results: Mapping[str, Result]) -> None:
    """Store the plan of a study unless it is there. `results` are those that there are, by trial id.

    Raises:
        StoreError: it cannot be written.
    """
    plan = asked(design, results=results)
    name = f"{FOLDER}/{design.study.name}/{plan.digest}.json"
    if store.place.read(name) is None:
        store.place.write(name, _sealed(plan))


def read(store: Store, study: str) -> tuple[list[KeptPlan], list[str]]:
    """The plans of a study, the oldest first, and one line for each document that could not be trusted."""
    plans, damaged = [], []
    for _, plan in _each(store, study):
        if isinstance(plan, StoreError):
            damaged.append(str(plan))
        else:
            plans.append(plan)
    return sorted(plans, key=lambda plan: (plan.when, plan.digest)), damaged


def copy(source: Store, target: Store, study: str) -> None:
    """Put the plans of a study, as they are, where others will find them; one that is there stays.

    Raises:
        StoreError: the target cannot be written.
    """
    for name, plan in _each(source, study):
        if isinstance(plan, KeptPlan) and target.place.read(name) is None:
            target.place.write(name, _sealed(plan))


def studies(store: Store) -> list[str]:
    """The names of the studies whose plans lie there."""
    return store.place.children(FOLDER)


def _each(store: Store, study: str) -> Iterator[tuple[str, KeptPlan | StoreError]]:
    folder = f"{FOLDER}/{study}"
    for name, content in store.place.read_many(f"{folder}/{name}" for name in store.place.children(folder)):
        if content is not None and name.endswith(".json"):
            yield name, content if isinstance(content, StoreError) else _plan(store, name, content)


def _plan(store: Store, name: str, content: bytes) -> KeptPlan | StoreError:
    try:
        document: Any = json.loads(content)
        plan = KeptPlan.model_validate(document["plan"])
        if document["checksum"] != fingerprint(document["plan"]) or not name.endswith(f"/{plan.digest}.json"):
            raise ValueError("the checksum does not match")
    except (ValueError, KeyError, TypeError, RecursionError, ValidationError):
        return DamagedError(f"{store.place.name}/{name}: damaged; it is no plan that was stored here")
    return plan


def _sealed(plan: KeptPlan) -> bytes:
    body = plan.model_dump(mode="json")
    return json.dumps({"checksum": fingerprint(body), "plan": body}, indent=1).encode()


@dataclass(frozen=True)
class Standing:
    """How a study stands to the plans that are kept with its results."""

    sentences: list[str]  # for the answer; empty where all is as planned
    seeds: tuple[int, ...]  # that its verdicts rest on
    added: bool  # whether these are fewer than all, because others were known when they were added
    planned: str  # when this very plan was stored, in a sentence; empty where it was not


def standing(design: Design, plans: list[KeptPlan], results: Mapping[str, Result]) -> Standing:
    """From the study as its file has it, the plans that are kept, the oldest first, and the results, by trial id.
    Another scale that trains the same arms has asked the same question."""
    now, seeds = asked(design, results=results), tuple(design.study.seeds)
    alike = [plan for plan in plans if set(plan.arms.values()) & set(now.arms.values())]
    if not alike:
        return Standing([NO_PLAN], seeds, added=False, planned="")
    own = next((plan for plan in alike if plan.digest == now.digest), None)
    earlier = [plan for plan in alike if own is None or (plan.when, plan.digest) < (own.when, own.digest)]
    later = [plan for plan in alike if plan is not own and plan not in earlier]
    blind, anytime = own is not None and _blind(own, earlier), _anytime(now, earlier)
    deciding = _deciding([*earlier, own or now], planned=own is not None)
    fresh = tuple(seed for seed in seeds if seed in deciding)
    added = 0 < len(fresh) < len(seeds)
    sentences = _departures(now, earlier, blind=blind) + _later(now, later)
    if anytime and earlier and not blind:
        sentences.append(
            "All seeds decide: the test has been an e-value from the first one on, which takes more at any time."
        )
    if added:
        sentences.append(
            f"Verdicts rest on the {_seeds(fresh)} alone: the others were known when seeds were added. "
            "The estimate from all of them has no verdict."
        )
    elif own is not None and own.known and not earlier:
        total = len(own.arms) * len(own.seeds)
        sentences.append(f"The plan was stored when {own.known} of its {total} trials already had a result.")
    return Standing(sentences, fresh if added else seeds, added, _stored(own))


def _blind(plan: KeptPlan, earlier: list[KeptPlan]) -> bool:
    """Whether a plan was made when no score was known; where another tuning was planned before, nothing tells."""
    return not plan.known and all(plan.rule.get("tune") == before.rule.get("tune") for before in earlier)


def _anytime(plan: KeptPlan, earlier: list[KeptPlan]) -> bool:
    """Whether it goes on with an e-value, which takes more seeds at any time."""
    return plan.rule.get("test") == "e_value" and all(_goes_on(before, plan) for before in earlier)


def _deciding(plans: list[KeptPlan], *, planned: bool) -> set[int]:
    """The seeds that the verdicts of the last plan rest on, from all, the oldest first. `planned`: it is stored."""
    decided: list[set[int]] = []
    for at, plan in enumerate(plans):
        earlier, stored = plans[:at], planned or at + 1 < len(plans)
        if not earlier or (stored and _blind(plan, earlier)) or _anytime(plan, earlier):
            decided.append(set(plan.seeds))
        else:
            decided.append(_left(plan, earlier, decided))
    return decided[-1]


def _left(plan: KeptPlan, earlier: list[KeptPlan], decided: list[set[int]]) -> set[int]:
    """Where a plan adds seeds to the one before it, those that were not known; else, whatever was changed, those that
    decided under the last plan that has any of them."""
    seeds = set(plan.seeds)
    added = seeds - set(earlier[-1].seeds)
    if added and (fresh := seeds - _seen(plan, earlier)):
        return fresh
    return next((seeds & one for one in reversed(decided) if one & (added or seeds)), seeds)


def _seen(own: KeptPlan, earlier: list[KeptPlan]) -> set[int]:
    """The seeds of earlier plans that had a result when this one was made: planned and not trained is not seen. Of a
    plan that tuned otherwise nothing tells which had one."""
    if own.known_seeds is None:
        return {seed for plan in earlier for seed in plan.seeds}
    known, tuned = set(own.known_seeds), own.rule.get("tune")
    return {seed for plan in earlier for seed in plan.seeds if seed in known or plan.rule.get("tune") != tuned}


def _goes_on(old: KeptPlan, new: KeptPlan) -> bool:
    """Whether a plan is an earlier one with further seeds behind its own."""
    alike = {"scale": "", "seeds": [], "when": "", "known": 0, "known_seeds": None}
    same = old.model_copy(update=alike) == new.model_copy(update=alike)
    return same and new.seeds[: len(old.seeds)] == old.seeds


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
    renamed = _renamed(old, new)
    said = [f"the scale was {old.scale or 'none'} and is {new.scale or 'none'}"] * (old.scale != new.scale)
    said += [f"the arm {was} is called {now}" for was, now in renamed.items()]
    replaced = [label for label in old.arms if label in renamed.values() and label not in renamed]
    said += [f"the arm that was called {label} was dropped" for label in replaced]
    before = {renamed.get(label, label): arm for label, arm in old.arms.items() if label not in replaced}
    for what, ours, theirs in (("added", new.arms, before), ("dropped", before, new.arms)):
        more, fewer = (new, old) if what == "added" else (old, new)
        if seeds := [seed for seed in more.seeds if seed not in fewer.seeds]:
            said.append(f"{_seeds(seeds)} {'was' if len(seeds) == 1 else 'were'} {what}")
        if arms := [label for label in ours if label not in theirs]:
            said.append(f"{_arms(arms)} {'was' if len(arms) == 1 else 'were'} {what}")
    if changed := [label for label, arm in new.arms.items() if before.get(label, arm) != arm]:
        said.append(f"{_arms(changed)} {'trains' if len(changed) == 1 else 'train'} otherwise")
    if next(iter(before)) != next(iter(new.arms)):
        said.append(f"the control was {next(iter(before))} and is {next(iter(new.arms))}")
    if old.metric != new.metric:
        said.append(f"the primary metric was {old.metric} and is {new.metric}")
    said += _compared(old, new, renamed) if set(before) == set(new.arms) else []
    if old.seeds != new.seeds and set(old.seeds) == set(new.seeds):
        said.append("the order of the seeds, in which they decide, is another one")
    for name in {**old.rule, **new.rule}:
        was, now = (_value(name, plan.rule.get(name)) for plan in (old, new))
        if was != now:
            said.append(f"{name} was {was} and is {now}")
    return said or ["the order of its parts changed"]


def _renamed(old: KeptPlan, new: KeptPlan) -> dict[str, str]:
    """The labels of arms that train as before and are called otherwise, from the old one to the new one."""
    labels = {arm: label for label, arm in new.arms.items()}
    return {label: labels[arm] for label, arm in old.arms.items() if labels.get(arm, label) != label}


def _compared(old: KeptPlan, new: KeptPlan, renamed: Mapping[str, str]) -> list[str]:
    """How comparisons of the same arms differ, by their labels."""
    if len(old.contrasts) != len(new.contrasts):
        return [f"{len(old.contrasts)} comparisons were planned and {len(new.contrasts)} are made"]
    if sorted(renamed.get(label, label) for label in old.contrasts) == sorted(new.contrasts):
        return []
    return [f"compared were {'; '.join(old.contrasts[:MOST])} and are {'; '.join(new.contrasts[:MOST])}"]


def _value(name: str, value: object) -> str:
    """A part of the rule in words; what is not there is as it is by default."""
    if value is None:
        return {"test": "sign_flip", "pairing": "seeds", "population": "seeds"}.get(name, "none")
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


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
