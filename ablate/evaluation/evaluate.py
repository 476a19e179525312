"""From a file to its evaluation: a released checkpoint, an ONNX network, an arm's weights, or predictions."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ablate import registry
from ablate.beside import Evaluated
from ablate.datasets import Array, things
from ablate.errors import DataError, PartError, nearest
from ablate.evaluation import checkpoints, onnx_file, prediction_files, published
from ablate.evaluation.asked import Asked, Settings, asked, asked_by
from ablate.evaluation.networks import CHANNELS, FINDS, SEVERAL, Adapted, Loaded
from ablate.evaluation.scoring import Predicted, evaluated
from ablate.machine import clock
from ablate.study import Budget, Recipe
from ablate.tasks import Forward, Outputs, Prediction
from ablate.tasks._coco_results import NEAREST
from ablate.training.batches import Encoded, batches, served, to_device
from ablate.training.site import Site

SIZE = re.compile(r"(?<!\d)(\d{2,4})x(\d{2,4})(?!\d)")  # height and width in a file's name, as the pose zoos write it
NAMES = "annotation_id"  # in a prediction: whose it is; -1: nobody said
Said = Callable[[int, int], None]  # how many samples of how many are predicted


@dataclass(frozen=True)
class Question:
    """What files are scored by, and with what."""

    task: str | None
    data: Path | None
    chosen: Settings
    device: torch.device
    batch: int = 32
    workers: int = 0
    said: Said | None = None
    scores: tuple[str, ...] = ()  # see `Asked`


@dataclass(frozen=True)
class Answer:
    """An evaluation with what it was made of."""

    found: Evaluated
    statistics: dict[str, Array]
    asked: Asked
    predicted: Predicted

    @property
    def names_people(self) -> bool:
        """Whether its predictions say of which annotated person they are."""
        return any(int(str(one.get(NAMES, -1))) >= 0 for one in self.predicted.predictions)


def of_predictions(place: Path, question: Question, *, label: str = "") -> Answer:
    """What somebody's files of predictions score.

    Raises:
        AblateError: they cannot be read, or do not fit the set.
    """
    opened = _wanting(asked(question.task, question.data, question.chosen), question.scores)
    return _answer(opened, prediction_files.read(place, opened), label or place.stem)


def nameless(answer: Answer) -> Answer:
    """The same, scored as files of results are, whose predictions do not say of which annotated person they are."""
    made, notes = answer.predicted, [f"as for files of predictions, {NEAREST}"]
    predictions = [{key: value for key, value in one.items() if key != NAMES} for one in made.predictions]
    made = replace(made, predictions=predictions, notes=[*made.notes, *notes])
    found, statistics = evaluated(answer.asked, made, label=answer.found.label)
    return Answer(found, statistics, answer.asked, made)


def of_network(file: Path, question: Question, *, label: str = "") -> Answer:
    """What the network of a checkpoint or an ONNX file scores.

    Raises:
        AblateError: it cannot be read, or does not fit the task or the set.
    """
    net = load(file, question.chosen, question.device)
    task = question.task or net.task
    chosen, net = with_what_the_file_tells(question.chosen, net, file, task)
    opened = _wanting(asked(task, question.data, chosen), question.scores)
    return _answer(opened, predicted(net, opened, question), label or file.stem)


def of_arm(recipe: Recipe, file: Path, question: Question, *, label: str = "") -> Answer:
    """What the network of a study's arm scores with the weights of a file, by the study's protocol and data.

    Raises:
        AblateError: the weights are of another network, or the data are not there.
    """
    opened = _wanting(asked_by(recipe, question.data, question.chosen), question.scores)
    net = checkpoints.of_arm(recipe, file, question.chosen, question.device)
    return _answer(opened, predicted(net, opened, question), label or file.stem)


def _wanting(opened: Asked, scores: tuple[str, ...]) -> Asked:
    """The same, with these scores among what is computed. Raises PartError."""
    task = opened.task_part.name
    metrics = [registry.describe("metric", name) for name in registry.describe("task", task).facts.get("metrics", ())]
    for score in scores:
        if not any(metric.gives(score) for metric in metrics):
            known = [name for metric in metrics for name in metric.facts.get("scores", ())]
            raise PartError(f"--score {score}: the task {task!r} has no such score; {nearest(score, known)}")
    return replace(opened, scores=scores)


def _answer(opened: Asked, made: Predicted, label: str) -> Answer:
    rows, notes = published.reported(made.subject, opened.info.name)
    made = replace(made, reported=rows, notes=[*made.notes, *notes])
    found, statistics = evaluated(opened, made, label=label)
    return Answer(found, statistics, opened, made)


def load(file: Path, chosen: Settings, device: torch.device) -> Loaded:
    """The network of an ONNX file or a checkpoint.

    Raises:
        DataError: it is none that can be read, in one line.
    """
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    if file.suffix == ".onnx":
        return onnx_file.load(file, chosen["network"], gpu=device.type == "cuda")
    return checkpoints.load(file, chosen, device)


def with_what_the_file_tells(chosen: Settings, net: Loaded, file: Path, task: str | None) -> tuple[Settings, Loaded]:
    """The settings, completed by what is known of the network: the size of its pictures, how its logits are enlarged.

    Raises:
        DataError: its head is for another task.
    """
    if net.task and net.task != task:
        raise DataError(f"{file}: {net.subject.network} is for {net.task}, not for {task}")
    if task in FINDS and net.task is None:
        raise DataError(
            f"{file}: of detectors checkpoints are read; what this one found, as a COCO results file, is scored"
        )
    if task in FINDS and net.reading.changed.keys() & {"size", "multiple", "output"}:
        raise DataError("network.size, multiple, output: a detector sees what task.size says, and tells what it finds")
    if task in SEVERAL and net.reading.changed.keys() & {"multiple", "output"}:
        raise DataError(f"network.multiple, output: {task} reads all outputs, of sides that are multiples already")
    if task in FINDS and not set(things()["coco80"]) <= set(net.names) and "name" not in chosen["dataset"]:
        chosen = {**chosen, "dataset": {"classes": list(net.names), **chosen["dataset"]}}
    known, notes = dict(net.knobs), list(net.notes)
    if task == "pose" and "size" not in {**known, **chosen["task"]}:
        named = SIZE.findall(file.name)
        if net.size:
            known["size"] = list(net.size)
        elif named:
            known["size"] = [int(side) for side in named[-1]]
            notes.append(f"crops are {' x '.join(named[-1])}, as the file's name says; task.size says otherwise")
        else:
            notes.append("crops have the task's usual size; --set task.size=[HEIGHT, WIDTH] says otherwise")
    if task == "classification" and "size" not in {**known, **chosen["task"]} and net.size:
        known["size"] = list(net.size)
    task_knobs = {**known, **chosen["task"]}
    return {**chosen, "task": task_knobs}, replace(net, notes=tuple(notes))


def predicted(net: Loaded, opened: Asked, question: Question) -> Predicted:
    """What the network predicts for every sample of the split.

    Raises:
        DataError: its outputs do not fit the task or the set, or a picture is damaged.
    """
    task, parts = opened.task, opened.parts
    net = _by_name(net, parts)
    if net.outputs is not None and net.outputs != len(parts) and net.reading.channels is None:
        what = "joints" if opened.task_part.name.endswith("pose") else "classes"
        there = f"has {net.outputs} {what}, the set {opened.info.name} has {len(parts)}"
        raise DataError(f"{net.subject.file}: {there}; {CHANNELS}")
    forward = Adapted(net, opened.task_part.name, parts)
    chosen = task.samples_for_evaluation(opened.samples, opened.protocol)
    site = Site(results="", data=opened.root, budget=Budget(workers=question.workers))
    at_once = task.evaluation_batch(question.batch)
    start, found = clock.now(), list[Prediction]()
    with torch.inference_mode(), served():
        for number, one in enumerate(batches(Encoded(chosen, task, opened.info, seed=0), at_once, site, task)):
            found += task.predict(_forward(forward), to_device(one, question.device), opened.protocol)
            if question.said:
                question.said(min((number + 1) * at_once, len(chosen)), len(chosen))
    size = " x ".join(map(str, net.size or net.reading.size or ()))
    windows = "; windows: --set evaluation.window=[...]" if hasattr(opened.protocol, "window") else ""
    scaled = f"images were scaled to {size}, and the maps back{windows}"
    notes = [*net.notes, *([scaled] if forward.scaled else [])]
    finished = task.finish(found, opened.protocol, opened.info)
    return Predicted(net.subject, finished, len(chosen), clock.now() - start, notes)


def _by_name(net: Loaded, parts: list[str]) -> Loaded:
    """The same, with a channel for each of the set's classes, where the network knows them all by name, and others."""
    if net.reading.channels is not None or list(net.names) == parts or not set(parts) <= set(net.names):
        return net
    channels = tuple(map(net.names.index, parts))
    return replace(net, reading=net.reading.model_copy(update={"channels": channels}))


def _forward(adapted: Adapted) -> Forward:
    def forward(images: torch.Tensor, *given: torch.Tensor) -> Outputs:
        maps = adapted(images, *given)
        return [one.to(images.device) for one in maps] if isinstance(maps, list) else maps.to(images.device)

    return forward
