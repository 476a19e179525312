"""A page that answers to its reader: arms and trials sorted and filtered, one trial's curve and recipe opened.

One file that asks nobody for anything: the drawings are Vega-Lite's, whose scripts vl-convert brings, and the page runs
no other scripts than those that it names by their digests. What is in the evidence reaches it as data.
"""

import base64
import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

from ablate.analysis import Evidence, Row, score_curve

HERE = Path(__file__).parent
EMBED = 'import vegaEmbed from "vega-embed"; window.vegaEmbed = vegaEmbed;'  # what the page takes of Vega's packages


@contextmanager
def scripts() -> Iterator[Callable[[], str]]:
    """Vega's scripts, which vl-convert puts together: a second of work, done by another process meanwhile."""
    # -P: what is beside the program, such as our html.py, is not to stand for Python's own.
    with subprocess.Popen([sys.executable, "-P", HERE / "vega.py"], stdout=subprocess.PIPE) as process:

        def text() -> str:
            content, _ = process.communicate()
            if process.returncode:
                raise subprocess.CalledProcessError(process.returncode, process.args)
            return content.decode()

        try:
            yield text
        finally:
            process.kill()


def render(evidence: Evidence, address: Callable[[str], str], theirs: str) -> str:
    """The page with those scripts. `address` gives that of a trial's document, by its name in the place of results."""
    ours = (HERE / "interactive.js").read_text(encoding="utf-8")
    theirs = _inside(theirs)
    style = "".join((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "interactive.css"))
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {_digest(theirs)} {_digest(ours)}"
    data = json.dumps(_data(evidence, address), allow_nan=False).replace("<", r"\u003c")
    title = f"{escape(evidence.study.name)}: arms and trials"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<script type="application/json" id="data">{data}</script>\n'
        f'<script type="module">{theirs}</script>\n<script type="module">{ours}</script>\n</body>\n</html>\n'
    )


def _inside(script: str) -> str:
    """A script that no text of its own ends."""
    return script.replace("</script", r"<\/script")


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _data(evidence: Evidence, address: Callable[[str], str]) -> dict[str, Any]:
    study = evidence.study
    return {
        "title": study.name.replace("_", " ").capitalize() + (f" ({study.scale} scale)" if study.scale else ""),
        "question": study.question,
        "metrics": study.metrics,
        "arms": [_arm(evidence, row) for row in evidence.rows],
        "trials": [_trial(evidence, row, seed, address) for row in evidence.rows for seed in row.ids],
    }


def _arm(evidence: Evidence, row: Row) -> dict[str, Any]:
    found = next((c for c in evidence.comparisons_in(evidence.primary) if c.arm == row.label), None)
    result = next((evidence.results[trial] for trial in row.ids.values() if trial in evidence.results), None)
    recipe = result.recipe.model_dump(mode="json") if result else {}
    return {
        "arm": row.label,
        "seeds": len(row.scores[evidence.primary]),
        "planned": len(row.ids),
        "means": {metric: _hundred(row.summaries[metric].mean) for metric in evidence.study.metrics},
        "difference": _hundred(found.effect.diff) if found else None,
        "verdict": ("control" if row.is_control else found and found.verdict) or "",
        "parameters": row.cost.used_parameters / 1e6 if row.cost else None,
        "gmacs": row.cost.macs / 1e9 if row.cost else None,
        "recipe": [
            {"path": path, "value": value, "own": any(f"{path}.".startswith(f"{key}.") for key in row.differs)}
            for part, knobs in recipe.items()
            for path, value in _choices(part, knobs)
        ],
    }


def _choices(part: str, knobs: Any) -> list[tuple[str, str]]:
    if isinstance(knobs, dict):
        return [(f"{part}.{knob}", str(value)) for knob, value in knobs.items()]
    return [] if knobs is None else [(part, str(knobs))]


def _trial(evidence: Evidence, row: Row, seed: int, address: Callable[[str], str]) -> dict[str, Any]:
    metrics, result = evidence.study.metrics, evidence.results.get(row.ids[seed])
    curves = {metric: score_curve(row, seed, metric).items() for metric in metrics}
    losses = {epoch.epoch: epoch.loss for epoch in row.curves.get(seed, ())}
    return {
        "trial": row.ids[seed],
        "arm": row.label,
        "seed": seed,
        "status": result.status if result else "missing",
        "reason": result.reason if result else "",
        "scores": {metric: _hundred(row.scores[metric].get(seed, math.nan)) for metric in metrics},
        "minutes": result.seconds / 60 if result else None,
        "finished": result.finished if result else "",
        "imported": evidence.imported.get(row.ids[seed], ""),
        "document": address(row.documents[seed]) if seed in row.documents else "",
        "loss": [[epoch, loss] for epoch, loss in losses.items() if math.isfinite(loss)],
        "curves": {metric: [[epoch, 100 * score] for epoch, score in curve] for metric, curve in curves.items()},
    }


def _hundred(score: float) -> float | None:
    return 100 * score if math.isfinite(score) else None
