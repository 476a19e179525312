"""ablate list: readable in 80 columns, in words of a study file and not of Python."""

import re

import pytest

from ablate.machine.annotations import in_words


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ("int", "whole number"),
        ("float | None", "number, or none"),
        ("Literal['a', 'b', 'c']", "a, b or c"),
        ("Literal[1, 2] | None", "1 or 2, or none"),
        ("tuple[int, int]", "two whole numbers"),
        ("tuple[int, ...]", "list of whole numbers"),
        ("int | tuple[int, ...]", "whole number, or list of whole numbers"),
        ("dict[str, Factor]", "names, each with a block"),
        ("tuple[tuple[str, str], ...] | None", "list of two texts, or none"),
        ("bool", "true or false"),
    ],
)
def test_types_are_words(annotation, words):
    assert in_words(annotation) == words


@pytest.mark.parametrize(
    "what", [["keys"], ["models"], ["tasks"], ["datasets"], ["knobs", "hrnet"], ["knobs", "pose"], ["knobs", "network"]]
)
def test_a_list_is_readable_in_80_columns(called, monkeypatch, what):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, err = called("list", *what)
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    heads = [line for line in out.splitlines() if line and not line.startswith(" ")]
    assert len(set(heads)) == len(heads) > 1
    assert not re.search(r"\b(Literal|dict|tuple|str|StrictInt|None|True|False)\b", "\n".join(heads))


def test_a_misspelt_part_is_told_the_nearest(called):
    status, _, err = called("list", "knobs", "pos")
    assert (status, err) == (2, "ablate: list knobs pos: did you mean 'pose'?\n")


def test_an_entry_says_type_default_and_meaning(called, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = called("list", "keys")[1].splitlines()
    meaning = lines[lines.index("recipe.train.lr  number, default 0.001") + 1]
    assert meaning == "    learning rate at the start of the schedule"
