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
    """Every comparison on every scale that has results, and in how many larger scales a shown sign held.

    Scales are taken in the order of the study's file, which goes from small to large. Where a difference is shown on
    fewer than two scales nothing is known, and nothing is said.
    Example: ablate foretell fusion_count
    """
    from ablate.analysis import gather, sign_held
    from ablate.errors import StudyError
    from ablate.storage import Store
    from ablate.study import load

    scales = list(load(study).scales)
    if len(scales) < 2:
        raise StudyError(f"{study}: foretell needs two scales or more; there are {len(scales)}")
    store = Store(results, device)
    found: dict[str, dict[tuple[str, str], Comparison]] = {}
    for scale in scales:
        evidence = gather(opened(study, scale=scale, results=results, keep=False), store, images=False)
        there = {(one.arm, one.control): one for one in evidence.comparisons_in(evidence.primary) if one.effect.n}
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
        return f"nothing is known: no comparison is shown on two of the scales with results ({there})"
    agree = f"of {known} pairs of scales that both show a difference, {held} agree on its sign"
    return f"{agree}; {unknown} pairs are not known"
