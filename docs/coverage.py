"""Writes docs/coverage.md from the results of `make demos`: `python docs/coverage.py results`."""

import re
import sys
from pathlib import Path

import ablate
from ablate.analysis import Evidence, Row
from ablate.study import shipped

HEAD = """# Coverage

What `ablate` trains: every arm of the installed studies at its demo scale, with the score that its report printed. The
pictures are drawn and small, and the networks train for minutes: a score shows that the system trains and how it is
scored, not how good it is. Each row is a command by itself, which trains the study's control and that arm; `make demos`
trains them all, and the tests train each for two epochs. Made by `make demos` and `python docs/coverage.py results`.

Beside an arm stands in what it differs from its study's control; its report has all settings. Scores are means over
seeds, with their standard deviation where there are several; seeds that failed or diverged are counted.
"""


TOLD = ("model", "task", "train", "dataset", "weights.file", "weights.init")  # the report has all settings
UNSET = re.compile(r"(?:, \w+ (?:None|False))+(?=\))|\w+ (?:None|False), ")  # knobs that are off


def page(results: Path | str) -> str:
    """The whole page, of the results of all demos.

    Args:
        results: the folder that `make demos` filled.
    """
    studies = [ablate.load_study(name, scale="demo") for name in shipped()]
    shown = [ablate.evidence(study, results=results, images=False) for study in studies]
    tasks = sorted({evidence.recipe.task.name for evidence in shown})
    lines = [HEAD]
    for task in tasks:
        lines += [f"## {task}", "", "| study and arm | system | command | printed |", "|---|---|---|---|"]
        lines += [line(one, row) for one in shown if one.recipe.task.name == task for row in one.rows]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def line(evidence: Evidence, row: Row) -> str:
    """One arm."""
    name, only = evidence.study.name, "" if row.is_control else f" --only '{row.label}'"
    label = f"**{name}**: {row.label}" if row.is_control else row.label
    return f"| {label} | {system(evidence, row)} | `ablate run {name} --scale demo{only}` | {printed(evidence, row)} |"


def system(evidence: Evidence, row: Row) -> str:
    """What the arm is: the control's network and its knobs, or where the arm differs from the control."""
    if row.is_control:
        model = evidence.recipe.model
        return f"{model.name} {model.knobs.get('output', '')}, the control".replace(" ,", ",")
    told = {path: value for path, value in row.differs.items() if path.startswith(TOLD)}
    return ", ".join(f"`{path}: {UNSET.sub('', value)}`" for path, value in told.items())


def printed(evidence: Evidence, row: Row) -> str:
    """Its primary score, and how many of its seeds have one."""
    metric = evidence.study.metrics[0]
    scores, planned = row.scores[metric], len(row.ids)
    if not scores:
        ends = {one.status for one in evidence.failures if one.arm == row.label}
        return f"no {metric}: {' and '.join(sorted(ends)) or 'not trained'}"
    summary = row.summaries[metric]
    spread = f" ± {summary.sd:.3f}" if len(scores) > 1 else ""
    lost = f", {planned - len(scores)} of {planned} seeds without a score" if len(scores) < planned else ""
    return f"{metric} {summary.mean:.3f}{spread}{lost}"


if __name__ == "__main__":
    Path(__file__).with_name("coverage.md").write_text(page(*sys.argv[1:]), encoding="utf-8")
