"""Small studies as they are launched, and what they leave."""

from small_studies import small_study

from ablate.storage import Store


def small_recipe(**model) -> dict:
    recipe = small_study()["recipe"]
    return recipe | {"model": recipe["model"] | model}


def results(folder) -> dict[tuple[str, int], tuple]:
    """What the folder holds, by depth and seed: status, scores, losses, statistics; nothing that time changes."""
    store, found = Store(folder), {}
    for path in (folder / "trials").glob("*/result.json"):
        result = store.find(path.parent.name)
        arrays = store.statistics(result.id)
        key = (result.recipe.model.knobs["depth"], result.seed)
        numbers = {name: value.tobytes() for name, value in arrays.items()}
        found[key] = (result.status, result.scores, [(row.epoch, row.loss) for row in result.curve], numbers)
    return found
