"""ablate data: the known sets; check a folder; make one."""

import sys
from pathlib import Path

import click

from ablate.cli import options
from ablate.cli.tables import Row, show
from ablate.errors import AblateError, nearest


@click.group("data", invoke_without_command=True)
@options.as_json
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Which data sets are known, where they come from, and under which licence.

    Example: ablate data check pose_lspet --data ~/datasets
    """
    if context.invoked_subcommand:
        return
    from ablate.datasets import catalog

    rows: list[Row] = [
        {"set": name, "what": known.title, "source": known.source, "licence": known.licence, "get": known.get}
        for name, known in catalog().items()
    ]
    if as_json:
        show(rows, as_json=True)
        return
    click.echo("figures\n  drawn by the project, no files, no licence\n")
    for row in rows:
        click.echo(row["set"])
        for key in ("what", "source", "licence", "get"):
            click.echo(f"  {key}: {row[key]}")
        click.echo()


@command.command("check")
@click.argument("name")
@options.data
@click.option("--joints", default="coco17", show_default=True, help="The joint set of the annotations.")
@click.option("--quick", is_flag=True, help="Look at headers and file sizes only; otherwise every image is decoded.")
def check(name: str, data: Path | None, joints: str, quick: bool) -> None:
    """Check the files of a set; exit status 1 when something is wrong.

    Example: ablate data check coco2017 --data ~/datasets
    """
    from ablate import registry

    knobs = registry.check_knobs("dataset", "coco_pose", {"set": name, "joints": joints})
    dataset, problems = registry.build("dataset", "coco_pose", knobs), []
    for split in ("train", "val"):
        samples = dataset.open(split, data)
        found = samples.check(thorough=not quick)
        problems += found
        skipped = "".join(f", {count} {reason}" for reason, count in samples.skipped.items())
        digest = "" if found else f", digest {samples.digest()}"
        click.echo(f"{split}: {len(samples)} samples{skipped}{digest}, {len(found)} problems")
    for problem in problems:
        click.echo(problem)
    sys.exit(1 if problems else 0)


@command.command("make")
@click.argument("name")
@click.option("--archive", type=click.Path(path_type=Path, exists=True), required=True, help="The public archive.")
@options.data
def make(name: str, archive: Path, data: Path | None) -> None:
    """Make a set from its public archive, in the data folder.

    Example: ablate data make pose_lspet --archive lspet.zip --data ~/datasets
    """
    from ablate.make_lspet import make_lspet

    if name != "pose_lspet":
        raise AblateError(f"data make {name}: {nearest(name, ['pose_lspet'])}")
    if data is None:
        raise AblateError("data make: name the data folder with --data or ABLATE_DATA")
    click.echo(make_lspet(archive, data / name))
