"""How the objects of a study print: a title and a small table, as text in a terminal and as HTML in a notebook."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

MOST = 30  # rows; the rest is counted


@dataclass(frozen=True)
class Shown:
    """A title and rows that have the same keys."""

    title: str
    rows: Sequence[Mapping[str, object]]

    def text(self) -> str:
        """Lines with aligned columns."""
        cells = self._cells()
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
        ]
        return "\n".join([self.title, *lines, *self._rest()])

    def html(self) -> str:
        """A table element with a caption; all text is escaped."""
        head, *body = [[escape(cell) for cell in row] for row in self._cells()] or [[]]
        lines = [f"<caption>{escape(self.title)}</caption>", f"<tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>"]
        lines += [f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in body]
        return "<table>\n" + "\n".join(lines) + "\n</table>" + "".join(f"<p>{line}</p>" for line in self._rest())

    def _cells(self) -> list[list[str]]:
        if not self.rows:
            return []
        shown = [[_cell(value) for value in row.values()] for row in self.rows[:MOST]]
        return [[_cell(name) for name in self.rows[0]], *shown]

    def _rest(self) -> list[str]:
        return [f"and {len(self.rows) - MOST} more"] if len(self.rows) > MOST else []


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(value))
