"""Every arm, defined whole: all that differs from the control after defaults are filled in."""

from collections.abc import Callable

from ablate.analysis import Evidence, Row
from ablate.registry import section
from ablate.report.blocks import Block, Cell, Column, Table, Text


@section("arms", meaning=1, place=25)
def arms() -> Callable[[Evidence], list[Block]]:
    """What each arm is: every knob that is not the control's, matched values included, other parts whole."""

    def blocks(evidence: Evidence) -> list[Block]:
        columns = [Column("Arm", "left"), Column("Differs from the control in", "left", wide=True)]
        rows = [[Cell(row.label), Cell(_definition(row))] for row in evidence.rows]
        caption = "The arms. What is not named is as in the control, whose whole recipe stands under Provenance."
        if len(evidence.datasets) > 1:
            caption = (
                "The arms. What is not named is as in the control of the data set, and there as in that of the first "
                "one, whose whole recipe stands under Provenance."
            )
        return [Text("Arms", "heading"), Table(caption, columns, rows)]

    return blocks


def _definition(row: Row) -> str:
    changes = [f"{path}: {value}" for path, value in row.differs.items()]
    return "; ".join(["the control", *changes] if row.is_control else changes or ["nothing"])
