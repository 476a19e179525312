"""What somebody else's result says of itself, held against itself: its id, and the scores that its statistics give.

Whoever writes a document writes its checksums too, so these tell damage and nothing else. What nothing here can tell is
whether the statistics came of the training that the recipe describes: `ablate reproduce` can.
"""

import hashlib
import json
import math
import warnings
from typing import Any

import numpy as np

from ablate import registry
from ablate.errors import DamagedError, PartError, one_line
from ablate.storage.arrays import Arrays
from ablate.storage.result import Result

CLOSE = 1e-6  # relative: other processors and libraries add in another order
MOST_IMAGES = 2**17  # of a test split; the largest known have a third, and more would fill the memory


def unknown_parts(result: Result) -> list[str]:
    """The parts of its recipe that are on no shelf, as `task 'brightness' (small_parts, digest 0a1b...)`: those of a
    plug-in that was not named, which the result names."""
    kinds = {kind: getattr(result.recipe, kind).name for kind in ("task", "dataset", "model")}
    own = {kind: f" ({plugin.name}, digest {plugin.digest})" for kind, plugin in result.plugins.items()}
    return [f"{kind} {name!r}{own.get(kind, '')}" for kind, name in kinds.items() if name not in registry.names(kind)]


def refuse_untrue(result: Result, body: dict[str, Any], statistics: Arrays, *, at: str) -> None:
    """That the id is that of the recipe and seed, and that the scores come of the statistics. `body`: as it is written.

    Raises:
        PartError: some of its parts are on no shelf here, so that nothing can be told.
        DamagedError: it is not so; `at` names the document.
    """
    if unknown := unknown_parts(result):
        raise PartError(f"{at}: of parts that are on no shelf here: {', '.join(unknown)}")
    try:
        today = result.answers()
    except PartError as error:
        raise DamagedError(f"{at}: its recipe is none of this version ({error})") from None
    if result.id not in (*today, key_as_written(body)):
        raise DamagedError(f"{at}: its id {result.id} is not that of its recipe and seed, which is {today[0]}")
    found = _scores(statistics, at=at)
    if result.status == "done" and not found:
        raise DamagedError(f"{at}: is done, and has no per-image statistics that its scores could come of")
    for name, score in result.scores.items():
        if name not in found:
            raise DamagedError(f"{at}: its per-image statistics give no {name!r}, and it has {score:g}")
        if not _equal(score, found[name]):
            raise DamagedError(f"{at}: its {name} is {score:.6g}, and its per-image statistics give {found[name]:.6g}")


def key_as_written(body: dict[str, Any]) -> str:
    """The id of a result by the rule of all versions up to 2026-11: a hash of the recipe with every knob that it has.

    All 88 results that were published under this rule have these ids. It is kept as it was: what is hashed is the
    document, so that later knobs and rules do not change it.
    """
    recipe = dict(body["recipe"])
    if isinstance(recipe.get("weights"), dict):
        recipe["weights"] = {name: value for name, value in recipe["weights"].items() if name != "file"}
    decided = {"recipe": recipe, "seed": body["seed"], "data": body.get("data_version"), "meanings": body["meanings"]}
    text = json.dumps(decided, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _scores(statistics: Arrays, *, at: str) -> dict[str, float]:
    """What the metrics whose arrays these are make of them."""
    of_metric: dict[str, Arrays] = {}
    for name, array in statistics.items():
        metric, _, key = name.partition("/")
        of_metric.setdefault(metric, {})[key] = array
    scores: dict[str, float] = {}
    for metric, arrays in of_metric.items():
        if metric not in registry.names("metric"):
            raise DamagedError(f"{at}: per-image statistics of {metric!r}, which is no metric on the shelves here")
        ids = arrays.get("image_ids", np.zeros(0))
        if ids.ndim != 1 or not 0 < len(ids) <= MOST_IMAGES:
            raise DamagedError(f"{at}: per-image statistics of {metric!r} without a list of images")
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = registry.build("metric", metric, {}).aggregate(arrays)
                scores |= {str(name): float(value) for name, value in found.items()}
        except Exception as error:  # whatever a metric makes of arrays that it did not write
            what = f"{type(error).__name__}: {one_line(error)}"
            raise DamagedError(f"{at}: per-image statistics that {metric!r} cannot read ({what})") from None
    return scores


def _equal(one: float, other: float) -> bool:
    both = math.isnan(one) and math.isnan(other)
    return both or math.isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE)
