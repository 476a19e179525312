"""A factor of size, such as width, epochs or images: whether differences keep their sign on it, and how scores grow."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, TypeGuard

import numpy as np

from ablate.analysis import Comparison, Evidence, Row, sign_held, stats
from ablate.registry import less_is_better, section
from ablate.report.blocks import (
    MISSING,
    Block,
    Cell,
    Column,
    Figure,
    Panel,
    Series,
    Table,
    Text,
    decimals,
    listed,
    signed,
)
from ablate.report.blocks import interval as ends

FEWEST = 3  # sizes that an exponent is fitted to
SIZES = (  # paths that an error may be a power of; a learning rate has a best value and is none
    "train.epochs",
    "train.images",
    "model.width",
    "task.size",
    "dataset.images",
    "dataset.train",
)


@dataclass(frozen=True)
class Rungs:
    """A study that compares within a factor, arms in lines along it."""

    factor: str
    path: str  # the size that its levels set; empty where they set none
    beside: tuple[str, ...]  # what they set besides
    why_not: str  # why there is no size though levels set one, in a sentence
    sizes: dict[str, float]  # by level, rising; their places where they set no size
    lines: dict[str, list[Row]]  # what an arm is called but for the factor -> its rows, by size; the control's first


@section("rungs", meaning=1, place=42)
def rungs() -> Callable[[Evidence], list[Block]]:
    """Of a study with `compare: within FACTOR`: whether the order holds along it, and exponents where it is a size."""

    def blocks(evidence: Evidence) -> list[Block]:
        found = _rungs(evidence)
        compared = {comparison.arm: comparison for comparison in evidence.comparisons_in(evidence.primary)}
        if found is None or not any(comparison.effect.n for comparison in compared.values()):
            return []
        tables = [_order(evidence, found, compared), *_exponents(evidence, found)]
        return [Text(f"Along {found.factor}", "heading"), *tables[:1], _figure(evidence, found, compared), *tables[1:]]

    return blocks


def _rungs(evidence: Evidence) -> Rungs | None:
    how, word, name = evidence.study.comparing.partition("within ")
    if how or not word:
        return None
    levels, control = evidence.study.factors[name].levels, evidence.study.factors[name].control
    path, why_not = _size(name, levels)
    sizes = {label: setting[path] for label, setting in levels.items()} if path else _places(levels)
    lines: dict[tuple[str, ...], list[Row]] = {}
    for row in sorted(evidence.rows, key=lambda row: sizes[row.levels[name]]):
        lines.setdefault(tuple(level for factor, level in row.levels.items() if factor != name), []).append(row)
    return Rungs(
        factor=name,
        path=path,
        beside=tuple(dict.fromkeys(other for setting in levels.values() for other in setting if other != path)),
        why_not=why_not,
        sizes=dict(sorted(sizes.items(), key=lambda item: item[1])),
        lines={_name(evidence, line, name, control): line for line in lines.values()},
    )


def _size(factor: str, levels: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    """The one size that all levels set, or why there is none, in a sentence; neither where no level sets a size."""
    paths = list(dict.fromkeys(path for setting in levels.values() for path in setting if path in SIZES))
    known = [path for path in paths if all(_positive(setting.get(path)) for setting in levels.values())]
    if not paths:
        return "", ""
    if not known:
        return "", f"No exponent of {listed(paths)}: not set to one number above 0 by every level of {factor}."
    if len(known) > 1:
        return "", f"No exponent of {listed(known)}: the levels of {factor} set more than one size."
    if len({setting[known[0]] for setting in levels.values()}) < len(levels):
        return "", f"No exponent of {known[0]}: two levels of {factor} set the same."
    return known[0], ""


def _places(levels: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The places of levels that set no size: in the order of their numbers where each sets one, else as written."""
    paths = {path for setting in levels.values() for path in setting}
    numbers = {label: value for label, setting in levels.items() for value in setting.values() if _is_number(value)}
    plain = len(paths) == 1 and len(numbers) == len(levels)
    return {label: float(at) for at, label in enumerate(sorted(numbers, key=numbers.__getitem__) if plain else levels)}


def _positive(value: object) -> bool:
    return _is_number(value) and value > 0


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name(evidence: Evidence, line: list[Row], factor: str, control: str) -> str:
    """What a line is called: as its arm with the control's level of the factor, whose label does not name it."""
    row = next(row for row in line if row.levels[factor] == control)
    if not row.is_control:
        return row.label
    others = [(name, row.levels[name]) for name in evidence.study.factors if name != factor]
    shown = [full if (full := f"{name}={level}") in row.label else level for name, level in others]
    return " + ".join(shown) + (f" on {row.dataset}" if row.dataset else "")


def _order(evidence: Evidence, found: Rungs, compared: dict[str, Comparison]) -> Table:
    """Each line's differences by size, and in how many larger ones a shown sign held."""
    digits, total = decimals(evidence.ends), [0, 0, 0]
    columns = [Column("Arm", "left"), *(Column(f"{found.factor} {level}", "center") for level in found.sizes)]
    columns.append(Column("Sign held", minor="of known"))
    rows = []
    for name, line in found.lines.items():
        own = [compared.get(row.label) for row in line]
        if not any(own):
            continue
        held = sign_held([one for one in own if one])
        total = [before + now for before, now in zip(total, held, strict=True)]
        rows.append([Cell(name), *(_difference(one, digits) for one in own), _share(*held)])
    rows.append([Cell("all"), *(Cell("") for _ in found.sizes), _share(*total)])
    return Table(_asked(found), columns, rows, [_order_note(evidence, found)])


def _asked(found: Rungs) -> str:
    if found.path:
        return f"Does a small {found.factor} foretell a large one?"
    return f"Does the order hold along {found.factor}?"


def _order_note(evidence: Evidence, found: Rungs) -> str:
    pairs = f"a smaller {found.factor} and a larger one" if found.path else f"two levels of {found.factor}"
    others = "Where it is not shown at both nothing is known, and such pairs are only counted."
    if evidence.rule.margin is not None:
        others = (
            "All other pairs are only counted as not known: where nothing is shown no sign is known, and a difference "
            "that is shown to lie within the margin has none to hold."
        )
    return (
        f"Δ {evidence.primary} × 100 from the control of the same {found.factor}, its 95% interval, and the verdict. "
        f"Sign held: of all pairs of {pairs} where a difference is shown at both, those with the same sign. {others}"
    )


def _share(held: int, known: int, unknown: int) -> Cell:
    rest = f"{unknown} not known" if unknown else ""
    return Cell(f"{held} of {known}" if known else MISSING, rest)


def _difference(comparison: Comparison | None, digits: int) -> Cell:
    if comparison is None or not comparison.effect.n:
        return Cell(MISSING)
    effect = comparison.effect
    said = f"{ends(effect.low, effect.high, digits)} {comparison.verdict or ''}".strip()
    return Cell(signed(effect.diff, digits), said, strong=comparison.shown)


def _exponents(evidence: Evidence, found: Rungs) -> Iterator[Table | Text]:
    """How the error falls with the size: a power law in each seed, whose exponents are a mean with a t interval."""
    why_not = found.why_not
    if found.path and len(found.sizes) < FEWEST:
        why_not = f"No exponent of {found.path}: it takes {FEWEST} sizes."
    if why_not or not found.path:
        yield from [Text(why_not)] if why_not else []
        return
    rows, without = [], []
    for name, line in found.lines.items():
        errors, lacking = _errors(evidence, line)
        if lacking:
            without.append(f"No exponent of {name}: {lacking}.")
        else:
            rows.append([Cell(name), *_exponent(errors, [found.sizes[row.levels[found.factor]] for row in line])])
    if rows:
        columns = [Column("Arm", "left"), Column("Seeds"), Column("Exponent"), Column("95% interval", "center")]
        columns.append(Column("Misfit"))
        notes = [_exponents_note(evidence, found), *without]
        yield Table(f"How the error falls with {found.path}.", columns, rows, notes)
    else:
        yield Text(" ".join(without))


def _exponents_note(evidence: Evidence, found: Rungs) -> str:
    beside = f" The levels of {found.factor} set {listed(found.beside)} too." if found.beside else ""
    return (
        f"The error, {_error_in_words(evidence)}, is taken as c times {found.path} to the power of -exponent; the "
        "line through its logarithms is fitted in every seed, and the interval is a t interval over seeds: a "
        "percentile bootstrap over so few covers too little. Misfit: the largest distance of a mean error from its "
        f"line, of the error. Nothing is said of sizes beyond those that were trained.{beside}"
    )


def _errors(evidence: Evidence, line: list[Row]) -> tuple[np.ndarray, str]:
    """By seed and size the errors of the seeds that have a score at all sizes; or why they have no logarithms."""
    scores, nothing = [row.scores[evidence.primary] for row in line], np.empty((0, len(line)))
    for row, own in zip(line, scores, strict=True):
        if not own:
            return nothing, f"{row.label} has no score"
    seeds = sorted(set.intersection(*map(set, scores)))
    if not seeds:
        return nothing, "no seed has a score at every size"
    errors = np.array([[_error(evidence, own[seed]) for own in scores] for seed in seeds])
    for at, size in np.argwhere(errors <= 0)[:1]:
        return nothing, f"seed {seeds[at]} has no error above 0 in {line[size].label}"
    return errors, ""


def _exponent(errors: np.ndarray, sizes: list[float]) -> list[Cell]:
    """How many seeds, the mean of their exponents with its interval, and the misfit of the mean."""
    logs, at = np.log(errors), np.log(sizes)
    fits = [np.polyfit(at, own, 1) for own in logs]
    effect = stats.paired(np.zeros(len(fits)), [-float(fit[0]) for fit in fits])
    known = f"[{effect.low:.3f}, {effect.high:.3f}]" if math.isfinite(effect.low) else MISSING
    misfit = float(np.expm1(np.abs(logs.mean(axis=0) - np.polyval(np.mean(fits, axis=0), at)).max()))
    return [Cell(str(len(fits))), Cell(f"{effect.diff:.3f}"), Cell(known), Cell(f"{misfit:.1%}")]


def _less_is_better(evidence: Evidence) -> bool:
    return less_is_better(evidence.recipe.task.name, evidence.primary)


def _error(evidence: Evidence, score: float) -> float:
    return score if _less_is_better(evidence) else 1 - score


def _error_in_words(evidence: Evidence) -> str:
    return evidence.primary if _less_is_better(evidence) else f"1 - {evidence.primary}"


def _figure(evidence: Evidence, found: Rungs, compared: dict[str, Comparison]) -> Figure:
    """Scores, and differences from the control of the same size, along the factor."""
    scores, gaps = [], []
    for at, (name, line) in enumerate(found.lines.items()):
        known = [row for row in line if row.scores[evidence.primary]]
        x = [_place(found, row) for row in known]
        y = [100 * fmean(row.scores[evidence.primary].values()) for row in known]
        scores += [Series("line" if len(x) > 1 else "points", x, y, colour=at, name=name)] if x else []
        for row in line:
            one = compared.get(row.label)
            if one and one.effect.n > 1:
                place, low, high = _place(found, row), 100 * one.effect.low, 100 * one.effect.high
                gaps.append(Series("points", [place], [100 * one.effect.diff], colour=at))
                gaps += [Series("y_interval", [place], [], [low], [high], colour=at)] if math.isfinite(low) else []
    label = f"log2 {found.path}" if found.path else f"{found.factor}: {', '.join(found.sizes)}"
    caption = (
        f"{evidence.primary} along {found.factor}, and differences from the control of the same, with 95% intervals."
    )
    panels = [Panel(label, f"{evidence.primary} × 100", scores), Panel(label, f"Δ {evidence.primary}", gaps)]
    return Figure("rungs", caption, [panel for panel in panels if panel.series])


def _place(found: Rungs, row: Row) -> float:
    size = found.sizes[row.levels[found.factor]]
    return math.log2(size) if found.path else size
