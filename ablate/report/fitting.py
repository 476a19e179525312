"""Which columns of a table stand side by side on a page, so that none is cut in a window of 1,024 pixels or more.

Widths are guessed from letters, for a page does not know its reader's fonts: by those of a broad one.
"""

import re
from itertools import pairwise

from ablate.report.blocks import Cell, Column, Table

ROOM = 940  # pixels: the page's column in a window of 1,024, less its scroll bar
LETTER, BOLD, QUIET, CODE = 8.6, 9.6, 7.2, 7.4  # pixels a letter, in the sizes of page.css
PADDING, WIDE = 16.0, 384.0  # of a cell; of a column of running text
# A line may end after a sign before a word, and in a word that has no end.
BREAK = re.compile(r"[_/.:=+-](?=[^\W\d_]{2})|[^\W_]{16}(?=[^\W_]{8})")


def parts(table: Table) -> list[list[int]]:
    """The places of columns that stand together, each part with those that say what a row is."""
    widths = [_narrowest(column, [row[at] for row in table.rows]) for at, column in enumerate(table.columns)]
    names = list(range(min(table.names, len(widths))))
    found = [[*names]]
    for at in range(len(names), len(widths)):
        if sum(widths[place] for place in [*found[-1], at]) > ROOM and len(found[-1]) > len(names):
            found.append([*names])
        found[-1].append(at)
    return found


def pieces(text: str) -> list[str]:
    """A text in the parts between which a line may end, besides at its spaces."""
    ends = [match.end() for match in BREAK.finditer(text)]
    return [text[start:end] for start, end in pairwise([0, *ends, len(text)])]


def _narrowest(column: Column, cells: list[Cell]) -> float:
    """The least width of a column in pixels: titles and what stands on the left is broken, numbers are not."""
    if column.wide:
        return WIDE
    title = max(BOLD * _longest(column.title), QUIET * _longest(column.minor))
    return PADDING + max([title, *(_least(cell, breaks=column.align == "left") for cell in cells)])


def _least(cell: Cell, *, breaks: bool) -> float:
    long = _longest if breaks else len
    return max((CODE if cell.code else BOLD if cell.strong else LETTER) * long(cell.text), QUIET * long(cell.minor))


def _longest(text: str) -> int:
    return max((len(piece) for word in text.split() for piece in pieces(word)), default=0)
