"""The paper-style table: every arm with its scores, its difference from the control, and its cost."""

import math
from collections.abc import Callable
from typing import Any

from ablate.analysis import Comparison, Evidence, Row, declared
from ablate.registry import describe, error_units, section
from ablate.report.blocks import (
    MISSING,
    Block,
    Cell,
    Column,
    Table,
    Text,
    decimals,
    errors_in_words,
    interval,
    percent,
    signed,
)
from ablate.report.verdicts import interval_of


@section("table", meaning=1, place=20)
def table() -> Callable[[Evidence], list[Block]]:
    """Mean and spread of every metric, the difference from the control with its verdict, parameters and MACs."""

    def blocks(evidence: Evidence) -> list[Block]:
        columns, last = _columns(evidence), evidence.datasets[-1]
        tables = [
            Table(_caption(evidence, name), columns, _rows(evidence, name), _notes(evidence) if name == last else [])
            for name in evidence.datasets
        ]
        return [Text("Results", "heading"), *tables]

    return blocks


def _columns(evidence: Evidence) -> list[Column]:
    primary, *others = evidence.study.metrics
    columns = [
        Column(" + ".join(evidence.study.factors), "left"),
        *([Column("Starts from", "left")] if evidence.any_weights else []),
        Column("n", minor="of m"),
        Column(primary),
        Column(f"Δ {primary}", minor="95% interval"),
        Column("Verdict", "left"),
        *(Column(metric) for metric in others),
        Column("Params", minor="M"),
        Column("GMACs", minor="(GFLOPs)"),
    ]
    if evidence.published:
        columns.append(Column(f"Paper {evidence.published.metric}"))
    return columns


def _rows(evidence: Evidence, dataset: str) -> list[list[Cell]]:
    compared = {comparison.arm: comparison for comparison in evidence.comparisons_in(evidence.primary)}
    digits = decimals(evidence.ends)
    return [_row(evidence, row, compared.get(row.label), digits) for row in evidence.rows_on(dataset)]


def _row(evidence: Evidence, row: Row, comparison: Comparison | None, digits: int) -> list[Cell]:
    primary, *others = evidence.study.metrics
    cells = [
        Cell(row.label, "(control)" if row.is_control else ""),
        *([Cell(row.start)] if evidence.any_weights else []),
        Cell(str(len(row.scores[primary])), f"of {len(row.ids)}"),
        _score(row, primary, digits),
        *_difference(comparison, digits),
        *(_score(row, metric, digits) for metric in others),
        *_cost(row),
    ]
    if evidence.published:
        cells.append(Cell(row.published or MISSING))
    return cells


def _score(row: Row, metric: str, digits: int) -> Cell:
    summary = row.summaries[metric]
    spread = f"± {percent(summary.sd, digits)}" if math.isfinite(summary.sd) else ""
    return Cell(percent(summary.mean, digits), spread)


def _difference(comparison: Comparison | None, digits: int) -> list[Cell]:
    if comparison is None or comparison.effect.n == 0:
        return [Cell(MISSING), Cell(MISSING)]
    effect, shown = comparison.effect, comparison.shown
    spread = interval(effect.low, effect.high, digits)
    return [
        Cell(signed(effect.diff, digits), spread, strong=shown),
        Cell(comparison.verdict or MISSING, strong=shown),
    ]


def _cost(row: Row) -> list[Cell]:
    cost = row.cost
    if cost is None:
        return [Cell(MISSING)] * 2
    unused = f"of {_million(cost.parameters)}" if cost.used_parameters < cost.parameters else ""
    macs = Cell(_three_digits(cost.macs / 1e9), f"({_three_digits(cost.macs / 2**30)})")
    return [Cell(_million(cost.used_parameters), unused), macs]


def _three_digits(value: float) -> str:
    return f"{value:.{3 if value < 1 else 2 if value < 10 else 1}f}"


def _million(count: int) -> str:
    return f"{count / 1e6:.2f}" if count < 1e7 else f"{count / 1e6:.1f}"


def _caption(evidence: Evidence, dataset: str) -> str:
    recipe = evidence.rows_on(dataset)[0].recipe
    train, versions = recipe.train, "" if dataset else ", ".join(evidence.data.get("version", {}))
    parts = [
        ", ".join([f"task {recipe.task.name}", *_input(evidence)]),
        f"data {_part(recipe.dataset.name, recipe.dataset.knobs)}" + (f", version {versions}" if versions else ""),
        f"{recipe.model.name}, {train.init} initialisation, {train.epochs} epochs, batch {train.batch}, "
        f"{train.optimizer}, learning rate {train.lr:g} ({train.schedule}), {train.precision}",
        f"evaluation after the last epoch, {_knobs(recipe.evaluation)}".removesuffix(", "),
    ]
    by, changed = " and ".join(evidence.study.factors), ", ".join(evidence.varied)
    what = f"On {dataset}: scores" if dataset else "Scores"
    return f"{what} and cost by {by}, the control first. The control: {'; '.join(parts)}. Changed: {changed}."


def _input(evidence: Evidence) -> list[str]:
    """What the network sees, where a knob of the task's says it."""
    task, cost = evidence.recipe.task, evidence.control.cost
    seen = task.knobs.get(describe("task", task.name).facts.get("input", "size"))
    if not seen:
        return []
    whole = cost is None or cost.image is None or list(cost.image) == list(seen)
    return [f"{'' if whole else 'training '}input {_plain(list(seen))}"]


def _one_image(evidence: Evidence) -> str:
    sizes = {row.cost.image for row in evidence.rows if row.cost and row.cost.image}
    return f"one image of {_plain(list(sizes.pop()))}" if len(sizes) == 1 else "one image"


def _part(name: str, knobs: dict[str, Any]) -> str:
    return f"{name} ({_knobs(knobs)})" if knobs else name


def _knobs(knobs: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in knobs.items() if value is not None)


def _plain(value: Any) -> str:
    if isinstance(value, list):  # two whole numbers are a size
        size = len(value) == 2 and all(type(item) is int for item in value)
        return ("×" if size else "/").join(_plain(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _transposed(evidence: Evidence) -> bool:
    return any(row.cost and row.cost.transposed_excess for row in evidence.rows)


def _notes(evidence: Evidence) -> list[str]:
    by = (len(evidence.datasets) > 1) * f", on {len(evidence.datasets)} data sets and over all"
    rule = declared(evidence.study, evidence.rule.looks)
    notes = [
        "Scores × 100: mean ± standard deviation over the n seeds of m planned that finished. Δ: "
        f"{_compared(evidence)} a 95% {interval_of(evidence)}. Verdict: {rule}, "
        f"{'Bonferroni' if evidence.rule.margin else 'Holm'} over {evidence.planned} planned "
        f"comparison{'s' * (evidence.planned > 1)}{by}, p < 0.05 and an interval without 0; "
        "bold where a difference is shown.",
        f"GMACs: 10⁹ multiply-adds of convolutions and linear layers for {_one_image(evidence)}; in brackets the "
        "same count over 2³⁰, the papers' GFLOPs"
        + (
            " but for transposed convolutions, which their tool counts higher (see Cost)."
            if _transposed(evidence)
            else "."
        )
        + (" Parameters: those the output depends on, of all." if _unused(evidence) else ""),
        evidence.one_recipe,
    ]
    if errors := _errors(evidence):
        notes.insert(1, errors_in_words(errors))
    if evidence.published:
        table = evidence.published
        notes.append(f"Paper: {table.source}; its protocol: {table.protocol}.")
    return notes


def _compared(evidence: Evidence) -> str:
    """What an arm is compared with, up to its interval."""
    how, _, factor = evidence.study.comparing.partition("within ")
    if how == "effects":
        return "no arm is compared by itself; the effects of factors are below, with"
    return f"difference from the control of the same {factor} with" if factor else "difference from the control with"


def _errors(evidence: Evidence) -> dict[str, str]:
    """Those of the study's metrics that are errors, with their units."""
    known = error_units(evidence.recipe.task.name)
    return {name: known[name] for name in evidence.study.metrics if name in known}


def _unused(evidence: Evidence) -> bool:
    return any(row.cost and row.cost.used_parameters < row.cost.parameters for row in evidence.rows)
