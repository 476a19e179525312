"""Figures as SVG or PDF: the only file that knows matplotlib. Equal figures give equal bytes.

Text is drawn as outlines, so that a page looks the same wherever its fonts are missing.
"""

import io
import math
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
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
WIDTH, NARROW = 7.6, 3.6  # inches
NAME, LEGEND = 26, 90  # letters of a row's name before it is broken, and of the legend in a line
NARROW_NAME, NARROW_LEGEND = 16, 42
LINE = 0.2  # inches, of a legend
STYLE = {
    "font.size": 9.5,
    "axes.labelsize": 9.5,
    "axes.titlesize": 9,
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
XML = '<?xml version="1.0" encoding="utf-8" standalone="no"?>\n'
NO_DATE: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


class Drawing:
    """A figure laid out once, whatever is then made of it; narrow, its panels one below the other, for a phone."""

    def __init__(self, figure: Figure, *, narrow: bool = False) -> None:
        self._figure, self._canvas = figure, _canvas(figure, narrow=narrow)
        with _quiet(figure):
            self._canvas.draw_without_rendering()
        self._canvas.set_layout_engine(None)  # what is laid out stays

    @cached_property
    def inline(self) -> str:
        """An `<svg>` element without a background, for a page."""
        svg = self._saved("svg").decode()
        return svg[svg.index("<svg") :].strip()

    def svg(self) -> bytes:
        """A file of its own, on white: a reader of Markdown may show it on black."""
        before, tag, drawn = self.inline.partition('<g id="figure_1">')
        return f'{XML}{before}<rect width="100%" height="100%" fill="#ffffff"/>\n {tag}{drawn}\n'.encode()

    def pdf(self) -> bytes:
        return self._saved("pdf")

    def _saved(self, format: Literal["svg", "pdf"]) -> bytes:
        buffer = io.BytesIO()
        with _quiet(self._figure):
            self._canvas.savefig(buffer, format=format, metadata=NO_DATE[format], transparent=True)
        return buffer.getvalue()


@contextmanager
def _quiet(figure: Figure) -> Iterator[None]:
    with warnings.catch_warnings(), _style(figure):
        warnings.filterwarnings("ignore", "Glyph")  # drawn as a box; the tables beside have the name
        yield


def _style(figure: Figure) -> AbstractContextManager[None]:
    return mpl.rc_context({**STYLE, "svg.hashsalt": figure.name})


def _canvas(figure: Figure, *, narrow: bool = False) -> Canvas:
    with _style(figure):
        layout = ConstrainedLayoutEngine(wspace=0.08, hspace=0.04)
        columns = figure.beside if narrow else len(figure.panels)
        shape = (math.ceil(len(figure.panels) / columns), columns)
        legend = _Legend(figure, NARROW_LEGEND if narrow else LEGEND)
        width = _width(figure, narrow=narrow)
        size = (width, _height(figure, width, columns) + legend.height)
        canvas = Canvas(figsize=size, layout=layout)
        places = canvas.subplots(*shape, squeeze=False, sharex=figure.panels[0].zero).ravel()
        for axes in places[len(figure.panels) :]:
            axes.set_axis_off()
        for number, (axes, panel) in enumerate(zip(places, figure.panels, strict=False)):
            named = narrow or number == 0 or panel.rows != figure.panels[0].rows
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5 if columns < 3 else 4, steps=[1, 2, 5, 10]))
            _panel(axes, panel, names=named, letters=NARROW_NAME if narrow else NAME)
        legend.draw(canvas, list(places))
    return canvas


def _width(figure: Figure, *, narrow: bool) -> float:
    if narrow:
        return NARROW
    alone = len(figure.panels) == 1 and not figure.panels[0].rows
    return 0.75 * WIDTH if alone else WIDTH


def _height(figure: Figure, width: float, columns: int) -> float:
    heights = [_panel_height(panel, width / columns) for panel in figure.panels]
    return sum(max(heights[at : at + columns]) for at in range(0, len(heights), columns))


def _panel_height(panel: Panel, width: float) -> float:
    if panel.pixels is not None:
        high, wide, _ = panel.pixels.shape
        return float(width * high / wide + 0.25)
    return 0.9 + 0.42 * len(panel.rows) if panel.rows else 2.8


def _panel(axes: Axes, panel: Panel, *, names: bool, letters: int) -> None:
    if panel.pixels is not None:
        axes.imshow(panel.pixels, interpolation="none")  # as many pixels as it has
        axes.autoscale(enable=False)
        axes.set_axis_off()
        axes.set_title(panel.x_label)
    for series in panel.series:
        _series(axes, series)
    if panel.pixels is not None:
        return
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    axes.grid(axis="x" if panel.rows else "both")
    axes.set_axisbelow(True)
    if panel.zero:
        axes.axvline(0, color=INK, linewidth=0.8)
    if panel.log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    if panel.rows:
        labels = [textwrap.fill(name, letters) for name in panel.rows] if names else [""] * len(panel.rows)
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


class _Legend:
    """The names of a figure's series, below its panels, in as many columns as there is room for."""

    def __init__(self, figure: Figure, letters: int) -> None:
        self._letters = letters
        names = list(dict.fromkeys(s.name for panel in figure.panels for s in panel.series if s.name))
        shown = [self._broken(name).split("\n") for name in names]
        longest = max((len(line) for name in shown for line in name), default=0)
        self._columns = max(1, min(len(names), letters // (longest + 6)))
        lines = sum(map(len, shown)) / self._columns
        self.height = max(0.0, LINE * (lines - 2))  # inches; two lines find room within the panels' own height

    def draw(self, canvas: Canvas, places: list[Axes]) -> None:
        entries: dict[str, Any] = {}
        for axes in places:
            handles, labels = axes.get_legend_handles_labels()
            for handle, label in zip(handles, labels, strict=True):
                entries.setdefault(self._broken(label), handle)
        if entries:
            canvas.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=self._columns)

    def _broken(self, name: str) -> str:
        return textwrap.fill(name, self._letters - 6)
