"""A small trial for a GPU."""

from ablate.storage import Result
from ablate.study import Part, Recipe, TrainSpec, Trial
from ablate.training.run_trial import run_trial
from ablate.training.site import Site


def trial(precision: str, epochs: int = 3, train: int = 64) -> Trial:
    recipe = Recipe(
        task=Part(name="pose", knobs={"size": [64, 64], "sigma": 1.0}),
        dataset=Part(name="figures", knobs={"train": train, "val": 16}),
        model=Part(name="hrnet", knobs={"width": 8, "blocks": 1, "stage1_blocks": 1}),
        train=TrainSpec(epochs=epochs, batch=16, precision=precision),
    ).settled(on_gpu=True)
    return Trial(arm={}, seed=0, recipe=recipe, meanings=recipe.meanings())


def finish(trial: Trial, site: Site) -> Result:
    *_, last = run_trial(trial, site)
    assert isinstance(last, Result)
    return last
