"""ablate import: results of others, or of another machine."""

from pathlib import Path

import click

from ablate.cli import options
from ablate.cli.tables import document


@click.command("import")
@click.argument("source", type=click.Path(path_type=Path, exists=True, file_okay=False))
@options.results
@options.as_json
def command(source: Path, results: str, as_json: bool) -> None:
    """Take in the results that stand beside a published report; each is checked against its checksum.

    Example: ablate import reports/fusion_count
    """
    from ablate.planning import match
    from ablate.storage import Store, imported, published_in

    new, refused = imported(source, Store(results))
    if clashes := match.take_in(published_in(source), results):
        refused.append(
            f"{match.FILE}: {clashes} matched levels were solved otherwise here: imported results of theirs stand apart"
        )
    for line in refused:
        click.echo(f"refused: {line}", err=True)
    if as_json:
        document({"taken": new, "refused": refused})
        return
    click.echo(f"{len(new)} results taken in, {len(refused)} refused")
