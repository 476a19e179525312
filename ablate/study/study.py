"""Study: one question, its control recipe and its factors; `load` is the only place that reads one."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, Field, FiniteFloat, StrictInt, ValidationError, field_validator, model_validator

from ablate import registry
from ablate.errors import PartError, StudyError, invalid, nearest
from ablate.machine import modules
from ablate.study import presets, yaml_subset
from ablate.study.budget import Budget
from ablate.study.factor import Factor, RecipePath, Tune
from ablate.study.recipe import FROZEN, Recipe, TrainSpec, Weights
from ablate.study.study_file import find, read

Model = TypeVar("Model", bound=BaseModel)
MOST_SEEDS, MOST_ARMS, MOST_TRIALS = 1000, 1000, 100_000
SET_BY_LOAD = {"scale", "file", "source"}
REPLACED = ("tune", "datasets", "paper")  # by a scale that has them, if only as null
RULE = ("compare", "test", "pairing", "looks", "margin", "population")  # how verdicts come about
PARTS = ("task", "dataset", "model")
SECTIONS = {"train": TrainSpec.model_fields, "weights": Weights.model_fields}  # of fixed keys
TRIED = 1_000_000  # the first seed of tries, which have seeds of their own
DATASET = "dataset"  # what an arm's levels say of the data set, where a study has several
COSTLY = ("size", "head", "width", "_channels", "detector", "proposals", "anchor_ratios")  # ends of tasks' knobs
TRY = "try"  # what the levels of an arm of tries say of the try


class Scale(BaseModel):
    """One protocol for the study's question: what it overrides of the recipe, the factors, the seeds, the budget."""

    model_config = FROZEN
    recipe: dict[str, Any] = {}  # changes to the study's recipe
    factors: dict[str, Factor] | None = None  # replaces the study's
    datasets: dict[str, dict[RecipePath, Any]] | None = None  # replaces the study's
    design: Literal["one_at_a_time", "full_factorial"] | None = None  # replaces the study's
    tune: Tune | None = None  # replaces the study's
    seeds: StrictInt | list[StrictInt] | None = None  # replaces the study's
    compare: str | None = None  # replaces the study's
    test: Literal["sign_flip", "t", "e_value"] | None = None  # replaces the study's
    pairing: Literal["seeds", "none"] | None = None  # replaces the study's
    looks: list[StrictInt] | None = None  # replaces the study's; a scale with seeds and no looks has no looks
    margin: FiniteFloat | None = Field(default=None, gt=0)  # replaces the study's
    population: Literal["seeds", "seeds+images"] | None = None  # replaces the study's
    paper: str | None = None  # replaces the study's
    budget: dict[str, Any] = {}  # changes to the study's budget
    note: str = ""  # text that plan and report print


class Study(BaseModel):
    """One question, asked of a control recipe by changing its factors."""

    model_config = FROZEN
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]{0,63}$")  # the file's name without .yaml: a-z, 0-9 and _
    question: str  # what the study asks; the report's title
    recipe: Recipe  # the control's recipe
    factors: dict[str, Factor] = Field(min_length=1)  # what the arms change; the names are yours
    datasets: dict[str, dict[RecipePath, Any]] | None = None  # data sets to ask the question on: name -> {path: value}
    design: Literal["one_at_a_time", "full_factorial"] = "one_at_a_time"  # one factor an arm, or all combinations
    compare: str | None = None  # control, effects (main effects and interactions; full factorial), or within FACTOR
    tune: Tune | None = None  # values that each arm chooses first, all arms by equally many tries
    seeds: list[StrictInt] = [0, 1, 2]  # a list, or a count N for 0 to N-1; default with looks: the last look
    test: Literal["sign_flip", "t", "e_value"] | None = None  # default: t with looks or without pairing, else sign_flip
    pairing: Literal["seeds", "none"] = "seeds"  # seeds: compare arms seed by seed; none: as independent (Welch)
    looks: list[StrictInt] | None = None  # numbers of seeds at which to decide, such as [8, 16, 24, 32]
    margin: FiniteFloat | None = Field(default=None, gt=0)  # differences up to so many points (score x 100) are none
    population: Literal["seeds", "seeds+images"] = "seeds"  # what verdicts are about: new seeds, or also new images
    metrics: list[str] = Field(min_length=1)  # the first is the primary metric, which verdicts are about
    paper: str | None = None  # table of published scores to print beside ours, such as fusion_count
    scale: str = ""  # which protocol this is; set by load
    file: str = ""  # where the study was read; set by load
    source: str = Field(default="", repr=False)  # the text of that file; set by load
    note: str = ""  # text that plan and report print
    budget: Budget = Budget()  # where and how trials run
    sections: list[str] | None = None  # sections of the report (default: all)
    plugins: tuple[str, ...] = ()  # modules with parts of your own, or files beside the study (./mynet.py)
    scales: dict[str, Scale] = {}  # protocols by name; --scale chooses one
    default_scale: str | None = None  # the scale used without --scale

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

    @field_validator("datasets")
    @classmethod
    def _plain_names(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        for name in value or ():
            if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
                raise ValueError(f"{name!r}: a data set's name is made of A-Z, a-z, 0-9, _, . and -")
        return value

    @model_validator(mode="before")
    @classmethod
    def _as_many_seeds_as_looks(cls, value: Any) -> Any:
        looks = value.get("looks") if isinstance(value, dict) else None
        if isinstance(looks, list) and looks and "seeds" not in value:
            return value | {"seeds": looks[-1]}
        return value

    @model_validator(mode="after")
    def _countable(self) -> Self:
        arms = math.prod(len(factor.levels) for factor in self.factors.values())
        if self.design == "one_at_a_time":
            arms = 1 + sum(len(factor.levels) - 1 for factor in self.factors.values())
        arms *= len(self.datasets or ("",))
        if arms > MOST_ARMS:
            raise ValueError(f"a {self.design.replace('_', ' ')} design of {arms} arms; at most {MOST_ARMS}")
        if self.datasets is not None and (len(self.datasets) < 2 or DATASET in self.factors):
            raise ValueError(f"datasets: are two or more, and no factor is called {DATASET!r} beside them")
        if self.tune:
            _check_tuned(self.tune, self.factors, self.seeds)
        tried = arms * len(self.tune.tries) * self.tune.seeds if self.tune else 0
        if arms * len(self.seeds) + tried > MOST_TRIALS:
            raise ValueError(f"{arms} arms with {len(self.seeds)} seeds; at most {MOST_TRIALS} trials")
        if self.looks is not None:
            _check_looks(self.looks, len(self.seeds), sign_flip=self.test == "sign_flip", images=self.population)
        if self.pairing == "none" and self.test in ("sign_flip", "e_value"):
            what = "sign flips" if self.test == "sign_flip" else "e-values"
            raise ValueError(f"test: {what} are of paired seeds; pairing: none needs test: t")
        if self.test == "e_value" and (self.looks or self.margin or self.population != "seeds"):
            raise ValueError(
                "test: e_value: holds at every number of seeds; looks, margin and images need another test"
            )
        if self.compare not in (None, "control"):
            _check_compare(self.compare or "", self.design, list(self.factors))
        if self.design == "full_factorial" and any(factor.match for factor in self.factors.values()):
            raise ValueError("match needs the design one_at_a_time: elsewhere a level's cost depends on other factors")
        return self

    @property
    def plugin_names(self) -> tuple[str, ...]:
        """The plugins by names with which other processes load them: files by their absolute paths."""
        return tuple(modules.absolute(name, Path(self.file).absolute().parent) for name in self.plugins)

    @property
    def comparing(self) -> str:
        """What the planned comparisons are: control, effects or within FACTOR."""
        return self.compare or ("effects" if self.design == "full_factorial" else "control")

    @property
    def testing(self) -> Literal["sign_flip", "t", "e_value"]:
        """The test of a difference."""
        return self.test or ("t" if self.looks or self.pairing == "none" else "sign_flip")

    @property
    def of_tries(self) -> Self:
        """The study that the tries of `tune` are: the same arms with seeds of their own, and nothing is compared."""
        assert self.tune
        seeds = list(range(TRIED, TRIED + self.tune.seeds))
        alone = {"looks": None, "margin": None, "test": None, "pairing": "seeds", "population": "seeds", "paper": None}
        return self.model_copy(update={"name": f"{self.name}_tuning", "seeds": seeds, **alone})

    @property
    def control(self) -> dict[str, str]:
        """The control's levels by factor."""
        return {name: factor.control for name, factor in self.factors.items()}

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
        written = over.model_fields_set  # a null takes away what the study has
        update: dict[str, Any] = self.model_dump(exclude={"factors", "recipe", "budget", "scales"})
        update |= {"scale": chosen, "note": over.note or self.note, "scales": self.scales}
        update["recipe"] = merge(self.recipe.model_dump(exclude_unset=True), presets.expand(over.recipe))
        update["budget"] = merge(self.budget.model_dump(), over.budget)
        update["factors"] = {**self.factors, **(over.factors or {})}
        update["design"] = over.design or self.design
        update |= {"tune": self.tune} | {key: getattr(over, key) for key in (*REPLACED, *RULE) if key in written}
        update["seeds"] = self.seeds if over.seeds is None else over.seeds
        if over.looks is not None:
            update["seeds"] = over.looks[-1] if over.looks and over.seeds is None else over.seeds or self.seeds
        elif over.seeds is not None:
            update["looks"] = None
        if over.design and over.compare is None:
            update["compare"] = None
        for key in {"pairing", "population"} & written:
            if update[key] is None:
                del update[key]
        return _validated(type(self), update, f"scales.{chosen}.")


def load(path: Path | str, *, scale: str | None = None) -> Study:
    """Read a study file, or the shipped study of a bare name, and choose one of its scales.

    Raises:
        StudyError: one line that names the file, the key and the nearest valid choice.
    """
    file = find(path)
    text = read(file)
    with blaming(str(file)):
        document = yaml_subset.parse(text)
        if not isinstance(document, dict):
            raise StudyError("a study is a mapping with name, question, recipe, factors and metrics")
        for name in SET_BY_LOAD & document.keys():
            raise StudyError(f"{name}: unknown key; it is set by ablate itself")
        if isinstance(document.get("plugins"), list):
            registry.load_plugins(map(str, document["plugins"]), beside=file.absolute().parent)
        if isinstance(document.get("recipe"), dict):
            document["recipe"] = presets.expand(document["recipe"])
        study = _validated(Study, {**document, "file": str(file), "source": text}, "")
        protocols = {name: study.at(name) for name in study.scales}  # all, so that a slip in one is seen at once
        common = _paths(study)
        for name, one in protocols.items() if study.default_scale else [("", study), *protocols.items()]:
            _check_paths(one, [((at if (at, s) in common else f"scales.{name}.{at}"), s) for at, s in _paths(one)])
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


def nested(path: list[str], value: Any, *, at: str) -> dict[str, Any]:
    """A value at a path as a recipe's document has it. Raises StudyError, which names the key that it is written at."""
    known = list(Recipe.model_fields)
    if path[0] not in known:
        raise StudyError(f"{at}: no {path[0]!r} in a recipe; {nearest(path[0], known)}")
    if path[:2] == ["train", "preset"]:
        raise StudyError(f"{at}: a preset stands in the train of a recipe, not in a level; write its keys here")
    if path[0] in SECTIONS and len(path) > 1 and path[1] not in SECTIONS[path[0]]:
        raise StudyError(f"{at}: no {path[0]}.{path[1]}; {nearest(path[1], SECTIONS[path[0]])}")
    document: Any = value
    for step in reversed(path):
        document = {step: document}
    return dict(document)


Written = list[tuple[str, dict[str, Any]]]  # where in a study file, and what it sets: path -> value


def _paths(study: Study) -> Written:
    """What a study sets at paths of a recipe: its levels, data sets and tries, and the knobs of its own recipe."""
    matched = {name: f.match.knobs(f.levels).values() for name, f in study.factors.items() if f.match}
    tried = study.tune.knobs if study.tune else {}
    own = {kind: getattr(study.recipe, kind).knobs for kind in PARTS} | {"evaluation": study.recipe.evaluation}
    return [
        *((f"factors.{name}", level) for name, factor in study.factors.items() for level in factor.levels.values()),
        *((f"datasets.{name}", setting) for name, setting in (study.datasets or {}).items()),
        *((f"factors.{name}.match", dict.fromkeys(knobs)) for name, knobs in matched.items()),
        *(("tune", {path: value}) for path, values in tried.items() for value in values),
        *(("recipe", {f"{kind}.{knob}": value}) for kind, knobs in own.items() for knob, value in knobs.items()),
    ]


def _check_paths(study: Study, written: Written) -> None:
    """Every path of a level, a data set or a try leads to a key of a recipe, or to a knob of a part that may be there:
    told when the study is read, before anybody looks for data.

    Raises:
        StudyError, PartError: where the path is written, and the nearest key or knob.
    """
    parts = {kind: {getattr(study.recipe, kind).name} for kind in PARTS}
    for at, setting in written:
        for path, value in setting.items():
            nested(path.split("."), value, at=at)
            for key in value if path in SECTIONS and isinstance(value, dict) else ():
                nested([path, key], None, at=at)
            if (kind := path.removesuffix(".name")) in PARTS:
                parts[kind] |= {str(value.get("name")) if isinstance(value, dict) else str(value)}
    for at, setting in written:
        for path, value in setting.items():
            section, *knob = path.split(".")
            for name in [".".join(knob)] if knob else value if isinstance(value, dict) else ():
                _check_knob(at, section, name, parts)


def _check_knob(at: str, section: str, path: str, parts: dict[str, set[str]]) -> None:
    """One of the parts that may be in that section of a recipe has the knob, and what lies below it in a mapping."""
    kind, names = ("protocol", parts["task"]) if section == "evaluation" else (section, parts.get(section, set()))
    there = [registry.describe(kind, name) for name in names if name in registry.names(kind)]
    known = {known.name: known.type for part in there for known in part.knobs}
    knob, _, below = path.partition(".")
    named = " or ".join(sorted(f"{part.name!r}" for part in there))
    if there and knob not in known and not (knob == "name" and section in PARTS):
        raise PartError(f"{at}: {section}.{knob}: the {kind} {named} has no such knob; {nearest(knob, known)}")
    if there and below and not re.search("dict|Any", known.get(knob, "")):
        raise PartError(f"{at}: {section}.{path}: {section}.{knob} is no mapping, nothing lies below it")


def _check_tuned(tune: Tune, factors: dict[str, Factor], seeds: list[int]) -> None:
    if TRY in factors:
        raise ValueError(f"factors: beside tune no factor is called {TRY!r}")
    if max(seeds) >= TRIED:
        raise ValueError(f"seeds from {TRIED} on are those of tune")
    for path in tune.knobs if any(factor.match for factor in factors.values()) else ():
        part, _, knob = path.partition(".")
        if part == "model" or (part == "task" and (knob in ("", "name") or knob.partition(".")[0].endswith(COSTLY))):
            raise ValueError(f"tune: {path} changes what an arm costs, which match has made equal; tune other paths")


def _check_looks(looks: list[int], seeds: int, *, sign_flip: bool, images: str) -> None:
    if len(looks) < 2 or looks[0] < 2 or sorted(set(looks)) != looks:
        raise ValueError(f"looks: {looks} should be two or more rising numbers of seeds, the first at least 2")
    if looks[-1] != seeds:
        raise ValueError(f"looks: {looks} ends at {looks[-1]} seeds and there are {seeds}; leave seeds out")
    if sign_flip:
        raise ValueError(f"looks: {looks} need test: t; sign flips of few seeds cannot reach the levels of early looks")
    if images != "seeds":
        raise ValueError(
            f"looks: {looks} spend an error rate over seeds; population: seeds+images goes with fixed seeds"
        )


def _check_compare(compare: str, design: str, factors: list[str]) -> None:
    if compare != "effects" and not compare.startswith("within "):
        raise ValueError(f"compare: {compare!r} is none of control, effects and within FACTOR")
    if design != "full_factorial":
        raise ValueError(f"compare: {compare} needs the design full_factorial")
    name = compare.removeprefix("within ")
    if compare != "effects" and name not in factors:
        raise ValueError(f"compare: no factor {name!r}; {nearest(name, factors)}")
    if compare != "effects" and len(factors) < 2:
        raise ValueError("compare: within a factor needs a second one")


def _validated(model: type[Model], document: dict[str, Any], prefix: str) -> Model:
    """Validate, turning pydantic's first complaint into one line with a path and the nearest valid key."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first, (where, what) = error.errors()[0], invalid(error)
        if first["type"] == "extra_forbidden":
            what = f"unknown key; {nearest(first['loc'][-1], _keys_at(model, first['loc'][:-1]))}"
        place = f"{prefix}{where}".rstrip(".")  # none where keys do not go together
        raise StudyError(f"{place}: {what}" if place else what) from None


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that are valid at a place inside a model."""
    current: Any = model
    for step in location:
        field = getattr(current, "model_fields", {}).get(step)
        annotation = field.annotation if field else current
        inner = [a for a in getattr(annotation, "__args__", ()) if hasattr(a, "model_fields")]
        current = inner[0] if inner else annotation
    return list(getattr(current, "model_fields", {}))
