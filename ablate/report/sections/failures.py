"""Trials without a score: a failure is a result, and so is its reason."""

from collections.abc import Callable

from ablate.analysis import Evidence, Failure
from ablate.registry import section
from ablate.report.blocks import Block, Cell, Column, Table, Text

SHOWN, LINES = 5, 5  # different tracebacks, and lines of each; `ablate show ID` has the rest


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
            [Cell(f.arm), Cell(str(f.seed)), Cell(f.status), Cell(f.reason or "not given"), _id(f)]
            for f in evidence.failures
        ]
        caption = "Trials that ended without a score; they are in no mean."
        return [heading, Table(caption, columns, rows, _tracebacks(evidence))]

    return blocks


def _id(failure: Failure) -> Cell:
    return Cell(failure.id, code=True, link=failure.document)


def _tracebacks(evidence: Evidence) -> list[str]:
    """Where in the code it happened, once for trials that ended alike."""
    first = {f.traceback: f for f in reversed(evidence.failures) if f.traceback}
    return [
        f"Trial {f.id}: {'; '.join(line.strip() for line in f.traceback.splitlines()[-LINES:])}"
        for f in list(first.values())[::-1][:SHOWN]
    ]
