"""Writes docs/protocols.md: `python docs/protocols.py`."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from ablate.planning.open_study import opened
from ablate.study import Design, papers, shipped

HEAD = """# Protocols

Every arm of the shipped studies at paper scale beside the recipe that its authors published, made by `python
docs/protocols.py` from `ablate/study/official_recipes.json` and the studies. A dash is a value that no source states,
or that a recipe lacks. `ablate list keys` and `ablate list knobs` say what a value means.
"""

TABLES = """## Published tables

A study equals the rows of its table in all values but those under *unlike*, which have their reasons below. What is no
value of a recipe, such as batch normalisation over several GPUs, stands at the end of each study. Tables 1 and 2 of
arXiv 1902.09212 are Tables I and II of arXiv 1908.07919. Recipes of detectors are not laid beside the official ones.
"""


def page() -> str:
    """The whole page."""
    designs = [opened(name, scale=scale, results=None) for name in shipped() for scale in papers.scales_of(name)]
    sections = (line for design in designs for line in section(design))
    return "\n".join([HEAD, *tables(designs), *sections]).rstrip() + "\n"


def tables(designs: Sequence[Design]) -> list[str]:
    """Every published table: the study that stands for it and what of its recipe is official, or why there is none."""
    lines = [TABLES, "| published table | study | values as official | unlike | |", "|---|---|---|---|---|"]
    for design in (one for one in designs if one.study.paper):
        table, found = papers.published(design.study.paper), papers.protocols(design)
        values = [value for one in found for value in one.values]
        unlike = sorted({value.path for value in values if not value.equal})
        count = f"{sum(value.equal for value in values)} of {len(values)}" if values else "not laid side by side"
        own = ", ".join(one.arm for one in found if one.caution)
        unknown = f"recipe of its own not known: {own}" if own else ""
        named = papers.known_as(design.study.name, design.study.scale)
        lines.append(
            f"| {table.source}: {table.title} | `{named}` | {count} | {', '.join(f'`{path}`' for path in unlike)} | "
            f"{unknown} |"
        )
    lines += [f"| {one['table']}: {one['what']} | none | | | {one['why']} |" for one in papers.without_study()]
    return [*lines, ""]


def section(design: Design) -> list[str]:
    """One study: a table for all arms that are compared alike."""
    study, found = design.study, papers.protocols(design)
    lines = [f"## {papers.known_as(study.name, study.scale)}", "", f"{study.question} {study.note}", ""]
    if not found:
        return [*lines, "It stands for no published row.", ""]
    for _, group in groupby(found, key=lambda one: one._replace(arm="")):
        alike = list(group)
        first = alike[0]
        lines += [f"**{', '.join(one.arm for one in alike)}**: {first.recipe}. {first.source}", ""]
        lines += [f"*{first.caution}.*", ""] if first.caution else []
        lines += ["| value | official | ours | |", "|---|---|---|---|"]
        lines += [
            f"| `{value.path}` | {papers.plain(value.official)} | {papers.plain(value.ours)} | "
            f"{'equal' if value.equal else value.why} |"
            for value in first.values
        ]
        lines.append("")
    lines += ["| besides | official | ours | |", "|---|---|---|---|"]
    lines += [f"| {e['what']} | {e['official']} | {e['ours']} | {e['why']} |" for e in papers.elsewhere(design)]
    return [*lines, ""]


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page(), encoding="utf-8")
