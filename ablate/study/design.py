"""Design: a study's arms with their recipes and trials, and the comparisons that were planned; made once, handed on."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import combinations, product
from typing import Any

from pydantic import ValidationError

from ablate import registry
from ablate.errors import PartError, StudyError, invalid, nearest
from ablate.study.factor import MATCHED
from ablate.study.recipe import Recipe, Trial
from ablate.study.study import DATASET, TRY, Study, blaming, merge, nested

Levels = dict[str, str]  # factor name -> level label
Setting = dict[str, Any]  # a path of the recipe -> its value
SUM = "the sum of both effects"
YES_OR_NO = ("yes", "no", "true", "false")


@dataclass(frozen=True)
class Arm:
    """One choice of levels: its recipe, and a trial for each seed."""

    label: str  # the levels in which it differs from the control; the control's own levels
    levels: Levels  # of all factors; where the study has several data sets, the one that this is on, too
    recipe: Recipe  # settled
    trials: tuple[Trial, ...]  # in the order of the study's seeds
    bare: tuple[str, ...]  # the label without names of factors; of the control, each of its levels

    @property
    def dataset(self) -> str:
        """The name of its data set, where the study has several; else empty."""
        return self.levels.get(DATASET, "")


@dataclass(frozen=True)
class Choice:
    """What an arm's tries came to: the values that it was trained with for the verdict."""

    setting: Setting
    label: str  # of the try
    scores: dict[str, tuple[float, ...]]  # label of each try -> by seed its score on the held-out images; nan without


@dataclass(frozen=True)
class Contrast:
    """One planned comparison: a weighted sum of arms' mean scores that is 0 where nothing differs."""

    label: str  # what is compared: an arm's label, a level over all arms that have it, or two levels together
    reference: str  # what it is compared with: an arm's label or a level, or the sum of two effects
    weights: dict[str, float]  # an arm's label -> its weight; those above 0 sum to 1 (2 for two levels together)


class Design:
    """All arms of a study, the control first: each other level alone, or all combinations (full factorial).

    Of a study with several data sets all of them on each, one set after the other, each with a control of its own.
    """

    def __init__(self, study: Study, *, choices: Mapping[str, Choice] | None = None, trying: bool = False) -> None:
        """
        Of a study with `tune` each arm needs a choice, by its label; one without waits for its tries. Those are the
        trials of the design that is `trying`.

        Raises:
            StudyError: a path that leads nowhere or that two factors set, two arms that are the same trial or have one
                label, or a `match` yet to be solved (planning/match.py makes its levels).
            PartError: a part or knob that no shelf has.
        """
        self.study, self.choices, self.trying = study, dict(choices or {}), trying
        with blaming(study.file):
            for name, factor in study.factors.items():
                if factor.match:
                    raise StudyError(f"factors.{name}.match: not solved; ablate.planning.open_study solves it")
            _refuse_shared_paths(study)
            self.sets = tuple(study.datasets or ("",))
            self.arms = tuple(
                self._arm(levels | ({DATASET: name} if name else {}) | ({TRY: tried} if tried else {}))
                for name in self.sets
                for levels in _combinations(study)
                for tried in (study.tune.tries if study.tune and trying else ("",))
            )
            self._refuse_equal_labels()
            self._refuse_equal_trials()

    @cached_property
    def tries(self) -> "Design | None":
        """The tries of all arms, as a design of their own; None where nothing is tuned."""
        return Design(self.study.of_tries, trying=True) if self.study.tune and not self.trying else None

    @property
    def waiting(self) -> list[Arm]:
        """The arms that are not tuned yet: what their trials will be is not known."""
        if not self.study.tune or self.trying:
            return []
        return [arm for arm in self.arms if arm.label not in self.choices]

    @property
    def control(self) -> Arm:
        """The arm that all others are compared with; of several data sets that on the first one."""
        return self.arms[0]

    @property
    def others(self) -> tuple[Arm, ...]:
        """Every arm but the control, or those of all data sets."""
        return tuple(arm for arm in self.arms if arm is not self.control_of(arm))

    def control_of(self, arm: Arm) -> Arm:
        """The control on the arm's data set."""
        return self._controls[arm.dataset]

    @cached_property
    def _controls(self) -> dict[str, Arm]:
        return {name: self.on(name)[0] for name in self.sets}

    def on(self, dataset: str) -> tuple[Arm, ...]:
        """The arms on one of the study's data sets, its control first; all where there is but one."""
        return tuple(arm for arm in self.arms if arm.dataset == dataset)

    @cached_property
    def contrasts(self) -> tuple[Contrast, ...]:
        """The planned comparisons: every other arm against the control, or what the study declares (`compare`).

        Of several data sets those on each, and then each of them over all: the mean of its differences on the sets.
        """
        apart = [tuple(self._contrasts(self.on(name))) for name in self.sets]
        if len(apart) == 1:
            return apart[0]
        return (*(contrast for of_set in apart for contrast in of_set), *map(self._over_all, zip(*apart, strict=True)))

    def _over_all(self, apart: tuple[Contrast, ...]) -> Contrast:
        """The unweighted mean of one comparison over the data sets."""
        weights = {label: weight / len(apart) for contrast in apart for label, weight in contrast.weights.items()}
        names = (name.removesuffix(_on(self.sets[0])) for name in (apart[0].label, apart[0].reference))
        label, reference = (f"{name} over all data sets" for name in names)
        return Contrast(label, reference, weights)

    def _contrasts(self, arms: tuple[Arm, ...]) -> Iterator[Contrast]:
        """Those on one data set; none of tries."""
        how = self.study.comparing
        if self.trying:
            return
        if how == "effects":
            yield from self._main_effects(arms)
            yield from self._interactions(arms)
            return
        free = how.removeprefix("within ") if how != "control" else None
        for arm in arms:
            if (reference := self._reference(arm, free)) is not arm:
                yield Contrast(arm.label, reference.label, {reference.label: -1.0, arm.label: 1.0})

    def _reference(self, arm: Arm, free: str | None) -> Arm:
        """The control, or the arm that is like it but for one factor, of which it has the arm's own level."""
        levels = self.control_of(arm).levels | ({free: arm.levels[free]} if free else {})
        return self._by_levels[tuple((name, levels[name]) for name in arm.levels)]

    def _main_effects(self, arms: tuple[Arm, ...]) -> Iterator[Contrast]:
        """Each level against its factor's control level, as means over all levels of the other factors."""
        for name, factor in self.study.factors.items():
            for level in list(factor.levels)[1:]:
                weights = {}
                for arm in arms:
                    if sign := (arm.levels[name] == level) - (arm.levels[name] == factor.control):
                        weights[arm.label] = float(sign)
                label, reference = (
                    f"{self._shown(name, one)} on average{_on(arms[0].dataset)}" for one in (level, factor.control)
                )
                yield Contrast(label, reference, _averaged(weights))

    def _interactions(self, arms: tuple[Arm, ...]) -> Iterator[Contrast]:
        """For two levels of two factors: how much more one gives beside the other, over the levels of all others."""
        for (one, first), (two, second) in combinations(self.study.factors.items(), 2):
            for a, b in product(list(first.levels)[1:], list(second.levels)[1:]):
                weights = {}
                for arm in arms:
                    x = (arm.levels[one] == a) - (arm.levels[one] == first.control)
                    y = (arm.levels[two] == b) - (arm.levels[two] == second.control)
                    if x * y:
                        weights[arm.label] = float(x * y)
                label = f"{self._shown(one, a)} × {self._shown(two, b)}{_on(arms[0].dataset)}"
                yield Contrast(label, SUM + _on(arms[0].dataset), _averaged(weights, times=2))

    @cached_property
    def trials(self) -> list[Trial]:
        """Every arm with every seed, seeds outermost so that an interrupted run still compares all arms."""
        return [arm.trials[at] for at in range(len(self.study.seeds)) for arm in self.arms]

    @cached_property
    def first(self) -> list[Trial]:
        """Every arm with the first seed, in the order of the arms."""
        return [arm.trials[0] for arm in self.arms]

    def arm(self, trial: Trial) -> Arm:
        """The arm that a trial of this design, or of its tries, belongs to."""
        levels = tuple(trial.arm.items())
        return self.tries.arm(trial) if TRY in trial.arm and self.tries else self._by_levels[levels]

    def chosen(self, choices: Iterable[str], *, flag: str) -> list[Arm]:
        """The arms that have the levels of any of these choices; see `levels_of`."""
        wanted = [self.levels_of(choice, flag=flag) for choice in choices]
        return [arm for arm in self.arms if any(levels.items() <= arm.levels.items() for levels in wanted)]

    def levels_of(self, choice: str, *, flag: str) -> Levels:
        """What `factor=level`, a level's own name, or several of either joined by ` + ` choose, as labels print them.

        Of several data sets one is chosen by ` on SET` at the end, or as a level is.

        Raises:
            StudyError: no such factor or level, or a level that two factors have.
        """
        found: Levels = {}
        for name in self.sets if self.study.datasets else ():
            if choice.endswith(_on(name)):
                choice, found = choice.removesuffix(_on(name)), {DATASET: name}
        for word in [choice] if self._is_one(choice) else choice.split(" + "):
            name, _, level = word.partition("=")
            if name not in self._levels or "=" not in word:
                name, level = self._owner(word, where=f"{flag} {choice}"), word
            levels = self._levels[name]
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
    def _levels(self) -> dict[str, list[str]]:
        """The levels of each factor, and the data sets where there are several."""
        levels = {name: list(factor.levels) for name, factor in self.study.factors.items()}
        return levels | ({DATASET: list(self.sets)} if self.study.datasets else {})

    @cached_property
    def _owners(self) -> dict[str, list[str]]:
        """Which factors have a level of that name."""
        owners: dict[str, list[str]] = {}
        for name, levels in self._levels.items():
            for level in levels:
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
            raise self._error(where, f"no factor {name!r}; {nearest(name, self._levels)}")
        raise self._error(where, f"no level {level!r}; {nearest(level, self._owners)}")

    def _error(self, where: str, what: str) -> StudyError:
        return StudyError(f"{self.study.file}: {where}: {what}" if self.study.file else f"{where}: {what}")

    def _arm(self, levels: Levels) -> Arm:
        control = self.study.control
        changed = [name for name in control if levels[name] != control[name]]
        shown = changed or list(control)
        label = " + ".join(self._shown(name, levels[name]) for name in shown) + _on(levels.get(DATASET, ""))
        recipe = _recipe(self.study, levels, self._tuned(levels, label))
        asked, version = self.study.metrics, _data_version(recipe)
        meanings, plugins = recipe.meanings(asked), recipe.plugins(asked)
        if self.study.tune and not self.trying and label not in self.choices:
            meanings = meanings | {"not tuned yet": 0}  # an id that no result has
        bare = (" + ".join(levels[name] for name in changed),) if changed else tuple(control.values())
        return Arm(
            label=f"{label}, {levels[TRY]}" if TRY in levels else label,
            levels=levels,
            recipe=recipe,
            trials=tuple(
                Trial(arm=levels, seed=seed, recipe=recipe, data_version=version, meanings=meanings, plugins=plugins)
                for seed in self.study.seeds
            ),
            bare=bare,
        )

    def _tuned(self, levels: Levels, label: str) -> Setting:
        """What is tuned: the try's values, the chosen ones, or the first ones while none are chosen."""
        tune = self.study.tune
        if not tune:
            return {}
        if TRY in levels:
            return tune.tries[levels[TRY]] | {"train.held_out": tune.held_out}
        return self.choices[label].setting if label in self.choices else next(iter(tune.tries.values()))

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


def _on(dataset: str) -> str:
    """What a label says of its data set."""
    return f" on {dataset}" if dataset else ""


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
    settings = {f"factors.{name}": factor.levels for name, factor in study.factors.items()}
    tuned = {"": {**study.tune.knobs, "train.held_out": 0}} if study.tune else {}
    settings |= {"datasets": study.datasets or {}, "tune": tuned}
    for name, levels in settings.items():
        for path in dict.fromkeys(path for setting in levels.values() for path in setting):
            if path in owners:
                raise StudyError(f"{owners[path]} and {name} both set {path}; one of them may")
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


def _recipe(study: Study, levels: Levels, tuned: Setting) -> Recipe:
    document = study.recipe.model_dump(exclude_unset=True)
    datasets = study.datasets or {}
    chosen = {
        f"factors.{name}": study.factors[name].levels[level] for name, level in levels.items() if name in study.factors
    }
    chosen |= {"tune": tuned}
    chosen |= {f"datasets.{name}": datasets[name] for factor, name in levels.items() if factor == DATASET}
    settings = [(path.split("."), value, at) for at, setting in chosen.items() for path, value in setting.items()]
    for path, value, at in sorted(settings, key=lambda setting: len(setting[0])):  # a part before its knobs
        document = merge(document, nested(path, value, at=at))
    try:
        return Recipe.model_validate(document).settled(on_gpu=study.budget.gpus > 0)
    except ValidationError as error:
        where, what = invalid(error)
        raise StudyError(f"arm {_spelt(levels)}: recipe.{where}: {what}") from None
    except PartError as error:
        raise PartError(f"arm {_spelt(levels)}: {error}") from None


def _spelt(levels: Levels) -> str:
    return ", ".join(f"{name}={level}" for name, level in levels.items())


def _data_version(recipe: Recipe) -> str | None:
    part = recipe.dataset
    version: str | None = registry.build("dataset", part.name, part.knobs).info.version
    return version
