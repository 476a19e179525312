"""The table of tries, of values that have ends and of values that have none."""

import made_up
import pytest

from ablate import registry
from ablate.analysis import gather
from ablate.planning.open_study import tuned
from ablate.report.blocks import Table
from ablate.storage import Store
from ablate.study import Design

END = "At the end of what was tried"


def notes(place, tune, **train) -> str:
    """Of the tries of three arms, whose scores are made up."""
    recipe = made_up.study().recipe.model_dump(exclude_unset=True)
    recipe["train"] = recipe["train"] | train
    asked, store = Design(made_up.study(tune=tune, recipe=recipe)), Store(place)
    for trial in asked.tries.trials:
        store.put(*made_up.result(trial))
    design = tuned(asked, place)
    blocks = registry.build("section", "tuning", {})(gather(design, store, images=False))
    return " ".join(note for block in blocks if isinstance(block, Table) for note in block.notes)


def test_of_two_values_both_are_ends(tmp_path):
    found = notes(tmp_path, {"train.lr": [0.001, 0.01]})
    assert END in found
    assert all(f"{arm} in train.lr 0.0" in found for arm in ("within", "across", "final"))


@pytest.mark.parametrize(
    ("tune", "train"),
    [
        ({"train.milestones": [[0.5, 0.75], [0.8, 0.95]]}, {"schedule": "step", "milestones": [0.5]}),
        ({"train.optimizer": ["adam", "adamw"]}, {}),
    ],
)
def test_lists_and_names_have_no_end(tmp_path, tune, train):
    found = notes(tmp_path, tune, **train)
    assert "Every arm had 2 tries" in found
    assert END not in found


def test_a_value_that_does_not_vary_has_no_end(tmp_path):
    found = notes(tmp_path, {"train.lr": [0.001, 0.01], "train.batch": [16]})
    assert "train.lr 0.0" in found.partition(END)[2]
    assert "train.batch" not in found.partition(END)[2]
