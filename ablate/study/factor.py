"""Factor: one decision with its levels, and the wishes that they cost the same and that every arm is tuned alike."""

import hashlib
import math
import re
from collections.abc import Iterable
from functools import cached_property
from itertools import product
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from ablate.errors import nearest
from ablate.study.recipe import FROZEN, STRICT

MOST_TRIES = 10_000
MATCHED = " matched"  # at the end of the name of a level that a match makes
RecipePath = str  # a dotted path into the recipe, such as model.fusions


class Match(BaseModel):
    """The wish that a factor's levels cost the same: match.py solves for a knob of each, in multiply-adds."""

    model_config = STRICT
    gmacs: Literal["control"] | float  # target cost: the control's, or a number of GMACs
    by: RecipePath | dict[str, RecipePath]  # knob to solve for, such as model.width; or one per level
    raw: bool = True  # also compare the levels as written
    within: float = Field(default=5, gt=0, lt=100)  # largest deviation from the target, in per cent

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


class Tune(BaseModel):
    """The wish that every arm gets values of its own, chosen by as many tries as all others have.

    Tries are scored on images that are held out of the training images, with seeds that are not the study's. The paths
    that are tuned stand beside the other keys: `train.lr: [1e-3, 1e-2]`.
    """

    model_config = STRICT
    knobs: dict[RecipePath, list[Any]]  # written as PATH: [values], such as train.lr: [1e-3, 1e-2]; one or more
    trials: int | None = Field(default=None, ge=2)  # tries of each arm, of all combinations of values; all of them
    seeds: int = Field(default=1, ge=1, le=100)  # of each try, beside the study's own
    held_out: float = Field(default=0.2, gt=0, lt=1)  # share of the training images that tries are scored on

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        paths = {key: values for key, values in value.items() if "." in str(key)}
        rest = {key: values for key, values in value.items() if key not in paths}
        if not isinstance(rest.get("knobs", {}), dict):
            raise ValueError("knobs: write paths with their values beside the other keys: train.lr: [1e-3, 1e-2]")
        return rest | {"knobs": {**rest.get("knobs", {}), **paths}}

    @field_validator("knobs")
    @classmethod
    def _some_values(cls, knobs: dict[str, Any]) -> dict[str, Any]:
        combinations = math.prod(map(len, knobs.values()))
        if combinations < 2:
            raise ValueError("needs a path with two values or more to try, such as train.lr: [1e-3, 1e-2]")
        if combinations > MOST_TRIES:
            raise ValueError(f"at most {MOST_TRIES:,} combinations of values")
        for path, values in knobs.items():
            _distinct([(_label(value), value) for value in values])
            if path == "train.held_out":
                raise ValueError("train.held_out is how tries are scored, and is not tuned")
        return knobs

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.trials and self.trials > (most := math.prod(map(len, self.knobs.values()))):
            raise ValueError(f"trials: {self.trials}; there are {most} combinations of values")
        return self

    @cached_property
    def tries(self) -> dict[str, dict[RecipePath, Any]]:
        """The tries, the same for every arm: label -> {path: value}.

        Where there are more combinations, those that come first by a hash of their labels: more tries have the fewer.
        """
        found = {}
        for values in product(*self.knobs.values()):
            setting = dict(zip(self.knobs, values, strict=True))
            found[", ".join(f"{path.rpartition('.')[2]} {_label(value)}" for path, value in setting.items())] = setting
        order = sorted(found, key=lambda label: hashlib.blake2b(label.encode()).digest())
        chosen = set(order[: self.trials])
        return {label: setting for label, setting in found.items() if label in chosen}

    @property
    def said(self) -> str:
        """The whole wish, in a line. Of several paths whose values are not all combined, each try is named."""
        tried = self.knobs
        if len(tried) == 1:
            tried = {path: [setting[path] for setting in self.tries.values()] for path in tried}
        values = "; ".join(f"{path} {', '.join(map(_label, values))}" for path, values in tried.items())
        if len(self.tries) < math.prod(map(len, tried.values())):
            values = f"{', '.join(self.knobs)}: {'; '.join(self.tries)}"
        seeds = f"{self.seeds} seed{'s' * (self.seeds > 1)}"
        return f"{len(self.tries)} tries of {values}, {seeds} each, on {100 * self.held_out:g} % of the training images"


class Factor(BaseModel):
    """One decision with its levels, the first being the control. A level sets one or several paths of the recipe."""

    model_config = FROZEN
    at: RecipePath | None = None  # path in the recipe that plain levels set
    levels: dict[str, dict[RecipePath, Any]]  # label -> {path: value}; with at: a list of values
    match: Match | None = None  # make all levels cost the same

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
