"""ablate report: what the results say, as a small paper."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablate.cli import options
from ablate.cli.tables import cell
from ablate.planning.open_study import opened

if TYPE_CHECKING:
    from ablate.storage import Store
    from ablate.study import Design, Study


@click.command("report")
@options.study_file
@options.scale
@options.results
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["md", "html", "latex"]),
    help="All three otherwise.",
)
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder; reports under the results otherwise.",
)
@click.option("--publish", is_flag=True, help="Put the rows and per-image statistics beside the report.")
def command(
    study: Path, scale: str | None, results: str, formats: tuple[str, ...], to: Path | None, publish: bool
) -> None:
    """Write the report of the results that are there. Needs no torch and no Ray.

    Example: ablate report studies/fusion_count.yaml --to reports/fusion_count --publish
    """
    from ablate.planning import match
    from ablate.storage import Store
    from ablate.study import load

    store, design = Store(results), opened(study, scale=scale, results=results, keep=False)
    target = to or usual_place(design.study, store)
    write(design, store, target, formats)
    if publish:
        publish_results(design, store, target)
        match.publish(load(study, scale=scale), results, target / "results")


def usual_place(study: "Study", store: "Store") -> Path:
    """Where a study's report is written unless another folder is named.

    Raises:
        LinkError: a link there leads out of the results folder.
    """
    from ablate.machine import refuse_outside

    return refuse_outside(store.root / "reports" / study.name, store.root)


def write(design: "Design", store: "Store", target: Path, formats: tuple[str, ...] = ()) -> None:
    """Gather the evidence, render it (in all formats if none is named), say the answer and where the documents are."""
    from ablate.analysis import gather
    from ablate.report import FORMATS, blocks
    from ablate.report import write as render
    from ablate.report.blocks import Text

    evidence = gather(design, store)
    paths = render(evidence, target, formats=formats or FORMATS)
    for block in blocks(evidence):
        if isinstance(block, Text) and block.style == "answer":
            click.echo(cell(block.text), err=True)
    for path in paths:
        if path.parent == target:
            click.echo(path)


def publish_results(design: "Design", store: "Store", target: Path) -> None:
    """Copy the study's results into the report's folder, as a results folder that `ablate import` reads."""
    from ablate.storage import Store

    published, results = Store(target / "results"), store.read().results
    published.create()
    for trial in design.trials:
        if trial.id in results:
            result = results[trial.id]
            published.put(result, store.statistics(result.id))
