"""Blocks as a complete LaTeX document (article, booktabs) that pdflatex compiles, with figures as PDF beside it."""

import re
import unicodedata
from collections.abc import Callable

from ablate.report.blocks import Block, Cell, Column, Figure, Table, Text, lines

PREAMBLE = r"""\documentclass[10pt,a4paper]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{lmodern}
\usepackage[margin=2.1cm]{geometry}
\usepackage{booktabs}
\usepackage{array}
\usepackage{graphicx}
\usepackage[font=small,labelfont=bf,singlelinecheck=false]{caption}
\setlength{\parindent}{0pt}
\setlength{\parskip}{0.5em}
\setlength{\tabcolsep}{5pt}
\newsavebox{\tablebox}
% A table wider than the text is scaled down to it; others keep their size.
\newcommand{\fit}[1]{\sbox{\tablebox}{#1}%
  \ifdim\wd\tablebox>\linewidth\resizebox{\linewidth}{!}{\usebox{\tablebox}}\else\usebox{\tablebox}\fi}
\begin{document}
"""
SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "-": "{-}",  # two of them are not a dash
    **{mark: f"{{{mark}}}" for mark in "[]*"},  # at the start of a row they would be an option of the line before
    **{mark: f"\\{mark}" for mark in "$&#%_"},
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "Δ": r"$\Delta$",
    "α": r"$\alpha$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "½": r"$\frac12$",
    "–": "--",
    "—": "---",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "°": r"\textdegree{}",
    "µ": r"$\mu$",
    **{digit: f"$^{at}$" for at, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
}
LETTERS = {"left": "l", "right": "r", "center": "c"}
ROWS = 32  # of a table on one page
STYLES = {
    "title": r"{{\LARGE\bfseries {}\par}}",
    "question": r"{{\large\itshape {}\par}}",
    "heading": r"\section*{{{}}}",
    "answer": r"{{\large {}\par}}",
    "paragraph": r"{}\par",
    "warning": r"\fbox{{\parbox{{0.96\linewidth}}{{\textbf{{Note.}} {}}}}}\par",
}


def render(blocks: list[Block], place: Callable[[Figure], str]) -> str:
    """The document. `place` stores a figure and returns the address that the document includes."""
    parts = []
    for block in blocks:
        if isinstance(block, Text) and block.style == "code":
            parts.append(_code(block.text))
        elif isinstance(block, Text):
            parts.append(STYLES[block.style].format(escape(block.text)))
        elif isinstance(block, Table):
            parts.append(_table(block))
        else:
            parts.append(_figure(block, place(block)))
    return PREAMBLE + "\n\n".join(parts) + "\n\\end{document}\n"


def _code(text: str) -> str:
    """Lines of typewriter letters, their indents kept."""
    shown = []
    for line in lines(text):
        indent = len(line) - len(line.lstrip())
        shown.append("\\mbox{}" + "~" * indent + escape(line))
    return "{\\footnotesize\\ttfamily\\raggedright\n" + "\\\\\n".join(shown) + "\\par}"


def escape(text: str) -> str:
    """Any text as itself. What pdflatex has no glyph for is written as its plain letters or its code point."""
    return "".join(SPECIAL.get(character) or _plain(character) for character in " ".join(text.split()))


def _plain(character: str) -> str:
    if character.isascii():
        return character if character.isprintable() else ""
    if unicodedata.category(character).startswith("L") and ord(character) < 0x100:
        return character
    letters = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return escape(letters) if letters.strip() else f"{{[}}U+{ord(character):04X}]"


def _table(table: Table) -> str:
    """Not a float, so that it stays in its section; a long one is set in pieces that fit a page."""
    pieces = [table.rows[at : at + ROWS] for at in range(0, len(table.rows), ROWS)] or [[]]
    first = f"\\caption{{{escape(table.caption)}}}\n\\smallskip"
    notes = "".join(f"\n\\par\\smallskip{{\\footnotesize\\raggedright {escape(note)}\\par}}" for note in table.notes)
    return "\n\n".join(
        _boxed("table", (first if at == 0 else "") + _rows(table.columns, rows) + (notes if rows is pieces[-1] else ""))
        for at, rows in enumerate(pieces)
    )


def _rows(columns: list[Column], rows: list[list[Cell]]) -> str:
    letters = "".join(_letter(column) for column in columns)
    header = " & ".join(_title(column) for column in columns)
    body = "\n".join(_row(columns, row) for row in rows)
    return (
        f"\n{{\\small\\fit{{\\begin{{tabular}}{{@{{}}{letters}@{{}}}}\n\\toprule\n{header} \\\\\n\\midrule\n"
        f"{body}\n\\bottomrule\n\\end{{tabular}}}}}}"
    )


def _row(columns: list[Column], row: list[Cell]) -> str:
    cells = " & ".join(_cell(cell, column) for cell, column in zip(row, columns, strict=True))
    return cells + (r" \\[3pt]" if any(cell.minor for cell in row) else r" \\")


def _boxed(kind: str, content: str) -> str:
    opening = f"\\begin{{minipage}}{{\\linewidth}}\n\\captionsetup{{type={kind}}}"
    return f"{opening}\n{content}\n\\end{{minipage}}\n\\par\\bigskip"


def _letter(column: Column) -> str:
    if column.wide:
        return r">{\raggedright\arraybackslash}p{0.62\linewidth}"
    return LETTERS[column.align]


def _title(column: Column) -> str:
    return _stacked(escape(column.title), escape(column.minor), column, "b")


def _cell(cell: Cell, column: Column) -> str:
    text = _breakable(escape(cell.text))
    text = f"\\texttt{{{text}}}" if cell.code else text
    text = f"\\textbf{{{text}}}" if cell.strong and text else text
    return _stacked(text, escape(cell.minor), column, "t")


def _stacked(text: str, minor: str, column: Column, line: str) -> str:
    """What is said quietly goes below, on a line of its own."""
    if not minor:
        return text
    side = LETTERS[column.align]
    return f"\\begin{{tabular}}[{line}]{{@{{}}{side}@{{}}}}{text}\\\\{{\\scriptsize {minor}}}\\end{{tabular}}"


def _breakable(text: str) -> str:
    """Digests are longer than a line; a break is allowed after every 16 of their digits."""
    return re.sub(r"[0-9a-f]{16}(?=[0-9a-f])", r"\g<0>\\allowbreak{}", text)


def _figure(figure: Figure, path: str) -> str:
    drawing = f"\\centering\n\\includegraphics[scale=0.87]{{{path}}}\n\\caption{{{escape(figure.caption)}}}"
    return _boxed("figure", drawing)
