"""What the papers and their code published: scores for our questions, and the recipes that led to them, beside ours.

Both are data: published_scores.json has numbers with their source, official_recipes.json what official configurations
and code say, which arm at paper scale stands for which recipe, and why a value of ours is another one.
docs/protocols.py makes docs/protocols.md of the latter.
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, TypeAdapter

from ablate.errors import StudyError, nearest
from ablate.study.design import Arm, Design
from ablate.study.recipe import FROZEN, Recipe

ANY = "*"  # arms or studies that are not named
PAPER = "paper"  # the scale that stands for published rows; further ones have STUDY.SCALE in the facts


class Published(BaseModel):
    """One published table: a number for each level of one factor."""

    model_config = FROZEN
    title: str
    source: str  # paper, and table, figure or section
    protocol: str  # data, network, input size, starting weights: what makes it another experiment than ours
    metric: str
    levels: dict[str, str]  # level label -> the number as printed, in per cent


def published(table: str) -> Published:
    """The table of that name.

    Raises:
        StudyError: no such table.
    """
    tables = _tables()
    if table not in tables:
        raise StudyError(f"paper: no published table {table!r}; {nearest(table, tables)}")
    return tables[table]


def tables() -> list[str]:
    """The names of all published tables."""
    return sorted(_tables())


@cache
def _tables() -> dict[str, Published]:
    text = Path(__file__).with_name("published_scores.json").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, Published]).validate_json(text)


class Value(NamedTuple):
    """One value of a recipe: ours, the official one, and why they differ; no reason where they are equal."""

    path: str  # in the recipe
    ours: Any
    official: Any  # None where nothing is stated
    why: str

    @property
    def equal(self) -> bool:
        return same(self.ours, self.official)


class Protocol(NamedTuple):
    """One arm beside the recipe of its row."""

    arm: str
    recipe: str  # the official one, by its title
    source: str
    caution: str  # where the row's own recipe is not known
    values: tuple[Value, ...]


@cache
def _facts() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(__file__).with_name("official_recipes.json").read_text(encoding="utf-8"))
    return found


def official_values(name: str) -> dict[str, Any]:
    """Path -> value of an official recipe, those that it inherits among them."""
    recipe = _facts()["recipes"][name]
    base = official_values(recipe["inherits"]) if "inherits" in recipe else {}
    values: dict[str, Any] = recipe["values"]
    return base | values


def protocols(design: Design) -> list[Protocol]:
    """Every arm of a study beside its official recipe; none where the facts know none of the study at its scale."""
    name = known_as(design.study.name, design.study.scale)
    return [_protocol(name, arm) for arm in design.arms] if name in _facts()["arms"] else []


def known_as(study: str, scale: str) -> str:
    """What the facts call a study at one of its scales: by its name alone at paper scale."""
    return study if scale == PAPER else f"{study}.{scale}"


def scales_of(study: str) -> list[str]:
    """The scales of a study whose rows are known, paper scale first, whether or not it stands for any."""
    return [PAPER, *(name.partition(".")[2] for name in _facts()["arms"] if name.startswith(f"{study}."))]


def elsewhere(design: Design) -> list[dict[str, str]]:
    """What official code does that is no value of a recipe: `what`, `official`, `ours`, `why`."""
    of_task: list[dict[str, str]] = _facts()["other"][design.control.recipe.task.name]
    own: list[dict[str, str]] = _facts()["besides"].get(known_as(design.study.name, design.study.scale), [])
    return [*of_task, *own]


def without_study() -> list[dict[str, str]]:
    """Tables of the papers that no shipped study stands for: `table`, `what` it is of, `why`."""
    found: list[dict[str, str]] = _facts()["no_study"]
    return found


def same(ours: Any, official: Any) -> bool:
    """Equal, numbers up to rounding, a digest as far as it is published."""
    if isinstance(ours, list) and isinstance(official, list):
        return len(ours) == len(official) and all(same(*pair) for pair in zip(ours, official, strict=True))
    if isinstance(ours, float) and isinstance(official, int | float):
        return math.isclose(ours, official, rel_tol=1e-6)
    return bool(ours == official)


def beside_published(design: Design) -> str:
    """What differs from the published recipes, in a sentence; empty where a study stands for no published row."""
    found = protocols(design)
    unlike = [(one, value) for one in found for value in one.values if not value.equal]
    if not found:
        return ""
    total = sum(len(one.values) for one in found)
    said = {f"{value.path} {plain(value.ours)} for {plain(value.official)} ({value.why})" for _, value in unlike}
    more = f": {'; '.join(sorted(said))}" if said else ""
    return f"{total - len(unlike)} of {total} values are those of the published recipes (docs/protocols.md){more}."


def _protocol(study: str, arm: Arm) -> Protocol:
    facts = _facts()
    of_study = facts["arms"][study]
    name = next((of_study[label] for label in (arm.label, *arm.bare) if label in of_study), None) or of_study[ANY]
    reasons = facts["why"][ANY][ANY] | facts["why"].get(study, {}).get(arm.label, {})
    values = tuple(
        Value(path, found, official, "" if same(found, official) else reasons.get(path, ""))
        for path, official in official_values(name).items()
        for found in [value_at(arm.recipe, path)]
    )
    recipe = facts["recipes"][name]
    return Protocol(
        arm.label, recipe["title"], recipe["source"], facts["unknown"].get(study, {}).get(arm.label, ""), values
    )


def value_at(recipe: Recipe, path: str) -> Any:
    """The recipe's value; None where there is none, as of a recipe without weights."""
    part, _, knob = path.partition(".")
    if part == "train":
        return getattr(recipe.train, knob)
    if part == "weights":
        return getattr(recipe.weights, knob) if recipe.weights else None
    knobs = recipe.evaluation if part == "evaluation" else getattr(recipe, part).knobs
    return knobs.get(knob)


def plain(value: Any) -> str:
    """As a page shows it; a dash where nothing is stated or there is nothing."""
    if value is None:
        return "—"
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
