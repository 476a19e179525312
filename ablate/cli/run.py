"""ablate run: the whole corridor."""

import math
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablate.cli import completion, options
from ablate.cli.tables import Row, document
from ablate.cli.talk import say
from ablate.cli.track import track_later
from ablate.machine import GRACE
from ablate.planning.open_study import opened

if TYPE_CHECKING:
    from ablate.running.outcome import Outcome
    from ablate.study import Design

SHOWN = 5  # failed trials


@click.command("run")
@options.study_file
@options.scale
@options.results
@options.data
@click.option(
    "--only",
    multiple=True,
    shell_complete=completion.arms,
    metavar="ARM",
    help="Train only this arm, by its label or as FACTOR=LEVEL, and the control; repeatable.",
)
@click.option("--retry", is_flag=True, help="Train failed and diverged trials again.")
@click.option("--local", is_flag=True, help="Train one trial after the other in this process, without Ray.")
@click.option(
    "--address", metavar="HOST", help="Use a running Ray cluster: auto, or HOST:PORT. Run it on one of its nodes."
)
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    callback=options.bounded,
    metavar="N",
    help="Stop the run after N minutes, as Ctrl-C would.",
)
@click.option(
    "--grace", type=click.FloatRange(0), callback=options.bounded, default=GRACE, metavar="SECONDS", show_default=True,
    help="Time that running epochs get to finish when the run is stopped.",
)  # fmt: skip
@options.tracker
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the report (default: reports/STUDY in the results).",
)
@options.as_json
def command(
    study: Path, scale: str | None, results: str, data: Path | None, only: tuple[str, ...], retry: bool,
    local: bool, address: str | None, minutes: float | None, grace: float, mlflow: str | None, experiment: str | None,
    to: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Train the trials that have no result yet, then write the report.

    The same command continues an interrupted run. Ctrl-C (exit status 130), SIGTERM (143), SIGHUP (129), SIGUSR1 (138)
    and --minutes (124) let running epochs finish, for at most --grace seconds, and save. A second signal stops at once.

    Exit status 1: a trial failed, in this run or before. A trial that diverged is a finding, not a failure.
    Example: ablate run studies/fusion_count.yaml --scale laptop --data ~/datasets
    """
    from ablate.analysis import gather
    from ablate.cli.progress import Progress
    from ablate.cli.report import usual_place, write
    from ablate.errors import StudyError
    from ablate.planning.last_run import compared, last_run
    from ablate.planning.open_study import tuned
    from ablate.running.drive import Where, drive_study, selected, tries_of
    from ablate.running.outcome import failures
    from ablate.storage import Store, kind_to_train

    if local and address:
        raise StudyError("--local and --address: a trial runs here or there, choose one")
    store, design = Store(results), opened(study, scale=scale, results=results, data=data)
    trials = selected(design, only)
    store = store.of(kind_to_train(design.study, trials, store.read()))
    tries = tries_of(design, trials)
    if retry and (held := store.forget_failed(tries + trials)):
        say(f"{held} failed trials are held by another process, and stay as they are")
    where = Where(
        store, data, here=local, address=address, tracker=mlflow, experiment=experiment,
        minutes=minutes or math.inf, grace=grace,
    )  # fmt: skip
    with Progress(design, tries + trials, store) as progress:
        outcome = drive_study(design, trials, where, [progress])
    design = tuned(design, results)
    trials = selected(design, only)
    if outcome.mirror_trouble:
        say(f"MLflow was not written ({outcome.mirror_trouble}); later: {track_later()}")
    if outcome.stopped:
        say(f"{outcome.stopped}: stopped; the same command continues from here")
        if as_json:
            document(_document(design, outcome) | {"answer": [], "files": []})
        sys.exit(outcome.status)
    run = last_run(design.study, store) if outcome.ran else None
    for line in compared(run, store.read().results) if run else []:
        say(line)
    say(_summary(Counter(outcome.ran.values())))
    written = write(gather(design, store, data=data), to or usual_place(design.study, store), quiet=as_json)
    if as_json:
        document(_document(design, outcome) | written)
    if lines := failures(store, tries + trials):
        for line in lines[:SHOWN]:
            say(line)
        more = f", {len(lines) - SHOWN} more of them not shown" if len(lines) > SHOWN else ""
        say(f"{len(lines)} trials have failed{more}; --retry trains them again")
        sys.exit(1)


def _document(design: "Design", outcome: "Outcome") -> Row:
    """What the run came to; the report's answer and files come with it."""
    trials = [
        {
            "id": trial.id, "arm": design.arm(trial).label, "seed": trial.seed,
            "status": outcome.ran.get(trial.id, "not run"),
        }
        for trial in outcome.planned
    ]  # fmt: skip
    return {
        "study": design.study.name, "scale": design.study.scale, "trials": trials, "stopped": outcome.stopped,
        "mlflow": outcome.mirror_trouble,
    }  # fmt: skip


def _summary(ran: Counter[str]) -> str:
    bad = ran["failed"] + ran["diverged"]
    ends = [f"{ran[end]} {end}" for end in ("failed", "diverged") if ran[end]]
    line = f"{ran['done'] + bad} trials ran, {' and '.join(ends) or 'none failed'}"
    line += f"; {ran['elsewhere']} were trained by another process" if ran["elsewhere"] else ""
    line += f"; {ran['busy']} are held by another process" if ran["busy"] else ""
    return line + (f"; {ran['cancelled']} were cancelled, and the same command trains them" if ran["cancelled"] else "")
