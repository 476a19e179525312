"""ablate cost: what networks cost."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablate.cli import options
from ablate.cli.tables import show

if TYPE_CHECKING:
    from ablate.trial import Trial


@click.command("cost")
@click.argument("what", metavar="STUDY|MODEL")
@options.scale
@options.as_json
@options.as_csv
def command(what: str, scale: str | None, as_json: bool, as_csv: bool) -> None:
    """Parameters and multiply-adds of a study's arms, or of a model with its default knobs for pose.

    Counted on the meta device: no training, no data. One multiply-add of a convolution or linear layer is 1 MAC;
    the papers' GFLOPs are MACs / 2^30. Example: ablate cost hrnet
    """
    from ablate.check import check_study, price_arms
    from ablate.design import expand, label
    from ablate.study import Study, load
    from ablate.trial import Trial

    if Path(what).suffix in (".yaml", ".yml") or Path(what).exists():
        study: Study = load(what, scale=scale)
        check_study(study)
        file = study.file
        trials = [trial for trial in expand(study) if trial.seed == study.seeds[0]]
        labels = [label(trial.arm, trials[0].arm) for trial in trials]
    else:
        trials, labels, file = [_default(what)], [what], ""
    costs = price_arms(trials, file=file)

    def row(name: str, trial: Trial) -> dict[str, object]:
        cost = costs[trial.id]
        return {
            "arm": name, "parameters": cost.parameters, "used": cost.used_parameters,
            "GMACs": round(cost.macs / 1e9, 4), "GFLOPs (MACs/2^30)": round(cost.macs / 2**30, 4),
            "not counted": " ".join(cost.uncounted),
        }  # fmt: skip

    show([row(name, trial) for name, trial in zip(labels, trials, strict=True)], as_json=as_json, as_csv=as_csv)


def _default(model: str) -> "Trial":
    from ablate.trial import Part, Recipe, Trial

    recipe = Recipe(task=Part(name="pose"), dataset=Part(name="coco_pose"), model=Part(name=model))
    recipe = recipe.settled(on_gpu=False)
    return Trial(arm={}, seed=0, recipe=recipe, meanings=recipe.meanings())
