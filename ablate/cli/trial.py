"""ablate trial: one trial, here."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablate.cli import completion, options
from ablate.cli.tables import Row, document
from ablate.cli.talk import say, tell
from ablate.cli.track import track_later
from ablate.planning.open_study import opened

if TYPE_CHECKING:
    from ablate.study import Design, Trial


@click.command("trial")
@options.study_file
@options.scale
@options.results
@options.data
@click.option(
    "--arm",
    multiple=True,
    shell_complete=completion.arms,
    metavar="ARM",
    help="The arm: its label, or FACTOR=LEVEL for each level that is not the control's (default: the control).",
)
@click.option("--seed", type=int, required=True)
@click.option("--retry", is_flag=True, help="Train it again if it failed or diverged.")
@click.option(
    "--predictions", metavar="FOLDER", type=click.Path(path_type=Path, file_okay=False),
    help="Also write the predictions on the evaluation split: PNGs of label ids, or a COCO results file.",
)  # fmt: skip
@options.tracker
@options.as_json
def command(
    study: Path, scale: str | None, results: str, data: Path | None, arm: tuple[str, ...], seed: int,
    retry: bool, predictions: Path | None, mlflow: str | None, experiment: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Train one trial in this process, without Ray. Exit status 1 if it failed.

    Example: ablate trial studies/fusion_count.yaml --arm fusions=final --seed 0
    """
    from ablate.cli.progress import Progress
    from ablate.errors import StudyError
    from ablate.running.drive import Where, drive
    from ablate.running.outcome import failures
    from ablate.storage import Store, kind_to_train

    store, design = Store(results), opened(study, scale=scale, results=results, data=data)
    wanted = dict(design.control.levels)
    for choice in arm:
        wanted |= design.levels_of(choice, flag="--arm")
    of_arm = [trial for trial in design.trials if trial.arm == wanted]
    matches = [trial for trial in of_arm if trial.seed == seed]
    if not matches:
        named, seeds = ", ".join(f"{name}={level}" for name, level in wanted.items()), [t.seed for t in of_arm]
        there = f"its seeds are {', '.join(map(str, seeds))}" if seeds else "no arm combines these levels"
        raise StudyError(f"{study}: no trial of {named} with seed {seed}; {there}")
    store = store.of(kind_to_train(design.study, matches, store.read()))
    if retry:
        store.forget_failed(matches)
    if predictions:
        _prepare(predictions, ended=not store.missing(matches), where=f"{results}: the trial {matches[0].id}")
    with Progress(design, matches, store) as progress:
        where = Where(
            store, data, here=True, tracker=mlflow, experiment=experiment, predictions=predictions, wait=False
        )
        outcome = drive(design, matches, where, [progress])
    if outcome.mirror_trouble:
        say(f"MLflow was not written ({outcome.mirror_trouble}); later: {track_later()}")
    result = store.read().results.get(matches[0].id)
    if result is None:
        busy = outcome.ran.get(matches[0].id) == "busy"
        if as_json:
            document(_row(design, matches[0], "busy" if busy else "stopped"))
        say(f"{store.holder(matches[0].id)} holds this trial" if busy else "stopped; the same command continues")
        sys.exit(1 if busy else outcome.status or 130)
    failed = failures(store, matches)
    if as_json:
        found = {"id": result.id, "reason": result.reason, "scores": result.scores}
        document(_row(design, matches[0], result.status) | found)
    if failed:
        say(failed[0])
        if not outcome.ran:
            say("it was not trained now; --retry trains it again")
        sys.exit(1)
    say(f"{result.id} {result.status} {result.reason}".strip())
    if not as_json:
        tell(*(f"{name} {value:.4f}" for name, value in result.scores.items()))


def _row(design: "Design", trial: "Trial", status: str) -> Row:
    label = design.arm(trial).label
    return {"id": trial.id, "arm": label, "seed": trial.seed, "status": status, "reason": "", "scores": {}}


def _prepare(predictions: Path, *, ended: bool, where: str) -> None:
    """Make the folder, before anything is trained for it."""
    from ablate.errors import StoreError

    if ended:
        raise StoreError(
            f"{where} has ended, and its network is not kept; "
            "with another folder as --results it is trained again, and predicts"
        )
    try:
        predictions.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{predictions}: {error.strerror}") from None
