"""The plans of a study, kept with its results from its first run on: what was asked before the scores were known.

results/asked/<study>/<digest>.json   one plan each, never changed; another plan lies beside it
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ValidationError

from ablate.errors import DamagedError, StoreError
from ablate.machine import fingerprint
from ablate.storage.store import Store
from ablate.study import FROZEN, Arm, Design, trial_keys

FOLDER = "asked"


class KeptPlan(BaseModel):
    """What a study asked and how it was to be answered. More results of the same plan change nothing in it."""

    model_config = FROZEN
    scale: str  # of the study; empty where it has none
    arms: dict[str, str]  # label -> digest of all that its trials are but the seed; the control first
    metric: str  # the primary one
    contrasts: list[str]  # labels of the planned comparisons
    seeds: list[int]  # rising, but with looks in the order in which they are trained
    when: str  # it was stored: UTC, ISO 8601
    known: int  # how many of its trials had a result then

    @property
    def digest(self) -> str:
        """Of what defines the question: equal for equal plans, whenever they were stored."""
        return fingerprint(self.model_dump(exclude={"when", "known"}), digits=16)


def asked(design: Design, *, known: int = 0) -> KeptPlan:
    """The plan of a study as its file has it now; `known` of its trials have a result."""
    study = design.study
    return KeptPlan(
        scale=study.scale,
        arms={arm.label: _digest(arm) for arm in design.arms},
        metric=study.metrics[0],
        contrasts=[arm.label for arm in design.contrasts],
        seeds=sorted(study.seeds),
        when=datetime.now(UTC).isoformat(timespec="milliseconds"),
        known=known,
    )


def _digest(arm: Arm) -> str:
    """Metrics have no say in it: which one is primary stands beside the arms."""
    recipe, version = arm.recipe, arm.trials[0].data_version
    return next(trial_keys(recipe, 0, version, recipe.meanings(()), recipe.plugins(())))


def keep(store: Store, design: Design, *, known: int) -> None:
    """Store the plan of a study unless it is there.

    Raises:
        StoreError: it cannot be written.
    """
    plan = asked(design, known=known)
    name = f"{FOLDER}/{design.study.name}/{plan.digest}.json"
    if store.place.read(name) is None:
        store.place.write(name, _sealed(plan))


def read(store: Store, study: str, scale: str) -> tuple[list[KeptPlan], list[str]]:
    """The plans of a study's scale, the oldest first, and one line for each document that could not be trusted."""
    plans, damaged = [], []
    for _, plan in _each(store, study):
        if isinstance(plan, StoreError):
            damaged.append(str(plan))
        elif plan.scale == scale:
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
