"""Rows for people, spreadsheets and programs: the same rows as a table, as CSV or as JSON."""

import csv
import io
import json
import math
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

Row = dict[str, Any]
GAP = 3  # characters between columns


def show(rows: list[Row], *, as_json: bool = False, as_csv: bool = False) -> None:
    """Print rows that have the same keys to stdout."""
    if as_json:
        click.echo(json.dumps([{name: _number(value) for name, value in row.items()} for row in rows], indent=2))
    elif as_csv:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        click.echo(buffer.getvalue(), nl=False)
    elif rows:
        console = Console()
        console.print(_table(rows) if _readable(rows, console.width) else _records(rows))


def duration(seconds: float) -> str:
    """A time in its natural unit; '?' when unknown."""
    if math.isnan(seconds):
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 86400 * 2 else f"{seconds / 86400:.1f} d"


def _table(rows: list[Row]) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, header_style="bold")
    for name, value in rows[0].items():
        table.add_column(name, justify="right" if isinstance(value, int | float) else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(_cell(value)) for value in row.values()))
    return table


def _readable(rows: list[Row], width: int) -> bool:
    """Whether a table in `width` characters need break no word and no number."""
    needed = 0
    for name in rows[0]:
        cells = [name, *(_cell(row[name]) for row in rows)]
        needed += GAP + max(len(word) for cell in cells for word in cell.split() or [""])
    return needed - GAP <= width


def _records(rows: list[Row]) -> Table:
    """One value a line, for rows that are too wide; a blank line between rows."""
    table = Table.grid(padding=(0, GAP))
    for row in rows:
        for name, value in row.items():
            table.add_row(escape(name), escape(_cell(value)))
        table.add_row()
    return table


def _number(value: Any) -> Any:
    """What is not a number becomes null, for JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if not math.isnan(value) else ""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
