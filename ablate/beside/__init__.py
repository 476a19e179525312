"""What is kept beside a study's trials in the results folder: evaluations of single networks. Needs no torch.

`ablate evaluate` writes evaluations; the report shows those of its own task and data set.
"""

from ablate.beside import evaluations
from ablate.beside.evaluations import Evaluated, Reported, Subject

__all__ = ["Evaluated", "Reported", "Subject", "evaluations"]
