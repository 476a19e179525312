"""Results mirrored to MLflow, for people to look at; they are never read back for numbers.

The driver of a run and `ablate track` call `Tracker`, `ablate evaluate` calls `show_evaluation`.
"""

from ablate.tracking.evaluations import Shown, show_evaluation
from ablate.tracking.tracker import Tracker

__all__ = [
    "Shown",
    "Tracker",
    "show_evaluation",
]
