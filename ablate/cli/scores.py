"""Scores as evaluate and compare print them: with their units, and why some are no numbers."""

from collections.abc import Iterable

from ablate import registry
from ablate.registry import Description

PIXELS = "pixels"
PART = "/"  # before the class or joint that a score is of


def named(score: str, task: str) -> str:
    """A score's name, with its unit where it has one."""
    return f"{score} (px)" if registry.error_units(task).get(score.partition(PART)[0]) == PIXELS else score


def uncounted(task: str, scores: Iterable[str]) -> list[str]:
    """Why scores are no numbers, a line a metric; those of classes or joints go without saying."""
    whole = [score for score in scores if PART not in score]
    found = [(metric, [score for score in whole if metric.gives(score)]) for metric in _metrics(task)]
    return [
        f"no {', '.join(own)}: {metric.facts.get('unless', 'the set has nothing that counts for it')}"
        for metric, own in found
        if own
    ]


def _metrics(task: str) -> list[Description]:
    return [registry.describe("metric", name) for name in registry.describe("task", task).facts.get("metrics", ())]
