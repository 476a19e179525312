"""ablate evaluate: a network or files of predictions, scored by a task's own protocol."""

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablate.cli import completion, options
from ablate.cli.scores import named, uncounted
from ablate.cli.tables import Row, cell, document, show
from ablate.cli.talk import say, tell

if TYPE_CHECKING:
    from ablate.beside import Evaluated
    from ablate.evaluation.evaluate import Answer, Question
    from ablate.evaluation.official import Checked
    from ablate.tracking import Shown


@click.command("evaluate")
@click.argument("what", metavar="[CHECKPOINT|STUDY]", type=click.Path(path_type=Path), required=False)
@click.option(
    "--predictions", type=click.Path(path_type=Path), metavar="FILE|FOLDER",
    help="What any system predicted: a COCO results file, or a folder of PNG label maps.",
)  # fmt: skip
@options.question
@click.option(
    "--arm", multiple=True, metavar="ARM", shell_complete=completion.arms,
    help="Of a study: the arm by its label, or levels that differ from the control as FACTOR=LEVEL.",
)  # fmt: skip
@click.option("--weights", type=click.Path(path_type=Path), metavar="FILE", help="Of a study's arm: all its weights.")
@options.scale
@click.option("--check", type=click.Choice(["official"]), help="Lay the field's own evaluation of the files beside it.")
@click.option("--label", metavar="NAME", default="", help="What it is called; the file's name otherwise.")
@options.stored
@options.tracker_of_evaluations
@options.plugin
@options.as_json
def command(
    what: Path | None, predictions: Path | None, arm: tuple[str, ...], weights: Path | None, scale: str | None,
    check: str | None, label: str, results: str | None, mlflow: str | None, experiment: str | None, as_json: bool,
    **asked: object,
) -> None:  # fmt: skip
    """Score a network, or what any system predicted, by the task's own protocol, with its interval over test images.

    CHECKPOINT is a released file (official, OpenMMLab, torchvision's detectors) or an ONNX network; of a STUDY, --arm
    names the network and --weights the file. Exit status 1 where --check finds a difference. Example:
    ablate evaluate pose_hrnet_w32_256x192.pth --task pose --data ~/datasets/coco2017
    """
    from ablate.evaluation import evaluate

    question = options.asked(**asked)  # type: ignore[arg-type]  # the options of `question`
    if (what is None) == (predictions is None):
        raise click.UsageError("give one of CHECKPOINT, STUDY and --predictions")
    if predictions is not None:
        if idle := [f"{of}.{key}" for of in ("evaluation", "network") for key in question.chosen[of]]:
            raise click.UsageError(f"--set {idle[0]}: is how a network predicts; --predictions are scored as they are")
        answer = evaluate.of_predictions(predictions, question, label=label)
    elif what is not None and options.is_study(what):
        answer = _of_arm(what, arm, weights, scale, question, label)
    else:
        assert what is not None
        answer = evaluate.of_network(what, question, label=label)
    keep(answer, results, mlflow, experiment)
    whose, checked = official(answer) if check else ("", [])
    if as_json:
        document(answer.found.model_dump(mode="json") | {"check": _rows(whose, checked)})
    else:
        tell(*lines(answer.found))
        if checked:
            tell("", f"{whose} on the same files, beside ours:")
            show([{key: value for key, value in row.items() if key != "by"} for row in _rows(whose, checked)])
    if any(not one.equal for one in checked):
        say(f"{sum(not one.equal for one in checked)} scores differ from {whose}'s")
        raise SystemExit(1)


def _of_arm(
    study: Path, arm: tuple[str, ...], weights: Path | None, scale: str | None, question: "Question", label: str
) -> "Answer":
    from ablate.errors import StudyError
    from ablate.evaluation import evaluate
    from ablate.planning.open_study import opened

    if weights is None:
        raise click.UsageError("a study needs --weights FILE")
    if question.task:
        raise click.UsageError("--task is for files; a study has its own")
    design = opened(study, scale=scale, results=None)
    wanted = dict(design.control.levels)
    for choice in arm:
        wanted |= design.levels_of(choice, flag="--arm")
    trial = next((trial for trial in design.trials if trial.arm == wanted), None)
    if trial is None:
        raise StudyError(f"{study}: --arm: no arm combines these levels")
    question = replace(question, scores=(*question.scores, *design.study.metrics))
    return evaluate.of_arm(trial.recipe, weights, question, label=label)


def lines(found: "Evaluated") -> list[str]:
    """An evaluation in words: what was scored on what, the scores with their intervals, what is published."""
    from ablate.evaluation import published

    name = str(found.dataset.knobs.get("set", found.dataset.name))
    network = f": {found.subject.network}" if found.subject.network else ""
    samples = f"{found.samples:,} predictions on " if found.samples not in (0, found.images) else ""
    knobs = {"evaluation": found.evaluation, "network": found.subject.read}
    said = [
        f"{found.label} ({found.subject.kind} {found.subject.file}, sha256 {found.subject.sha256[:8]}...){network}",
        f"{found.task.name} on {name}: {samples}{found.images:,} images",
        *(
            f"{kind}: {', '.join(f'{key} {cell(value)}' for key, value in of.items())}"
            for kind, of in knobs.items()
            if of
        ),
        *(f"note: {note}" for note in found.notes),
        "",
    ]
    names = {score: named(score, found.task.name) for score, value in found.scores.items() if not math.isnan(value)}
    width = max(map(len, names.values()), default=0)
    for score, shown in names.items():
        low, high = found.intervals.get(score, (math.nan, math.nan))
        ends = "" if math.isnan(low) else f"  [{low:.4f}, {high:.4f}]"
        said.append(f"{shown:<{width}}  {found.scores[score]:.4f}{ends}")
    said += uncounted(found.task.name, [score for score in found.scores if score not in names])
    redrawn = f"{found.groups:,} groups of images" if found.groups else "images"
    meaning = f"In brackets: 95 % of the scores on redrawn {redrawn}, which says how far it depends on the test set."
    rows = published.lines(found.reported, found.scores, name)
    return [*said, "", meaning, *rows, f"id {found.id}"]


def official(answer: "Answer") -> tuple[str, list["Checked"]]:
    """The field's own evaluation of these predictions, written to files as the task writes them."""
    from ablate.errors import AblateError
    from ablate.evaluation.official import official
    from ablate.tasks import WritesPredictions

    asked = answer.asked
    if not isinstance(asked.task, WritesPredictions):
        raise AblateError(f"--check official: the task {asked.task_part.name} writes no files of predictions")
    with tempfile.TemporaryDirectory() as folder:
        asked.task.write_predictions(answer.predicted.predictions, asked.samples, Path(folder))
        return official(asked.samples, Path(folder), answer.found.scores)


def keep(answer: "Answer", results: str | None, mlflow: str | None = None, experiment: str | None = None) -> None:
    """Store an evaluation where a place of results is named, and show it in MLflow: there, or in the named tracker."""
    from ablate.beside import evaluations
    from ablate.errors import ServiceError
    from ablate.storage import Store
    from ablate.tracking import show_evaluation

    store = Store(results) if results is not None else None
    if store:
        store.create()
        evaluations.put(store.place, answer.found, answer.statistics)
    if store or mlflow:
        try:
            link = show_evaluation(
                _shown(answer.found), store.root if store else None, uri=mlflow, experiment=experiment
            )
            say(f"MLflow: {link}")
        except ServiceError as error:  # what is stored stays
            say(f"not in MLflow: {error}")


def _shown(found: "Evaluated") -> "Shown":
    """What MLflow shows of an evaluation."""
    from ablate.tracking import Shown

    document = found.model_dump(mode="json")
    of_parts = {"task": found.task, "dataset": found.dataset}
    settings = {kind: part.name for kind, part in of_parts.items()}
    settings |= {f"{kind}.{knob}": str(value) for kind, part in of_parts.items() for knob, value in part.knobs.items()}
    settings |= {f"evaluation.{knob}": str(value) for knob, value in found.evaluation.items()}
    settings |= {"file": found.subject.file, "sha256": found.subject.sha256, "network": found.subject.network}
    bounds = {
        f"{score}/{end}": bound
        for score, pair in found.intervals.items()
        for end, bound in zip(("low", "high"), pair, strict=True)
    }
    tags = {f"ablate.{name}": value for name, value in found.env.items()} | {"ablate.data.val": found.data_digest}
    return Shown(found.id, found.label, settings, found.scores | bounds, tags, document)


def _rows(whose: str, checked: list["Checked"]) -> list[Row]:
    return [
        {"score": one.score, "ours": one.ours, "official": one.theirs, "equal": one.equal, "by": whose}
        for one in checked
    ]
