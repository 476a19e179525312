"""Trials without a score: a failure is a result, and so is its reason."""

from collections.abc import Callable

from ablate.analysis import Evidence
from ablate.registry import section
from ablate.report.blocks import Block, Cell, Column, Table, Text


@section("failures", meaning=1, place=70)
def failures() -> Callable[[Evidence], list[Block]]:
    """What failed or diverged, with its reason; nothing of it enters a mean."""

    def blocks(evidence: Evidence) -> list[Block]:
        heading = Text("Failures", "heading")
        if not evidence.failures:
            ended = evidence.planned_trials - len(evidence.missing)
            return [heading, Text(f"None of the {ended} trials that ended failed or diverged.")] if ended else []
        columns = [
            Column("Arm", "left"),
            Column("Seed"),
            Column("Status", "left"),
            Column("Reason", "left", wide=True),
            Column("Trial", "left"),
        ]
        rows = [
            [Cell(f.arm), Cell(str(f.seed)), Cell(f.status), Cell(f.reason or "not given"), Cell(f.id, code=True)]
            for f in evidence.failures
        ]
        return [heading, Table("Trials that ended without a score; they are in no mean.", columns, rows)]

    return blocks
