"""ablate reproduce: one number, again."""

import sys
import tempfile
from pathlib import Path

import click

from ablate.cli import options
from ablate.cli.tables import cell


@click.command("reproduce")
@click.argument("id")
@options.results
@options.data
@click.option(
    "--beside", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".", metavar="DIRECTORY",
    help="Where starting weights lie that are not under the data folder: the study file's folder.",
)  # fmt: skip
def command(id: str, results: str, data: Path | None, beside: Path) -> None:
    """Train one stored trial again, with its threads and processes, and compare score by score.

    Exit status 1 when a score differs; on the same processor and versions none should. Example:
    ablate reproduce 3f2a
    """
    from ablate.storage import Result, Store
    from ablate.study import Trial
    from ablate.training.run_trial import run_trial
    from ablate.training.site import Site

    old = Store(results).find(id)
    trial = Trial(arm={}, seed=old.seed, recipe=old.recipe, data_version=old.data_version, meanings=old.meanings)
    with tempfile.TemporaryDirectory() as scratch:
        site = Site(
            results=scratch, data=data.resolve() if data else None, beside=beside.resolve(),
            gpu=old.env.get("device", "cpu") != "cpu", threads=_number(old.env.get("threads", "1"), "threads"),
            processes=_number(old.env.get("processes", "1"), "processes"),
        )  # fmt: skip
        new = None
        for event in run_trial(trial, site):
            if isinstance(event, Result):
                new = event
            else:
                click.echo(f"epoch {event.epoch} of {old.recipe.train.epochs}  loss {event.loss:.6f}", err=True)
    assert new
    for name in sorted(set(old.env) | set(new.env)):
        if old.env.get(name) != new.env.get(name):
            click.echo(f"{name}: was {old.env.get(name)}, is {new.env.get(name)}", err=True)
    if new.status != old.status:
        click.echo(f"status  was {old.status}  is {new.status}")
    if new.reason:
        click.echo(cell(f"{new.status}: {new.reason}"), err=True)
    for name, value in old.scores.items():
        click.echo(f"{name}  was {value:.6f}  is {new.scores.get(name, float('nan')):.6f}")
    same = repr(new.scores) == repr(old.scores)  # by text: a class without pixels scores nan
    sys.exit(0 if same and new.status == old.status else 1)


def _number(text: str, of: str) -> int:
    from ablate.errors import StoreError

    if not (text.isascii() and text.isdigit() and 0 < int(text[:5]) <= 1024 and len(text) < 5):
        raise StoreError(f"the result was made with {text[:20]!r} {of}, which is no number of them")
    return int(text)
