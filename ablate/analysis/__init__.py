"""Results become evidence: means, intervals, tests and verdicts, as plain data. Needs no torch.

The report, and whoever wants the numbers behind it, call `gather`; `stats` is arrays in, numbers out.
"""

from ablate.analysis import stats
from ablate.analysis.cautions import LAST, score_curve
from ablate.analysis.evidence import Comparison, Evidence, Row
from ablate.analysis.gathering import gather

__all__ = [
    "LAST",
    "Comparison",
    "Evidence",
    "Row",
    "gather",
    "score_curve",
    "stats",
]
