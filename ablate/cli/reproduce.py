"""ablate reproduce: one number, again."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablate.cli import options
from ablate.cli.tables import Row, cell, document

if TYPE_CHECKING:
    from ablate.storage import Result


@click.command("reproduce")
@options.trial_id
@options.results
@options.data
@click.option(
    "--beside", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".", metavar="DIRECTORY",
    help="Where starting weights lie that are not under the data folder: the study file's folder.",
)  # fmt: skip
@options.as_json
def command(id: str, results: str, data: Path | None, beside: Path, as_json: bool) -> None:
    """Train one stored trial again, with its threads and processes, and compare score by score.

    Exit status 1 when a score differs; on the same processor and versions none should. Example:
    ablate reproduce 3f2a
    """
    from ablate.machine import scratch
    from ablate.storage import Result, Store
    from ablate.study import Trial
    from ablate.training.run_trial import run_trial
    from ablate.training.site import Site

    old = Store(results).find(id)
    trial = Trial(arm={}, seed=old.seed, recipe=old.recipe, data_version=old.data_version, meanings=old.meanings)
    with scratch.folder() as own:
        site = Site(
            results=str(own), data=data.resolve() if data else None, beside=beside.resolve(),
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
    same = new.status == old.status and repr(new.scores) == repr(old.scores)  # by text: a class may score nan
    compared = _compared(old, new)
    for name, values in compared["environment"].items():
        click.echo(cell(f"{name}: was {values['was']}, is {values['is']}"), err=True)
    if new.reason:
        click.echo(cell(f"{new.status}: {new.reason}"), err=True)
    if as_json:
        document({"id": old.id, "same": same, "reason": new.reason, **compared})
    else:
        if new.status != old.status:
            click.echo(f"status  was {old.status}  is {new.status}")
        for name, values in compared["scores"].items():
            click.echo(f"{name}  was {values['was']:.6f}  is {values['is']:.6f}")
    sys.exit(0 if same else 1)


def _compared(old: "Result", new: "Result") -> Row:
    """What was and what is: the status, every score, and what differs of the environment."""
    facts = [name for name in sorted(set(old.env) | set(new.env)) if old.env.get(name) != new.env.get(name)]
    return {
        "status": {"was": old.status, "is": new.status},
        "scores": {name: {"was": was, "is": new.scores.get(name, math.nan)} for name, was in old.scores.items()},
        "environment": {name: {"was": old.env.get(name), "is": new.env.get(name)} for name in facts},
    }


def _number(text: str, of: str) -> int:
    from ablate.errors import StoreError

    if not (text.isascii() and text.isdigit() and 0 < int(text[:5]) <= 1024 and len(text) < 5):
        raise StoreError(f"the result was made with {text[:20]!r} {of}, which is no number of them")
    return int(text)
