"""Design: a study's arms with their recipes and trials, and the comparisons that were planned; made once, handed on."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import combinations, product
from typing import Any

from pydantic import ValidationError

from ablate import registry
from ablate.errors import PartError, StudyError, invalid, nearest
from ablate.study.factor import MATCHED, Factor
from ablate.study.recipe import Recipe, TrainSpec, Trial
from ablate.study.study import Study, blaming, merge

Levels = dict[str, str]  # factor name -> level label
SUM = "the sum of both effects"
YES_OR_NO = ("yes", "no", "true", "false")


@dataclass(frozen=True)
class Arm:
    """One choice of levels: its recipe, and a trial for each seed."""

    label: str  # the levels in which it differs from the control; the control's own levels
    levels: Levels  # of all factors
    recipe: Recipe  # settled
    trials: tuple[Trial, ...]  # in the order of the study's seeds
    bare: tuple[str, ...]  # the label without names of factors; of the control, each of its levels


@dataclass(frozen=True)
class Contrast:
    """One planned comparison: a weighted sum of arms' mean scores that is 0 where nothing differs."""

    label: str  # what is compared: an arm's label, a level over all arms that have it, or two levels together
    reference: str  # what it is compared with: an arm's label or a level, or the sum of two effects
    weights: dict[str, float]  # an arm's label -> its weight; those above 0 sum to 1 (2 for two levels together)


class Design:
    """All arms of a study, the control first: each other level alone, or all combinations (full factorial)."""

    def __init__(self, study: Study) -> None:
        """
        Raises:
            StudyError: a path that leads nowhere or that two factors set, two arms that are the same trial or have one
                label, or a `match` yet to be solved (planning/match.py makes its levels).
            PartError: a part or knob that no shelf has.
        """
        self.study = study
        with blaming(study.file):
            for name, factor in study.factors.items():
                if factor.match:
                    raise StudyError(f"factors.{name}.match: not solved; ablate.planning.open_study solves it")
            _refuse_shared_paths(study)
            self.arms = tuple(self._arm(levels) for levels in _combinations(study))
            self._refuse_equal_labels()
            self._refuse_equal_trials()

    @property
    def control(self) -> Arm:
        """The arm that all others are compared with."""
        return self.arms[0]

    @property
    def others(self) -> tuple[Arm, ...]:
        """Every arm but the control."""
        return self.arms[1:]

    @cached_property
    def contrasts(self) -> tuple[Contrast, ...]:
        """The planned comparisons: every other arm against the control, or what the study declares (`compare`)."""
        how = self.study.comparing
        if how == "effects":
            return (*self._main_effects(), *self._interactions())
        free = how.removeprefix("within ") if how != "control" else None
        pairs = [(arm, self._reference(arm, free)) for arm in self.others]
        return tuple(
            Contrast(arm.label, reference.label, {reference.label: -1.0, arm.label: 1.0})
            for arm, reference in pairs
            if arm is not reference
        )

    def _reference(self, arm: Arm, free: str | None) -> Arm:
        """The control, or the arm that is like it but for one factor, of which it has the arm's own level."""
        levels = self.study.control | ({free: arm.levels[free]} if free else {})
        return self._by_levels[tuple((name, levels[name]) for name in arm.levels)]

    def _main_effects(self) -> Iterator[Contrast]:
        """Each level against its factor's control level, as means over all levels of the other factors."""
        for name, factor in self.study.factors.items():
            for level in list(factor.levels)[1:]:
                weights = {}
                for arm in self.arms:
                    if sign := (arm.levels[name] == level) - (arm.levels[name] == factor.control):
                        weights[arm.label] = float(sign)
                label = f"{self._shown(name, level)} on average"
                yield Contrast(label, f"{self._shown(name, factor.control)} on average", _averaged(weights))

    def _interactions(self) -> Iterator[Contrast]:
        """For two levels of two factors: how much more one gives beside the other, over the levels of all others."""
        for (one, first), (two, second) in combinations(self.study.factors.items(), 2):
            for a, b in product(list(first.levels)[1:], list(second.levels)[1:]):
                weights = {}
                for arm in self.arms:
                    x = (arm.levels[one] == a) - (arm.levels[one] == first.control)
                    y = (arm.levels[two] == b) - (arm.levels[two] == second.control)
                    if x * y:
                        weights[arm.label] = float(x * y)
                yield Contrast(f"{self._shown(one, a)} × {self._shown(two, b)}", SUM, _averaged(weights, times=2))

    @cached_property
    def trials(self) -> list[Trial]:
        """Every arm with every seed, seeds outermost so that an interrupted run still compares all arms."""
        return [arm.trials[at] for at in range(len(self.study.seeds)) for arm in self.arms]

    @cached_property
    def first(self) -> list[Trial]:
        """Every arm with the first seed, in the order of the arms."""
        return [arm.trials[0] for arm in self.arms]

    def arm(self, trial: Trial) -> Arm:
        """The arm that a trial of this design belongs to."""
        return self._by_levels[tuple(trial.arm.items())]

    def chosen(self, choices: Iterable[str], *, flag: str) -> list[Arm]:
        """The arms that have the levels of any of these choices; see `levels_of`."""
        wanted = [self.levels_of(choice, flag=flag) for choice in choices]
        return [arm for arm in self.arms if any(levels.items() <= arm.levels.items() for levels in wanted)]

    def levels_of(self, choice: str, *, flag: str) -> Levels:
        """What `factor=level`, a level's own name, or several of either joined by ` + ` choose, as labels print them.

        Raises:
            StudyError: no such factor or level, or a level that two factors have.
        """
        found: Levels = {}
        for word in [choice] if self._is_one(choice) else choice.split(" + "):
            name, _, level = word.partition("=")
            if name not in self.study.factors or "=" not in word:
                name, level = self._owner(word, where=f"{flag} {choice}"), word
            levels = self.study.factors[name].levels
            if level not in levels:
                raise self._error(f"{flag} {choice}", f"no level {level!r}; {nearest(level, levels)}")
            found[name] = level
        return found

    def _is_one(self, choice: str) -> bool:
        """Whether a choice is one level as it stands, whatever its name holds."""
        name, _, level = choice.partition("=")
        return choice in self._owners or name in self._owners.get(level, ())

    @cached_property
    def _by_levels(self) -> dict[tuple[tuple[str, str], ...], Arm]:
        return {tuple(arm.levels.items()): arm for arm in self.arms}

    @cached_property
    def _owners(self) -> dict[str, list[str]]:
        """Which factors have a level of that name."""
        owners: dict[str, list[str]] = {}
        for name, factor in self.study.factors.items():
            for level in factor.levels:
                owners.setdefault(level, []).append(name)
        return owners

    def _owner(self, level: str, *, where: str) -> str:
        owners = self._owners.get(level, [])
        if len(owners) == 1:
            return owners[0]
        if owners:
            raise self._error(where, f"{' and '.join(owners)} have this level; write {owners[0]}={level}")
        if "=" in level:
            name = level.partition("=")[0]
            raise self._error(where, f"no factor {name!r}; {nearest(name, self.study.factors)}")
        raise self._error(where, f"no level {level!r}; {nearest(level, self._owners)}")

    def _error(self, where: str, what: str) -> StudyError:
        return StudyError(f"{self.study.file}: {where}: {what}" if self.study.file else f"{where}: {what}")

    def _arm(self, levels: Levels) -> Arm:
        recipe = _recipe(self.study, levels)
        asked, version = self.study.metrics, _data_version(recipe)
        meanings, plugins = recipe.meanings(asked), recipe.plugins(asked)
        control = self.study.control
        changed = [name for name in levels if levels[name] != control[name]]
        shown = changed or list(levels)
        bare = (" + ".join(levels[name] for name in changed),) if changed else tuple(levels.values())
        return Arm(
            label=" + ".join(self._shown(name, levels[name]) for name in shown),
            levels=levels,
            recipe=recipe,
            trials=tuple(
                Trial(arm=levels, seed=seed, recipe=recipe, data_version=version, meanings=meanings, plugins=plugins)
                for seed in self.study.seeds
            ),
            bare=bare,
        )

    def _shown(self, factor: str, level: str) -> str:
        """A level by its name where that says what it is, else with its factor's."""
        plain = level.removesuffix(MATCHED)
        alone = len(self._owners[level]) == 1 and not _is_number(plain) and plain.lower() not in YES_OR_NO
        return level if alone else f"{factor}={level}"

    def _refuse_equal_labels(self) -> None:
        """Tables, lines and verdicts name an arm by its label."""
        for name, count in Counter(arm.label for arm in self.arms).items():
            if count > 1:
                raise StudyError(
                    f"factors: two arms would both be called {name!r}; give one of their levels another name"
                )

    def _refuse_equal_trials(self) -> None:
        seen: dict[str, Arm] = {}
        for arm in self.arms:
            twin = seen.setdefault(arm.trials[0].id, arm)
            if twin is not arm:
                names = [name for name in arm.levels if arm.levels[name] != twin.levels[name]]
                pair = f"{twin.levels[names[0]]!r} and {arm.levels[names[0]]!r}"
                raise StudyError(f"factors.{names[0]}: levels {pair} are the same trial")


def _combinations(study: Study) -> Iterator[Levels]:
    if study.design == "full_factorial":
        for labels in product(*(factor.levels for factor in study.factors.values())):
            yield dict(zip(study.factors, labels, strict=True))
        return
    yield study.control
    for name, factor in study.factors.items():
        for level in list(factor.levels)[1:]:
            yield study.control | {name: level}


def _refuse_shared_paths(study: Study) -> None:
    """Of two factors that set one path the later would win, and its arms would not have the other's level."""
    owners: dict[str, str] = {}
    for name, factor in study.factors.items():
        for path in dict.fromkeys(path for setting in factor.levels.values() for path in setting):
            if path in owners:
                raise StudyError(f"factors.{owners[path]} and factors.{name} both set {path}; one factor may")
            owners[path] = name


def _averaged(weights: dict[str, float], *, times: float = 1.0) -> dict[str, float]:
    """Weights of which those above 0 sum to `times`."""
    total = sum(weight for weight in weights.values() if weight > 0)
    return {label: times * weight / total for label, weight in weights.items()}


def _is_number(level: str) -> bool:
    for kind in (float, Fraction):
        with suppress(ValueError, ZeroDivisionError):
            kind(level)
            return any(character.isdigit() for character in level)  # nan and inf are names
    return False


def _recipe(study: Study, levels: Levels) -> Recipe:
    document = study.recipe.model_dump(exclude_unset=True)
    settings = [
        (path.split("."), value, name)
        for name, level in levels.items()
        for path, value in study.factors[name].levels[level].items()
    ]
    for path, value, name in sorted(settings, key=lambda setting: len(setting[0])):  # a part before its knobs
        document = merge(document, _nested(path, value, factor=name))
    try:
        return Recipe.model_validate(document).settled(on_gpu=study.budget.gpus > 0)
    except ValidationError as error:
        raise StudyError(_complaint(study.factors, levels, error)) from None
    except PartError as error:
        raise PartError(f"arm {_spelt(levels)}: {error}") from None


def _nested(path: list[str], value: Any, *, factor: str) -> dict[str, Any]:
    known = list(Recipe.model_fields)
    if path[0] not in known:
        raise StudyError(f"factors.{factor}: no {path[0]!r} in a recipe; {nearest(path[0], known)}")
    if path[0] == "train" and len(path) > 1 and path[1] not in TrainSpec.model_fields:
        raise StudyError(f"factors.{factor}: no train.{path[1]}; {nearest(path[1], TrainSpec.model_fields)}")
    nested: Any = value
    for step in reversed(path):
        nested = {step: nested}
    return dict(nested)


def _complaint(factors: dict[str, Factor], levels: Levels, error: ValidationError) -> str:
    where, what = invalid(error)
    return f"arm {_spelt({name: levels[name] for name in factors})}: recipe.{where}: {what}"


def _spelt(levels: Levels) -> str:
    return ", ".join(f"{name}={level}" for name, level in levels.items())


def _data_version(recipe: Recipe) -> str | None:
    part = recipe.dataset
    version: str | None = registry.build("dataset", part.name, part.knobs).info.version
    return version
