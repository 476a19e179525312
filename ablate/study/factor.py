"""Factor: one decision with its levels, and the wish that they cost the same."""

import math
import re
from collections.abc import Iterable
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from ablate.errors import nearest
from ablate.study.recipe import FROZEN, STRICT

MATCHED = " matched"  # at the end of the name of a level that a match makes
RecipePath = str  # a dotted path into the recipe, such as model.fusions


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
            if label + MATCHED in self.levels:
                raise ValueError(f"level '{label}{MATCHED}' has the name of a level that the match makes")
        return self

    @property
    def control(self) -> str:
        """The label of the first level."""
        return next(iter(self.levels))


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
