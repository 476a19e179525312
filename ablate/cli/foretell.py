"""ablate foretell: whether what a small scale of a study shows holds on the larger ones."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablate.cli import options
from ablate.cli.tables import Row, show
from ablate.cli.talk import say
from ablate.planning.open_study import opened

if TYPE_CHECKING:
    from ablate.analysis import Comparison


@click.command("foretell")
@options.study_file
@options.results
@options.device
@options.as_json
@options.as_csv
def command(study: Path, results: str, device: str | None, as_json: bool, as_csv: bool) -> None:
    """Check whether a study's small scales showed what its larger ones show.

    A row for each comparison has its difference, in points, and its verdict on every scale with results. Every two
    scales are a case. known: both show a difference. held: it has the same sign on both. not known: at least one of
    them shows no difference, so that the case says nothing.
    Example: ablate foretell fusion_count
    """
    from ablate.analysis import gather, sign_held
    from ablate.errors import StudyError
    from ablate.storage import Store
    from ablate.study import load

    scales = list(load(study).scales)
    if len(scales) < 2:
        raise StudyError(
            f"{study}: foretell compares scales, and needs two or more; the study has {len(scales) or 'none'}"
        )
    store = Store(results, device)
    found: dict[str, dict[tuple[str, str], Comparison]] = {}
    known = set[str]()  # trials of the scales before
    for scale in scales:
        evidence = gather(opened(study, scale=scale, results=results, keep=False), store, images=False)
        again = {row.label for row in evidence.rows if known & set(row.ids.values())}
        planned = [one for one in evidence.comparisons_in(evidence.primary) if one.effect.n]
        there = {(one.arm, one.control): one for one in planned if not {one.arm, one.control} <= again}
        if len(there) < len(planned):
            say(f"{scale} has the trials of a scale before, which cannot foretell themselves: left out")
        known |= set(evidence.results)
        found |= {scale: there} if there else {}
    rows, total = list[Row](), [0, 0, 0]
    pairs = list(dict.fromkeys(pair for own in found.values() for pair in own))
    controls = Counter(arm for arm, _ in pairs)
    for arm, control in pairs:
        own = [by_pair.get((arm, control)) for by_pair in found.values()]
        held = sign_held([one for one in own if one])
        total = [before + now for before, now in zip(total, held, strict=True)]
        cells = {scale: _said(one) for scale, one in zip(found, own, strict=True)}
        name = arm if controls[arm] == 1 else f"{arm} against {control}"
        rows.append({"comparison": name, **cells, "held": held[0], "known": held[1], "not known": held[2]})
    show(rows, as_json=as_json, as_csv=as_csv)
    say(_sentence(*total, scales=list(found)))


def _said(comparison: "Comparison | None") -> str:
    """A difference in points with its verdict."""
    if comparison is None:
        return ""
    return f"{100 * comparison.effect.diff:+.1f} {comparison.verdict or ''}".strip()


def _sentence(held: int, known: int, unknown: int, *, scales: list[str]) -> str:
    if not known:
        there = ", ".join(scales) or "none"
        return f"nothing can be said: no comparison shows a difference on two scales; scales with results: {there}"
    cases = f"in {known} cases both scales show a difference, in {held} of them with the same sign"
    return f"{cases}; in {unknown} more at least one of the two shows none"
