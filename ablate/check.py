"""What can be known before any training: parts exist, knobs fit, metrics belong, networks can be built."""

from ablate import cost, registry
from ablate.errors import StudyError, nearest
from ablate.result import Cost
from ablate.study import Study
from ablate.trial import Recipe, Trial


def check_study(study: Study) -> None:
    """Metrics and task and data fit together; needs neither torch nor data.

    Raises:
        StudyError, PartError: one line with the key and the nearest valid choice.
    """
    task = registry.describe("task", study.recipe.task.name)
    known = [score for name in task.facts["metrics"] for score in registry.describe("metric", name).facts["scores"]]
    for metric in study.metrics:
        if metric not in known:
            raise StudyError(f"metrics: the task {task.name!r} has no {metric!r}; {nearest(metric, known)}")
    data = registry.describe("dataset", study.recipe.dataset.name)
    if task.name not in data.facts["tasks"]:
        raise StudyError(
            f"recipe.dataset: {data.name!r} has no labels for the task {task.name!r}; "
            f"it serves {', '.join(data.facts['tasks'])}"
        )
    for name in study.sections or ():
        registry.describe("section", name)


def price_arms(trials: list[Trial]) -> dict[str, Cost]:
    """Build every arm's network on the meta device and price it; by trial id.

    Raises:
        StudyError: an impossible combination of knobs, in the model's own words.
    """
    priced: dict[str, Cost] = {}
    by_network: dict[str, Cost] = {}
    for trial in trials:
        network = _network_key(trial.recipe)
        if network not in by_network:
            try:
                by_network[network] = cost.price(trial.recipe)
            except (ValueError, RuntimeError) as error:
                arm = ", ".join(f"{name}={level}" for name, level in trial.arm.items())
                raise StudyError(f"recipe.model: arm {arm}: {' '.join(str(error).split())}") from None
        priced[trial.id] = by_network[network]
    return priced


def _network_key(recipe: Recipe) -> str:
    return recipe.model_copy(update={"train": type(recipe.train)()}).model_dump_json()
