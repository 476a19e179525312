"""Along a factor of size: whose sign held, and exponents, from numbers made by hand."""

import math

import numpy as np
import pytest
from made_up import result
from toy_parts import scores_for

from ablate import registry
from ablate.analysis import gather, stats
from ablate.report.blocks import Figure, Table
from ablate.storage import Store
from ablate.study import Design, Study

EPOCHS = (6, 12, 24)


def evidence(tmp_path, score, *, seeds=8, sizes=EPOCHS, path="train.epochs", **changes):
    """A study of two other arms at each size; `score` gives that of an arm, a size and a seed."""
    document = {
        "name": "budgets", "question": "Does the order hold?", "design": "full_factorial", "compare": "within epochs",
        "recipe": {
            "task": "toy_task", "dataset": "toy_figures", "model": {"name": "toy_net", "width": 16},
            "train": {"epochs": 12, "batch": 32, "precision": "fp32"},
        },
        "factors": {
            "fusions": {"at": "model.fusions", "levels": ["within", "across", "final"]},
            "epochs": {"at": path, "levels": list(sizes)},
        },
        "seeds": seeds, "test": "t", "metrics": ["AP"],
    }  # fmt: skip
    design, store = Design(Study.model_validate(document | changes)), Store(tmp_path)
    for trial in design.trials:
        value = score(trial.arm["fusions"], float(trial.arm["epochs"]), trial.seed)
        made, _ = result(trial)
        store.put(made.model_copy(update={"scores": scores_for(value)}), {})
    return gather(design, store, images=False)


def blocks(found):
    return registry.build("section", "rungs", {})(found)


def luck(*of) -> float:
    """A draw for these words and numbers."""
    return float(np.random.default_rng([len(one) if isinstance(one, str) else int(one) for one in of]).normal(0, 1))


def test_whose_sign_held_is_counted_and_what_is_not_known_too(tmp_path):
    """across is higher at all sizes; final is lower at 6, not told apart at 12, and higher at 24."""
    gaps = {"within": {}, "across": dict.fromkeys(EPOCHS, 0.05), "final": {6: -0.05, 12: 0.0, 24: 0.05}}

    def score(arm, size, seed):
        return 0.5 + gaps[arm].get(int(size), 0.0) + 0.004 * luck(arm, size, seed)

    order, figure, *_ = [block for block in blocks(evidence(tmp_path, score)) if isinstance(block, Table | Figure)]
    assert [column.title for column in order.columns] == ["Arm", "epochs 6", "epochs 12", "epochs 24", "Sign held"]
    rows = {row[0].text: row for row in order.rows}
    assert (rows["across"][-1].text, rows["across"][-1].minor) == ("3 of 3", "")
    assert (rows["final"][-1].text, rows["final"][-1].minor) == ("0 of 1", "2 not known")
    assert (rows["all"][-1].text, rows["all"][-1].minor) == ("3 of 4", "2 not known")
    assert [cell.strong for cell in rows["final"][1:4]] == [True, False, True]
    assert [panel.x_label for panel in figure.panels] == ["log2 train.epochs"] * 2


def test_nothing_is_said_where_nothing_is_shown(tmp_path):
    found = blocks(evidence(tmp_path, lambda arm, size, seed: 0.5 + 0.02 * luck(arm, size, seed)))
    order = next(block for block in found if isinstance(block, Table))
    assert [(row[-1].text, row[-1].minor) for row in order.rows] == [
        ("–", "3 not known"), ("–", "3 not known"), ("–", "6 not known"),
    ]  # fmt: skip


def test_exponents_are_those_that_the_errors_were_made_with(tmp_path):
    """Errors of c * size ** -b in every seed, with a b of its own: the mean of b, and its t interval by hand."""
    exponents = {"within": 0.5, "across": 0.25, "final": 0.1}
    own = {arm: [b + 0.01 * luck(7, arm, seed) for seed in range(8)] for arm, b in exponents.items()}

    def score(arm, size, seed):
        return 1 - 0.9 * size ** -own[arm][seed]

    table = [block for block in blocks(evidence(tmp_path, score)) if isinstance(block, Table)][-1]
    assert "1 - AP" in table.notes[0]
    for row in table.rows:
        values = np.array(own[row[0].text])
        half = 2.3646 * values.std(ddof=1) / math.sqrt(8)  # t of 7 degrees of freedom
        assert float(row[2].text) == pytest.approx(values.mean(), abs=6e-4)
        ends = [float(end) for end in row[3].text.strip("[]").split(", ")]
        assert ends == pytest.approx([values.mean() - half, values.mean() + half], abs=6e-4)
        assert row[4].text == "0.0%"


def test_two_sizes_have_no_exponent_and_others_no_section(tmp_path):
    def score(arm, size, seed):
        return 0.5 + 0.01 * luck(arm, size, seed)

    tables = [b for b in blocks(evidence(tmp_path / "two", score, sizes=(6, 12))) if isinstance(b, Table)]
    assert len(tables) == 1
    assert not blocks(evidence(tmp_path / "effects", score, compare="effects"))


def test_the_interval_of_an_exponent_covers_it(capsys):
    """2,000 studies of eight seeds with noise on every error: how often the interval holds the exponent."""
    rng, sizes = np.random.default_rng(0), np.log(EPOCHS)
    across = (sizes - sizes.mean()) / np.square(sizes - sizes.mean()).sum()
    slopes = 0.5 - rng.normal(0, 0.1, (2000, 8, 3)) @ across
    effects = [stats.paired(np.zeros(8), own) for own in slopes]
    held = np.mean([effect.low <= 0.5 <= effect.high for effect in effects])
    with capsys.disabled():
        print(f"\nintervals of an exponent from 8 seeds hold it in {held:.3f}")
    assert held == pytest.approx(0.95, abs=0.015)
