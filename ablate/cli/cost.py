"""ablate cost: what networks cost."""

import math
import textwrap
from itertools import groupby
from typing import TYPE_CHECKING

import click

from ablate import registry
from ablate.cli import completion, options
from ablate.cli.tables import Row, show
from ablate.cli.talk import tell
from ablate.planning.open_study import opened

if TYPE_CHECKING:
    from ablate.beside import Speed
    from ablate.network.published_costs import Compared
    from ablate.storage import Cost
    from ablate.study import Recipe

FACTS = {name: registry.describe("task", name).facts for name in registry.names("task")}
PRICED = [name for name, facts in FACTS.items() if {"dataset", "preset"} <= facts.keys()]  # tasks, for bare models
DEFINITIONS = (
    "Of one image. GMACs: 10^9 multiply-adds of convolution and linear layers. GFLOPs: the same in units of 2^30, as "
    "the HRNet papers print them; their tool counts transposed convolutions by their output's size. Attention: matrix "
    "products outside such layers. Activations: elements of such layers' outputs. Training memory: what a step on "
    "the batch beside it keeps, in GiB (2^30 bytes): parameters, gradients, the optimizer's moments and what autograd "
    "saves, without the loss and the workspace of kernels."
)
PAPER = (
    "Our GFLOPs: multiply-adds of convolution and linear layers in the row's unit; of 2^30 as the papers' tool counts "
    "them, transposed convolutions by their output's size."
)
Priced = list[tuple[str, "Recipe", "Cost"]]  # labels of arms or models


@click.command("cost")
@click.argument("what", metavar="[STUDY|MODEL]", required=False, shell_complete=completion.models_and_studies)
@click.option("--all", "everything", is_flag=True, help="All models.")
@click.option("--paper", is_flag=True, help="Compare our counts with the papers' figures.")
@click.option("--task", type=click.Choice(PRICED), help="Task that models are counted for.  [default: pose]")
@click.option(
    "--size", type=click.IntRange(1), nargs=2, metavar="HEIGHT WIDTH", help="Image size (default: the task's)."
)
@click.option("--measure", "timed", is_flag=True, help="Also time predictions on this machine, which should be quiet.")
@click.option(
    "--results",
    metavar="FOLDER|URL",
    help="With --measure: keep the speeds of a study's arms there, for its report.",
)
@click.option("--check", type=click.Choice(["fvcore"]), help="Compare with fvcore's count, and explain differences.")
@options.scale
@options.plugin
@options.as_json
@options.as_csv
def command(
    what: str | None,
    everything: bool,
    paper: bool,
    task: str | None,
    size: tuple[int, int] | None,
    timed: bool,
    results: str | None,
    check: str | None,
    scale: str | None,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Print parameters, multiply-adds, activations and memory of a study's arms, or of models.

    Models have their default knobs. Costs are counted on the meta device, without training or data.
    Example: ablate cost hrnet --task segmentation
    """
    is_study = what is not None and options.names_study(what)
    if [what is not None, everything, paper].count(True) != 1:
        raise click.UsageError("give one of STUDY, MODEL, --all and --paper")
    if (is_study or paper) and (task or size):
        raise click.UsageError("--task and --size are for models")
    if scale and not is_study:
        raise click.UsageError("--scale is for studies")
    if results and not (timed and is_study):
        raise click.UsageError("--results keeps what --measure finds of a study's arms")
    if paper and (timed or check):
        raise click.UsageError("--measure and --check are for studies and models")
    if paper:
        _show_paper(as_json=as_json, as_csv=as_csv)
        return
    load = _load() if timed else 0.0  # before this process adds to it
    priced = _study(what, scale, results) if what and is_study else _models(what, task or "pose", size)
    if check:
        _show_check(priced, size=size, as_json=as_json, as_csv=as_csv)
        return
    measured = _measured(priced, size, load) if timed else []
    if results:
        _keep(measured, results)
    _show(priced, measured, size=size, as_json=as_json, as_csv=as_csv)


def _study(file: str, scale: str | None, results: str | None) -> Priced:
    """Of a study that tunes its arms, with what the tries in the results chose."""
    from ablate.planning.arm_costs import counted
    from ablate.study import check_study

    design = opened(file, scale=scale, results=results)
    check_study(design)
    return [(arm.label, arm.recipe, counted(arm.recipe, arm.levels, file=file)) for arm in design.arms]


def _models(name: str | None, task: str, size: tuple[int, int] | None) -> Priced:
    from ablate.errors import StudyError
    from ablate.network.cost import price
    from ablate.study import Recipe
    from ablate.study.presets import presets

    priced, facts = [], FACTS[task]
    train = presets()[facts["preset"]]["train"]
    for model in [name] if name else registry.names("model"):
        document = {"task": task, "dataset": facts["dataset"], "model": model, "train": train}
        recipe = Recipe.model_validate(document).settled(on_gpu=False)
        try:
            priced.append((model, recipe, price(recipe, size=size)))
        except (ValueError, RuntimeError) as error:
            raise StudyError(f"{model}: {error}") from None
    return priced


def _show(
    priced: Priced, measured: "list[Speed]", *, size: tuple[int, int] | None, as_json: bool, as_csv: bool
) -> None:
    for_people = not (as_json or as_csv)
    rows = []
    for place, (name, recipe, cost) in enumerate(priced):
        row = _row(name, recipe, cost, size) | (_speed(measured[place]) if measured else {})
        rows.append(row if for_people else row | {"not counted": " ".join(cost.uncounted)})
    show(rows, as_json=as_json, as_csv=as_csv)
    uncounted = sorted({operator for _, _, cost in priced for operator in cost.uncounted})
    lines = [DEFINITIONS, f"Not counted: {', '.join(uncounted)}."]
    lines += [_machine(measured)] if measured else []
    for line in lines:
        tell(line, err=not for_people)


def _show_check(priced: Priced, *, size: tuple[int, int] | None, as_json: bool, as_csv: bool) -> None:
    from ablate.network.fvcore_count import beside

    rows = []
    for name, recipe, cost in priced:
        found = beside(recipe, size=size)
        rows.append({
            "arm": name, "GMACs (10^9)": cost.macs / 1e9, "fvcore, same layers": found.layers / 1e9,
            "gap (%)": _gap(found.layers, cost.macs), "fvcore in all": found.total / 1e9, "why": found.why(cost),
        })  # fmt: skip
    if as_json or as_csv:
        show(rows, as_json=as_json, as_csv=as_csv)
        return
    show([{name: value for name, value in row.items() if name != "why"} for row in rows])
    whys: dict[str, list[str]] = {}
    for row in rows:
        whys.setdefault(str(row["why"]), []).append(str(row["arm"]))
    for why, arms in whys.items():
        tell(f"{', '.join(arms)}: {why}")


def _row(name: str, recipe: "Recipe", cost: "Cost", size: tuple[int, int] | None) -> Row:
    from ablate.network.cost import input_size, training_memory

    return {
        "arm": name, "image": _size(size or input_size(recipe)),
        "parameters": cost.parameters, "used": cost.used_parameters,
        "GMACs (10^9)": round(cost.macs / 1e9, 4), "GFLOPs (MACs/2^30)": round(cost.gflops, 4),
        "GFLOPs (papers' tool)": round(cost.tool_gflops, 4), "attention (10^9)": round(cost.matmul_macs / 1e9, 4),
        "activations (10^6)": round(cost.activations / 1e6, 3),
        "training memory (GiB)": round(training_memory(recipe, size=size) / 2**30, 3),
        "with a batch of": f"{recipe.train.batch} images, {recipe.train.precision}",
    }  # fmt: skip


def _load() -> float:
    from ablate.network.speed import load_now

    return load_now()


def _measured(priced: Priced, size: tuple[int, int] | None, load: float) -> "list[Speed]":
    from ablate.network.speed import measure

    return [measure(recipe, size=size, label=name, load=load) for name, recipe, _ in priced]


def _keep(measured: "list[Speed]", results: str) -> None:
    from ablate.beside import speeds
    from ablate.storage import Store

    store = Store(results)
    store.create()
    for one in measured:
        speeds.put(store.place, one)


def _speed(found: "Speed") -> Row:
    return {
        "latency (ms)": 1000 * found.latency, "quartiles (ms)": f"{1000 * found.low:.4g} to {1000 * found.high:.4g}",
        "images/s": found.images_per_second, "images at once": found.batch,
        "prediction memory (MiB)": found.memory / 2**20 if found.memory else math.nan,
    }  # fmt: skip


def _machine(measured: "list[Speed]") -> str:
    """Where speeds were measured, how, and whether anything else ran."""
    first, runs = measured[0], sorted(one.runs for one in measured)
    quiet = "other work was running" if first.shared else "it was quiet"
    where = " and ".join(sorted({one.where for one in measured}))
    return (
        f"Latency: median and quartiles of one image, {runs[0]} runs or more after some to warm up, on {where}. The "
        f"load before was {first.load:.2f} of {first.processors} processors: {quiet}. Memory is of GPUs alone, weights "
        "included."
    )


def _show_paper(*, as_json: bool, as_csv: bool) -> None:
    from ablate.network.published_costs import compare, tables

    for_people, compared = not (as_json or as_csv), list(compare(tables()))
    if for_people:
        tell("GFLOPs in units of 2^30 multiply-adds, or as said.")
        for source, group in groupby(compared, key=lambda found: found.published.source):
            tell("", source, *(line for found in group for line in _in_words(found)))
        tell()
    else:
        show([_beside(found) for found in compared], as_json=as_json, as_csv=as_csv)
    fit = sum(found.agrees for found in compared)
    tell(f"{fit} of {len(compared)} rows are within 1 %; the others say why not.", err=not for_people)
    tell(PAPER, err=not for_people)


def _beside(found: "Compared") -> Row:
    printed = found.published
    return {
        "source": printed.source, "row": printed.row, "image": _size(printed.size),
        "params (M)": _or_nan(printed.params_M), "our params (M)": _or_nan(found.params_M),
        "gap (%)": _gap(found.params_M, printed.params_M), "GFLOPs": _or_nan(printed.gflops), "unit": printed.giga,
        "our GFLOPs": _or_nan(found.gflops), "GFLOPs gap (%)": _gap(found.gflops, printed.gflops),
        "why": printed.reason,
    }  # fmt: skip


def _in_words(found: "Compared") -> list[str]:
    """A row as a terminal shows it: the figures below its name, and why they differ below these."""
    printed = found.published
    figures = [
        f"{what} {theirs:g}, ours {'none' if ours is None else f'{ours:.4g} ({_gap(ours, theirs):+.2f} %)'}"
        for what, theirs, ours in (
            ("params (M)", printed.params_M, found.params_M),
            ("GFLOPs" if printed.giga == "2^30" else f"GFLOPs ({printed.giga})", printed.gflops, found.gflops),
        )
        if theirs is not None
    ]
    why = textwrap.wrap(printed.reason, 72)
    return [
        f"  {printed.row}, {_size(printed.size)}",
        f"      {'; '.join(figures)}",
        *(f"      {line}" for line in why),
    ]


def _size(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else round(value, 4)


def _gap(ours: float | None, theirs: float | None) -> float:
    return round(100 * (ours / theirs - 1), 2) + 0.0 if ours and theirs else math.nan  # + 0.0: no -0
