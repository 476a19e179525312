"""ablate gc: deletes files that no trial needs."""

from pathlib import Path

import click

from ablate.cli import completion, options
from ablate.cli.tables import Row, document, show
from ablate.cli.talk import say
from ablate.planning.open_study import opened


@click.command("gc")
@click.argument("study", type=click.Path(path_type=Path), required=False, shell_complete=completion.studies)
@click.option("--all", "everything", is_flag=True, help="All trials in the results, of every study.")
@options.scale
@options.results
@click.option("--dry-run", is_flag=True, help="Print what would be deleted, and delete nothing.")
@options.as_json
def command(
    study: Path | None, everything: bool, scale: str | None, results: str, dry_run: bool, as_json: bool
) -> None:
    """Delete states of finished trials, partial writes, expired locks and empty trial folders.

    Results are kept, and so are states that `run --retry` would continue from, and trials that a process holds.
    Example: ablate gc --all --dry-run
    """
    from ablate.errors import AblateError
    from ablate.storage import Store, sweep

    if (study is None) != everything:
        raise AblateError("gc: name a study, or --all")
    store, trials = Store(results), None
    if study:
        found = store.read().results
        design = opened(study, scale=scale, results=results, keep=False)
        ids = [trial.id for trial in [*design.trials, *(design.tries.trials if design.tries else ())]]
        trials = {found[trial_id].id if trial_id in found else trial_id for trial_id in ids}
    swept, busy = sweep(store, trials, dry=dry_run)
    rows: list[Row] = [
        {
            "id": litter.trial,
            "bytes": sum(litter.documents.values()),
            "why": litter.why,
            "what": " ".join(sorted(litter.documents)),
        }
        for litter in swept
    ]
    total = sum(row["bytes"] for row in rows)
    if as_json:
        document({"dry_run": dry_run, "bytes": total, "busy": busy, "removed": rows})
    else:
        show(rows)
    say(f"{'would free' if dry_run else 'freed'} {total:,} bytes of {len(rows)} trials in {results}")
    if busy:
        say(f"{busy} trials are held by a process and left alone")
