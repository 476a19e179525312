"""docs/coverage.md has a row for every arm of every shipped study, each with a command that names it and a score."""

import shlex
from pathlib import Path

from ablate.planning.match import solve
from ablate.study import Design, load, shipped

PAGE = Path(__file__).parents[1] / "docs/coverage.md"


def rows() -> dict[str, list[str]]:
    """The table's rows by their command."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    cells = [line.strip("| ").split(" | ") for line in lines if "`ablate run " in line]
    return {row[-2].strip("`"): row for row in cells}


def test_every_arm_has_a_row_with_a_score():
    found, expected = rows(), {}
    for name in shipped():
        study = solve(load(name, scale="demo"))
        design = Design(study)
        for arm in design.arms:
            only = "" if arm is design.control else f" --only '{arm.label}'"
            expected[f"ablate run {name} --scale demo{only}"] = study.metrics[0]
    assert found.keys() == expected.keys(), "run: make demos, then python docs/coverage.py results"
    for command, metric in expected.items():
        name, value, *_ = found[command][-1].split()
        assert name == metric
        assert 0 <= float(value) <= 1
        assert len(shlex.split(command)) in (5, 7)
