"""Where the variance of a final score comes from: writes reports/variance.md and its rows, reports/variance/*.csv.

    for study in reports/variance/*.yaml; do
        ablate run $study --scale one_thread --results one
        ablate run $study --scale two_threads --results two
    done
    python reports/variance.py one two

The other tables are of published trials, so that without folders the page is made of rows alone.

Each study trains one recipe with crossed initial weights (`train.init_seed`) and data orders with their augmentation
(the trial's seed), on one and on two threads, which add up in other orders and differ in nothing but rounding.
Components are those of a random-effects analysis of variance with the two numbers of threads as replicates of each
cell.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

import ablate
from ablate.analysis import Evidence
from ablate.analysis.redrawn import TestImagesOf
from ablate.storage import Result, Store
from ablate.study import TrainSpec

HERE = Path(__file__).parent
PAGE, STUDIES = HERE / "variance.md", sorted((HERE / "variance").glob("*.yaml"))
PUBLISHED = ("fusion_count", "pose_baselines", "segmentation_baselines")
DRAWS = 2000
HEAD = """# Where the variance of a final score comes from

One recipe for each task, trained on drawn figures with every combination of four initial weights and four data orders
(with their augmentation), each on one and on two threads: 32 trials for each task. Two threads add up in another
order, so that these two trials differ in rounding alone. Standard deviations in points (score x 100) of a
random-effects analysis of variance; an estimate below 0 is shown as 0. Initial weights and data order have four
levels each, so that theirs may be several times too large or too small, or truly 0; *rounding* rests on 16 pairs,
*both together* (what neither explains alone) on 9 degrees of freedom. *New test images* is the standard deviation of
one network's score over redrawn test images, which no seed changes: it does not belong to the sum. Made by
`python reports/variance.py`; the rows are in `reports/variance/`.

| task | score | mean | initial weights | data order | both together | rounding | one trial | new test images |
|---|---|---|---|---|---|---|---|---|
"""
LEVERS = f"""
## How the spread depends on what is scored

The published trials on photographs: the standard deviation of the first metric among seeds, pooled over arms, where the
same trials are scored in other ways. The ratio is to the first row; its 95 % interval is of {DRAWS:,} redrawn sets of
seeds. Half of the test images stand for a test set half as large.
"""
ONE = """
[{name}]({name}/report.md), {metric}: {arms} arms of {seeds} seeds each, {epochs} epochs; the learning rate {falls}.

| score | mean | sd among seeds | ratio |
|---|---|---|---|
"""


def components(scores: np.ndarray) -> dict[str, float]:
    """Standard deviations of a two-way random-effects model with replicates (Searle, Linear Models, 1971, chapter 9).

    Args:
        scores: (initial weights, data orders, replicates).
    """
    rows, columns, replicates = scores.shape
    mean, cells = scores.mean(), scores.mean(axis=2)
    of_rows, of_columns = cells.mean(axis=1), cells.mean(axis=0)
    within = ((scores - cells[..., None]) ** 2).sum() / (rows * columns * (replicates - 1))
    together = cells - of_rows[:, None] - of_columns + mean
    between = replicates * (together**2).sum() / ((rows - 1) * (columns - 1))
    by_row = columns * replicates * ((of_rows - mean) ** 2).sum() / (rows - 1)
    by_column = rows * replicates * ((of_columns - mean) ** 2).sum() / (columns - 1)
    variances = {
        "initial weights": (by_row - between) / (columns * replicates),
        "data order": (by_column - between) / (rows * replicates),
        "both together": (between - within) / replicates,
        "rounding": within,
    }
    found = {name: float(np.sqrt(max(0.0, variance))) for name, variance in variances.items()}
    return found | {"one trial": float(np.sqrt(sum(sd**2 for sd in found.values())))}


def rows(study: Path, results: Path, threads: int) -> Iterator[dict[str, object]]:
    """A row for each trial: its levels, its score, and the score's deviation over redrawn test images."""
    evidence, store = (
        ablate.evidence(ablate.load_study(study, scale="one_thread"), results=results, images=False),
        Store(results),
    )
    metric = evidence.study.metrics[0]
    for row in evidence.rows:
        for seed, score in row.scores[metric].items():
            redrawn = TestImagesOf.of(row.label, store.statistics(row.ids[seed])).redrawn()[metric]
            found = {
                "threads": threads,
                "data_order": seed,
                metric: score,
                "sd_over_images": redrawn.std(ddof=1),
                "id": row.ids[seed],
            }
            yield {**row.levels, **found}


def line(name: str, table: pd.DataFrame) -> str:
    """One task of the page."""
    metric, crossed = table.columns[3], ["initial_weights", "data_order", "threads"]
    ordered = table.sort_values(crossed)[metric].to_numpy()
    scores = ordered.reshape([table[column].nunique() for column in crossed])
    images = float(np.sqrt((table["sd_over_images"] ** 2).mean()))
    found = [100 * sd for sd in (*components(scores).values(), images)]
    cells = " | ".join(f"{sd:.2f}" for sd in found)
    return f"| {name} | {metric} | {100 * scores.mean():.1f} | {cells} |\n"


def levers(evidence: Evidence, store: Store) -> dict[str, np.ndarray]:
    """The scores (arms, seeds) of a study's trials in each way of scoring them."""
    results, metric = store.read().results, evidence.study.metrics[0]
    found: dict[str, list[list[float]]] = {}
    for row in evidence.rows:
        ways = [_ways(results[trial], store, metric) for trial in row.ids.values()]
        for name in ways[0]:
            found.setdefault(name, []).append([way[name] for way in ways])
    return {name: np.array(scores) for name, scores in found.items()}


def _ways(result: Result, store: Store, metric: str) -> dict[str, float]:
    """One trial's score as published and in other ways."""
    train = result.recipe.train
    curve = {row.epoch: row.scores[metric] for row in result.curve if row.scores}
    curve[train.epochs] = result.scores[metric]
    images = TestImagesOf.of("", store.statistics(result.id))
    half = images.scores((np.arange(len(images.ids)) % 2 == 0).astype(np.int64))
    last = sorted(curve)[-3:]
    return {
        "as published": result.scores[metric],
        f"mean of the evaluations after epochs {', '.join(map(str, last))}": float(np.mean([curve[at] for at in last])),
        "half of the test images": half[metric],
        **{f"after epoch {epoch}": curve[epoch] for epoch in sorted(curve)[:-1]},
    }


def pooled(scores: np.ndarray) -> float:
    """The standard deviation among seeds, from scores (arms, seeds)."""
    return float(np.sqrt(scores.var(axis=1, ddof=1).mean()))


def lever_lines(scores: dict[str, np.ndarray]) -> str:
    """The rows of the second table."""
    first = next(iter(scores.values()))
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, first.shape[1], first.shape) for _ in range(DRAWS)]

    def redrawn(values: np.ndarray) -> np.ndarray:
        return np.array([pooled(np.take_along_axis(values, draw, axis=1)) for draw in draws])

    lines, base = [], redrawn(first)
    for name, values in scores.items():
        low, high = np.quantile(redrawn(values) / base, (0.025, 0.975))
        ratio = "1" if values is first else f"{pooled(values) / pooled(first):.2f} [{low:.2f}, {high:.2f}]"
        lines.append(f"| {name} | {100 * values.mean():.1f} | {100 * pooled(values):.2f} | {ratio} |\n")
    return "".join(lines)


def falls(train: TrainSpec) -> str:
    """What the learning rate does in a training."""
    if train.schedule != "step":
        return f"falls by the schedule {train.schedule}"
    epochs = [round(point * train.epochs) for point in train.milestones]  # as in training
    return "falls to a tenth after " + " and again after ".join(map(str, epochs))


def of_study(name: str) -> str:
    """The table of one published study."""
    study, results = (
        ablate.load_study(HERE.parent / "studies" / f"{name}.yaml", scale="laptop"),
        HERE / name / "results",
    )
    scores = levers(ablate.evidence(study, results=results, images=False), Store(results))
    arms, seeds = next(iter(scores.values())).shape
    train = study.recipe.train
    counts = {"arms": arms, "seeds": seeds, "epochs": train.epochs}
    return ONE.format(name=name, metric=study.metrics[0], falls=falls(train), **counts) + lever_lines(scores)


def written() -> str:
    """The page, from rows alone."""
    tasks = [line(study.stem, pd.read_csv(study.with_suffix(".csv"))) for study in STUDIES]
    return HEAD + "".join(tasks) + LEVERS + "".join(map(of_study, PUBLISHED))


if __name__ == "__main__":
    folders = [Path(argument) for argument in sys.argv[1:]]
    for study in STUDIES if folders else []:
        found = [row for threads, folder in enumerate(folders, 1) for row in rows(study, folder, threads)]
        pd.DataFrame(found).to_csv(study.with_suffix(".csv"), index=False, float_format="%.6g")
    PAGE.write_text(written(), encoding="utf-8")
