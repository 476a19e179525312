"""Results are found as long as a part's meaning stays: whoever changes computing code decides whether it does."""

import json
from functools import cache

import pytest
from computing_code import FILE, digests, parts

STORED = json.loads(FILE.read_text())
HOW = "PYTHONPATH=. python tests/computing_code.py writes the digests anew"
today = cache(digests)  # seconds, which whoever only collects tests need not wait for


@pytest.mark.parametrize("part", sorted({*STORED, *parts(), "corridor", "weights"}))
def test_code_changes_with_a_decision_on_its_meaning(part):
    """A part that now computes other numbers needs a higher `meaning` in its decorator; one that does not, none."""
    known, now = STORED.get(part), today().get(part)
    assert known, f"{part} is new: {HOW}"
    assert now, f"{part} is gone: {HOW}"
    assert now["meaning"] >= known["meaning"], f"{part}: a meaning never falls, for old results would be taken for new"
    decided = "computes other numbers now? then raise its meaning, and in any case:"
    assert now == known, f"the code of {part} changed; {decided} {HOW}"


def test_every_shelf_and_the_loop_are_covered():
    kinds = {part.split()[0] for part in STORED}
    assert kinds == {"model", "task", "dataset", "metric", "corridor", "weights"}
    assert len(STORED) > 30


def test_a_part_is_judged_by_what_it_imports_too(monkeypatch):
    """HRNet's numbers are made in hrnet_core, a SimpleBaseline's partly in timm_encoder."""
    from computing_code import ROOT, source

    read = source._read
    monkeypatch.setattr(
        source, "_read", lambda file: read(file) + b"\nchanged = 1\n" * (file == ROOT / "hrnet_core/fusion.py")
    )
    changed = {part for part, found in digests().items() if found != today().get(part)}
    assert {"model hrnet"} <= changed
    assert not {"metric pck", "dataset figures", "corridor"} & changed
