"""ablate plan: the price list."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablate.cli import options
from ablate.cli.studies import opened
from ablate.cli.tables import Row, duration, show

if TYPE_CHECKING:
    from ablate.plan import Plan


@click.command("plan")
@options.study_file
@options.scale
@options.results
@options.as_json
@options.as_csv
def command(study: Path, scale: str | None, results: Path, as_json: bool, as_csv: bool) -> None:
    """Trials, what is done, price and power. Trains nothing, needs no data.

    Example: ablate plan studies/fusion_count.yaml --scale paper
    """
    from ablate.comparable import SCRATCH
    from ablate.plan import plan
    from ablate.store import Store

    store, chosen = Store(results), opened(study, scale=scale, results=results)
    made = plan(chosen, store)
    weights = any(arm.start != SCRATCH for arm in made.arms)
    rows: list[Row] = [
        {
            "arm": arm.label, **({"starts from": arm.start} if weights else {}),
            "trials": arm.planned, "done": arm.done, "failed": arm.failed,
            "params (M)": round(arm.cost.parameters / 1e6, 3), "used (M)": round(arm.cost.used_parameters / 1e6, 3),
            "GMACs": round(arm.cost.macs / 1e9, 4), "GFLOPs (2^30)": round(arm.cost.macs / 2**30, 4),
            "a trial": arm.seconds if as_json or as_csv else duration(arm.seconds),
        }
        for arm in made.arms
    ]  # fmt: skip
    if made.unlike_starts:
        click.echo(made.unlike_starts, err=as_json or as_csv)
    show(rows, as_json=as_json, as_csv=as_csv)
    for line in _sentences(made):
        click.echo(line, err=as_json or as_csv)


def _sentences(made: "Plan") -> list[str]:
    study, hours = made.study, made.trial_hours
    lines = [f"{study.name}, scale {study.scale or '-'}: {study.question}"]
    if study.note:
        lines.append(study.note)
    lines.append(f"{len(made.missing)} of {sum(arm.planned for arm in made.arms)} trials to run.")
    if made.missing and math.isfinite(hours):
        devices, unit = (study.budget.gpus, "GPU") if study.budget.gpus else (study.budget.cpus, "CPU")
        lines.append(
            f"About {duration(3600 * made.makespan_hours)} with {made.parallel} at once "
            f"({duration(3600 * hours * max(devices, 1))} of {unit} time), by {made.basis}."
        )
    elif made.missing:
        lines.append(f"Time unknown: {made.basis}.")
    if study.budget.share and made.missing:
        from ablate import share

        lines.append(share.in_words(made.missing))
    return lines + made.power + [made.one_recipe] + [f"damaged, will be trained again: {line}" for line in made.damaged]
