"""Matched compute: the levels of a factor that asks for it are brought to equal cost by solving for a knob of each.

`solve` turns a study with `match` into an ordinary one, and nothing after it knows of matching: behind each level as
it is written stands `LEVEL matched`, which sets the solved knob too. Networks are priced on the meta device, once:
what was solved is kept in the results folder (matched.json), so that neither status nor report needs torch. It goes
with published results for those who read them where they lie; whoever imports them solves again.
"""

from contextlib import suppress
from dataclasses import dataclass
from math import floor, log10
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter

from ablate.errors import PartError, StoreError, StudyError, nearest
from ablate.machine import fingerprint
from ablate.planning import kept
from ablate.planning.search import search
from ablate.study import MATCHED, STRICT, Design, Factor, Match, Recipe, RecipePath, Study, Trial, blaming

FILE = "matched.json"
NETWORK = ("task", "dataset", "model")  # the parts of a recipe that decide what its network costs


class Solution(BaseModel):
    """The value of a knob that brings a level nearest to what it should cost."""

    model_config = STRICT
    # None: no value comes nearer than the level as it is written
    value: Annotated[int, Field(gt=-(2**63), lt=2**63)] | float | None
    macs: int = Field(ge=0, lt=2**63)  # of the level with this value
    aim: int = Field(gt=0, lt=2**63)  # MACs that it should have

    @property
    def gap(self) -> float:
        """How far the level is from the aim, in per cent of the aim."""
        return 100 * (self.macs - self.aim) / self.aim


@dataclass(frozen=True)
class Question:
    """With which value of the knob `by` does a level cost as much as the aim?"""

    factor: str
    level: str
    by: RecipePath
    trial: Trial  # of the level as it is written, all other factors at their controls
    written: int | float  # the knob's value there
    aim: Trial | float  # the control's, or decimal GMACs

    @property
    def key(self) -> str:
        """A hash of all that decides the solution: the knob, both networks, and the meanings of their parts."""

        def network(trial: Trial) -> dict[str, Any]:
            parts = trial.recipe.model_dump(mode="json", include=set(NETWORK))
            document = {"parts": parts, "meanings": {kind: trial.meanings[kind] for kind in NETWORK}}
            digests = {kind: plugin.digest for kind, plugin in trial.plugins.items() if kind in NETWORK}
            return document | ({"plugins": digests} if digests else {})

        aim = network(self.aim) if isinstance(self.aim, Trial) else self.aim
        return fingerprint({"by": self.by, "level": network(self.trial), "aim": aim})


Answered = tuple[Question, Solution]


def solve(study: Study, results: Path | str | None = None, *, keep: bool = True) -> Study:
    """The study with every `match` replaced by levels that cost the same; `note` says how nearly they do.

    What was solved before is read from the results folder, and what is new is kept there. Without `keep` no folder is
    made for it.

    Raises:
        StudyError: a knob that the level's model does not have, or that cannot bring it near enough to the aim.
        PartError: a part or knob that no shelf has.
    """
    with blaming(study.file):
        questions = _questions(study)
        solutions = _solutions(questions, results, keep=keep, file=study.file)
        factors, notes = dict(study.factors), [study.note] if study.note else []
        for name, factor in study.factors.items():
            if wish := factor.match:
                mine = [(question, solutions[question.key]) for question in questions if question.factor == name]
                for question, solution in mine:
                    _refuse_far(question, solution, within=wish.within)
                factors[name] = _spelt_out(factor, wish, mine)
                notes += [_sentence(name, wish, mine)] if mine else []
    return study.model_copy(update={"factors": factors, "note": " ".join(notes)})


def publish(study: Study, results: Path | str, target: Path | str) -> None:
    """Put what was solved for a study, as it is written, into the folder of its published results."""
    if questions := _questions(study):
        _write(target, _read(target) | _solutions(questions, results, keep=False, file=study.file))


def _questions(study: Study) -> list[Question]:
    found = []
    for name, factor in study.factors.items():
        if factor.match:
            gmacs = factor.match.gmacs
            aim = _trial(study, name, factor.control) if gmacs == "control" else float(gmacs)
            for level, by in factor.match.knobs(factor.levels).items():
                trial = _trial(study, name, level)
                _refuse_fixed(study, name, level, by, trial.recipe)
                written = _number(trial.recipe, by, place=f"factors.{name}.match: level {level!r}")
                if not (isinstance(aim, Trial) and _differ_in(by, trial.recipe, aim.recipe)):
                    found.append(Question(name, level, by, trial, written, aim))
    return found


def _refuse_fixed(study: Study, name: str, level: str, by: RecipePath, recipe: Recipe) -> None:
    """A knob that another factor sets, or that starting weights fix, is not free to be solved for."""
    for other, rival in study.factors.items():
        paths = [path for setting in rival.levels.values() for path in setting]
        if other != name and any(by == path or by.startswith(f"{path}.") for path in paths):
            raise StudyError(f"factors.{name}.match: {by} is set by factors.{other} too")
    if recipe.weights and by.startswith("model."):
        raise StudyError(
            f"factors.{name}.match: level {level!r} starts from {recipe.weights.file}, which fits one {by} only"
        )


def _differ_in(by: RecipePath, level: Recipe, control: Recipe) -> bool:
    """Whether a level is the control but for the knob that would be solved for: matched, it is the control."""
    kind, name = by.split(".")
    value = getattr(control, kind).knobs.get(name)
    return value is not None and _with(level, by, value) == control


def _trial(study: Study, name: str, level: str) -> Trial:
    """The first trial of one level as it is written."""
    labels = study.control | {name: level}
    factors = {
        other: factor.model_copy(update={"match": None, "levels": {labels[other]: factor.levels[labels[other]]}})
        for other, factor in study.factors.items()
    }
    return Design(study.model_copy(update={"factors": factors})).control.trials[0]


def _number(recipe: Recipe, by: RecipePath, *, place: str) -> int | float:
    """The value of a knob that can be solved for."""
    kind, name = by.split(".")
    part = getattr(recipe, kind)
    if name not in part.knobs:
        raise StudyError(f"{place}: the {kind} {part.name!r} has no knob {name!r}; {nearest(name, part.knobs)}")
    value = part.knobs[name]
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise StudyError(f"{place}: {by} is {value!r}, no number to solve for")
    return value


def _spelt_out(factor: Factor, wish: Match, mine: list[Answered]) -> Factor:
    """The factor with matched levels behind the written ones instead of the wish for them; the control stays first."""
    matched = {question.level: (question.by, solution.value) for question, solution in mine}
    levels: dict[str, dict[RecipePath, Any]] = {}
    for label, setting in factor.levels.items():
        by, value = matched.get(label, ("", None))
        if value is None or (wish.raw and label != factor.control):
            levels[label] = setting
        if value is not None:
            others = {path: choice for path, choice in setting.items() if path != by}
            levels[label + MATCHED] = others | {by: value}
    return factor.model_copy(update={"levels": levels, "match": None})


def _refuse_far(question: Question, solution: Solution, *, within: float) -> None:
    if abs(solution.gap) > within:
        value = question.written if solution.value is None else solution.value
        raise StudyError(
            f"factors.{question.factor}.match: level {question.level!r}: {question.by} cannot bring it to "
            f"{_gmacs(solution.aim)} within {within:g} %; the nearest value, {value:g}, costs {_cost(solution)}"
        )


def _sentence(name: str, wish: Match, mine: list[Answered]) -> str:
    """How nearly the levels of a factor cost the same."""
    said = [
        f"{question.level} {'as it is' if solution.value is None else f'with {question.by} {solution.value:g}'} "
        f"({_cost(solution)})"
        for question, solution in mine
    ]
    aim = "the control's " * (wish.gmacs == "control") + _gmacs(mine[0][1].aim)
    worst = max(abs(solution.gap) for _, solution in mine)
    return f"Levels of {name} are matched within {worst:.2g} % to {aim}: {'; '.join(said)}."


def _cost(solution: Solution) -> str:
    return f"{_gmacs(solution.macs)}, " + f"{solution.gap:+.1f} %".replace("-", "−")


def _gmacs(macs: int) -> str:
    return f"{macs / 1e9:.4g} GMACs"


def _solutions(questions: list[Question], results: Path | str | None, *, keep: bool, file: str) -> dict[str, Solution]:
    """Answers by key: those that the results folder has, the others anew."""
    known = _read(results)
    new = {question.key: question for question in questions if question.key not in known}
    if new:
        known |= _answers(new, file=file)
        if results and (keep or kept.is_there(results)):
            with suppress(StoreError):  # of a folder that others own; what is not kept is solved again
                _write(results, known)
    return {question.key: known[question.key] for question in questions}


def _answers(questions: dict[str, Question], *, file: str) -> dict[str, Solution]:
    from ablate.planning.arm_costs import counted  # torch

    def macs(trial: Trial) -> int:
        return counted(trial.recipe, trial.arm, file=file).macs

    answers = {}
    for key, question in questions.items():
        aim = macs(question.aim) if isinstance(question.aim, Trial) else max(1, round(1e9 * question.aim))
        answers[key] = _answer(question, own=macs(question.trial), aim=aim)
    return answers


def _answer(question: Question, *, own: int, aim: int) -> Solution:
    """Solve for one level that costs `own` as it is written."""
    if own == aim:
        return Solution(value=None, macs=own, aim=aim)
    unit = _unit(question.written)
    start = (max(1, round(question.written * unit)), own)
    known: dict[int, int | None] = {start[0]: own}

    def value(step: int) -> int | float:
        return step / unit if isinstance(question.written, float) else step

    def macs(step: int) -> int | None:  # None where there is no such network
        if step not in known:
            known[step] = _macs(_with(question.trial.recipe, question.by, value(step)))
        return known[step]

    best = search(macs, start, aim)
    return Solution(value=None if best == start else value(best[0]), macs=best[1], aim=aim)


def _unit(written: int | float) -> int:
    """Steps in which a knob is solved for, per one: of whole numbers 1, of others enough for three digits."""
    if isinstance(written, int):
        return 1
    return 10 ** max(0, 2 - floor(log10(written))) if written > 0 else 100


def _macs(recipe: Recipe) -> int | None:
    from ablate.network.cost import price  # torch

    try:
        return price(recipe).macs
    except (PartError, ValueError, RuntimeError, AssertionError):  # a width that attention heads do not divide ...
        return None


def _with(recipe: Recipe, path: RecipePath, value: int | float) -> Recipe:
    kind, name = path.split(".")
    part = getattr(recipe, kind)
    return recipe.model_copy(update={kind: part.model_copy(update={"knobs": part.knobs | {name: value}})})


def _read(results: Path | str | None) -> dict[str, Solution]:
    """What was solved before; nothing where the file is missing or damaged, for it can be solved again."""
    try:
        return TypeAdapter(dict[str, Solution]).validate_python(kept.read(results, FILE))
    except ValueError:
        return {}


def _write(results: Path | str, solved: dict[str, Solution]) -> None:
    kept.write(results, FILE, {key: solution.model_dump() for key, solution in solved.items()})
