"""From evidence to a small paper: sections give blocks, renderers give Markdown, HTML and LaTeX.

A report is a function of the evidence alone: equal evidence gives equal files.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ablate import registry
from ablate.analysis import Evidence
from ablate.machine import write_atomically
from ablate.report.blocks import Block, Cell, Figure, Table, Text, listed

if TYPE_CHECKING:
    from ablate.report.draw import Drawing

FORMATS = ("md", "html", "interactive", "latex")
NAMED = 6  # missing trials that a warning names before it only counts


def blocks(evidence: Evidence) -> list[Block]:
    """Title, question and warnings, then the sections that the study asks for, or all of them by their place.

    Raises:
        PartError: a section that no shelf has.
    """
    chosen = evidence.study.sections or _all_sections()
    return _head(evidence) + [block for name in chosen for block in registry.build("section", name, {})(evidence)]


def write(evidence: Evidence, folder: Path, *, formats: tuple[str, ...] = FORMATS) -> list[Path]:
    """Write report.md, report.html, interactive.html and report.tex into the folder, figures beside them; returns what
    was written.

    But for LaTeX ids lead to the trials' documents, where results lie on a disk.

    Raises:
        StoreError: the folder cannot be written.
    """
    if "interactive" not in formats:
        return _written(evidence, folder, formats, None)
    from ablate.report import interactive

    with interactive.scripts() as scripts:
        return _written(evidence, folder, formats, scripts)


def _written(
    evidence: Evidence, folder: Path, formats: tuple[str, ...], scripts: Callable[[], str] | None
) -> list[Path]:
    way = _way(folder, evidence.place)
    content = _linked(blocks(evidence), way)
    written = _Files(folder)
    if "md" in formats:
        written.add("report.md", _markdown(content, written))
    if "html" in formats:
        from ablate.report import html

        beside = "interactive.html" if "interactive" in formats else ""
        written.add("report.html", html.render(content, beside=beside, drawing=written.drawing))
    if "latex" in formats:
        written.add("report.tex", _latex(content, written))
    if scripts:
        from ablate.report import interactive

        written.add("interactive.html", interactive.render(evidence, way, scripts()))
    return written.paths


def _way(folder: Path, place: str) -> Callable[[str], str]:
    """From a document's name in the place of results to its address from the folder; none where no disk has it."""
    if "://" in place:
        return lambda name: ""
    way = os.path.relpath(Path(place).resolve(), folder.resolve())
    return lambda name: quote(os.fsencode(f"{way}/{name}"))


def _linked(content: list[Block], address: Callable[[str], str]) -> list[Block]:
    """The blocks with addresses instead of names in their links."""

    def linked(cell: Cell) -> Cell:
        return replace(cell, link=address(cell.link)) if cell.link else cell

    def placed(block: Block) -> Block:
        if isinstance(block, Table):
            return replace(block, rows=[[linked(cell) for cell in row] for row in block.rows])
        return block

    return [placed(block) for block in content]


class _Files:
    """The files of one report."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths: list[Path] = []
        self._drawings: dict[str, Drawing] = {}

    def add(self, name: str, content: str | bytes) -> None:
        path = self.folder / name
        write_atomically(path, content.encode() if isinstance(content, str) else content)
        self.paths.append(path)

    def drawing(self, figure: Figure) -> "Drawing":
        """Kept: Markdown, page and LaTeX show the same."""
        from ablate.report.draw import Drawing  # matplotlib: not needed to list sections

        if figure.name not in self._drawings:
            self._drawings[figure.name] = Drawing(figure)
        return self._drawings[figure.name]

    def svg(self, figure: Figure) -> str:
        self.add(name := f"figures/{figure.name}.svg", self.drawing(figure).svg())
        return name

    def pdf(self, figure: Figure) -> str:
        self.add(name := f"figures/{figure.name}.pdf", self.drawing(figure).pdf())
        return name


def _markdown(content: list[Block], files: _Files) -> str:
    from ablate.report import markdown

    return markdown.render(content, files.svg)


def _latex(content: list[Block], files: _Files) -> str:
    from ablate.report import latex

    return latex.render(content, files.pdf)


def _all_sections() -> list[str]:
    names = registry.names("section")
    return sorted(names, key=lambda name: (registry.describe("section", name).facts.get("place", 100), name))


def _head(evidence: Evidence) -> list[Block]:
    study = evidence.study
    scale = f" ({study.scale} scale)" if study.scale else ""
    found: list[Block] = [
        Text(f"{study.name.replace('_', ' ').capitalize()}{scale}", "title"),
        Text(study.question, "question"),
    ]
    found += [Text(study.note)] if study.note else []
    return found + [Text(line, "warning") for line in _warnings(evidence)]


def _warnings(evidence: Evidence) -> list[str]:
    """What a reader must know before any number."""
    lines, all_trials = [], evidence.planned_trials
    if evidence.missing:
        named = [f"{arm} seed {seed}" for arm, seed in evidence.missing[:NAMED]]
        more = [f"{len(evidence.missing) - NAMED} more"] if len(evidence.missing) > NAMED else []
        lines.append(
            f"Partial report: {len(evidence.missing)} of {all_trials} trials have no result yet "
            f"({listed(named + more)})."
        )
    if evidence.failures:
        lines.append(f"{len(evidence.failures)} of {all_trials} trials ended without a score; they are in no mean.")
    if evidence.damaged:
        lines.append(f"Files that could not be trusted were left out: {'; '.join(evidence.damaged)}.")
    lines += [line for line in (evidence.unlike_starts, evidence.little_trained) if line]
    for what, values in evidence.mixed.items():
        shown = ", ".join(one[:10] if what == "revisions" else one[:40] for one in values)
        lines.append(f"Mixed {what}: the numbers below were not all made with the same ({shown}).")
    seeds = len(evidence.standing.seeds)
    if not evidence.rule.testable(seeds):
        lines.append(
            f"Too few seeds for a verdict: {seeds} decide, at least {evidence.rule.seeds_needed} are needed for "
            f"{evidence.planned} planned comparison{'s' * (evidence.planned > 1)}."
        )
    return lines
