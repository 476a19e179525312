"""ablate import: results of others, or of another machine."""

from pathlib import Path

import click

from ablate.cli import options
from ablate.cli.tables import document
from ablate.cli.talk import say, tell


@click.command("import")
@click.argument("source", type=click.Path(path_type=Path, exists=True, file_okay=False))
@options.results
@options.plugin
@options.as_json
def command(source: Path, results: str, as_json: bool) -> None:
    """Import the results that were published beside a report.

    An imported result is marked as such and never replaces one that was trained here. Its id must fit its recipe and
    seed, its data must be those of the other results, and its scores are computed again from its per-image statistics.
    How it was trained cannot be checked so; `ablate reproduce --sample` trains some again. Example:
    ablate import reports/fusion_count
    """
    from ablate.storage import Store, imported

    taken = imported(source, Store(results))
    for line in taken.refused:
        say(f"refused: {line}")
    if taken.unchecked:
        parts = sorted({part for parts in taken.unchecked.values() for part in parts})
        say(
            f"unchecked, and counted nowhere until these parts are known here: {len(taken.unchecked)} results of "
            f"{', '.join(parts)}; with --plugin and the module that has them, the same command checks them"
        )
    if as_json:
        document({"taken": taken.new, "unchecked": list(taken.unchecked), "refused": taken.refused})
        return
    tell(f"{len(taken.new)} results taken in, {len(taken.refused)} refused")
