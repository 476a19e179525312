"""ablate status: where a study stands."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablate.cli import options
from ablate.cli.tables import Row, show
from ablate.cli.talk import say
from ablate.cli.track import same_study
from ablate.planning.open_study import opened

if TYPE_CHECKING:
    from ablate.storage import Store
    from ablate.study import Design

NEEDLESS = "not needed"


@click.command("status")
@options.study_file
@options.scale
@options.results
@options.device
@options.as_json
@options.as_csv
def command(study: Path, scale: str | None, results: str, device: str | None, as_json: bool, as_csv: bool) -> None:
    """List all trials with id and score: done, failed, begun, missing, or not needed.

    Example: ablate status studies/fusion_count.yaml
    """
    from ablate.storage import Store, damage, holdings, kind_of, left_out

    store, design = Store(results), opened(study, scale=scale, results=results, keep=False)
    everything, held = store.read(), holdings(store)
    kind = kind_of(design.study, design.trials, everything, device)
    shelf = everything.of(kind)
    primary = design.study.metrics[0]
    unneeded = _unneeded(design, store.of(kind))
    rows: list[Row] = []
    trials = [*(design.tries.trials if design.tries else ()), *design.trials]
    for trial in trials:
        result = shelf.results.get(trial.id)
        documents = held.get(result.id if result else trial.id, {})
        rows.append(
            {
                "id": trial.id,
                "arm": design.arm(trial).label,
                "seed": trial.seed,
                "status": result.status if result else _without_result(documents, needless=trial.id in unneeded),
                primary: round(result.scores.get(primary, float("nan")), 4) if result else float("nan"),
                "bytes": sum(documents.values()),
                "reason": result.reason if result else "",
            }
        )
    theirs = [shelf.results[trial.id].imported if trial.id in shelf.results else None for trial in trials]
    if any(theirs):
        for row, mark in zip(rows, theirs, strict=True):
            row["imported from"] = mark.source if mark else ""
    show(rows, as_json=as_json, as_csv=as_csv)
    done = sum(row["status"] == "done" for row in rows)
    own, total = sum(row["bytes"] for row in rows), sum(sum(documents.values()) for documents in held.values())
    say(f"{done} of {len(rows)} trials done in {results}")
    if design.waiting:
        lost = sum(row["status"] == "failed" for row in rows[: len(trials) - len(design.trials)])
        more = f"; {lost} tries have failed; to train them again: {same_study('run', '--retry')}" if lost else ""
        say(f"{len(design.waiting)} of {len(design.arms)} arms are not tuned yet{more}")
    if needless := sum(row["status"] == NEEDLESS for row in rows):
        say(f"{needless} are not needed: a look has decided their comparisons")
    say(f"{own:,} bytes, {total:,} with other trials")
    if others := left_out(design.trials, everything, kind):
        say(others)
    if any(theirs):
        say(
            f"{sum(map(bool, theirs))} of them were imported, not trained here; "
            f"ablate show ID --results {results} says when"
        )
    for line in shelf.spare:
        say(f"counts nowhere: {line}")
    for line in shelf.damaged + damage(store):
        say(f"damaged: {line}")
    if (aside := store.root / "mlflow.db.damaged").exists():
        say(f"damaged: {aside}: renamed; all results were written to MLflow again, so delete it")
    link = store.root / "mlflow.link"
    if link.is_file() and not link.is_symlink():
        say(f"MLflow: {link.read_text(encoding='utf-8', errors='replace')[:1000].strip()}")


def _without_result(documents: dict[str, int], *, needless: bool) -> str:
    from ablate.storage import begun

    return NEEDLESS if needless else "begun" if begun(documents) else "missing"


def _unneeded(design: "Design", store: "Store") -> set[str]:
    """The trials, by id, that looks have made needless; none in a study without looks."""
    from ablate.analysis import gather

    if not design.study.looks:
        return set()
    found = gather(design, store, images=False)
    planned = zip(design.contrasts, found.comparisons, strict=False)  # those in the primary metric come first
    waiting = {label for contrast, one in planned if one.verdict == "undecided" for label in contrast.weights}
    labels = {trial.id: design.arm(trial).label for trial in design.trials}
    return {
        trial.id
        for trial in design.trials
        if labels[trial.id] not in waiting and (labels[trial.id], trial.seed) not in found.missing
    }
