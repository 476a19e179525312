"""ablate show: one result."""

import json

import click

from ablate.cli import options
from ablate.cli.tables import document
from ablate.cli.talk import tell


@click.command("show")
@options.trial_id
@options.results
@options.device
@options.plugin
@click.option("--json", "as_json", is_flag=True, help="As without it, but null for nan (docs/json.md).")
def command(id: str, results: str, device: str | None, as_json: bool) -> None:
    """One result as JSON: recipe, scores, curve, cost, where it ran. The id's first digits are enough.

    Example: ablate show 3f2a
    """
    from ablate.storage import Store

    result = Store(results, device).find(id)
    found = json.loads(result.model_dump_json())
    if result.imported:
        found["imported"] = result.imported.model_dump()
    if as_json:
        document(found)
    else:
        tell(*json.dumps(found, indent=2).split("\n"))
