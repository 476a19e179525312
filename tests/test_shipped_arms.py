"""Every arm of every shipped study trains at its demo scale: two epochs on a quarter of the images, then scored."""

from pathlib import Path

import pytest

from ablate.planning.match import solve
from ablate.storage import Result
from ablate.study import Design, Part, Recipe, Trial, load
from ablate.training.run_trial import run_trial
from ablate.training.site import Site

STUDIES = Path(__file__).parents[1] / "studies"
FIGURES = {"train": 125, "val": 50}


def shortened(trial: Trial) -> Trial:
    recipe = trial.recipe
    train = recipe.train.model_copy(update={"epochs": 2})
    figures = Part(name="figures", knobs=recipe.dataset.knobs | FIGURES)
    short: Recipe = recipe.model_copy(update={"train": train, "dataset": figures})
    return trial.model_copy(update={"recipe": short})


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted(STUDIES.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_arm_trains(file, tmp_path):
    study = solve(load(file, scale="demo"))
    site = Site(results=str(tmp_path / "results"), beside=STUDIES)
    ends = {}
    for trial in Design(study).trials:
        if trial.seed == study.seeds[0]:
            *epochs, result = run_trial(shortened(trial), site)
            assert isinstance(result, Result)
            ends[tuple(trial.arm.values())] = result.status, result.reason, len(epochs), result.scores.keys()
    assert all(end[:3] == ("done", "", 2) and study.metrics[0] in end[3] for end in ends.values()), ends
