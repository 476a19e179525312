"""Single networks on the same test images beside the arms: released ones, exported ones, others' predictions."""

import math
from collections.abc import Callable
from typing import Any

from ablate.analysis import Evidence
from ablate.registry import section
from ablate.report.blocks import MISSING, Block, Cell, Column, Table, Text


@section("evaluations", meaning=1, place=55)
def evaluations() -> Callable[[Evidence], list[Block]]:
    """What `ablate evaluate` has scored on the study's set, if it lies beside the trials: a table of its own."""

    def blocks(evidence: Evidence) -> list[Block]:
        return [Text("Other networks", "heading"), _table(evidence)] if evidence.evaluations else []

    return blocks


def _table(evidence: Evidence) -> Table:
    primary, *others = evidence.study.metrics
    several = len(evidence.datasets) > 1
    columns = [Column("Network", "left"), Column("File", "left", "sha256")]
    columns += [Column("Data set", "left")] if several else []
    columns += [Column(primary, minor="95 %"), *(Column(name) for name in others)]
    unlike = f"Evaluated unlike the control{' of its set' if several else ''}"
    columns += [Column("Test images"), Column(unlike, "left", wide=True)]
    rows = [
        [
            Cell(found.label, found.subject.network),
            Cell(found.subject.file, found.subject.sha256[:8], code=True),
            *([Cell(", ".join(control.dataset for control in evidence.controls_of(found)))] if several else []),
            Cell(_score(found.scores.get(primary)), _between(found.intervals.get(primary))),
            *(Cell(_score(found.scores.get(name))) for name in others),
            Cell(f"{found.images:,}"),
            Cell(_unlike(found, evidence)),
        ]
        for found in evidence.evaluations
    ]
    notes = [
        "Each is one network, or one file of predictions, scored by ablate evaluate. Whether a trial of this study "
        "trained it, as one that ablate export wrote, is not looked at. Scores × 100; the interval is over redrawn "
        "test images, and says nothing of another seed of a training.",
        "They are in no mean, no test and no verdict of this report. Scores that were not computed have a dash.",
    ]
    return Table("Other networks on the same test images.", columns, rows, notes)


def _score(value: float | None) -> str:
    return MISSING if value is None or math.isnan(value) else f"{100 * value:.2f}"


def _between(ends: tuple[float, float] | None) -> str:
    return "" if ends is None or any(map(math.isnan, ends)) else f"{100 * ends[0]:.2f} to {100 * ends[1]:.2f}"


def _unlike(found: Any, evidence: Evidence) -> str:
    """The settings of its evaluation that are not those of its data set's control."""
    if found.subject.kind == "predictions":
        return "not known of predictions"
    control = evidence.controls_of(found)[0].recipe
    own = {f"evaluation.{knob}": value for knob, value in found.evaluation.items()}
    theirs = {f"evaluation.{knob}": value for knob, value in control.evaluation.items()}
    for document, part in ((own, found.task), (theirs, control.task)):
        document["task.size"] = part.knobs.get("size")
    unlike = [name for name in dict.fromkeys([*own, *theirs]) if own.get(name) != theirs.get(name)]
    return ", ".join(f"{name} {own.get(name)}" for name in unlike) or "in nothing"
