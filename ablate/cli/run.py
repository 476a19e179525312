"""ablate run: the whole corridor."""

import sys
from pathlib import Path

import click

from ablate.cli import options
from ablate.cli.studies import opened


@click.command("run")
@options.study_file
@options.scale
@options.results
@options.data
@click.option("--only", multiple=True, metavar="FACTOR=LEVEL", help="Only these levels (the control always runs).")
@click.option("--retry", is_flag=True, help="Run failed and diverged trials again.")
@click.option("--local", is_flag=True, help="One trial after the other in this process, without Ray.")
@click.option("--address", metavar="HOST", help="A running Ray cluster, from one of its nodes: auto or HOST:PORT.")
@options.tracker
@click.option("--to", type=click.Path(path_type=Path, file_okay=False), help="Where the report goes.")
def command(
    study: Path, scale: str | None, results: str, data: Path | None, only: tuple[str, ...], retry: bool,
    local: bool, address: str | None, mlflow: str | None, experiment: str | None, to: Path | None,
) -> None:  # fmt: skip
    """Train what is missing, then write the report.

    Run it again after an interruption: it goes on where it stopped. Example:
    ablate run studies/fusion_count.yaml --scale laptop --data ~/datasets
    """
    from ablate.cli.progress import Progress
    from ablate.cli.report import write
    from ablate.drive import Where, drive, selected
    from ablate.errors import StudyError
    from ablate.prediction import compared, last_run
    from ablate.store import Store

    if local and address:
        raise StudyError("--local and --address: a trial runs here or there, choose one")
    store, chosen = Store(results), opened(study, scale=scale, results=results)
    trials = selected(chosen, only)
    if retry:
        store.forget_failed(trials)
    where = Where(store, data, here=local, address=address, tracker=mlflow, experiment=experiment)
    with Progress(chosen, trials, store) as progress:
        outcome = drive(chosen, trials, where, progress)
    if outcome.mirror_trouble:
        click.echo(f"MLflow was not written ({outcome.mirror_trouble}); later: ablate track {study}", err=True)
    if outcome.interrupted:
        click.echo("stopped; the same command goes on from here", err=True)
        sys.exit(130)
    run = last_run(chosen, store) if outcome.ran else None
    for line in compared(run, store.read().results) if run else []:
        click.echo(line, err=True)
    bad = [status for status in outcome.ran.values() if status in ("failed", "diverged")]
    click.echo(f"{len(outcome.ran)} trials ran, {len(bad)} of them without success", err=True)
    write(chosen, store, to or store.root / "reports" / chosen.name, ("md", "html", "latex"))
