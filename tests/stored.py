"""A small trial with its result and statistics, and a disk that is nearly full."""

import numpy as np
from small_studies import small_study

from ablate.storage import Cost, Epoch, Result
from ablate.study import Recipe, Trial


def trial(seed=0) -> Trial:
    recipe = Recipe.model_validate(small_study()["recipe"]).settled(on_gpu=False)
    return Trial(arm={"depth": "1"}, seed=seed, recipe=recipe, data_version="1", meanings=recipe.meanings())


def result(seed=0, **changes) -> Result:
    t = trial(seed)
    made = Result(
        id=t.id, recipe=t.recipe, seed=seed, data_version="1", meanings=t.meanings, status="done",
        scores={"closeness": 0.5, "near": 0.2}, seconds=1.5,
        curve=[Epoch(epoch=1, loss=0.1, lr=1e-3, seconds=1, images_per_second=9)],
        cost=Cost(parameters=3, used_parameters=2, macs=10**12),
    )  # fmt: skip
    return made.model_copy(update=changes)


ARRAYS = {"closeness/image_ids": np.arange(5), "closeness/error": np.linspace(0, 1, 5)}
