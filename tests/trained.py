"""Small trials, trained in this process."""

import safetensors
import torch
from small_studies import small_study, write_study

from ablate.storage import Epoch, Result
from ablate.study import Budget, Design, Trial, load
from ablate.training.run_trial import run_trial
from ablate.training.site import Site


def trials(tmp_path, *, model=None, train=None, dataset=None, **changes) -> list[Trial]:
    recipe = small_study()["recipe"]
    recipe["model"] |= model or {}
    recipe["train"] |= train or {}
    recipe["dataset"] = {"name": "noise"} | (dataset or {})
    return Design(load(write_study(tmp_path, recipe=recipe, **changes))).trials


def at(results, **changes) -> Site:
    """Results in that folder; changes are the site's, or of its budget."""
    own = {name: changes.pop(name) for name in Site.__dataclass_fields__.keys() & changes.keys()}
    return Site(results, **own, budget=Budget(**changes))


def site(tmp_path, name="results", **changes) -> Site:
    return at(tmp_path / name, **changes)


def finish(trial: Trial, place: Site) -> tuple[list[Epoch], Result, dict[str, bytes]]:
    """Run to the end: the epochs, the result, and the state that was saved after the last epoch."""
    epochs, last = [], {}
    for event in run_trial(trial, place):
        if isinstance(event, Result):
            return epochs, event, last
        epochs.append(event)
        if event.epoch == trial.recipe.train.epochs:
            last = tensors(place, trial)
    raise AssertionError("no result")


def tensors(place: Site, trial: Trial) -> dict[str, bytes]:
    """The saved state, bit for bit; the curve in its header holds times, which differ."""
    state = safetensors.torch.load_file(place.results / "trials" / trial.id / "state")
    return {
        name: value.view(torch.uint8).numpy().tobytes() if value.dim() else str(value) for name, value in state.items()
    }
