"""ablate evaluate: files of predictions, scored by a task's own protocol."""

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablate.cli import options
from ablate.cli.tables import Row, document, show
from ablate.cli.talk import say, tell

if TYPE_CHECKING:
    from ablate.evaluation.asked import Asked
    from ablate.evaluation.official import Checked
    from ablate.evaluation.scoring import Predicted
    from ablate.evaluation.stored import Evaluated


@click.command("evaluate")
@click.option(
    "--predictions", type=click.Path(path_type=Path), metavar="FILE|FOLDER",
    help="What any system predicted: a COCO results file, or a folder of PNG label maps.",
)  # fmt: skip
@options.task
@options.data
@options.settings
@click.option("--check", type=click.Choice(["official"]), help="Lay the field's own evaluation of the files beside it.")
@click.option("--label", metavar="NAME", help="What it is called; the file's name otherwise.")
@options.stored
@options.plugin
@options.as_json
def command(
    predictions: Path | None, task: str | None, data: Path | None, chosen: tuple[str, ...], check: str | None,
    label: str | None, results: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Score what any system predicted, by the task's own protocol, with its interval over test images.

    Exit status 1 where --check finds a difference. Example:
    ablate evaluate --predictions results.json --task pose --data ~/datasets/coco2017
    """
    from ablate.evaluation import asked as asking
    from ablate.evaluation import prediction_files
    from ablate.evaluation.scoring import evaluated

    if predictions is None:
        raise click.UsageError("--predictions names what is scored")
    asked = asking.asked(task, data, asking.settings(chosen))
    predicted = prediction_files.read(predictions, asked)
    found, statistics = evaluated(asked, predicted, label=label or predictions.stem)
    keep(found, statistics, results)
    whose, checked = official(asked, predicted, found) if check else ("", [])
    if as_json:
        document(found.model_dump(mode="json") | {"check": _rows(whose, checked)})
    else:
        tell(*lines(found))
        if checked:
            tell("", f"{whose} on the same files, beside ours:")
            show([{key: value for key, value in row.items() if key != "by"} for row in _rows(whose, checked)])
    if any(not one.equal for one in checked):
        say(f"{sum(not one.equal for one in checked)} scores differ from {whose}'s")
        raise SystemExit(1)


def lines(found: "Evaluated") -> list[str]:
    """An evaluation in words: what was scored on what, the scores with their intervals, remarks."""
    digits = found.subject.sha256[:8]
    network = f": {found.subject.network}" if found.subject.network else ""
    samples = f"{found.samples:,} predictions on " if found.samples else ""
    redrawn = f"{found.groups:,} groups" if found.groups else "images"
    knobs = ", ".join(f"{name} {value}" for name, value in found.evaluation.items())
    said = [
        f"{found.label} ({found.subject.kind} {found.subject.file}, sha256 {digits}...){network}",
        f"{found.task.name} on {found.dataset.knobs.get('set', found.dataset.name)}: {samples}{found.images:,} images",
        *([f"protocol: {knobs}"] if knobs else []),
        *(f"note: {note}" for note in found.notes),
        "",
    ]
    width = max(len(name) for name in found.scores)
    for name, value in found.scores.items():
        low, high = found.intervals.get(name, (math.nan, math.nan))
        ends = "" if math.isnan(low) else f"  [{low:.4f}, {high:.4f}]"
        said.append(f"{name:<{width}}  -" if math.isnan(value) else f"{name:<{width}}  {value:.4f}{ends}")
    said += [
        "",
        f"In brackets: 95 % of the scores on redrawn {redrawn}, which says how far it depends on the test set.",
    ]
    return [*said, f"id {found.id}"]


def official(asked: "Asked", predicted: "Predicted", found: "Evaluated") -> tuple[str, list["Checked"]]:
    """The field's own evaluation of these predictions, written to files as the task writes them."""
    from ablate.errors import AblateError
    from ablate.evaluation.official import official
    from ablate.tasks import WritesPredictions

    if not isinstance(asked.task, WritesPredictions):
        raise AblateError(f"--check official: the task {asked.task_part.name} writes no files of predictions")
    with tempfile.TemporaryDirectory() as folder:
        asked.task.write_predictions(predicted.predictions, asked.samples, Path(folder))
        return official(asked.samples, Path(folder), found.scores)


def keep(found: "Evaluated", statistics: object, results: str | None) -> None:
    """Store an evaluation where a place of results is named."""
    if results is None:
        return
    from ablate.evaluation import stored
    from ablate.storage import Store

    store = Store(results)
    store.create()
    stored.put(store.place, found, statistics)  # type: ignore[arg-type]  # arrays, which analysis made


def _rows(whose: str, checked: list["Checked"]) -> list[Row]:
    return [
        {"score": one.score, "ours": one.ours, "official": one.theirs, "equal": one.equal, "by": whose}
        for one in checked
    ]
