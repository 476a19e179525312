"""Blocks as one self-contained HTML page: style and drawings inside, no script, nothing fetched."""

import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Literal

from ablate.report import fitting
from ablate.report.blocks import Block, Cell, Column, Figure, Table, Text, lines
from ablate.report.draw import INK, Drawing

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
TAGS = {"title": "h1", "heading": "h2"}


def render(blocks: list[Block], *, beside: str = "", drawing: Callable[[Figure], Drawing] = Drawing) -> str:
    """The page. `beside` is the address of the interactive one, where there is one; `drawing` gives a figure's drawing,
    where it is drawn elsewhere, too."""
    title = next((block.text for block in blocks if isinstance(block, Text)), "Report")
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    body, tables, figures = [], 0, 0
    for block in blocks:
        if isinstance(block, Text):
            body.append(_text(block))
        elif isinstance(block, Table):
            tables += 1
            body.append(_table(block, tables))
        else:
            figures += 1
            body.append(_figure(block, figures, drawing(block)))
    more = (
        f'<p class="note"><a href="{escape(beside)}">Sort and filter arms, open single trials</a></p>\n'
        if beside
        else ""
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n{more}"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _text(text: Text) -> str:
    if text.style == "code":
        return f"<pre><code>{escape(chr(10).join(lines(text.text)))}</code></pre>"
    tag = TAGS.get(text.style, "p")
    kind = f' class="{text.style}"' if tag == "p" else ""
    return f"<{tag}{kind}>{escape(text.text)}</{tag}>"


def _table(table: Table, number: int) -> str:
    """One below the other where it is too wide for the page."""
    parts = "\n".join(_part(table, places) for places in fitting.parts(table))
    notes = "".join(f'\n<p class="note">{escape(note)}</p>' for note in table.notes)
    return (
        f"<figure>\n<figcaption><strong>Table {number}.</strong> {escape(table.caption)}</figcaption>\n"
        f"{parts}{notes}\n</figure>"
    )


def _part(table: Table, places: list[int]) -> str:
    """Some of a table's columns, in a box that scrolls where the window is narrow."""
    classes = [_classes(column) for column in table.columns]
    header = "".join(_title(table.columns[at]) for at in places)
    rows = ("".join(f'<td class="{classes[at]}">{_cell(row[at])}</td>' for at in places) for row in table.rows)
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="scroll"><table>\n<thead><tr>{header}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _title(column: Column) -> str:
    return f'<th class="{_classes(column)}" scope="col">{_breakable(column.title)}{_minor(column.minor)}</th>'


def _breakable(text: str) -> str:
    return "<wbr>".join(map(escape, fitting.pieces(text)))


def _cell(cell: Cell) -> str:
    text = _breakable(cell.text)
    text = f"<code>{text}</code>" if cell.code else text
    text = f'<a href="{escape(cell.link)}">{text}</a>' if cell.link else text
    text = f"<strong>{text}</strong>" if cell.strong else text
    return text + _minor(cell.minor)


def _minor(text: str) -> str:
    return f" <small>{escape(text)}</small>" if text else ""


def _classes(column: Column) -> str:
    return f"{column.align} wide" if column.wide else column.align


def _figure(figure: Figure, number: int, broad: Drawing) -> str:
    """Drawn twice: the page shows the one that fits the window."""
    caption, narrow = escape(figure.caption), Drawing(figure, narrow=True)
    return (
        f'<figure class="drawing">\n{_inline(figure, "broad", broad)}\n{_inline(figure, "narrow", narrow)}\n'
        f"<figcaption><strong>Figure {number}.</strong> {caption}</figcaption>\n</figure>"
    )


def _inline(figure: Figure, shape: Literal["broad", "narrow"], drawing: Drawing) -> str:
    """The drawing as an element of the page: ids made unique, ink as the page's text colour."""
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{figure.name}-{shape}-", drawing.inline)
    label = f'<svg class="{shape}" role="img" aria-label="{escape(figure.caption)}"'
    return svg.replace(INK, "currentColor").replace("<svg", label, 1)
