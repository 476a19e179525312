"""What may stand in one table, and what a reader must be told of it.

Scores of different protocols or different files are refused. Arms that start from different weights, or train by
different recipes, are compared, but never unnoticed. All of it is read off the recipes themselves.
"""

from collections.abc import Collection
from typing import Any

from ablate import registry
from ablate.errors import StudyError, as_written
from ablate.study.design import Arm, Design
from ablate.study.presets import presets
from ablate.study.recipe import Recipe, TrainSpec
from ablate.study.study import Study

SCRATCH = "scratch"
TRAINING = ("train", "task", "evaluation")  # what the arms' shared recipe is about
HEAD = "task.head"  # a part of the network, which the task knows how to build
NAMED = 12  # arms that a sentence names before it only counts
MACHINE = {"precision", "memory_format"}  # no preset speaks of them
CHARACTER = ("optimizer", "schedule", "init")  # a training that departs from these follows another recipe


def varied(study: Study) -> tuple[str, ...]:
    """The paths of the recipe that the study's factors change; what differs between its data sets is not asked."""
    paths = (path for factor in study.factors.values() for level in factor.levels.values() for path in level)
    return tuple(dict.fromkeys(paths))


def differences(recipe: Recipe, control: Recipe) -> dict[str, str]:
    """Every path at which a recipe is not the control's, with its value; another part is named whole.

    Empty for the control itself.
    """
    own, other = recipe.model_dump(mode="json"), control.model_dump(mode="json")
    found: dict[str, str] = {}
    for part in dict.fromkeys([*other, *own]):
        mine, theirs = own.get(part) or {}, other.get(part) or {}
        if mine.get("name") != theirs.get("name"):
            knobs = ", ".join(f"{knob} {_plain(value)}" for knob, value in mine.items() if knob != "name")
            found[part] = f"{mine.get('name')} ({knobs})" if knobs else str(mine.get("name"))
            continue
        for knob in dict.fromkeys([*theirs, *mine]):
            if mine.get(knob) != theirs.get(knob):
                found[f"{part}.{knob}"] = _plain(mine.get(knob, "none"))
    return found


def starts_from(recipe: Recipe) -> str:
    """Where the backbone's weights come from: scratch, or a file's name and the first digits of its digest."""
    found = recipe.weights
    return f"{found.file.rpartition('/')[2]} ({found.sha256[:8]})" if found else SCRATCH


def unlike_starts(design: Design) -> str:
    """One sentence where arms start from other weights than the control, and no factor of theirs is about that."""
    own = starts_from(design.control.recipe)
    found: dict[str, list[str]] = {}
    for arm in design.others:
        start = starts_from(arm.recipe)
        if start != starts_from(design.control_of(arm).recipe) and not _about(design, arm, ("weights",)):
            found.setdefault(start, []).append(arm.label)
    if not found:
        return ""
    others = "; ".join(f"{_several(names)} from {start}" for start, names in found.items())
    return (
        f"Not alike at the start: {design.control.label}, the control, starts from {own}; {others}. "
        "What these comparisons show is in part a difference of starting weights."
    )


def one_recipe(design: Design) -> str:
    """Whether all arms share one recipe of training, task and evaluation: which one, or what differs; by data set."""
    said: dict[str, list[str]] = {}
    for name in design.sets:
        said.setdefault(_one_recipe(design, design.on(name)), []).append(name)
    if len(said) == 1:
        return next(iter(said))
    return " ".join(f"On {', '.join(names)}: {sentence}" for sentence, names in said.items())


def _one_recipe(design: Design, arms: tuple[Arm, ...]) -> str:
    control, *others = arms
    tune = design.study.tune
    own = set(tune.knobs) if tune else set()
    shared = _stated(control.recipe.train, but=MACHINE | {path.removeprefix("train.") for path in own})
    flat = {arm.label: {path: v for path, v in _flat(arm.recipe).items() if path not in own} for arm in arms}
    tuned = f" But for what each was tuned in: {tune.said}." if tune else ""
    unlike = "; ".join(_differences(flat))
    odd = [arm for arm in others if flat[arm.label] != flat[control.label]]
    more = _lost_falls(arms) + _between(design)
    if not all(_about(design, arm, TRAINING) for arm in odd):
        return f"The arms' training recipes differ: {unlike}. The control's: {shared}.{tuned}{more}"
    asked = f", but for what is asked about: {unlike}" if unlike else ""
    return f"One training recipe for all arms: {shared}{asked}.{tuned}{_learning_rates(design.study)}{more}"


def _between(design: Design) -> str:
    """A sentence on the arms, if not all, whose networks are trained on more outputs than the evaluated one."""
    models = {arm.label: registry.describe("model", arm.recipe.model.name) for arm in design.arms}
    more = [arm for arm, model in models.items() if model.facts.get("supervised_between")]
    return f" The loss of {_several(more)} also counts outputs between." if 0 < len(more) < len(models) else ""


def _lost_falls(arms: tuple[Arm, ...]) -> str:
    """A sentence for each schedule of steps that falls less often than it is written, so short is the training."""
    found: dict[str, list[str]] = {}
    for arm in arms:
        if lost := _lost(arm.recipe.train):
            found.setdefault(lost, []).append(arm.label)
    whose = {lost: "" if len(names) == len(arms) else f" of {_several(names)}" for lost, names in found.items()}
    return "".join(f" The learning rate{whose[lost]} falls {lost}." for lost in found)


def _lost(train: TrainSpec) -> str:
    """How often a schedule of steps falls during the training, and why no more; empty where each of its falls comes."""
    epochs: dict[int, list[str]] = {}  # after how many, rounded as in training -> the milestones
    for point in train.milestones:
        epochs.setdefault(round(point * train.epochs), []).append(f"{point:g}")
    why = []
    for epoch, points in epochs.items():
        if epoch in (0, train.epochs):
            at = "start" if epoch == 0 else "end"
            why.append(f"{_the_falls(points)} at the {at} of training")
        elif len(points) > 1:
            why.append(f"{_the_falls(points)} together, after epoch {epoch}")
    times = len(epochs.keys() - {0, train.epochs})
    said = f"{times} time{'s' * (times != 1)} of {len(train.milestones)}"
    return f"{said}: with {train.epochs} epoch{'s' * (train.epochs > 1)} {' and '.join(why)}" if why else ""


def _the_falls(points: list[str]) -> str:
    return f"the fall at {points[0]} comes" if len(points) == 1 else f"the falls at {' and '.join(points)} come"


def refuse_different_protocols(design: Design) -> None:
    """Scores of one table, which has one data set, come from one task, test images and protocol; only the last may be
    a factor.

    Tasks whose decorators say that they predict the same (`predicts`) count as one; each has its own protocol.

    Raises:
        StudyError: two arms are evaluated differently.
    """
    paths = varied(design.study)
    free = {path.removeprefix("evaluation.") for path in paths}

    def protocol(recipe: Recipe, *, whole: bool) -> dict[str, object]:
        knobs = recipe.evaluation if whole and "evaluation" not in paths else {}
        fixed = {knob: value for knob, value in knobs.items() if knob not in free}
        return {"task": _predicting(recipe.task.name), **_test_images(recipe), **_truth(recipe)} | fixed

    for arm in design.others:
        own = design.control_of(arm).recipe
        whole = arm.recipe.task.name == own.task.name
        first, this = (protocol(recipe, whole=whole) for recipe in (own, arm.recipe))
        for name in dict.fromkeys([*first, *this]):
            if first.get(name) != this.get(name):
                raise StudyError(
                    f"arm {arm.label} is evaluated with {name} {as_written(this.get(name))}, "
                    f"the control with {as_written(first.get(name))}: these are not scores of one table"
                )


def _predicting(task: str) -> str:
    """What a task predicts; the task itself where its decorator says nothing."""
    return str(registry.describe("task", task).facts.get("predicts", task))


def _test_images(recipe: Recipe) -> dict[str, object]:
    """What is known of the evaluation split before it is opened; how many samples train is a factor like any other."""
    part = recipe.dataset
    info = registry.build("dataset", part.name, part.knobs).info
    return {
        "data set": f"{part.name} {info.name}",
        "test images of version": (info.version or "").rpartition("-")[2],
        "so many test samples": (info.sizes or {}).get("val"),
        "so many test images": (info.images or {}).get("val"),
        "pictures of size": info.size,
    }


def _truth(recipe: Recipe) -> dict[str, object]:
    """What scores are measured against: the set's joints or classes, and the knobs that decide what is evaluated.

    A data set's decorator names the others (`training`): they say what is trained on, or nothing of the numbers.
    """
    part = recipe.dataset
    info = registry.build("dataset", part.name, part.knobs).info
    facts = registry.describe("dataset", part.name).facts
    decisive = {knob: value for knob, value in part.knobs.items() if knob not in facts.get("training", part.knobs)}
    return {
        "joints": list(info.joints or ()),
        "sigmas of joints": list(getattr(info.joints, "sigmas", ())),
        "classes": list(info.classes or ()),
        "numbers of classes": list(getattr(info.classes, "label_ids", ())),
        "categories of classes": list(getattr(info.classes, "categories", ())),
        "classes of images": list(info.image_classes or ()),
    } | {f"dataset.{knob}": value for knob, value in decisive.items()}


def _about(design: Design, arm: Arm, parts: tuple[str, ...]) -> bool:
    """Whether a factor in which the arm differs from the control changes these parts of the recipe and no others."""
    control = design.control_of(arm).levels
    for name in (name for name in arm.levels if arm.levels[name] != control[name]):
        levels = design.study.factors[name].levels
        paths = [*levels[arm.levels[name]], *levels[control[name]]]
        if paths and all(path.partition(".")[0] in parts for path in paths):
            return True
    return False


def _flat(recipe: Recipe) -> dict[str, Any]:
    document = {**recipe.model_dump(mode="json"), "train": _choices(recipe.train)}
    flat = {f"{part}.{knob}": value for part in TRAINING for knob, value in document[part].items()}
    return {path: value for path, value in flat.items() if path != HEAD}


def _differences(flat: dict[str, dict[str, Any]]) -> list[str]:
    """Every path at which arms differ, with its values and who has them; of several tasks, what all of them have."""
    found = []
    of_task: dict[str, set[str]] = {}
    for values in flat.values():
        of_task.setdefault(values["task.name"], set()).update(values)
    common = set.intersection(*of_task.values())
    for path in dict.fromkeys(path for values in flat.values() for path in values if path in common):
        groups: dict[str, list[str]] = {}
        for name, values in flat.items():
            groups.setdefault(_plain(values.get(path)), []).append(name)
        if len(groups) > 1:
            found.append(f"{path} " + ", ".join(f"{value} ({_several(names)})" for value, names in groups.items()))
    return found


def _several(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names) if more <= 1 else f"{', '.join(names[:NAMED])} and {more} more"


def _stated(train: TrainSpec, *, but: Collection[str] = MACHINE) -> str:
    """The preset that a training follows, with what it changes of it; or its main choices where it follows none."""
    own, changes = _choices(train, but=but), {}
    for name, preset in presets().items():
        published = _choices(TrainSpec.model_validate(preset["train"]), but=but)
        if all(own[field] == published[field] for field in CHARACTER if field in own):
            changes[name] = [f"{field} {_plain(own[field])}" for field in own if own[field] != published[field]]
    if not changes:
        rate = f"learning rate {'tuned' if 'lr' in but else f'{train.lr:g}'} ({train.schedule})"
        return f"{train.optimizer}, {rate}, {train.epochs} epochs, batch {train.batch}, {train.init} initialisation"
    name, departures = min(changes.items(), key=lambda entry: len(entry[1]))
    return f"preset {name}" + (f" with {', '.join(departures)}" if departures else "")


def _choices(train: TrainSpec, *, but: Collection[str] = ()) -> dict[str, Any]:
    """All fields with their values, also those that a document leaves out."""
    return {field: getattr(train, field) for field in TrainSpec.model_fields if field not in but}


def _learning_rates(study: Study) -> str:
    """A budget of learning-rate choices that all arms have, where that is how the study is made."""
    for factor in study.factors.values():
        paths = {path for level in factor.levels.values() for path in level}
        if paths == {"train.lr"} and study.design == "full_factorial" and len(study.factors) > 1:
            return f" Each was trained with the same {len(factor.levels)} learning rates."
    return ""


def _plain(value: Any) -> str:
    if isinstance(value, list):  # two whole numbers are a size
        size = len(value) == 2 and all(type(item) is int for item in value)
        return ("x" if size else "/").join(_plain(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
