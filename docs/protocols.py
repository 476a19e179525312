"""Writes docs/protocols.md: `python docs/protocols.py`."""

from itertools import groupby
from pathlib import Path

from ablate.planning.open_study import opened
from ablate.study import Design, papers, shipped

HEAD = """# Protocols

Every arm of the shipped studies at paper scale beside the recipe that its authors published, made by `python
docs/protocols.py` from `ablate/study/official_recipes.json` and the studies. A dash is a value that no source states,
or that a recipe lacks. `ablate list keys` and `ablate list knobs` say what a value means.
"""


def page() -> str:
    """The whole page."""
    designs = [opened(name, scale=scale, results=None) for name in shipped() for scale in papers.scales_of(name)]
    return "\n".join([HEAD, *(line for design in designs for line in section(design))]).rstrip() + "\n"


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
