"""ablate status: where a study stands."""

from pathlib import Path

import click

from ablate.cli import options
from ablate.cli.studies import opened
from ablate.cli.tables import Row, cell, show


@click.command("status")
@options.study_file
@options.scale
@options.results
@options.as_json
@options.as_csv
def command(study: Path, scale: str | None, results: Path, as_json: bool, as_csv: bool) -> None:
    """Every trial: done, failed, begun or missing, with its id and score.

    Example: ablate status studies/fusion_count.yaml
    """
    from ablate.design import expand, label
    from ablate.store import Store

    store, chosen = Store(results), opened(study, scale=scale, results=results, keep=False)
    shelf, trials = store.read(), expand(chosen)
    primary = chosen.metrics[0]
    rows: list[Row] = []
    for trial in trials:
        result = shelf.results.get(trial.id)
        begun = (store.folder(trial.id) / "state").exists()
        rows.append(
            {
                "id": trial.id,
                "arm": label(trial.arm, trials[0].arm),
                "seed": trial.seed,
                "status": result.status if result else ("begun" if begun else "missing"),
                primary: round(result.scores.get(primary, float("nan")), 4) if result else float("nan"),
                "reason": result.reason if result else "",
            }
        )
    show(rows, as_json=as_json, as_csv=as_csv)
    done = sum(row["status"] == "done" for row in rows)
    click.echo(f"{done} of {len(rows)} trials done in {results}", err=True)
    for line in shelf.damaged:
        click.echo(f"damaged: {line}", err=True)
    link = results / "mlflow.link"
    if link.is_file() and not link.is_symlink():
        click.echo(f"MLflow: {cell(link.read_text(encoding='utf-8', errors='replace')[:1000])}", err=True)
