"""Blocks as GitHub-flavoured Markdown, with figures as files beside it."""

import re
from collections.abc import Callable

from ablate.report.blocks import Block, Cell, Column, Figure, Table, Text, lines

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&])")
OPENING = re.compile(r"^(\d*)([-+.)])(?=\s|$|-)")  # would begin a list or draw a rule
RULES = {"left": ":--", "right": "--:", "center": ":-:"}
PREFIXES = {"title": "# ", "heading": "## ", "question": "", "answer": "", "paragraph": "", "warning": "> ⚠ "}


def render(blocks: list[Block], place: Callable[[Figure], str]) -> str:
    """The document. `place` stores a figure and returns the address that the document links."""
    parts, tables, figures = [], 0, 0
    for block in blocks:
        if isinstance(block, Text):
            parts.append(_text(block))
        elif isinstance(block, Table):
            tables += 1
            parts.append(_table(block, tables))
        else:
            figures += 1
            caption = escape(block.caption)
            parts.append(f"![{caption}]({place(block)})\n\n**Figure {figures}.** {caption}")
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Any text as itself: one line, nothing of it markup."""
    return OPENING.sub(r"\1\\\2", SPECIAL.sub(r"\\\1", " ".join(text.split())))


def _text(text: Text) -> str:
    if text.style == "code":
        return "\n".join(f"    {line}".rstrip() for line in lines(text.text))
    line = escape(text.text)
    if text.style in ("question", "answer"):
        mark = "*" if text.style == "question" else "**"
        return f"{mark}{line}{mark}"
    return PREFIXES[text.style] + line


def _table(table: Table, number: int) -> str:
    header = [_title(column) for column in table.columns]
    rules = [RULES[column.align] for column in table.columns]
    body = [[_cell(cell) for cell in row] for row in table.rows]
    lines = [f"| {' | '.join(row)} |" for row in [header, rules, *body]]
    notes = "".join(f"\n\n<sub>{escape(note)}</sub>" for note in table.notes)
    return f"**Table {number}.** {escape(table.caption)}\n\n" + "\n".join(lines) + notes


def _title(column: Column) -> str:
    minor = column.minor if column.minor.startswith("(") else f"({column.minor})"
    return escape(column.title) + (f" {escape(minor)}" if column.minor else "")


def _cell(cell: Cell) -> str:
    main = f"`{cell.text}`" if cell.code else escape(cell.text)
    main = f"[{main}]({cell.link})" if cell.link and main else main
    main = f"**{main}**" if cell.strong and main else main
    return f"{main} {escape(cell.minor)}".strip()
