"""Along a factor of size: whose sign held, and exponents, from numbers made by hand."""

import math

import numpy as np
import pytest
from made_up import result
from toy_parts import scores_for

from ablate import registry
from ablate.analysis import gather, stats
from ablate.report.blocks import Figure, Table, Text
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


def errors_of(arm, size, seed):
    return 1 - 0.9 * size ** -(0.3 + 0.01 * luck(arm, seed))


def tables(found):
    return [block for block in found if isinstance(block, Table)]


def said(found) -> str:
    return " ".join(block.text for block in found if isinstance(block, Text) and block.style == "paragraph")


def along(levels) -> dict:
    return {"fusions": {"at": "model.fusions", "levels": ["within", "final"]}, "epochs": {"levels": levels}}


def test_a_learning_rate_is_no_size(tmp_path):
    """Its levels rise along the axis, evenly spaced, and no power of it is fitted."""
    rates, score = (0.01, 0.001, 0.1), lambda arm, size, seed: 0.5 + size + 0.01 * luck(arm, seed)
    found = blocks(evidence(tmp_path, score, path="train.lr", sizes=rates))
    (order,) = tables(found)
    assert [column.title for column in order.columns][1:4] == ["epochs 0.001", "epochs 0.01", "epochs 0.1"]
    assert order.caption == "Does the order hold along epochs?"
    (figure,) = [block for block in found if isinstance(block, Figure)]
    assert [panel.x_label for panel in figure.panels] == ["epochs: 0.001, 0.01, 0.1"] * 2
    assert figure.panels[0].series[0].x == [0, 1, 2]
    assert said(found) == ""


def test_the_one_size_among_several_paths_is_the_size(tmp_path):
    levels = {str(width): {"model.width": width, "train.batch": 2 * width} for width in (8, 16, 32)}
    found = blocks(evidence(tmp_path, errors_of, factors=along(levels)))
    table = tables(found)[-1]
    assert table.caption == "How the error falls with model.width."
    assert [row[0].text for row in table.rows] == ["within", "final"]
    assert table.notes[0].endswith("The levels of epochs set train.batch too.")
    assert [block.panels[0].x_label for block in found if isinstance(block, Figure)] == ["log2 model.width"]


@pytest.mark.parametrize(
    ("levels", "why"),
    [
        ({"6": {"train.epochs": 6}, "12": {"train.epochs": 12}}, "train.epochs: it takes 3 sizes."),
        (
            {str(size): {"train.epochs": size, "model.width": 2 * size} for size in EPOCHS},
            "train.epochs and model.width: the levels of epochs set more than one size.",
        ),
        (
            {"12": {}, "6": {"train.epochs": 6}, "24": {"train.epochs": 24}},
            "train.epochs: not set to one number above 0 by every level of epochs.",
        ),
        (
            {"8": {"model.width": 8}, "9": {"model.width": 8, "train.batch": 9}, "16": {"model.width": 16}},
            "model.width: two levels of epochs set the same.",
        ),
        (
            {str(size): {"task.size": [size, size]} for size in (32, 64, 96)},
            "task.size: not set to one number above 0 by every level of epochs.",
        ),
    ],
)
def test_why_there_is_no_exponent_is_said(tmp_path, levels, why):
    found = blocks(evidence(tmp_path, errors_of, factors=along(levels)))
    assert len(tables(found)) == 1
    assert said(found) == f"No exponent of {why}"


def test_a_line_that_is_left_out_is_told_of(tmp_path):
    def score(arm, size, seed):
        whole = (arm, size, seed) == ("across", 24, 3)
        return 1.0 if whole else math.nan if (arm, size) == ("final", 6) else errors_of(arm, size, seed)

    table = tables(blocks(evidence(tmp_path / "some", score)))[-1]
    assert [row[0].text for row in table.rows] == ["within"]
    assert table.notes[1:] == [
        "No exponent of across: seed 3 has no error above 0 in across + epochs=24.",
        "No exponent of final: final has no score.",
    ]
    found = blocks(evidence(tmp_path / "none", lambda arm, size, seed: 1.0))
    assert len(tables(found)) == 1
    assert "No exponent of within: seed 0 has no error above 0 in within + epochs=6." in said(found)

    def apart(arm, size, seed):
        return math.nan if arm == "final" and seed % 2 == (size == 6) else errors_of(arm, size, seed)

    table = tables(blocks(evidence(tmp_path / "apart", apart)))[-1]
    assert table.notes[1:] == ["No exponent of final: no seed has a score at every size."]


def test_lines_are_called_what_arms_are_called(tmp_path):
    numbers = {"at": "train.batch", "levels": [16, 32]}
    factors = {"fusions": numbers, "epochs": {"at": "train.epochs", "levels": list(EPOCHS)}}
    for found in tables(blocks(evidence(tmp_path / "one", errors_of, factors=factors))):
        assert [row[0].text for row in found.rows if row[0].text != "all"][-1] == "fusions=32"
    assert found.rows[0][0].text == "fusions=16"
    more = factors | {"flat": {"levels": {"plain": {}, "wide": {"model.width": 32}}}}
    sets = {"easy": {}, "hard": {"dataset.images": 20}}
    table = tables(blocks(evidence(tmp_path / "more", errors_of, factors=more, datasets=sets)))[-1]
    names = [row[0].text for row in table.rows]
    assert names[:4] == [
        "fusions=16 + plain on easy",
        "wide on easy",
        "fusions=32 on easy",
        "fusions=32 + wide on easy",
    ]
    assert names[4:] == [name.replace("easy", "hard") for name in names[:4]]


def test_no_difference_beyond_a_margin_is_not_called_unknown(tmp_path):
    def score(arm, size, seed):
        return 0.5 + 0.0001 * luck(arm, size, seed)

    order = tables(blocks(evidence(tmp_path, score, margin=1.0)))[0]
    assert order.rows[1][1].minor.endswith("no difference beyond the margin")
    assert "nothing is known" not in order.notes[0]
    assert "within the margin has none to hold" in order.notes[0]


def test_two_sizes_have_no_exponent_and_others_no_section(tmp_path):
    def score(arm, size, seed):
        return 0.5 + 0.01 * luck(arm, size, seed)

    assert len(tables(blocks(evidence(tmp_path / "two", score, sizes=(6, 12))))) == 1
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
