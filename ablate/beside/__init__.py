"""What is kept beside a study's trials in the results folder: evaluations and speeds of single networks.

`ablate evaluate` writes evaluations, `ablate cost --measure` speeds; the report shows its study's. Needs no torch.
"""

from ablate.beside import evaluations, speeds
from ablate.beside.evaluations import Evaluated, Reported, Subject
from ablate.beside.speeds import Speed

__all__ = ["Evaluated", "Reported", "Speed", "Subject", "evaluations", "speeds"]
