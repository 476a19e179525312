"""Where the numbers come from, and how to make one of them again."""

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Any

from ablate.analysis import Evidence, Row
from ablate.registry import section
from ablate.report.blocks import MISSING, Block, Cell, Column, Table, Text, percent


@section("provenance", meaning=1, place=80)
def provenance() -> Callable[[Evidence], list[Block]]:
    """The control's whole recipe, the code, machine and data of all trials, and the id of every one."""

    def blocks(evidence: Evidence) -> list[Block]:
        found: list[Block] = [Text("Provenance", "heading"), _recipe(evidence)]
        if evidence.provenance:
            found.append(_facts(evidence))
        if evidence.standing.planned:
            found.append(Text(evidence.standing.planned))
        if evidence.left_out:
            found.append(Text(evidence.left_out))
        return [*found, _trials(evidence), *_study(evidence)]

    return blocks


def _study(evidence: Evidence) -> list[Block]:
    """The file that asked, and the command that runs it."""
    source = evidence.study.source
    if not source:
        return []
    digest = hashlib.blake2b(source.encode(), digest_size=8).hexdigest()
    said = f"The study, as its file has it (blake2b {digest}). What is missing of it is trained by: {evidence.command}"
    return [Text("The study", "heading"), Text(said), Text(source, "code")]


def _recipe(evidence: Evidence) -> Table:
    recipe = evidence.recipe.model_dump(mode="json")
    rows = [[Cell(part), Cell(_knobs(knobs))] for part, knobs in recipe.items() if knobs]
    note = f"Changed by the factors: {', '.join(evidence.varied)}."
    columns = [Column("Part", "left"), Column("Choices", "left", wide=True)]
    return Table("The control's recipe with every default filled in.", columns, rows, [note])


def _knobs(knobs: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {_plain(value)}" for name, value in knobs.items())


def _plain(value: Any) -> str:
    return f"[{', '.join(map(_plain, value))}]" if isinstance(value, list) else str(value)


def _facts(evidence: Evidence) -> Table:
    facts = evidence.provenance | {
        f"data {name}" if name == "version" else f"data digest, {name}": values
        for name, values in evidence.data.items()
    }
    rows = [[Cell(fact), Cell(_values(values))] for fact, values in facts.items()]
    rows.append([Cell("imported"), Cell(_imported(evidence))])
    if evidence.finished:
        rows.append([Cell("finished"), Cell(" to ".join(dict.fromkeys(evidence.finished)))])
    rows.append([Cell("time"), Cell(f"{evidence.seconds / 3600:.2f} hours, all trials together")])
    if evidence.tries:
        rows.append([Cell("tuning before"), Cell(_tuning(evidence))])
    columns = [Column("Fact", "left"), Column("Value (trials)", "left", wide=True)]
    return Table("Code, machines and data.", columns, rows, ["Counts stand where trials differ."])


def _tuning(evidence: Evidence) -> str:
    hours = sum(result.seconds for result in evidence.tries.values()) / 3600
    revisions = Counter(result.env.get("revision", "unknown") for result in evidence.tries.values())
    return f"{len(evidence.tries)} tries, {hours:.2f} hours; revision {_values(dict(revisions.most_common()))}"


def _imported(evidence: Evidence) -> str:
    sources = "; ".join(dict.fromkeys(evidence.imported.values()))
    return f"{len(evidence.imported)} of {evidence.planned_trials} trials, {sources}" if sources else "none"


def _values(values: dict[str, int]) -> str:
    if len(values) == 1:
        return next(iter(values))
    return ", ".join(f"{value} ({count})" for value, count in values.items())


def _trials(evidence: Evidence) -> Table:
    columns = [Column("Seed")] + [Column(row.label, "left") for row in evidence.rows]
    rows = [[Cell(str(seed)), *(_trial(evidence, row, seed) for row in evidence.rows)] for seed in evidence.study.seeds]
    notes = ["ablate reproduce ID runs one of them again; ablate show ID prints its whole document."]
    if evidence.imported:
        notes.append("Imported ones were not trained here; ablate reproduce --sample 1% runs some of them again.")
    return Table(f"Every trial: its id, and its {evidence.primary} × 100.", columns, rows, notes)


def _trial(evidence: Evidence, row: Row, seed: int) -> Cell:
    score, trial_id = row.scores[evidence.primary].get(seed), row.ids[seed]
    said = MISSING if score is None else percent(score, 3)
    minor = f"{said}, imported" if trial_id in evidence.imported else said
    return Cell(trial_id, minor, code=True, link=row.documents.get(seed, ""))
