"""ablate reproduce: one number, again; or a sample of those that others brought."""

import math
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablate.cli import completion, options
from ablate.cli.tables import Row, document
from ablate.cli.talk import say, tell

if TYPE_CHECKING:
    from ablate.storage import Result, Store


def _percent(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        share = float(value.removesuffix("%"))
    except ValueError:
        share = math.nan
    if not value.endswith("%") or not 0 < share <= 100:
        raise click.BadParameter(f"{value} is no share, such as 1%")
    return share


if TYPE_CHECKING:
    from ablate.storage import Result


@click.command("reproduce")
@click.argument("id", required=False, shell_complete=completion.ended)
@click.option(
    "--sample",
    metavar="PERCENT",
    callback=_percent,
    help="Share of the imported results to train again; at least one is.",
)
@click.option(
    "--seed", type=click.IntRange(0), help="Seed of the random sample (default: a new one, which is printed)."
)
@options.results
@options.device
@options.plugin
@options.data
@click.option(
    "--beside", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".", metavar="DIRECTORY",
    help="Folder of starting weights that are not under --data; usually the study file's folder.",
)  # fmt: skip
@options.as_json
def command(
    id: str | None, sample: float | None, seed: int | None, results: str, device: str | None, data: Path | None,
    beside: Path, as_json: bool,
) -> None:  # fmt: skip
    """Train a stored trial again, with its threads and processes, and compare all scores.

    --sample does so for a random sample of the imported results, and says how many agree. Exit status 1 if a score
    differs. On the same processor with the same package versions none should.
    Example: ablate reproduce 3f2a
    """
    from ablate.errors import AblateError
    from ablate.storage import Store

    if (id is None) == (sample is None):
        raise AblateError("reproduce: name one result by its id, or a share of the imported ones as --sample 1%")
    if id is not None:
        one = _again(Store(results, device).find(id), data, beside, quiet=as_json)
        if as_json:
            document(one)
        sys.exit(0 if one["same"] else 1)
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    theirs = _imported(Store(results))
    trials = []
    for result in random.Random(seed).sample(theirs, math.ceil((sample or 0) / 100 * len(theirs))):
        say(f"{result.id}, imported from {result.imported.source if result.imported else ''}")
        trials.append(_again(result, data, beside, quiet=as_json))
    agree = sum(trial["same"] for trial in trials)
    if as_json:
        document({"seed": seed, "imported": len(theirs), "agree": agree, "trials": trials})
    else:
        tell(f"{agree} of {len(trials)} agree, of {len(theirs)} imported results; --seed {seed} draws the same ones")
    sys.exit(0 if agree == len(trials) else 1)


def _imported(store: "Store") -> list["Result"]:
    """The imported results whose parts are on the shelves, by id.

    Raises:
        StoreError: there is none.
    """
    from ablate.errors import StoreError
    from ablate.storage import Result, unknown_parts

    found = (result for _, result in store.each() if isinstance(result, Result) and result.imported)
    theirs = sorted(found, key=lambda result: result.id)
    known = [result for result in theirs if not unknown_parts(result)]
    if left := len(theirs) - len(known):
        say(f"{left} imported results are of parts that are on no shelf here, and left out; see --plugin")
    if not known:
        raise StoreError(f"{store.place.name}: no imported result to train again")
    return known


def _again(old: "Result", data: Path | None, beside: Path, *, quiet: bool) -> Row:
    """Train it again; what was and what is, which is printed too unless `quiet`."""
    from ablate.machine import scratch
    from ablate.storage import Result
    from ablate.study import Budget, Trial
    from ablate.training.run_trial import run_trial
    from ablate.training.site import Site

    _refuse_missing_parts(old)
    trial = Trial(
        arm={}, seed=old.seed, recipe=old.recipe, data_version=old.data_version, meanings=old.meanings,
        plugins=old.recipe.plugins(),
    )  # fmt: skip
    for role, plugin in old.plugins.items():
        if trial.plugins.get(role) != plugin:
            say(f"{plugin.name}, which brings the {role}: other content than the result was made with")
    with scratch.folder() as own:
        processes = _number(old.env.get("processes", "1"), "processes")
        budget = Budget(
            cpus=_number(old.env.get("threads", "1"), "threads"), processes=processes,
            gpus=processes if old.env.get("device", "cpu") != "cpu" else 0,
        )  # fmt: skip
        site = Site(str(own), data=data.resolve() if data else None, beside=beside.resolve(), budget=budget)
        new = None
        for event in run_trial(trial, site):
            if isinstance(event, Result):
                new = event
            else:
                say(f"epoch {event.epoch} of {old.recipe.train.epochs}  loss {event.loss:.6f}")
    assert new
    same = new.status == old.status and repr(new.scores) == repr(old.scores)  # by text: a class may score nan
    compared = _compared(old, new)
    for name, values in compared["environment"].items():
        say(f"{name}: was {values['was']}, is {values['is']}")
    if new.reason:
        say(f"{new.status}: {new.reason}")
    if not quiet:
        if new.status != old.status:
            tell(f"status  was {old.status}  is {new.status}")
        for name, values in compared["scores"].items():
            tell(f"{name}  was {values['was']:.6f}  is {values['is']:.6f}")
    return {"id": old.id, "same": same, "reason": new.reason, **compared}


def _compared(old: "Result", new: "Result") -> Row:
    """What was and what is: the status, every score, and what differs of the environment."""
    facts = [name for name in sorted(set(old.env) | set(new.env)) if old.env.get(name) != new.env.get(name)]
    return {
        "status": {"was": old.status, "is": new.status},
        "scores": {name: {"was": was, "is": new.scores.get(name, math.nan)} for name, was in old.scores.items()},
        "environment": {name: {"was": old.env.get(name), "is": new.env.get(name)} for name in facts},
    }


def _refuse_missing_parts(old: "Result") -> None:
    """A result says which parts it was made with; what runs is what the user names.

    Raises:
        PartError: one is on no shelf; how to put it there.
    """
    from ablate import registry
    from ablate.errors import PartError

    for kind in ("task", "dataset", "model"):
        name = getattr(old.recipe, kind).name
        if name not in registry.names(kind):
            flag = f"--plugin {old.plugins[kind].name}" if kind in old.plugins else "--plugin MODULE|FILE.py"
            raise PartError(f"trial {old.id} used the {kind} {name!r} of a plugin: add {flag}")


def _number(text: str, of: str) -> int:
    from ablate.errors import StoreError

    if not (text.isascii() and text.isdigit() and 0 < int(text[:5]) <= 1024 and len(text) < 5):
        raise StoreError(f"the result was made with {text[:20]!r} {of}, which is no number of them")
    return int(text)
