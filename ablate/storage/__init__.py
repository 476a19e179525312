"""Results kept whole: written at once, held by one process, checked when read, cleaned. Knows what a trial is.

Whoever reads or writes results goes through `Store`.
"""

from ablate.storage import kept_plans, notes
from ablate.storage.arrays import Arrays, packed, packed_rows, unpacked, unpacked_rows
from ablate.storage.checking import unknown_parts
from ablate.storage.cleaning import begun, damage, holdings, sweep
from ablate.storage.importing import imported
from ablate.storage.kept_plans import Standing
from ablate.storage.lease import Hold
from ablate.storage.place import Place, opened
from ablate.storage.result import KINDS, Cost, Epoch, Result, little_trained, whose
from ablate.storage.shelf import Shelf, kind_of, kind_to_train, left_out, refuse_different_data
from ablate.storage.store import PREDICTIONS, RESULT, WEIGHTS, Store

__all__ = [
    "KINDS",
    "PREDICTIONS",
    "RESULT",
    "WEIGHTS",
    "Arrays",
    "Cost",
    "Epoch",
    "Hold",
    "Place",
    "Result",
    "Shelf",
    "Standing",
    "Store",
    "begun",
    "damage",
    "holdings",
    "imported",
    "kept_plans",
    "kind_of",
    "kind_to_train",
    "left_out",
    "little_trained",
    "notes",
    "opened",
    "packed",
    "packed_rows",
    "refuse_different_data",
    "sweep",
    "unknown_parts",
    "unpacked",
    "unpacked_rows",
    "whose",
]
