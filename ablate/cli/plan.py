"""ablate plan: trials, cost, time and power of a study."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablate.cli import options
from ablate.cli.tables import Row, document, duration, show
from ablate.cli.talk import tell
from ablate.planning.open_study import opened

if TYPE_CHECKING:
    from ablate.planning.last_run import Run
    from ablate.planning.plan import Plan
    from ablate.study import Design, Study


@click.command("plan")
@options.study_file
@options.scale
@options.results
@options.data
@options.device
@click.option(
    "--devices", type=click.IntRange(1), multiple=True,
    help="GPUs per node (CPUs, where a trial uses no GPU); repeatable, to compare.",
)  # fmt: skip
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Number of nodes.")
@click.option(
    "--preempted-every",
    type=click.FloatRange(0, min_open=True),
    callback=options.bounded,
    metavar="HOURS",
    help="Mean time between preemptions of a node.",
)
@click.option(
    "--back-after",
    type=click.FloatRange(0),
    callback=options.bounded,
    default=5,
    show_default=True,
    metavar="MINUTES",
    help="Time from a preemption until the node trains again.",
)
@click.option("--recipe", "arm", metavar="ARM", help="Print this arm's whole recipe as YAML, defaults included.")
@options.as_json
@options.as_csv
def command(
    study: Path, scale: str | None, results: str, data: Path | None, device: str | None, arm: str | None,
    devices: tuple[int, ...], nodes: int, preempted_every: float | None, back_after: float, as_json: bool, as_csv: bool,
) -> None:  # fmt: skip
    """Print a study's trials, their cost, the time they take, and the differences that they can show.

    Trains nothing, and reads --data only where the study leaves the names of joints or classes to the data's files.

    Example: ablate plan studies/fusion_count.yaml --scale paper --nodes 4 --devices 8 --preempted-every 24
    """
    from ablate.planning.last_run import compared, last_run
    from ablate.planning.plan import plan
    from ablate.storage import Store

    store, design = Store(results, device), opened(study, scale=scale, results=results, data=data)
    if arm is not None:
        _recipe(design, arm, as_json=as_json)
        return
    made, chosen = plan(design, store), design.study
    asked = bool(devices or preempted_every or nodes > 1)
    ends = _ends(made, devices, nodes, preempted_every, back_after) if asked or chosen.budget.gpus else []
    run = last_run(chosen, store)
    past = compared(run, made.results) if run else []
    if as_json:
        arms = _rows(made, plain=True)
        past_run = _numbers(run) if run else None
        document({"arms": arms, "time": _time(made), "power": _power(made), "makespans": ends, "last run": past_run})
    else:
        if made.unlike_starts:
            tell(made.unlike_starts, err=as_csv)
        show(_rows(made, plain=as_csv), as_csv=as_csv)
    for line in (
        ([made.unlike_starts] if as_json and made.unlike_starts else []) + _sentences(made) + _when(ends, chosen) + past
    ):
        tell(" ".join(line.split()), err=as_json or as_csv)


def _recipe(design: "Design", name: str, *, as_json: bool) -> None:
    """Print what the trials of one arm train."""
    from ablate.errors import StudyError
    from ablate.study import dump

    study = design.study
    wanted = design.control.levels | design.levels_of(name, flag="--recipe")
    arm = next((arm for arm in design.arms if arm.levels == wanted), None)
    if arm is None:
        raise StudyError(f"{study.file}: --recipe {name}: no arm combines these levels")
    recipe = arm.recipe.model_dump(mode="json")
    if as_json:
        document({"arm": arm.label, "ids": {str(trial.seed): trial.id for trial in arm.trials}, "recipe": recipe})
        return
    tell(f"# {study.name}{f', scale {study.scale}' if study.scale else ''}, arm {arm.label}")
    tell(f"# seeds and ids: {', '.join(f'{trial.seed} {trial.id}' for trial in arm.trials)}")
    tell(*dump(recipe).rstrip("\n").split("\n"))


def _numbers(run: "Run") -> Row:
    """The last run without its trials."""
    predicted = {
        "predicted_seconds": run.makespan(run.at_once),
        "predicted_as_it_ran": run.makespan(max(1, run.ran_at_once)),
    }
    return run.model_dump(exclude={"predicted_seconds"}) | predicted | {"planned": len(run.predicted_seconds)}


def _time(made: "Plan") -> Row:
    """What the missing trials take on this machine, tries included."""
    trials, hours = sum(len(step.missing) for step in made.steps), sum(step.trial_hours for step in made.steps)
    return {
        "trials": trials, "at once": made.parallel, "seconds": 3600 * sum(step.makespan_hours for step in made.steps),
        "device seconds": 3600 * hours * max(made.study.budget.devices, 1), "basis": made.basis,
    }  # fmt: skip


def _power(made: "Plan") -> Row:
    """What the seeds that decide can show by the study's rule."""
    from ablate.analysis import rule_of

    seeds = len(made.standing.seeds)
    rule = rule_of(made.design).of_added(seeds)
    testable = bool(made.design.contrasts) and rule.testable(seeds)
    return {
        "seeds": seeds, "comparisons": rule.comparisons, "testable": testable, "seeds needed": rule.seeds_needed,
        "detectable (sd)": rule.detectable(1.0, seeds) if testable else math.nan, "said": made.power,
    }  # fmt: skip


def _rows(made: "Plan", *, plain: bool) -> list[Row]:
    from ablate.study import SCRATCH

    weights = any(arm.start != SCRATCH for arm in made.arms)
    return [
        {
            "arm": arm.label, **({"starts from": arm.start} if weights else {}),
            "trials": arm.planned, "done": arm.done, "failed": arm.failed,
            "params (M)": round(arm.cost.parameters / 1e6, 3) if arm.counted else math.nan,
            "used (M)": round(arm.cost.used_parameters / 1e6, 3) if arm.counted else math.nan,
            "GMACs": round(arm.cost.macs / 1e9, 4), "GFLOPs (2^30)": round(arm.cost.macs / 2**30, 4),
            "a trial": arm.seconds if plain else duration(arm.seconds),
        }
        for arm in made.arms
    ]  # fmt: skip


def _ends(
    made: "Plan", devices: tuple[int, ...], nodes: int, preempted_every: float | None, back_after: float
) -> list[Row]:
    """When all is done, for every number of devices: hours, with preemptions their mean and 90 % of their spread."""
    from ablate.planning.plan import device_counts, forecast_on

    rows: list[Row] = []
    every = math.inf if preempted_every is None else 3600 * preempted_every
    missing = [len(step.missing) for step in made.steps]
    for count in devices or device_counts(made.study, max(missing), nodes):
        found = forecast_on(made, devices=count, nodes=nodes, preempted_every=every, back_after=60 * back_after)
        if found and any(missing):
            hours = {"hours": found.seconds / 3600, "low": found.low / 3600, "high": found.high / 3600}
            lost = {"preempted every": preempted_every, "back after": back_after} if preempted_every else {}
            rows.append({"nodes": nodes, "devices": count, **lost, **hours})
    return rows


def _when(ends: list[Row], study: "Study") -> list[str]:
    """One line without preemptions, a line for each number of devices with them."""
    unit = "GPU" if study.budget.gpus else "CPU"
    if not ends:
        return []
    if "preempted every" not in ends[0]:
        counts, times = (
            ", ".join(f"{row['devices']}" for row in ends), ", ".join(duration(3600 * row["hours"]) for row in ends)
        )  # fmt: skip
        nodes = f"{ends[0]['nodes']} nodes of " if ends[0]["nodes"] > 1 else ""
        return [f"Done on {nodes}{counts} {unit}{'s' * (counts != '1')} after {times}."]
    return [
        f"Done on {row['nodes']} node{'s' * (row['nodes'] > 1)} of {row['devices']} {unit}{'s' * (row['devices'] > 1)},"
        f" each preempted every {row['preempted every']:g} h and back after {row['back after']:g} min, after about "
        f"{duration(3600 * row['hours'])} ({duration(3600 * row['low'])} to {duration(3600 * row['high'])})."
        for row in ends
    ]


def _tuning(made: "Plan") -> list[str]:
    """What the tries of `tune` cost, which run before all else."""
    tries = made.tuning
    if tries is None or not made.study.tune:
        return []
    hours = tries.makespan_hours
    time = f", about {duration(3600 * hours)} with {tries.parallel} at once" if tries.missing and hours > 0 else ""
    count, arms = sum(arm.planned for arm in tries.arms), len(made.arms)
    said = [f"Tuned first: {arms} arms, each by {made.study.tune.said}: {len(tries.missing)} of {count} to run{time}."]
    said.append(
        f"The tries train on the other {100 * (1 - made.study.tune.held_out):g} %: what is held out is for choosing. "
        "Verdicts rest on trials that hold nothing out."
    )
    if made.design.waiting:
        said.append(
            f"What {len(made.design.waiting)} arms will be trained with is not known yet; costs are as first tried."
        )
    return said


def _sentences(made: "Plan") -> list[str]:
    study, hours = made.study, made.trial_hours
    lines = [f"{study.name}{f', scale {study.scale}' if study.scale else ''}: {study.question}"]
    if study.note:
        lines.append(study.note)
    lines += _tuning(made)
    lines.append(f"{len(made.missing)} of {sum(arm.planned for arm in made.arms)} trials to run.")
    if made.missing and math.isfinite(hours):
        devices, unit = study.budget.devices, "GPU" if study.budget.gpus else "CPU"
        lines.append(
            f"About {duration(3600 * made.makespan_hours)} with {made.parallel} at once "
            f"({duration(3600 * hours * max(devices, 1))} of {unit} time), by {made.basis}."
        )
    elif made.missing:
        lines.append(f"How long they take is unknown: {made.basis}.")
    told = (made.space, made.published, made.left_out, made.estimated, made.little_trained, made.lopsided)
    lines += [line for line in told if line]
    if study.budget.share and made.missing:
        from ablate.planning import gpu_share

        lines.append(gpu_share.in_words(made.missing))
    return (
        lines
        + made.power
        + [line for line in (made.curves, made.one_recipe) if line]
        + [f"damaged, will be trained again: {line}" for line in made.damaged]
    )
