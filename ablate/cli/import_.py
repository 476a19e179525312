"""ablate import: results of others, or of another machine."""

from pathlib import Path

import click

from ablate.cli import options


@click.command("import")
@click.argument("source", type=click.Path(path_type=Path, exists=True, file_okay=False))
@options.results
def command(source: Path, results: str) -> None:
    """Take in the results that stand beside a published report; each is checked against its checksum.

    Example: ablate import reports/fusion_count
    """
    from ablate.drive import imported
    from ablate.store import Store

    new, refused = imported(source, Store(results))
    for line in refused:
        click.echo(f"refused: {line}", err=True)
    click.echo(f"{len(new)} results taken in, {len(refused)} refused")
