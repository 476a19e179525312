"""ablate cancel: end trials that another process runs."""

from typing import TYPE_CHECKING

import click

from ablate.cli import completion, options
from ablate.cli.tables import document
from ablate.cli.talk import say
from ablate.planning.open_study import opened

if TYPE_CHECKING:
    from ablate.storage import Store


@click.command("cancel")
@click.argument("what", metavar="STUDY|ID", shell_complete=completion.studies_and_begun)
@click.argument("prefix", metavar="[ID]", default="", shell_complete=completion.begun)
@options.scale
@options.results
@options.as_json
def command(what: str, prefix: str, scale: str | None, results: str, as_json: bool) -> None:
    """Stop one trial after its epoch, or all unfinished trials of a study. States are saved.

    For a trial that has not begun, name its study too: ablate cancel STUDY ID. The run goes on with its other trials.
    The next `ablate run` trains cancelled trials again.
    Example: ablate cancel 3f2a9c0b1d2e4f56
    """
    from ablate.storage import KINDS, RESULT, Store, kind_to_train, notes

    store = Store(results)
    if options.names_study(what):
        design = opened(what, scale=scale, results=results, keep=False)
        kind = kind_to_train(design.study, design.trials, store.read())
        trials = [*(design.tries.trials if design.tries else ()), *design.trials]
        ids = [trial.id for trial in store.of(kind).missing(trials)]
        ids = [_only(store, prefix, ids)] if prefix else ids
    else:
        ids = [_only(store, what, _unfinished(store, what))]
    for trial_id in ids:
        for view in (store.of(kind) for kind in KINDS):
            if view.place.read(view.name(trial_id, RESULT)) is None:
                notes.leave(view, trial_id, notes.CANCEL, "cancelled")
    if as_json:
        document({"cancelled": ids})
    say(f"{len(ids)} trials end at their next epoch, or before they begin")


def _unfinished(store: "Store", prefix: str) -> list[str]:
    """The trials that have a folder and no result in it, of one kind of device or another."""
    from ablate.storage import RESULT

    store.name(prefix)  # refuses what is no id
    return [
        name
        for view in store.views()
        for name in view.place.children(view.branch)
        if name.startswith(prefix) and view.place.read(f"{view.branch}/{name}/{RESULT}") is None
    ]


def _only(store: "Store", prefix: str, ids: list[str]) -> str:
    """The one of these trials without a result whose id begins so."""
    from ablate.errors import StoreError

    store.name(prefix)  # refuses what is no id
    begun = sorted({name for name in ids if name.startswith(prefix)})
    if len(begun) != 1:
        how = "no trial" if not begun else f"{len(begun)} trials"
        raise StoreError(f"{store.place.name}: {how} without a result and with an id that begins {prefix!r}")
    return begun[0]
