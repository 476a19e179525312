"""What is logged of a trial and its result: names, values and times as a tracker takes them. Knows no tracker."""

import math
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any

from ablate.machine import fingerprint
from ablate.storage import Epoch, Result
from ablate.study import Trial

GIBI = 2**30


def config(trial: Trial) -> dict[str, Any]:
    """The trial's recipe and seed, as a document."""
    return {"seed": trial.seed, "recipe": trial.recipe.model_dump(mode="json")}


def params(trial: Trial) -> dict[str, str]:
    """The trial's recipe and seed, flat."""
    return {**_flat(trial.recipe.model_dump(mode="json")), "seed": str(trial.seed)}


def names(trial: Trial) -> dict[str, str]:
    """Tags by which a trial's run is found and told from others."""
    label = " ".join(f"{name}={level}" for name, level in trial.arm.items())
    arm = {speakable(f"ablate.arm.{name}"): level for name, level in trial.arm.items()}
    return arm | {"mlflow.runName": f"{label} seed={trial.seed}", "ablate.trial": trial.id}


def tags(result: Result) -> dict[str, str]:
    """What a result says in words."""
    found = {
        "ablate.shows": stamp(result),
        "ablate.status": result.status,
        "ablate.finished": result.finished,
        "ablate.reason": result.reason,
        "ablate.dirty": result.env.get("dirty", "unknown"),
        "ablate.GFLOPs": "multiply-adds of convolutions and linear layers / 2^30",
        "mlflow.source.git.commit": result.env.get("revision", "unknown"),
    }
    return found | {f"ablate.data.{split}": digest for split, digest in result.data_digest.items()}


def summary(result: Result) -> dict[str, float]:
    """What a result says in numbers, but what its last epoch says already."""
    last = result.curve[-1].scores if result.curve else {}
    found = {name: value for name, value in result.scores.items() if last.get(name) != value}
    found["seconds"] = result.seconds
    if result.cost:
        found |= {
            "GFLOPs": result.cost.macs / GIBI,
            "parameters": result.cost.parameters,
            "images_per_second": result.cost.images_per_second,
            "peak_memory_bytes": result.cost.peak_memory,
        }
    return found


def curve(rows: Iterable[tuple[Epoch, int]]) -> list[tuple[str, float, int, int]]:
    """Epochs with their times (ms since 1970), as a metric's name, its value, its time and its epoch."""
    found = []
    for row, moment in rows:
        named = {"epoch": row.epoch, "loss": row.loss, "lr": row.lr, "train_images_per_second": row.images_per_second}
        named |= {f"loss/{name}": part for name, part in row.loss_parts.items()}
        found += [(name, value, moment, row.epoch) for name, value in {**named, **row.scores}.items()]
    return found


def stamp(result: Result) -> str:
    """Names what a result says; equal for two that differ in nothing but their times."""
    said = [result.status, result.reason, result.scores, [[row.epoch, row.loss, row.scores] for row in result.curve]]
    return fingerprint(said)


def keeps(value: float) -> bool:
    """Whether a tracker keeps a number as it is: MLflow's tables hold infinity as 1.8e308, and nan apart."""
    return abs(value) < 1e300


def end(result: Result) -> int:
    """When the trial ended, in ms since 1970: the end of the second that the result names."""
    with suppress(ValueError):
        return int(datetime.fromisoformat(result.finished).timestamp()) * 1000 + 999
    return 0


def begin(result: Result) -> int:
    """When the trial would have begun, had it run in one sitting, in ms since 1970."""
    return max(0, end(result) - _ms(result.seconds))


def times(result: Result) -> list[int]:
    """When each row of the curve would have ended, had nothing come between, in ms since 1970."""
    after, found = end(result), []
    for row in reversed(result.curve):
        found.append(max(0, after))
        after -= _ms(row.seconds)
    return found[::-1]


def speakable(name: str) -> str:
    """A name in the characters that MLflow takes; a class may be called anything."""
    return "/".join(re.sub(r"[^\w.\- :]", "_", part).lstrip(".") or "_" for part in name.split("/"))[:250]


def _ms(seconds: float) -> int:
    return int(1000 * seconds) if math.isfinite(seconds) else 0


def _flat(document: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in document.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": str(value)}
    return flat
