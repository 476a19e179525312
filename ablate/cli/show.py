"""ablate show: one result."""

import click

from ablate.cli import options
from ablate.cli.tables import document


@click.command("show")
@options.trial_id
@options.results
@click.option("--json", "as_json", is_flag=True, help="As without it, but null for nan (docs/json.md).")
def command(id: str, results: str, as_json: bool) -> None:
    """One result as JSON: recipe, scores, curve, cost, where it ran. The id's first digits are enough.

    Example: ablate show 3f2a
    """
    from ablate.storage import Store

    result = Store(results).find(id)
    if as_json:
        document(result.model_dump(mode="json"))
    else:
        click.echo(result.model_dump_json(indent=2))
