"""Rows for people, spreadsheets and programs: the same rows as a table, as CSV or as JSON."""

import csv
import io
import json
import math
import textwrap
from collections.abc import Mapping
from typing import Any, Literal

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ablate.errors import printable

Row = dict[str, Any]
LONG = 500  # rows, beyond which a table is printed plainly
INDENT = 4  # characters before what stands below a head
COPIED = ("seed", "id", "image")  # columns of numbers that are names
PLAIN = ("meaning", "what", "type")  # columns that need no name
GAP = 2  # characters between columns, and around them all


def show(rows: list[Row], *, as_json: bool = False, as_csv: bool = False) -> None:
    """Print rows that have the same keys to stdout."""
    if as_json:
        document(rows)
    elif as_csv:
        buffer = io.StringIO()
        lines = [list(rows[0] if rows else {}), *([*row.values()] for row in rows)]
        csv.writer(buffer, lineterminator="\n").writerows([map(_plain, line) for line in lines])
        click.echo(buffer.getvalue(), nl=False)
    elif len(rows) > LONG:
        click.echo("\n".join(_lines(rows)))
    elif rows:
        console = Console()
        widths = _widths(rows, console.width)
        console.print(_table(rows, widths) if widths else _records(rows))


def show_entries(rows: list[Row], *, beside: tuple[str, ...]) -> None:
    """Print rows as a glossary: the first value as a head, with the columns `beside` next to it, the others below."""
    console, text = Console(), Text()
    for row in rows:
        head, *names = row
        aside = ", ".join(_aside(name, cell(row[name])) for name in beside if row.get(name))
        fits = len(cell(row[head])) + GAP + len(aside) <= console.width
        text.append(cell(row[head]), style="bold")
        text.append(f"{' ' * GAP}{aside}\n" if fits and aside else "\n", style="dim")
        below = [aside] if aside and not fits else []
        below += [_aside(name, cell(row[name])) for name in names if name not in beside and row[name]]
        for line in below:
            text.append(textwrap.indent(textwrap.fill(line, console.width - INDENT), " " * INDENT) + "\n")
    console.print(text, end="", soft_wrap=True)


def _aside(name: str, value: str) -> str:
    """A value with its column's name, where that does not go without saying."""
    return (
        value
        if name in PLAIN or value == "required"
        else f"{name} {value}"
        if name == "default"
        else f"{name}: {value}"
    )


def document(value: Any) -> None:
    """Print a value as JSON to stdout; schemas.json says what each command's holds."""
    click.echo(json.dumps(number(value), indent=2, default=str))


def _lines(rows: list[Row]) -> list[str]:
    """A table of thousands of rows, each on one line that the terminal may wrap: rich takes two milliseconds a row."""
    names = [cell(name) for name in rows[0]]
    cells = [names, *([cell(value, name) for name, value in row.items()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [isinstance(value, int | float) for value in rows[0].values()]
    return [
        (" " * GAP)
        .join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, right, strict=True)
        )
        .rstrip()
        for row in cells
    ]


def duration(seconds: float) -> str:
    """A time in its natural unit."""
    if math.isnan(seconds):
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 86400 * 2 else f"{seconds / 86400:.1f} d"


def _widths(rows: list[Row], width: int) -> dict[str, int]:
    """Characters of each column that fit into `width` and break no word and no number; none where nothing does."""
    cells = {name: [cell(name), *(cell(row[name], name) for row in rows)] for name in rows[0]}
    widths = {name: max(map(len, column)) for name, column in cells.items()}
    spare = {
        name: widths[name] - max(len(word) for cell in column for word in cell.split() or [""])
        for name, column in cells.items()
    }
    over = sum(GAP + characters for characters in widths.values()) - width
    for name in sorted(spare, key=lambda name: -spare[name]):  # the widest texts wrap first
        cut = min(max(0, over), spare[name])
        widths[name] -= cut
        over -= cut
    return {} if over > 0 else widths


def _table(rows: list[Row], widths: dict[str, int]) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True, header_style="bold")
    for name, value in rows[0].items():
        justify: Literal["left", "right"] = "right" if isinstance(value, int | float) else "left"
        table.add_column(escape(cell(name)), justify=justify, width=widths[name])
    for row in rows:
        table.add_row(*(escape(cell(value, name)) for name, value in row.items()))
    return table


def _records(rows: list[Row]) -> Table:
    """One value a line, for rows that are too wide; a blank line between rows."""
    table = Table.grid(padding=(0, GAP))
    for row in rows:
        for name, value in row.items():
            table.add_row(escape(cell(name)), escape(cell(value, name)))
        table.add_row()
    return table


def number(value: Any) -> Any:
    """What is not a number becomes null, at any depth, for JSON has no NaN."""
    if isinstance(value, Mapping):
        return {name: number(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [number(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def no_formula(value: Any) -> Any:
    """A value that a spreadsheet shows as it is: an apostrophe stands before a text that it would compute."""
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) and not _is_number(value)
    return f"'{value}" if is_formula else value


def _plain(value: Any) -> Any:
    return no_formula(printable(value) if isinstance(value, str) else value)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def cell(value: Any, column: str = "") -> str:
    """A value as people read it; numbers that name something stand as they are typed."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if column in COPIED:
        return printable(str(value))
    if isinstance(value, float):
        return f"{value:,.4g}" if not math.isnan(value) else ""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        is_size = len(value) == 2 and all(isinstance(side, int) for side in value)
        return "x".join(map(str, value)) if is_size else ", ".join(map(cell, value))
    return printable(str(value))
