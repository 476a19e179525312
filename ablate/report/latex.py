"""Blocks as a complete LaTeX document (article, booktabs) that pdflatex compiles, with figures as PDF beside it."""

import re
import unicodedata
from collections.abc import Callable

from ablate.report.blocks import Block, Cell, Column, Figure, Table, Text

PREAMBLE = r"""\documentclass[10pt,a4paper]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{lmodern}
\usepackage[margin=2.1cm]{geometry}
\usepackage{booktabs}
\usepackage{array}
\usepackage{graphicx}
\usepackage[font=small,labelfont=bf]{caption}
\setlength{\parindent}{0pt}
\setlength{\parskip}{0.5em}
\setlength{\tabcolsep}{5pt}
\setcounter{topnumber}{4}
\setcounter{totalnumber}{6}
\renewcommand{\topfraction}{0.95}
\renewcommand{\textfraction}{0.05}
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
        if isinstance(block, Text):
            parts.append(STYLES[block.style].format(escape(block.text)))
        elif isinstance(block, Table):
            parts.append(_table(block))
        else:
            parts.append(_figure(block, place(block)))
    return PREAMBLE + "\n\n".join(parts) + "\n\\end{document}\n"


def escape(text: str) -> str:
    """Any text as itself. What pdflatex has no glyph for is written as its plain letters or its code point."""
    return "".join(SPECIAL.get(character) or _plain(character) for character in " ".join(text.split()))


def _plain(character: str) -> str:
    if character.isascii():
        return character if character.isprintable() else ""
    if unicodedata.category(character).startswith("L") and ord(character) < 0x100:
        return character
    letters = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return escape(letters) if letters.strip() else f"[U+{ord(character):04X}]"


def _table(table: Table) -> str:
    header = " & ".join(_title(column) for column in table.columns)
    body = "\n".join(" & ".join(_cell(cell) for cell in row) + r" \\" for row in table.rows)
    columns = "".join(_letter(column) for column in table.columns)
    notes = "".join(f"\n\\par\\smallskip{{\\footnotesize\\raggedright {escape(note)}\\par}}" for note in table.notes)
    return (
        "\\begin{table}[!htbp]\n"
        f"\\caption{{{escape(table.caption)}}}\n\\smallskip\\small\n"
        f"\\fit{{\\begin{{tabular}}{{@{{}}{columns}@{{}}}}\n\\toprule\n{header} \\\\\n\\midrule\n"
        f"{body}\n\\bottomrule\n\\end{{tabular}}}}{notes}\n\\end{{table}}"
    )


def _letter(column: Column) -> str:
    if column.wide:
        return r">{\raggedright\arraybackslash}p{0.62\linewidth}"
    return LETTERS[column.align]


def _title(column: Column) -> str:
    if not column.minor:
        return escape(column.title)
    title, minor, side = escape(column.title), escape(column.minor), LETTERS[column.align]
    return f"\\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{title}\\\\{{\\scriptsize {minor}}}\\end{{tabular}}"


def _cell(cell: Cell) -> str:
    text = _breakable(escape(cell.text))
    text = f"\\texttt{{{text}}}" if cell.code else text
    text = f"\\textbf{{{text}}}" if cell.strong and text else text
    return f"{text} {{\\scriptsize {escape(cell.minor)}}}" if cell.minor else text


def _breakable(text: str) -> str:
    """Digests are longer than a line; a break is allowed after every 16 of their digits."""
    return re.sub(r"[0-9a-f]{16}(?=[0-9a-f])", r"\g<0>\\allowbreak{}", text)


def _figure(figure: Figure, path: str) -> str:
    return (
        "\\begin{figure}[!htbp]\n\\centering\n"
        f"\\includegraphics[width=\\linewidth,height=0.4\\textheight,keepaspectratio]{{{path}}}\n"
        f"\\caption{{{escape(figure.caption)}}}\n\\end{{figure}}"
    )
