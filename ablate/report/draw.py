"""Figures as SVG or PDF: the only file that knows matplotlib. Equal figures give equal bytes.

Text is drawn as outlines, so that a page looks the same wherever its fonts are missing.
"""

import io
import textwrap
import warnings
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ablate.report.blocks import Figure, Panel, Series

INK = "#1f2328"  # replaced by the page's own text colour where the page can be dark
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9")  # Okabe and Ito, one darkened
MARKERS = "osD^vPX"
WIDTH = 7.6  # inches
STYLE = {
    "font.size": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.18,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "text.parse_math": False,  # a dollar in a level's label is a dollar
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "grid.color": INK,
}
NO_DATE: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def draw(figure: Figure, format: Literal["svg", "pdf"], *, transparent: bool = False) -> bytes:
    """The figure as a file's content."""
    with warnings.catch_warnings(), mpl.rc_context({**STYLE, "svg.hashsalt": figure.name}):
        canvas = Canvas(figsize=(_width(figure), _height(figure)), layout=ConstrainedLayoutEngine(wspace=0.08))
        columns = canvas.subplots(1, len(figure.panels), squeeze=False, sharex=figure.panels[0].zero)[0]
        for number, (axes, panel) in enumerate(zip(columns, figure.panels, strict=True)):
            _panel(axes, panel, names=number == 0 or panel.rows != figure.panels[0].rows)
        _legend(canvas, list(columns))
        buffer = io.BytesIO()
        warnings.filterwarnings("ignore", "Glyph")  # drawn as a box; the tables beside have the name
        canvas.savefig(buffer, format=format, metadata=NO_DATE[format], transparent=transparent)
    return buffer.getvalue()


def _width(figure: Figure) -> float:
    narrow = len(figure.panels) == 1 and not figure.panels[0].rows
    return 0.75 * WIDTH if narrow else WIDTH


def _height(figure: Figure) -> float:
    rows = max(len(panel.rows) for panel in figure.panels)
    return 0.9 + 0.42 * rows if rows else 2.8


def _panel(axes: Axes, panel: Panel, *, names: bool) -> None:
    for series in panel.series:
        _series(axes, series)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    axes.grid(axis="x" if panel.rows else "both")
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    if panel.zero:
        axes.axvline(0, color=INK, linewidth=0.8)
    if panel.log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    if panel.rows:
        labels = [textwrap.fill(name, 26) for name in panel.rows] if names else [""] * len(panel.rows)
        axes.set_yticks(range(len(panel.rows)), labels)
        axes.set_ylim(len(panel.rows) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)


def _series(axes: Axes, series: Series) -> None:
    colour = INK if series.colour == 0 else PALETTE[(series.colour - 1) % len(PALETTE)]
    marker = MARKERS[series.colour % len(MARKERS)]
    look: dict[str, Any] = {"color": colour, "alpha": 0.35 if series.faint else 1.0}
    name = f" {series.name}" if series.name.startswith("_") else series.name
    look["label"] = name or "_"  # matplotlib keeps what begins so out of the legend
    if series.mark == "line":
        axes.plot(series.x, series.y, linewidth=0.7 if series.faint else 1.6, **look)
    elif series.mark == "points":
        size = 4 if series.faint else 5.5
        axes.plot(series.x, series.y, marker, markersize=size, markeredgewidth=0, **look)
    else:
        along_x = series.mark == "x_interval"
        lines, at = (axes.hlines, series.y) if along_x else (axes.vlines, series.x)
        lines(at, series.low, series.high, linewidth=1.2 if series.faint else 2.0, **look)


def _legend(canvas: Canvas, columns: list[Axes]) -> None:
    entries: dict[str, Any] = {}
    for axes in columns:
        handles, labels = axes.get_legend_handles_labels()
        for handle, label in zip(handles, labels, strict=True):
            entries.setdefault(label, handle)
    if entries:
        columns_that_fit = max(1, min(len(entries), 90 // (max(map(len, entries)) + 6)))
        canvas.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns_that_fit)
