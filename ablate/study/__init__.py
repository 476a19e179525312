"""A YAML file becomes a Study, and a Study becomes a Design: arms and trials. Needs no torch and sees no results.

Every room above may call it: `load` reads a file, `Design` has its arms and trials, `check_study` finds what its text
alone shows to be wrong.
"""

from ablate.study import presets
from ablate.study.budget import Budget
from ablate.study.check import check_study
from ablate.study.design import Arm, Choice, Contrast, Design, Levels
from ablate.study.factor import MATCHED, Factor, Match, RecipePath, Tune
from ablate.study.fairness import (
    SCRATCH,
    differences,
    one_recipe,
    refuse_different_protocols,
    starts_from,
    unlike_starts,
    varied,
)
from ablate.study.papers import Published, beside_published, official_values, published
from ablate.study.recipe import (
    FROZEN,
    STRICT,
    Part,
    Plugin,
    Recipe,
    TrainSpec,
    Trial,
    Weights,
    filled_knobs,
    later,
    trial_keys,
)
from ablate.study.schema import keys, study_schema
from ablate.study.study import Scale, Study, blaming, load
from ablate.study.study_file import Outline, outline, shipped
from ablate.study.yaml_subset import dump, parse

__all__ = [
    "FROZEN",
    "MATCHED",
    "SCRATCH",
    "STRICT",
    "Arm",
    "Budget",
    "Choice",
    "Contrast",
    "Design",
    "Factor",
    "Levels",
    "Match",
    "Outline",
    "Part",
    "Plugin",
    "Published",
    "Recipe",
    "RecipePath",
    "Scale",
    "Study",
    "TrainSpec",
    "Trial",
    "Tune",
    "Weights",
    "beside_published",
    "blaming",
    "check_study",
    "differences",
    "dump",
    "filled_knobs",
    "keys",
    "later",
    "load",
    "official_values",
    "one_recipe",
    "outline",
    "parse",
    "presets",
    "published",
    "refuse_different_protocols",
    "shipped",
    "starts_from",
    "study_schema",
    "trial_keys",
    "unlike_starts",
    "varied",
]
