"""What a report is made of: text, tables and figures as data. Renderers know formats, these know none.

Scores are fractions (0 hopeless, 1 perfect) in the evidence and are printed times 100, as the papers do.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

Style = Literal["title", "question", "heading", "answer", "paragraph", "warning", "code"]
Align = Literal["left", "right", "center"]
MISSING = "–"


@dataclass(frozen=True)
class Text:
    """A heading or a paragraph of plain text; code keeps its lines."""

    text: str
    style: Style = "paragraph"


@dataclass(frozen=True)
class Cell:
    """One table cell."""

    text: str
    minor: str = ""  # said more quietly after it: a spread, an interval
    strong: bool = False
    code: bool = False
    link: str = ""  # what its text names: a document by its name in the place of results


@dataclass(frozen=True)
class Column:
    """One table column."""

    title: str
    align: Align = "right"
    minor: str = ""  # a unit or a convention
    wide: bool = False  # running text, broken into lines; one such column in a table at most


@dataclass(frozen=True)
class Table:
    """Rows of cells below a caption, with notes at the foot."""

    caption: str
    columns: list[Column]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)
    names: int = 1  # the first columns, which say what a row is: each part of a table that is too wide begins with them


@dataclass(frozen=True)
class Series:
    """Marks of one colour in one panel; `low` and `high` are the ends of intervals, along x or along y."""

    mark: Literal["points", "line", "x_interval", "y_interval"]
    x: list[float]
    y: list[float]
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    colour: int = 0  # 0 is the ink of the text, 1 and up a palette
    name: str = ""  # in the legend, where one is wanted
    faint: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes. With `rows`, y counts those names from the top: 0, 1, 2 ..."""

    x_label: str
    y_label: str
    series: list[Series]
    rows: list[str] = field(default_factory=list)
    zero: bool = False  # a line at x = 0
    log_y: bool = False
    pixels: Any = None  # (H, W, 3) uint8 RGB: a picture, with its series drawn on it, below its x_label


@dataclass(frozen=True)
class Figure:
    """Panels side by side, above a caption; `name` is the stem of its file."""

    name: str
    caption: str
    panels: list[Panel]
    beside: int = 1  # panels that stand side by side in a narrow window


Block = Text | Table | Figure


def lines(text: str) -> list[str]:
    """The lines of code, of each what can be printed."""
    return ["".join(c if c.isprintable() else " " for c in line).rstrip() for line in text.splitlines()]


def decimals(values: Iterable[float]) -> int:
    """How many decimals show scores times 100: one as in the papers, two where one would round a value to 0."""
    return 2 if any(0 < abs(value) < 0.0005 for value in values) else 1


def percent(value: float, digits: int) -> str:
    """0.734 -> 73.4"""
    return f"{100 * value:.{digits}f}".replace("-", "−") if math.isfinite(value) else MISSING


def signed(value: float, digits: int) -> str:
    """-0.026 -> −2.6, with a true minus sign"""
    return f"{100 * value:+.{digits}f}".replace("-", "−") if math.isfinite(value) else MISSING


def interval(low: float, high: float, digits: int) -> str:
    """Both ends in brackets; empty when undefined."""
    return f"[{signed(low, digits)}, {signed(high, digits)}]" if math.isfinite(low) else ""


def errors_in_words(errors: dict[str, str]) -> str:
    """What is said of scores that are errors, by their units."""
    units = "; ".join(f"{name} is in {unit}" for name, unit in errors.items() if unit)
    return f"{listed(errors)}: less is better. × 100 like all scores{': ' * bool(units)}{units}."


def probability(p: float) -> str:
    """A p value to two significant digits, not below 0.001."""
    if not math.isfinite(p):
        return MISSING
    return "<0.001" if p < 0.001 else f"{p:.2g}"


def listed(names: Iterable[str]) -> str:
    """a, b and c"""
    *most, last = list(names)
    return f"{', '.join(most)} and {last}" if most else last
