"""A study as commands see it: read from its file, one scale chosen, the levels that ask for it matched in cost."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ablate.study import Design, Study


def opened(file: Path | str, *, scale: str | None, results: str | None, keep: bool = True) -> "Design":
    """The design of the study in a file; see `designed`.

    Raises:
        StudyError, PartError: one line with the file, the key and the nearest valid choice.
    """
    from ablate.study import load

    return designed(load(file, scale=scale), results, keep=keep)


def designed(study: "Study", results: Path | str | None, *, keep: bool = True) -> "Design":
    """The arms and trials of a study, its matched levels solved.

    What is solved is kept in the results folder, unless that is only read.

    Raises:
        StudyError, PartError: one line with the file, the key and the nearest valid choice.
    """
    from ablate.planning.match import solve
    from ablate.study import Design

    return Design(solve(study, results, keep=keep))
