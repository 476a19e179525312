"""From a study to its trials: which arms there are, and which control each is compared with."""

from collections import Counter
from itertools import product
from typing import Any

from pydantic import ValidationError

from ablate import registry
from ablate.errors import PartError, StudyError, nearest
from ablate.study.factor import Factor
from ablate.study.recipe import Recipe, TrainSpec, Trial
from ablate.study.study import Study, blaming, merge

Arm = dict[str, str]  # factor name -> level label


def arms(study: Study) -> list[Arm]:
    """All arms, the control first: each other level alone, or all combinations (full factorial)."""
    if study.design == "full_factorial":
        return [
            dict(zip(study.factors, labels, strict=True))
            for labels in product(*(factor.levels for factor in study.factors.values()))
        ]
    others = [(name, level) for name, factor in study.factors.items() for level in list(factor.levels)[1:]]
    return [study.control] + [study.control | {name: level} for name, level in others]


def contrasts(study: Study) -> list[Arm]:
    """The planned comparisons: every other arm against the control."""
    return arms(study)[1:]


def expand(study: Study) -> list[Trial]:
    """Every arm with every seed, seeds outermost so that an interrupted run still compares all arms.

    Raises:
        StudyError: a path that leads nowhere, two arms that are the same trial, or a `match` yet to be solved.
        PartError: a part or knob that no shelf has.
    """
    with blaming(study.file):
        for name, factor in study.factors.items():
            if factor.match:
                raise StudyError(f"factors.{name}.match: not solved; ablate.match.solve makes its levels")
        _refuse_equal_labels(study)
        trials = _trials(study)
        _refuse_collapsed(trials)
    return trials


def one_of_each_arm(study: Study) -> list[Trial]:
    """Every arm with the first seed; see `expand`."""
    return expand(study.model_copy(update={"seeds": study.seeds[:1]}))


def label(study: Study, arm: Arm) -> str:
    """An arm by the levels in which it differs from the control, the control by its own; `factor=level` where several
    factors have a level of that name."""
    often = Counter(level for factor in study.factors.values() for level in factor.levels)
    changed = [name for name, level in arm.items() if level != study.control[name]]
    return " + ".join(arm[name] if often[arm[name]] == 1 else f"{name}={arm[name]}" for name in changed or arm)


def _trials(study: Study) -> list[Trial]:
    recipes = [(arm, _recipe(study, arm)) for arm in arms(study)]
    whole = [(arm, recipe, _data_version(recipe), recipe.meanings()) for arm, recipe in recipes]
    return [
        Trial(arm=arm, seed=seed, recipe=recipe, data_version=version, meanings=meanings)
        for seed in study.seeds
        for arm, recipe, version, meanings in whole
    ]


def _recipe(study: Study, arm: Arm) -> Recipe:
    document = study.recipe.model_dump(exclude_unset=True)
    settings = [
        (path.split("."), value, name)
        for name, level in arm.items()
        for path, value in study.factors[name].levels[level].items()
    ]
    for path, value, name in sorted(settings, key=lambda setting: len(setting[0])):  # a part before its knobs
        document = merge(document, _nested(path, value, factor=name))
    try:
        return Recipe.model_validate(document).settled(on_gpu=study.budget.gpus > 0)
    except ValidationError as error:
        raise StudyError(_complaint(study.factors, arm, error)) from None
    except PartError as error:
        raise PartError(f"arm {', '.join(f'{k}={v}' for k, v in arm.items())}: {error}") from None


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


def _complaint(factors: dict[str, Factor], arm: Arm, error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"arm {', '.join(f'{name}={arm[name]}' for name in factors)}: recipe.{where}: {message}"


def _data_version(recipe: Recipe) -> str | None:
    part = recipe.dataset
    version: str | None = registry.build("dataset", part.name, part.knobs).info.version
    return version


def _refuse_equal_labels(study: Study) -> None:
    """Tables, lines and verdicts name an arm by its label."""
    seen: set[str] = set()
    for arm in arms(study):
        name = label(study, arm)
        if name in seen:
            raise StudyError(f"factors: two arms would both be called {name!r}; give one of their levels another name")
        seen.add(name)


def _refuse_collapsed(trials: list[Trial]) -> None:
    seen: dict[str, Trial] = {}
    for trial in trials:
        twin = seen.setdefault(trial.id, trial)
        if twin is not trial:
            names = [name for name in trial.arm if trial.arm[name] != twin.arm[name]]
            pair = f"{twin.arm[names[0]]!r} and {trial.arm[names[0]]!r}"
            raise StudyError(f"factors.{names[0]}: levels {pair} are the same trial")
