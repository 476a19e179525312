"""A study as commands see it: read from its file, one scale chosen, the levels that ask for it matched in cost."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ablate.study import Design, Study


def opened(
    file: Path | str, *, scale: str | None, results: str | None, data: Path | None = None, keep: bool = True
) -> "Design":
    """The design of the study in a file; see `designed`.

    Raises:
        StudyError, PartError: one line with the file, the key and the nearest valid choice.
    """
    from ablate.study import load

    return designed(load(file, scale=scale), results, data, keep=keep)


def designed(study: "Study", results: Path | str | None, data: Path | None = None, *, keep: bool = True) -> "Design":
    """The arms and trials of a study, the joints that only files name read, its matched levels solved.

    What is found is kept in the results folder, unless that is only read. Without `data` the data folder is the one of
    the environment variable ABLATE_DATA.

    Raises:
        StudyError, PartError: one line with the file, the key and the nearest valid choice.
    """
    from ablate.planning.match import solve
    from ablate.planning.skeleton import name_joints
    from ablate.study import Design

    root = data or (Path(named) if (named := os.environ.get("ABLATE_DATA")) else None)
    return Design(solve(name_joints(study, results, root, keep=keep), results, keep=keep))
