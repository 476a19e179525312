"""ablate show: one result."""

import click

from ablate.cli import options


@click.command("show")
@click.argument("id")
@options.results
def command(id: str, results: str) -> None:
    """One result as JSON: recipe, scores, curve, cost, where it ran. The id's first digits are enough.

    Example: ablate show 3f2a
    """
    from ablate.storage import Store

    click.echo(Store(results).find(id).model_dump_json(indent=2))
