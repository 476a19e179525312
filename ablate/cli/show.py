"""ablate show: one result, or one evaluation."""

import json
from typing import TYPE_CHECKING, Any

import click

from ablate.cli import options
from ablate.cli.tables import document
from ablate.cli.talk import tell

if TYPE_CHECKING:
    from ablate.storage import Store


@click.command("show")
@options.trial_id
@options.results
@options.device
@options.plugin
@click.option("--json", "as_json", is_flag=True, help="Write null for nan, as JSON demands (docs/json.md).")
def command(id: str, results: str, device: str | None, as_json: bool) -> None:
    """Print one result or evaluation as JSON: recipe, scores, curve, cost, machine. The id's first digits are enough.

    Example: ablate show 3f2a
    """
    from ablate.errors import StoreError
    from ablate.storage import Store

    store = Store(results, device)
    try:
        result = store.find(id)
    except StoreError:
        found = _evaluation(store, id)
        if found is None:
            raise
    else:
        found = json.loads(result.model_dump_json())
        if result.imported:
            found["imported"] = result.imported.model_dump()
    if as_json:
        document(found)
    else:
        tell(*json.dumps(found, indent=2).split("\n"))


def _evaluation(store: "Store", prefix: str) -> dict[str, Any] | None:
    """The one evaluation whose id begins so; None where there is none, or more than one."""
    from ablate.beside import evaluations

    names = evaluations.begin_so(store.place, prefix)
    kept = evaluations.get(store.place, names[0]) if len(names) == 1 else None
    return dict(json.loads(kept[0].model_dump_json())) if kept else None
