"""Results become evidence: means, intervals, tests and verdicts, as plain data. Needs no torch.

The report, and whoever wants the numbers behind it, call `gather`; `stats` is arrays in, numbers out.
"""

from ablate.analysis import frame, redrawn, sequential, stats
from ablate.analysis.breakdown import Breakdown, Marks, Pictured
from ablate.analysis.cautions import LAST, score_curve
from ablate.analysis.evidence import Comparison, Evidence, Failure, Row, sign_held
from ablate.analysis.gathering import gather
from ablate.analysis.rule import FEW, SEEDS_ALONE, Rule, declared, doubts, one_point, pooled_freedom, rule_of
from ablate.analysis.shown import Shown
from ablate.analysis.stats import Effect

__all__ = [
    "FEW",
    "LAST",
    "SEEDS_ALONE",
    "Breakdown",
    "Comparison",
    "Effect",
    "Evidence",
    "Failure",
    "Marks",
    "Pictured",
    "Row",
    "Rule",
    "Shown",
    "declared",
    "doubts",
    "frame",
    "gather",
    "one_point",
    "pooled_freedom",
    "redrawn",
    "rule_of",
    "score_curve",
    "sequential",
    "sign_held",
    "stats",
]
