"""ablate paper: published rows whose checkpoints are at hand, ours beside theirs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablate.cli import options
from ablate.cli.tables import Row, document, show
from ablate.cli.talk import tell

if TYPE_CHECKING:
    from ablate.evaluation.evaluate import Question
    from ablate.evaluation.published import Released

SUFFIXES = (".pth", ".pt", ".tar", ".safetensors")
SHOWN = ("row", "set", "score", "published", "ours", "95 %", "difference", "also", "why")
SETS = ("coco2017", "mpii", "cityscapes", "lip", "pascal_context", "pascal_context_60", "imagenet")  # known here so


@click.command("paper")
@click.option(
    "--evaluate", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True,
    metavar="FOLDER", help="Where released checkpoints lie.",
)  # fmt: skip
@options.question
@options.stored
@options.as_json
def command(
    folder: Path, task: str | None, data: Path | None, chosen: tuple[str, ...], results: str | None,
    as_json: bool, **how: object,
) -> None:  # fmt: skip
    """Score the checkpoint of every published HRNet row that lies in a folder, beside the published score.

    A file is known by its digest where the beginning of one is published, else by its name. What is not there is named
    with its address. --data holds the sets' folders: coco2017, mpii, cityscapes, lip, pascal_context, imagenet.
    Example:
    ablate paper --evaluate ~/checkpoints --data ~/datasets
    """
    from ablate.evaluation import published
    from ablate.evaluation.prediction_files import digest

    question = options.asked(task=task, data=data, chosen=chosen, **how)  # type: ignore[arg-type]  # its options
    files = {digest(path): path for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES and path.is_file()}
    rows = [
        _row(row, _found(row, files), question, results) for row in published.of_hrnet() if task in (None, row.task)
    ]
    scored = [row for row in rows if row["file"]]
    if as_json:
        document(rows)
        return
    for row in rows:
        if not row["file"]:
            known = f"sha256 {row['sha256']}..." if row["sha256"] else "no digest is published"
            tell(f"missing: {row['row']} ({row['set']}): {row['url']}, {known}")
    for path in sorted({str(path) for path in files.values()} - {str(row["file"]) for row in scored}):
        tell(f"of no published row: {path}")
    show([{key: row[key] for key in SHOWN} for row in scored])
    tell(f"{len(scored)} of {len(rows)} published rows have their file in {folder}")


def _found(row: "Released", files: dict[str, Path]) -> Path | None:
    """The row's file: by content where a digest is published, else by name."""
    if row.sha256:
        return next((path for sha256, path in files.items() if sha256.startswith(row.sha256)), None)
    return next((path for path in files.values() if row.file and path.name == row.file), None)


def _row(row: "Released", file: Path | None, question: "Question", results: str | None) -> Row:
    score = next(iter(row.scores), "")
    shown: Row = {
        "row": row.row, "task": row.task, "set": row.set, "file": str(file) if file else "", "sha256": row.sha256,
        "url": row.url, "score": score, "published": row.scores.get(score), "ours": None, "95 %": "",
        "difference": None, "also": "", "protocol": row.protocol, "source": row.source, "why": "",
    }  # fmt: skip
    if file is None:
        return shown
    if row.set not in SETS:
        return shown | {"why": f"the set {row.set} is none that is known here"}
    return shown | _scored(row, file, score, question, results)


def _scored(row: "Released", file: Path, score: str, question: "Question", results: str | None) -> Row:
    from dataclasses import replace

    from ablate.cli.evaluate import keep
    from ablate.errors import AblateError
    from ablate.evaluation import evaluate, published

    settings = published.settings_of(row)
    settings["dataset"]["set"] = row.set
    for section, values in question.chosen.items():
        settings[section] |= values
    try:
        answer = evaluate.of_network(file, replace(question, task=row.task, chosen=settings), label=row.row)
    except AblateError as error:  # of this file; the other rows go on
        return {"why": str(error)}
    keep(answer, results)
    found = answer.found.scores
    ours, (low, high) = found[score], answer.found.intervals[score]
    others = {name: value for name, value in row.scores.items() if name != score and name in found}
    named = "" if row.sha256 else "known by its name alone: no digest is published"
    return {
        "ours": ours, "95 %": f"{low:.4f} to {high:.4f}", "difference": ours - row.scores[score],
        "also": "; ".join(f"{name} {value:.4g}, ours {found[name]:.4f}" for name, value in others.items()),
        "why": "; ".join(filter(None, [named, f"published with {row.protocol}"])),
    }  # fmt: skip
