"""A factor of size, such as width, epochs or images: whether differences keep their sign on it, and how scores grow."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from ablate.analysis import Comparison, Evidence, Row, sign_held, stats
from ablate.registry import less_is_better, section
from ablate.report.blocks import MISSING, Block, Cell, Column, Figure, Panel, Series, Table, Text, decimals, signed
from ablate.report.blocks import interval as ends

FEWEST = 3  # sizes that an exponent is fitted to


@dataclass(frozen=True)
class Rungs:
    """A study that compares within a factor, arms in lines along it."""

    factor: str
    path: str  # what its levels set; empty where they are no numbers
    sizes: dict[str, float]  # by level, rising; their places where they are no numbers
    lines: dict[str, list[Row]]  # what an arm is besides -> its rows, by size; the control's line first


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
    levels = evidence.study.factors[name].levels
    paths = {path for setting in levels.values() for path in setting}
    values = {label: next(iter(setting.values())) for label, setting in levels.items() if len(setting) == 1}
    sized = len(paths) == 1 and len(values) == len(levels) and all(_positive(value) for value in values.values())
    sizes = values if sized else {label: float(at) for at, label in enumerate(levels)}
    lines: dict[str, list[Row]] = {}
    for row in sorted(evidence.rows, key=lambda row: sizes[row.levels[name]]):
        lines.setdefault(" + ".join(level for factor, level in row.levels.items() if factor != name), []).append(row)
    first = " + ".join(level for factor, level in evidence.control.levels.items() if factor != name)
    ordered = {first: lines.pop(first), **lines}
    sizes = dict(sorted(sizes.items(), key=lambda item: item[1]))
    return Rungs(name, next(iter(paths)) if sized else "", sizes, ordered)


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


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
    notes = [
        f"Δ {evidence.primary} × 100 from the control of the same {found.factor}, its 95% interval, and the verdict. "
        f"Sign held: of all pairs of a smaller {found.factor} and a larger one where a difference is shown at both, "
        "those with the same sign. Where it is not shown at both nothing is known, and such pairs are only counted."
    ]
    return Table(f"Does a small {found.factor} foretell a large one?", columns, rows, notes)


def _share(held: int, known: int, unknown: int) -> Cell:
    rest = f"{unknown} not known" if unknown else ""
    return Cell(f"{held} of {known}" if known else MISSING, rest)


def _difference(comparison: Comparison | None, digits: int) -> Cell:
    if comparison is None or not comparison.effect.n:
        return Cell(MISSING)
    effect = comparison.effect
    said = f"{ends(effect.low, effect.high, digits)} {comparison.verdict or ''}".strip()
    return Cell(signed(effect.diff, digits), said, strong=comparison.shown)


def _exponents(evidence: Evidence, found: Rungs) -> Iterator[Table]:
    """How the error falls with the size: a power law in each seed, whose exponents are a mean with a t interval."""
    if not found.path or len(found.sizes) < FEWEST:
        return
    rows = []
    for name, line in found.lines.items():
        slopes, misfit = _slopes(evidence, found, line)
        if not slopes:
            continue
        effect = stats.paired(np.zeros(len(slopes)), slopes)
        known = f"[{effect.low:.3f}, {effect.high:.3f}]" if math.isfinite(effect.low) else MISSING
        rows.append(
            [Cell(name), Cell(str(len(slopes))), Cell(f"{effect.diff:.3f}"), Cell(known), Cell(f"{misfit:.1%}")]
        )
    if rows:
        columns = [Column("Arm", "left"), Column("Seeds"), Column("Exponent"), Column("95% interval", "center")]
        note = (
            f"The error, {_error_in_words(evidence)}, is taken as c times {found.path} to the power of -exponent; the "
            "line through its logarithms is fitted in every seed, and the interval is a t interval over seeds: a "
            "percentile bootstrap over so few covers too little. Misfit: the largest distance of a mean error from its "
            "line, of the error. Nothing is said of sizes beyond those that were trained."
        )
        columns.append(Column("Misfit"))
        yield Table(f"How the error falls with {found.path}.", columns, rows, [note])


def _slopes(evidence: Evidence, found: Rungs, line: list[Row]) -> tuple[list[float], float]:
    """The exponent of each seed that has a score at all sizes, and the misfit of the mean."""
    metric, sizes = evidence.primary, np.log([found.sizes[row.levels[found.factor]] for row in line])
    seeds = set.intersection(*(set(row.scores[metric]) for row in line))
    errors = np.array([[_error(evidence, row.scores[metric][seed]) for row in line] for seed in sorted(seeds)])
    if len(line) < FEWEST or not len(errors) or not (errors > 0).all():
        return [], math.nan
    logs = np.log(errors)
    fits = [np.polyfit(sizes, own, 1) for own in logs]
    mean = logs.mean(axis=0)
    apart = np.abs(mean - np.polyval(np.mean(fits, axis=0), sizes))
    return [-float(fit[0]) for fit in fits], float(np.expm1(apart.max()))


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
    label = f"log2 {found.path}" if found.path else found.factor
    caption = (
        f"{evidence.primary} along {found.factor}, and differences from the control of the same, with 95% intervals."
    )
    panels = [Panel(label, f"{evidence.primary} × 100", scores), Panel(label, f"Δ {evidence.primary}", gaps)]
    return Figure("rungs", caption, [panel for panel in panels if panel.series])


def _place(found: Rungs, row: Row) -> float:
    size = found.sizes[row.levels[found.factor]]
    return math.log2(size) if found.path else size
