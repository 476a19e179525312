"""Evidence as tidy pandas tables: one row an observation, one column a variable, every column described in `COLUMNS`.

    scores      a row for each arm, seed and metric
    trials      for each trial: how it ended, where and when, and its level of every factor
    effects     for each planned comparison and metric
    curves      for each epoch of each trial
    costs       for each trial whose network was counted
    per_image   for each trial and test image, from the stored statistics; a metric says what it has of an image

A number that is not there is nan. pandas is imported when a table is made, for it takes half a second.
"""

import io
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ablate import registry
from ablate.analysis.resample import unfit
from ablate.errors import StudyError, nearest
from ablate.machine import write_atomically
from ablate.storage import Result, Store

if TYPE_CHECKING:
    from pandas import DataFrame

    from ablate.analysis.evidence import Comparison, Evidence, Row

Cells = dict[str, Any]  # a row by the names of its columns


class Column(NamedTuple):
    """What one column of a table holds."""

    type: str  # text, int, float or bool
    unit: str  # empty where there is none
    meaning: str


STUDY = {
    "study": Column("text", "", "the study's name"),
    "scale": Column("text", "", "which of its scales; empty where it has none"),
    "arm": Column("text", "", "the arm's label, as reports print it"),
}
TRIAL = {
    **STUDY,
    "dataset": Column("text", "", "the study's name for its data set; empty where it has but one"),
    "seed": Column("int", "", "the trial's seed"),
    "trial": Column("text", "", "the trial's id, as `ablate show` takes it"),
}
STATUS = {
    "is_control": Column("bool", "", "whether the arm is the control"),
    "status": Column("text", "", "done, failed, diverged, or missing where there is no result"),
}
# Table -> column -> what it holds. `x/NAME` stands for a column of each factor, metric or class.
COLUMNS: dict[str, dict[str, Column]] = {
    "scores": {
        **TRIAL,
        **STATUS,
        "metric": Column("text", "", "the score's name"),
        "score": Column("float", "of the metric, mostly 0 to 1", "finite scores of finished trials; nan elsewhere"),
    },
    "trials": {
        **TRIAL,
        **STATUS,
        "level/NAME": Column("text", "", "its level of the factor NAME"),
        "reason": Column("text", "", "why it is not done, in a line"),
        "seconds": Column("float", "s", "training and evaluation, over all sittings"),
        "finished": Column("text", "UTC, ISO 8601", "when it ended"),
        "device": Column("text", "", "what it ran on: cpu, or the GPU's name"),
        "torch": Column("text", "", "the version of torch"),
        "revision": Column("text", "", "the commit of the code"),
        "data_version": Column("text", "", "the data's declared version; empty where none is declared"),
    },
    "effects": {
        **STUDY,
        "dataset": Column("text", "", "the study's name for its data set; all for a mean over several, empty for one"),
        "control": Column("text", "", "the arm, level or sum of effects that it is compared with"),
        "metric": Column("text", "", "the score's name"),
        "primary": Column("bool", "", "whether verdicts are about this metric"),
        "seeds": Column(
            "int", "seeds", "that both arms finished: the pairs; without pairing, those of the arm with the fewest"
        ),
        "mean_control": Column("float", "of the metric", "the control's mean over these seeds"),
        "mean": Column("float", "of the metric", "the arm's mean over these seeds"),
        "difference": Column("float", "of the metric", "mean over seeds of arm - control"),
        "sd": Column("float", "of the metric", "standard deviation of the differences, with n - 1"),
        "low": Column("float", "of the metric", "lower end of the difference's 95 % interval, by the study's rule"),
        "high": Column("float", "of the metric", "its upper end"),
        "image_low": Column("float", "of the metric", "lower end of the 95 % interval over draws of test images"),
        "image_high": Column("float", "of the metric", "its upper end"),
        "p": Column("float", "", "of the study's test, before any correction; nan until all planned seeds ended"),
        "p_holm": Column("float", "", "corrected for all comparisons and looks; primary metric only"),
        "p_equivalent": Column("float", "", "the same of no difference beyond the margin; nan without a margin"),
        "look": Column("float", "seeds", "at the look that the verdict is of; nan without looks"),
        "detectable": Column("float", "of the metric", "difference found with power .8; primary metric only"),
        "verdict": Column("text", "", "such as higher, lower, not shown or not testable; primary metric only"),
    },
    "curves": {
        **TRIAL,
        "epoch": Column("int", "", "1 is the first"),
        "loss": Column("float", "of the task's loss", "mean over the epoch's batches"),
        "loss/NAME": Column("float", "of the task's loss", "the same of a part of the loss, where the task names them"),
        "lr": Column("float", "", "learning rate at the epoch's last step"),
        "seconds": Column("float", "s", "training only"),
        "images_per_second": Column("float", "1/s", "training throughput"),
        "score/NAME": Column("float", "of the metric", "of the evaluation split, in epochs that were evaluated"),
    },
    "costs": {
        **TRIAL,
        "parameters": Column("int", "", "all"),
        "used_parameters": Column("int", "", "those that the output depends on"),
        "macs": Column("int", "multiply-adds", "of convolution and linear layers, for one image"),
        "matmul_macs": Column("int", "multiply-adds", "matrix products outside such layers, attention's above all"),
        "gflops": Column("float", "2^30 multiply-adds", "macs in the HRNet papers' unit"),
        "activations": Column("int", "elements", "of these layers' outputs, for one image; 0: not counted"),
        "images_per_second": Column("float", "1/s", "evaluation throughput on the trial's machine"),
        "peak_memory": Column("int", "bytes", "of the process or the GPU at its peak"),
    },
    "per_image": {
        **TRIAL,
        "image": Column("int", "", "the image's id in the data set"),
    },
}


def columns(table: str, task: str = "") -> dict[str, Column]:
    """What the columns of a table hold; with a task's name `per_image` includes those of the task's metrics.

    Raises:
        StudyError: no such table.
    """
    if table not in COLUMNS:
        raise StudyError(f"no table {table!r} of the evidence; {nearest(table, COLUMNS)}")
    found = dict(COLUMNS[table])
    if table == "per_image" and task:
        for metric in _measuring(task):
            described = registry.describe("metric", metric).facts["columns"]
            found |= {name: Column(*column) for name, column in described.items()}
    return found


def table(evidence: "Evidence", name: str) -> "DataFrame":
    """One table of the evidence by its name in `COLUMNS`.

    Raises:
        StudyError: no such table.
        StoreError: `per_image`: a trial's statistics are damaged or not what the metric reads.
    """
    known = columns(name, evidence.recipe.task.name)
    import pandas

    if name == "per_image":
        parts = list(_images(evidence))
        return pandas.concat(parts, ignore_index=True) if parts else pandas.DataFrame(columns=_plain(known))
    rows = list(ROWS[name](evidence))
    made = pandas.DataFrame(rows, columns=list(rows[0]) if rows else _plain(known))
    kinds = {"text": "str", "int": "int64", "float": "float64", "bool": "bool"}
    return made.astype({column: kinds[_of(known, column).type] for column in made.columns})


def write(evidence: "Evidence", folder: Path, kind: str) -> list[Path]:
    """All tables as `folder/NAME.csv` or `.parquet`; returns the paths.

    Raises:
        StoreError: the folder cannot be written, or see `table`.
    """
    paths = []
    for name in COLUMNS:
        made, path, buffer = table(evidence, name), folder / f"{name}.{kind}", io.BytesIO()
        made.to_csv(buffer, index=False) if kind == "csv" else made.to_parquet(buffer, index=False)
        write_atomically(path, buffer.getvalue())
        paths.append(path)
    return paths


def _plain(known: dict[str, Column]) -> list[str]:
    """The columns of a table without rows: there is nothing to name the others by."""
    return [name for name in known if not name.endswith("/NAME")]


def _of(known: dict[str, Column], name: str) -> Column:
    return known[name] if name in known else known[f"{name.partition('/')[0]}/NAME"]


def _each(evidence: "Evidence") -> Iterator[tuple["Row", Cells, Result | None]]:
    """Every planned trial by arm and seed: its row, its first columns, its result."""
    study = evidence.study
    for row in evidence.rows:
        for seed, trial in row.ids.items():
            cells: Cells = {"study": study.name, "scale": study.scale, "arm": row.label}
            cells |= {"dataset": row.dataset, "seed": seed, "trial": trial}
            yield row, cells, evidence.results.get(trial)


def _status(row: "Row", result: Result | None) -> Cells:
    return {"is_control": row.is_control, "status": result.status if result else "missing"}


def _scores(evidence: "Evidence") -> Iterator[Cells]:
    for row, cells, result in _each(evidence):
        for metric in evidence.study.metrics:
            score = row.scores[metric].get(cells["seed"], math.nan)
            yield {**cells, **_status(row, result), "metric": metric, "score": score}


def _trials(evidence: "Evidence") -> Iterator[Cells]:
    for row, cells, result in _each(evidence):
        levels = {f"level/{factor}": level for factor, level in row.levels.items()}
        env = result.env if result else {}
        yield {
            **cells,
            **_status(row, result),
            **levels,
            "reason": result.reason if result else "",
            "seconds": result.seconds if result else math.nan,
            "finished": result.finished if result else "",
            **{fact: env.get(fact, "") for fact in ("device", "torch", "revision")},
            "data_version": (result.data_version if result else None) or "",
        }


def _p(comparison: "Comparison") -> float:
    """None of the primary metric before it may be looked at."""
    early = comparison.verdict == "undecided" and math.isnan(comparison.p_holm)
    return math.nan if early else comparison.effect.p


def _effects(evidence: "Evidence") -> Iterator[Cells]:
    study = evidence.study
    for comparison in evidence.comparisons:
        effect = comparison.effect
        yield {
            "study": study.name, "scale": study.scale, "arm": comparison.arm,
            "dataset": comparison.datasets[0] if len(comparison.datasets) == 1 else "all",
            "control": comparison.control,
            "metric": comparison.metric, "primary": comparison.metric == evidence.primary, "seeds": effect.n,
            "mean_control": effect.mean_control, "mean": effect.mean_level, "difference": effect.diff,
            "sd": effect.sd_diff, "low": effect.low, "high": effect.high, "image_low": comparison.image_low,
            "image_high": comparison.image_high, "p": _p(comparison), "p_holm": comparison.p_holm,
            "p_equivalent": comparison.p_equivalent,
            "look": math.nan if comparison.look is None else float(comparison.look),
            "detectable": comparison.detectable, "verdict": comparison.verdict or "",
        }  # fmt: skip


def _curves(evidence: "Evidence") -> Iterator[Cells]:
    curves = [(cells, epoch) for _, cells, result in _each(evidence) for epoch in (result.curve if result else ())]
    names = sorted({name for _, epoch in curves for name in epoch.loss_parts})
    for cells, epoch in curves:
        scores = {f"score/{name}": epoch.scores.get(name, math.nan) for name in evidence.study.metrics}
        parts = {f"loss/{name}": epoch.loss_parts.get(name, math.nan) for name in names}
        yield {**cells, **epoch.model_dump(exclude={"scores", "loss_parts"}), **parts, **scores}


def _costs(evidence: "Evidence") -> Iterator[Cells]:
    for _, cells, result in _each(evidence):
        if result and result.cost:
            wanted = [name for name in COLUMNS["costs"] if name not in TRIAL]
            yield {**cells, **{name: getattr(result.cost, name) for name in wanted}}


ROWS: dict[str, Callable[["Evidence"], Iterable[Cells]]] = {
    "scores": _scores,
    "trials": _trials,
    "effects": _effects,
    "curves": _curves,
    "costs": _costs,
}


def _measuring(task: str) -> list[str]:
    """The task's metrics that have something to say of an image."""
    names = registry.describe("task", task).facts.get("metrics", ())
    return [name for name in names if "columns" in registry.describe("metric", name).facts]


def _images(evidence: "Evidence") -> Iterator["DataFrame"]:
    """The images of one finished trial after the other."""
    import pandas

    names = _measuring(evidence.recipe.task.name)
    metrics, store = (
        {name: registry.build("metric", name, {}) for name in names},
        Store(evidence.place, evidence.device),
    )
    for _, cells, result in _each(evidence):
        if result is None or result.status != "done" or not metrics:
            continue
        stored, tables = store.statistics(result.id), []
        for name, metric in metrics.items():
            own = {key.partition("/")[2]: array for key, array in stored.items() if key.startswith(f"{name}/")}
            if not own and registry.describe("metric", name).facts.get("only_asked"):
                continue
            try:
                images = pandas.Index(own["image_ids"], name="image", dtype="int64")
                tables.append(pandas.DataFrame(metric.columns(own), index=images))
            except Exception as error:  # whatever arrays that another metric left, or nobody, make of it
                raise unfit(result.id, error) from None
        made = pandas.concat(tables, axis=1).reset_index()
        for place, (name, value) in enumerate(cells.items()):
            made.insert(place, name, value)
        yield made
