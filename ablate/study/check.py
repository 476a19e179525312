"""What a study's text alone shows to be wrong: metrics, tasks, data and budgets that do not go together."""

from ablate import registry
from ablate.errors import StudyError, nearest
from ablate.registry import Description
from ablate.study.design import Design
from ablate.study.fairness import refuse_different_protocols
from ablate.study.papers import published
from ablate.study.recipe import Recipe
from ablate.study.study import Study, blaming


def check_study(design: Design) -> None:
    """Metrics and task and data fit together in every arm; needs neither torch nor data.

    Raises:
        StudyError, PartError: one line with the file, the key and the nearest valid choice.
    """
    study = design.study
    with blaming(study.file):
        if study.budget.share and study.budget.gpus != 1:
            raise StudyError("budget.share: needs gpus: 1, of which every trial gets a fraction")
        recipes = [arm.recipe for arm in design.arms]
        pairs = {(recipe.task.name, recipe.dataset.name): recipe.dataset.knobs for recipe in recipes}
        for (task, data), knobs in pairs.items():
            classes = registry.build("dataset", data, knobs).info.classes or ()
            _check_pair(study, registry.describe("task", task), registry.describe("dataset", data), classes)
        _check_processes(study, min(recipe.train.batch for recipe in recipes))
        for recipe in recipes:
            _check_held_out(study, recipe)
        refuse_different_protocols(design)
        if study.paper:
            published(study.paper)
        for name in study.sections or ():
            registry.describe("section", name)


def _check_processes(study: Study, smallest: int) -> None:
    """The budget's processes have a whole GPU each, or none, and a sample of every batch, of which `smallest` have."""
    budget = study.budget
    if budget.gpus > 1 and budget.gpus % 1:
        raise StudyError(f"budget.gpus: a fraction of one GPU or a whole number of them, not {budget.gpus:g}")
    if budget.gpus and budget.team != max(1, budget.gpus):
        raise StudyError(
            f"budget.processes: a process has one GPU; {budget.team} of them do not go with gpus: {budget.gpus:g}"
        )
    if budget.across_nodes and budget.team == 1:
        raise StudyError("budget.across_nodes: a trial of one process is on one node; set processes or gpus above 1")
    if budget.team > smallest:
        raise StudyError(f"budget: {budget.team} processes cannot share a batch of {smallest}; at most {smallest}")


def _check_held_out(study: Study, recipe: Recipe) -> None:
    """What is scored on held-out training images sees no test image, nor what is known of one."""
    key = "tune" if study.tune else "train.held_out"
    if (study.tune or recipe.train.held_out) and recipe.evaluation.get("boxes") == "detections":
        raise StudyError(
            f"{key}: a detector's boxes are of test images, and not of held-out ones; take evaluation.boxes: "
            "ground_truth"
        )
    data = registry.build("dataset", recipe.dataset.name, recipe.dataset.knobs)
    if study.tune and getattr(data, "folds", 1) > 1 and getattr(data, "fold", None) is None:
        raise StudyError(
            f"tune: with folds: {data.folds} tries would see images that other seeds are tested on; set dataset.fold "
            "to the part that all seeds are tested on, or leave tune out"
        )


def _check_pair(study: Study, task: Description, data: Description, classes: tuple[str, ...]) -> None:
    metrics = [registry.describe("metric", name) for name in task.facts.get("metrics", ())]
    known = [score for metric in metrics for score in metric.facts.get("scores", ())]
    known += [metric.facts["of_class"] + name for metric in metrics if "of_class" in metric.facts for name in classes]
    for name in study.metrics:
        if name not in known:
            raise StudyError(f"metrics: the task {task.name!r} has no {name!r}; {nearest(name, known)}")
    served = data.facts.get("tasks", ())
    if task.name not in served:
        raise StudyError(
            f"recipe.dataset: {data.name!r} has no labels for the task {task.name!r}; "
            f"it serves {', '.join(served) or 'none'}"
        )
