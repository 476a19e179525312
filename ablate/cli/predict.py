"""ablate predict: a network on pictures, drawn and written in the field's formats."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablate.cli import options
from ablate.cli.tables import document
from ablate.cli.talk import tell

if TYPE_CHECKING:
    from ablate.evaluation.asked import Asked
    from ablate.tasks import Prediction


@click.command("predict")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--to", "target", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="FOLDER",
    help="Where drawings and predictions are written.",
)  # fmt: skip
@click.option(
    "--boxes", type=click.Path(path_type=Path), metavar="FILE",
    help="People's boxes: [{image_id or file_name, bbox, score}]. Without, each picture is one person.",
)  # fmt: skip
@options.question
@options.plugin
@options.as_json
def command(
    checkpoint: Path, images: tuple[Path, ...], target: Path, boxes: Path | None, as_json: bool, **asked: object
) -> None:
    """Predict for pictures, or for the evaluation split of the set in --data, and draw skeletons, masks or boxes.

    Writes drawn/NAME.png, the predictions (a COCO results file, or maps of label ids in labels/), and images.json,
    which says which number is which picture. The split may lack labels: of MPII's test (dataset.test=test) pred.mat is
    written, of Cityscapes' the maps, as their servers take them.
    Example: ablate predict net.onnx photographs/ --task pose --to found
    """
    from ablate.errors import DataError, StoreError
    from ablate.evaluation import asked as asking
    from ablate.evaluation import evaluate, pictures

    question = options.asked(**asked)  # type: ignore[arg-type]  # the options of `question`
    net = evaluate.load(checkpoint, question.chosen, question.device)
    task = question.task or net.task
    chosen, net = evaluate.with_what_the_file_tells(question.chosen, net, checkpoint, task)
    if task is None or (not images and question.data is None):
        raise click.UsageError(
            "--task says what is predicted" if task is None else "name pictures, or a set with --data"
        )
    if images:
        outputs = None if net.names else net.outputs or net.likely  # names stand in the settings, or are COCO's
        opened = pictures.asked_of(images, task, chosen, outputs, boxes)
    elif boxes:
        raise DataError("--boxes: for pictures; a set has its own (evaluation.boxes=detections)")
    else:
        opened = asking.asked(task, question.data, chosen, scored=False)
    if target.exists() and any(target.iterdir()):
        raise StoreError(f"--to {target}: is not empty")
    made = evaluate.predicted(net, opened, question)
    files = _write(opened, made.predictions, target)
    notes = [
        *made.notes,
        *(["each picture is taken for one person"] if images and task == "pose" and not boxes else []),
    ]
    if as_json:
        document({"task": task, "samples": made.samples, "files": files, "notes": notes})
        return
    there = len(opened.samples.image_ids())
    tell(*(f"note: {note}" for note in notes), f"{len(made.predictions)} predictions on {there} images")
    drawings = [file for file in files if file.parent == target / "drawn"]
    tell(*files[len(drawings) :], f"{target / 'drawn'}: {len(drawings)} drawings" if drawings else "")


def _write(opened: "Asked", predictions: list["Prediction"], target: Path) -> list[Path]:
    """Drawings, then predictions and the list of images."""
    import cv2

    from ablate.errors import StoreError
    from ablate.evaluation import pictures
    from ablate.tasks import Prediction, WritesPredictions

    samples, of_image = opened.samples, dict[int, list[Prediction]]()
    for one in predictions:
        of_image.setdefault(int(str(one["image_id"])), []).append(one)
    shown = target / "drawn"
    place = target / "labels" if any("labels" in one for one in predictions) else target
    listed, written = [], []
    try:
        shown.mkdir(parents=True, exist_ok=True)
        place.mkdir(exist_ok=True)
        for image_id in samples.image_ids():
            image = samples.image(image_id)
            file = shown / f"{samples.name(image_id)}.png"
            canvas = pictures.drawn(image, of_image.get(image_id, []), opened.info)
            file.write_bytes(cv2.imencode(".png", canvas[..., ::-1])[1].tobytes())
            written.append(file)
            listed.append({"id": image_id, "name": samples.name(image_id)})
            listed[-1] |= {"height": image.shape[0], "width": image.shape[1]}
        if isinstance(opened.task, WritesPredictions):
            opened.task.write_predictions(predictions, samples, place)
        (target / "images.json").write_text(json.dumps({"images": listed, "parts": opened.parts}, indent=1))
    except OSError as error:
        raise StoreError(f"{error.filename or target}: {error.strerror}") from None
    results = [file for file in sorted(target.glob("*.[jm]*")) if file.name != "images.json"]
    return [*written, *(results if place == target else [place]), target / "images.json"]
