"""A study as commands see it: read from its file, one scale chosen, the levels that ask for it matched in cost."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ablate.study import Study


def opened(file: Path | str, *, scale: str | None, results: str | None, keep: bool = True) -> "Study":
    """The study; what is solved for its matched levels is kept in the results folder, unless that is only read.

    Raises:
        StudyError, PartError: one line with the file, the key and the nearest valid choice.
    """
    from ablate.planning.match import solve
    from ablate.study import load

    return solve(load(file, scale=scale), results, keep=keep)
