"""What an evaluation asks: a task with its protocol, and one split of a data set, opened and looked at.

Settings are written as in a study's recipe: `task.size=[256, 192]`, `evaluation.flip=false`, `dataset.joints=lsp14`.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from ablate import registry
from ablate.datasets import Info, Samples, as_published, build_dataset, catalog, groups_of, parts_named
from ablate.errors import DataError, PartError, StudyError, nearest
from ablate.evaluation.reading import Reading
from ablate.study import Part, Recipe, filled_knobs, parse
from ablate.tasks import SomeTask, build_protocol, build_task

Settings = dict[str, dict[str, object]]  # section -> key -> value
SECTIONS = ("task", "dataset", "evaluation", "network")
PREDICTED = {"pose": "joints", "segmentation": "classes", "detection": "things", "classification": "image_classes"}
LAYOUTS = {
    "mpii": ("annot",),
    "deeplabcut": ("labeled-data",),
    "coco_pose": ("annotations",),
    "coco_instances": ("annotations",),
    "cityscapes": ("gtFine",),
    "label_folder": ("images", "labels"),
    "image_folder": ("train", "val"),
}


@dataclass(frozen=True)
class Asked:
    """One evaluation, before anything is predicted."""

    task_part: Part
    dataset_part: Part
    evaluation: dict[str, object]  # the protocol's knobs, all of them
    task: SomeTask
    protocol: object
    info: Info
    samples: Samples  # the evaluation split
    digest: str  # of its files
    root: Path | None
    scores: tuple[str, ...] = ()  # wanted of metrics that are computed only where somebody asks for them

    @property
    def parts(self) -> list[str]:
        """The names of what is predicted: joints or classes, of pixels, of instances or of images."""
        own = getattr(self.info, PREDICTED.get(self.task_part.name, ""), None)
        return list(own or self.info.joints or self.info.classes or self.info.things or ())

    @property
    def meanings(self) -> dict[str, int]:
        """The `meaning` numbers of the code that has a say."""
        metrics = [
            name
            for name in registry.describe("task", self.task_part.name).facts.get("metrics", ())
            if not (metric := registry.describe("metric", name)).facts.get("only_asked")
            or any(map(metric.gives, self.scores))
        ]
        kinds = {"task": self.task_part.name, "dataset": self.dataset_part.name}
        numbers = {kind: registry.describe(kind, name).meaning for kind, name in kinds.items()}
        return numbers | {f"metric {name}": registry.describe("metric", name).meaning for name in metrics}

    def groups(self) -> list[str] | None:
        """The group of each image, by ascending id, one without a group in its own; None where the set has none."""
        return groups_of(self.samples)


def settings(given: Sequence[str]) -> Settings:
    """`SECTION.KEY=VALUE`, the values in YAML, by section and key.

    Raises:
        StudyError: no such section, no value, or no YAML.
    """
    found: Settings = {section: {} for section in SECTIONS}
    for word in given:
        key, equals, text = word.partition("=")
        section, dot, name = key.partition(".")
        if section not in SECTIONS or not (dot and name):
            raise StudyError(f"--set {word}: wanted SECTION.KEY=VALUE; {_meant(key)}")
        if not equals:
            hint = f"write {key}=VALUE" if key in _keys() else _meant(key)
            raise StudyError(f"--set {word}: has no value; {hint}")
        try:
            found[section][name] = parse(text)
        except StudyError as error:
            raise StudyError(f"--set {word}: {error}") from None
    return found


def _keys() -> list[str]:
    """The keys of all settings, of any task and any data set."""
    kinds = {"task": "task", "dataset": "dataset", "evaluation": "protocol"}
    of_parts = [
        f"{section}.{knob.name}"
        for section, kind in kinds.items()
        for part in registry.names("task" if kind == "protocol" else kind)
        for knob in registry.describe(kind, part).knobs
    ]
    return sorted({*of_parts, *(f"network.{name}" for name in Reading.model_fields)})


def _meant(key: str) -> str:
    """The end of a message about a key of no section, or a misspelt one."""
    same = [known for known in _keys() if known.endswith(f".{key}")]
    close = same or get_close_matches(key, _keys(), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"sections are {', '.join(SECTIONS)}"


def asked(
    task: str | None, data: Path | None, chosen: Mapping[str, Mapping[str, object]], *, scored: bool = True
) -> Asked:
    """The task of that name with the settings, on the set that lies in the data folder.

    What is predicted and not `scored` may lack labels, as the splits of evaluation servers do.

    Raises:
        PartError, DataError: no such part or knob, a set that is not there, or files that are not what they should be.
    """
    if task is None:
        raise PartError(f"--task names what is predicted: {', '.join(registry.names('task'))}")
    registry.describe("task", task)
    name, knobs, root = located(task, data, chosen.get("dataset", {}))
    parts = Part(name=task, knobs=dict(chosen.get("task", {}))), Part(name=name, knobs=knobs)
    _refuse_idle(task, chosen.get("task", {}))
    return _opened(*parts, dict(chosen.get("evaluation", {})), root, scored=scored)


def asked_by(recipe: Recipe, data: Path | None, chosen: Mapping[str, Mapping[str, object]]) -> Asked:
    """What a recipe evaluates by, changed by the settings.

    Raises:
        PartError, DataError: as `asked`.
    """
    _refuse_idle(recipe.task.name, chosen.get("task", {}))
    task, dataset = (
        part.model_copy(update={"knobs": part.knobs | dict(chosen.get(kind, {}))})
        for kind, part in (("task", recipe.task), ("dataset", recipe.dataset))
    )
    return _opened(task, dataset, recipe.evaluation | dict(chosen.get("evaluation", {})), data)


def _opened(
    task_part: Part, dataset_part: Part, evaluation: dict[str, object], root: Path | None, *, scored: bool = True
) -> Asked:
    dataset_part = Part(name=dataset_part.name, knobs=parts_named(dataset_part, root))
    task_part, dataset_part = task_part.filled("task"), dataset_part.filled("dataset")
    evaluation = filled_knobs("protocol", task_part.name, evaluation)
    task, dataset = build_task(task_part), build_dataset(dataset_part)
    samples = dataset.open("val", root)
    protocol = build_protocol(task_part, evaluation)
    digest = samples.verify() if scored else samples.digest()
    return Asked(task_part, dataset_part, evaluation, task, protocol, dataset.info, samples, digest, root)


def _refuse_idle(task: str, knobs: Iterable[str]) -> None:
    """A knob of training that has a namesake among those of evaluation was hardly meant."""
    idle = {k.name for k in registry.describe("task", task).knobs if k.doc.startswith("augmentation")}
    rules = {knob.name for knob in registry.describe("protocol", task).knobs}
    for name in knobs:
        if name in idle & rules:
            raise PartError(f"task.{name} is of training alone; did you mean evaluation.{name}?")


def located(task: str, data: Path | None, knobs: Mapping[str, object]) -> tuple[str, dict[str, object], Path | None]:
    """Which data set of the shelf reads what lies in the folder, with its knobs, and the folder that holds the set's.

    The folder is that of one set, known by what is in it, or one that holds sets' folders, of which `set` names one.

    Raises:
        PartError, DataError: a part that does not serve the task; no folder, or none that is laid out as a set.
    """
    own = dict(knobs)
    part, name = own.pop("name", None), own.get("set")
    serving = [n for n in registry.names("dataset") if task in registry.describe("dataset", n).facts.get("tasks", ())]
    if part is not None and part not in serving:
        raise PartError(f"dataset.name: {part!r} does not serve {task}; {nearest(part, serving)}")
    known = catalog()
    if part is not None and not any(knob.name == "set" for knob in registry.describe("dataset", str(part)).knobs):
        return str(part), own, data  # it is drawn, or finds its files itself
    if data is None:
        raise DataError("the data: name the set's folder with --data")
    data = Path(os.path.abspath(data))  # noqa: PTH100  a link's own name is the set's
    named = [n for n, entry in known.items() if entry.part in serving and (entry.folder or n) == data.name]
    found = part or _part_of(data, serving) or (known[named[0]].part if named and name is None else None)
    if found and name is None:
        own["set"] = next((n for n in named if known[n].part == found), data.name)
        return str(found), as_published(str(found), own), data.parent
    if name is None:
        homes = {entry.folder or n for n, entry in known.items() if entry.part in serving}
        folders = [folder for folder in sorted(data.iterdir()) if folder.is_dir()]
        there = [folder.name for folder in folders if folder.name in homes or _part_of(folder, serving)]
        hint = f"folders in it laid out for {task}: {', '.join(there)}" if there else _wanted(serving)
        raise DataError(f"{data}: is no set for {task}; give a set's own folder, or its name by dataset.set; {hint}")
    if not found:
        home = data / ((str(name) in known and known[str(name)].folder) or str(name))
        found = known[str(name)].part if str(name) in known else _part_of(home, serving)
    if not found or found not in serving:
        there = [folder.name for folder in data.iterdir() if folder.is_dir()] if data.is_dir() else []
        raise DataError(
            f"{data}: holds no set {str(name)!r} for {task}; {nearest(str(name), there)}; {_wanted(serving)}"
        )
    return str(found), as_published(str(found), own), data


def _part_of(folder: Path, serving: Sequence[str]) -> str | None:
    """Which data set of the shelf has a folder laid out so."""
    fitting = [part for part, names in LAYOUTS.items() if all((folder / name).is_dir() for name in names)]
    return next((part for part in fitting if part in serving), None)


def _wanted(serving: Sequence[str]) -> str:
    holds = [f"{' and '.join(LAYOUTS[part])} ({part})" for part in serving if part in LAYOUTS]
    return f"a set's folder holds {' or '.join(holds)}, or dataset.name says how it is read"
