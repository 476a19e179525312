"""Results mirrored to MLflow, for people to look at; they are never read back for numbers.

The driver of a run and `ablate track` call `Tracker`.
"""

from ablate.tracking.tracker import Tracker

__all__ = [
    "Tracker",
]
