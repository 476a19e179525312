"""Tables: in 80 columns, in the field's words, and what is copied from them can be pasted."""

import json
import math

import pytest

from ablate.cli.tables import cell, duration, show


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "none"), (True, "yes"), (False, "no"), ((64, 48), "64x48"), ([256, 192], "256x192"),
        ((0.485, 0.456, 0.406), "0.485, 0.456, 0.406"), (["nose", "tail"], "nose, tail"), (1234567, "1,234,567"),
        (math.nan, ""),
    ],
)  # fmt: skip
def test_values_are_words(value, words):
    assert cell(value) == words


def test_seeds_can_be_copied(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    show([{"seed": 1000000, "bytes": 1000000}])
    assert capsys.readouterr().out.split()[-2:] == ["1000000", "1,000,000"]
    show([{"seed": 1000000, "what": "word " * 3 + "x" * 78}])  # too wide for a table
    assert "1000000" in capsys.readouterr().out
    show([{"seed": 1000000, "known": None}], as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"seed": 1000000, "known": None}]


def test_a_time_that_nobody_knows_is_called_so():
    assert [duration(seconds) for seconds in (math.nan, 80, 600)] == ["unknown", "80 s", "10 min"]
