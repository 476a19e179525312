"""Study: one question, its control recipe and its factors; `load` is the only place that reads one."""

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, Field, StrictInt, ValidationError, field_validator, model_validator

from ablate import presets, registry, yaml_subset
from ablate.budget import Budget
from ablate.errors import PartError, StudyError, nearest
from ablate.trial import FROZEN, STRICT, Recipe

Model = TypeVar("Model", bound=BaseModel)
RecipePath = str  # a dotted path into the recipe, such as model.fusions
MOST_SEEDS, MOST_ARMS, MOST_TRIALS = 1000, 1000, 100_000
MOST = 2**18  # characters of a file; those of the project have 3,000
SET_BY_LOAD = {"scale", "file"}
PARTS = ("task", "dataset", "model")


class Match(BaseModel):
    """The wish that a factor's levels cost the same: match.py solves for a knob of each, in multiply-adds."""

    model_config = STRICT
    gmacs: Literal["control"] | float  # what they should cost: as much as the control, or so many decimal GMACs
    by: RecipePath | dict[str, RecipePath]  # the knob to solve for, such as model.width; or level label -> knob
    raw: bool = True  # compare the levels as written too
    within: float = Field(default=5, gt=0, lt=100)  # per cent that a matched level may miss the aim by

    @field_validator("gmacs", mode="before")
    @classmethod
    def _control_or_number(cls, value: Any) -> Any:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value != "control" and not (number and 0 < value < math.inf):
            raise ValueError("should be 'control' or a number above 0")
        return value

    @field_validator("by", mode="before")
    @classmethod
    def _knob_of_a_part(cls, value: Any) -> Any:
        for level, path in value.items() if isinstance(value, dict) else [("", value)]:
            if not (isinstance(path, str) and re.fullmatch(r"(model|task)\.\w+", path)):
                wish = "should be a knob of the model or the task, such as model.width"
                raise ValueError(f"{level}: {wish}" if level else wish)
        return {str(level): path for level, path in value.items()} if isinstance(value, dict) else value

    def knobs(self, levels: Iterable[str]) -> dict[str, RecipePath]:
        """The knob of every level that is to change: all but the control, and that too where the aim is a number.

        Raises:
            ValueError: `by` misses one of them, or names another.
        """
        changed = list(levels)[1 if self.gmacs == "control" else 0 :]
        named = self.by if isinstance(self.by, dict) else dict.fromkeys(changed, self.by)
        for label in named:
            if label not in changed:
                raise ValueError(f"match.by: no level {label!r} to match; {nearest(label, changed)}")
        for label in changed:
            if label not in named:
                raise ValueError(f"match.by: no knob for level {label!r}")
        return {label: named[label] for label in changed}


class Factor(BaseModel):
    """One decision with its levels, the first being the control. A level sets one or several paths of the recipe."""

    model_config = FROZEN
    at: RecipePath | None = None  # the path that plain levels set
    levels: dict[str, dict[RecipePath, Any]]  # label -> {path: value}
    match: Match | None = None  # make the levels cost the same

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "levels" not in value:
            return value
        at, levels = value.get("at"), value["levels"]
        if at is not None and not isinstance(at, str):
            raise ValueError("'at' is a path into the recipe, such as model.fusions")
        if isinstance(levels, list):
            if at is None:
                raise ValueError("a list of levels needs 'at', the path that they set")
            levels = _distinct([(_label(level), level) for level in levels])
        if isinstance(levels, dict) and at is not None:
            levels = {str(k): v if isinstance(v, dict) and at in v else {at: v} for k, v in levels.items()}
        return {**value, "levels": levels}

    @field_validator("levels")
    @classmethod
    def _at_least_two(cls, levels: dict[str, Any]) -> dict[str, Any]:
        if len(levels) < 2:
            raise ValueError("a factor needs at least two levels, the first being the control")
        return levels

    @model_validator(mode="after")
    def _matchable(self) -> Self:
        for label in self.match.knobs(self.levels) if self.match else ():
            if f"{label} matched" in self.levels:
                raise ValueError(f"level '{label} matched' has the name of a level that the match makes")
        return self

    @property
    def control(self) -> str:
        """The label of the first level."""
        return next(iter(self.levels))


class Scale(BaseModel):
    """One protocol for the study's question: what it overrides of the recipe, the factors, the seeds, the budget."""

    model_config = FROZEN
    recipe: dict[str, Any] = {}  # what it changes of the recipe
    factors: dict[str, Factor] | None = None  # instead of the study's
    design: Literal["one_at_a_time", "full_factorial"] | None = None  # instead of the study's
    seeds: StrictInt | list[StrictInt] | None = None  # instead of the study's
    budget: dict[str, Any] = {}  # what it changes of the budget
    note: str = ""  # printed in the plan and the report


class Study(BaseModel):
    """One question, asked of a control recipe by changing its factors."""

    model_config = FROZEN
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]{0,63}$")  # small letters, digits and _, as the file is called
    question: str  # that the study asks; it heads the report
    recipe: Recipe  # the control
    factors: dict[str, Factor] = Field(min_length=1)  # what is changed, by names of your own
    design: Literal["one_at_a_time", "full_factorial"] = "one_at_a_time"  # or all combinations of levels
    seeds: list[StrictInt] = [0, 1, 2]  # or how many, from 0
    metrics: list[str] = Field(min_length=1)  # the first is the primary one
    paper: str | None = None  # a table of paper.json whose numbers stand beside ours
    scale: str = ""  # which protocol this is; set by load
    file: str = ""  # where the study was read; set by load
    note: str = ""  # printed in the plan and the report
    budget: Budget = Budget()  # where and how trials run
    sections: list[str] | None = None  # of the report; all when not given
    plugins: tuple[str, ...] = ()  # modules of yours that hold parts; they are imported
    scales: dict[str, Scale] = {}  # protocols by name, for --scale
    default_scale: str | None = None  # without --scale

    @field_validator("seeds", mode="before")
    @classmethod
    def _count(cls, value: Any) -> Any:
        if not isinstance(value, int) or isinstance(value, bool):
            return value
        if value > MOST_SEEDS:
            raise ValueError(f"at most {MOST_SEEDS} seeds")
        return list(range(value))

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, value: list[int]) -> list[int]:
        if not value or len(set(value)) < len(value) or not 0 <= min(value) <= max(value) < 2**63:
            raise ValueError("seeds are distinct numbers from 0 up to 2**63, or how many of them")
        return value

    @field_validator("metrics")
    @classmethod
    def _named_once(cls, value: list[str]) -> list[str]:
        if twice := [name for name in value if value.count(name) > 1]:
            raise ValueError(f"{twice[0]!r} is named twice")
        return value

    @model_validator(mode="after")
    def _countable(self) -> Self:
        arms = math.prod(len(factor.levels) for factor in self.factors.values())
        if self.design == "one_at_a_time":
            arms = 1 + sum(len(factor.levels) - 1 for factor in self.factors.values())
        if arms > MOST_ARMS:
            raise ValueError(f"a {self.design.replace('_', ' ')} design of {arms} arms; at most {MOST_ARMS}")
        if arms * len(self.seeds) > MOST_TRIALS:
            raise ValueError(f"{arms} arms with {len(self.seeds)} seeds; at most {MOST_TRIALS} trials")
        if self.design == "full_factorial" and any(factor.match for factor in self.factors.values()):
            raise ValueError("match needs the design one_at_a_time: elsewhere a level's cost depends on other factors")
        return self

    def at(self, scale: str | None) -> Self:
        """The study under one of its protocols (the default one when `scale` is None).

        Raises:
            StudyError: no such scale, or an override that does not fit.
        """
        chosen = scale or self.default_scale
        if chosen is None:
            return self
        if chosen not in self.scales:
            raise StudyError(f"scales: no scale {chosen!r}; {nearest(chosen, self.scales)}")
        over = self.scales[chosen]
        update: dict[str, Any] = self.model_dump(exclude={"factors", "recipe", "budget"})
        update |= {"scale": chosen, "note": over.note or self.note}
        update["recipe"] = merge(self.recipe.model_dump(exclude_unset=True), presets.expand(over.recipe))
        update["budget"] = merge(self.budget.model_dump(), over.budget)
        update["factors"] = {**self.factors, **(over.factors or {})}
        update["design"] = over.design or self.design
        update["seeds"] = self.seeds if over.seeds is None else over.seeds
        return _validated(type(self), update, f"scales.{chosen}.")


def load(path: Path | str, *, scale: str | None = None) -> Study:
    """Read a study file and choose one of its scales.

    Raises:
        StudyError: one line that names the file, the key and the nearest valid choice.
    """
    file = Path(path)
    try:
        with file.open(encoding="utf-8") as stream:
            text = stream.read(MOST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise StudyError(f"{file}: {reason}") from None
    if len(text) > MOST:
        raise StudyError(f"{file}: is no study: it has more than {MOST:,} characters")
    with blaming(str(file)):
        document = yaml_subset.parse(text)
        if not isinstance(document, dict):
            raise StudyError("a study is a mapping with name, question, recipe, factors and metrics")
        for name in SET_BY_LOAD & document.keys():
            raise StudyError(f"{name}: unknown key; it is set by ablate itself")
        if isinstance(document.get("plugins"), list):
            registry.load_plugins(tuple(str(name) for name in document["plugins"]))
        if isinstance(document.get("recipe"), dict):
            document["recipe"] = presets.expand(document["recipe"])
        study = _validated(Study, {**document, "file": str(file)}, "")
        protocols = {name: study.at(name) for name in study.scales}  # all, so that a slip in one is seen at once
        return protocols.get(scale or study.default_scale or "") or study.at(scale)


@contextmanager
def blaming(file: str) -> Iterator[None]:
    """Put the file before what is wrong with its study, unless that has been done."""
    try:
        yield
    except (StudyError, PartError) as error:
        text = str(error)
        raise type(error)(text if not file or text.startswith(f"{file}: ") else f"{file}: {text}") from None


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`, mapping by mapping; a part of another name, bare or not, replaces it whole."""
    if "name" in over and over["name"] != base.get("name"):
        return over
    merged = dict(base)
    for name, value in over.items():
        old, new = merged.get(name), value
        if isinstance(old, dict) and "name" in old and isinstance(new, str):
            new = {"name": new}
        elif isinstance(old, str) and isinstance(new, dict) and name in PARTS:
            old = {"name": old}
        merged[name] = merge(old, new) if isinstance(old, dict) and isinstance(new, dict) else new
    return merged


def _validated(model: type[Model], document: dict[str, Any], prefix: str) -> Model:
    """Validate, turning pydantic's first complaint into one line with a path and the nearest valid key."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = _keys_at(model, first["loc"][:-1])
            raise StudyError(f"{prefix}{where}: unknown key; {nearest(first['loc'][-1], known)}") from None
        if first["type"] == "missing":
            raise StudyError(f"{prefix}{where}: is missing") from None
        message = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
        message = re.sub("a valid dictionary( or instance of .*)?$", "a mapping", message)
        shown = "" if isinstance(first["input"], dict | list) else f", not {first['input']!r}"
        raise StudyError(f"{prefix}{where}: {message}{shown}") from None


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that are valid at a place inside a model."""
    current: Any = model
    for step in location:
        field = getattr(current, "model_fields", {}).get(step)
        annotation = field.annotation if field else current
        inner = [a for a in getattr(annotation, "__args__", ()) if hasattr(a, "model_fields")]
        current = inner[0] if inner else annotation
    return list(getattr(current, "model_fields", {}))


def _label(level: Any) -> str:
    if isinstance(level, list):
        return "x".join(_label(item) for item in level)
    if isinstance(level, bool):
        return "yes" if level else "no"
    return str(level)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    levels = dict(pairs)
    if len(levels) < len(pairs):
        raise ValueError("two levels are the same")
    return levels
