"""ablate report: what the results say, as a small paper."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablate.cli import options
from ablate.cli.tables import Row, document
from ablate.cli.talk import say
from ablate.planning.open_study import opened

if TYPE_CHECKING:
    from ablate.analysis import Evidence
    from ablate.storage import Store
    from ablate.study import Design, Study


@click.command("report")
@options.study_file
@options.scale
@options.results
@options.data
@options.device
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["md", "html", "interactive", "latex", "csv", "parquet"]),
    help="csv and parquet write tables of the numbers (default: the four others); repeatable.",
)
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the report (default: reports/STUDY in the results).",
)
@click.option(
    "--publish",
    is_flag=True,
    help="Also write results, per-image statistics and kept predictions, for `ablate import`.",
)
@click.option(
    "--pictures",
    is_flag=True,
    help="Show test images also of a data set that does not allow it. Check its licence first. Needs "
    "budget.keep_predictions.",
)
@options.as_json
def command(
    study: Path,
    scale: str | None,
    results: str,
    data: Path | None,
    device: str | None,
    formats: tuple[str, ...],
    to: Path | None,
    publish: bool,
    pictures: bool,
    as_json: bool,
) -> None:
    """Write the report from the stored results. Needs neither torch nor Ray.

    Example: ablate report studies/fusion_count.yaml --to reports/fusion_count --publish
    """
    from ablate.analysis import gather
    from ablate.beside import evaluations, speeds
    from ablate.planning import match
    from ablate.storage import Store
    from ablate.study import load

    store, design = Store(results, device), opened(study, scale=scale, results=results, keep=False)
    target = to or usual_place(design.study, store)
    published = Store(target / "results") if publish else None
    evidence = gather(design, store, at=published, data=data, pictures=pictures)
    if published:
        publish_results(design, store.of(evidence.device), published)
        for found in evidence.evaluations:
            if kept := evaluations.get(store.place, found.id):
                evaluations.put(published.place, *kept)
        for _, speed in evidence.speeds:
            speeds.put(published.place, speed)
        match.publish(load(study, scale=scale), results, published.root)
    written = write(evidence, target, formats, quiet=as_json)
    if as_json:
        document(written)


def usual_place(study: "Study", store: "Store") -> Path:
    """Where a study's report is written unless another folder is named.

    Raises:
        LinkError: a link there leads out of the results folder.
    """
    from ablate.machine import refuse_outside

    return refuse_outside(store.root / "reports" / study.name, store.root)


def write(evidence: "Evidence", target: Path, formats: tuple[str, ...] = (), *, quiet: bool = False) -> Row:
    """Render the evidence (in all formats if none is named), say the answer and where the documents are.

    Returns the answer's lines, the kind of device and the documents' paths; `quiet` keeps the paths off stdout.
    """
    from ablate.analysis import frame
    from ablate.report import FORMATS, blocks
    from ablate.report import write as render
    from ablate.report.blocks import Text

    rendered = tuple(name for name in formats if name in FORMATS) if formats else FORMATS
    paths = [path for path in render(evidence, target, formats=rendered) if path.parent == target]
    for kind in ("csv", "parquet"):
        paths += frame.write(evidence, target / "tables", kind) if kind in formats else []
    answer = [block.text for block in blocks(evidence) if isinstance(block, Text) and block.style == "answer"]
    for line in [*answer, evidence.left_out] if evidence.left_out else answer:
        say(line)
    for path in [] if quiet else paths:
        say(path, err=False)
    return {"answer": answer, "device": evidence.device, "files": paths}


def publish_results(design: "Design", store: "Store", published: "Store") -> None:
    """Copy the study's results into another place, which `ablate import` reads."""
    from ablate.storage import PREDICTIONS, kept_plans

    results = store.read().results
    published.create()
    for trial in [*design.trials, *(design.tries.trials if design.tries else ())]:
        if trial.id in results:
            result = results[trial.id]
            published.put(result, store.statistics(result.id))
            if predictions := store.place.read(store.name(result.id, PREDICTIONS)):
                published.place.write(published.name(result.id, PREDICTIONS), predictions)
    for asked in (design, design.tries):
        if asked:
            kept_plans.copy(store, published, asked.study.name)
