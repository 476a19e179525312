"""What can go wrong through no fault of ours: every class here ends as one line and exit status 2.

    AblateError
    ├── StudyError    the study file: an unknown key, a bad value, levels that collapse
    ├── PartError     the shelves: an unknown part or knob
    ├── DataError     a data folder: missing, damaged, or not the declared version
    ├── StoreError    a results folder: full, not writable, or written by a newer version
    │   ├── DamagedError  one document in it cannot be trusted, and counts as missing
    │   ├── UnreadableError  one document cannot be read now, and is left as it is
    │   ├── LostError     another process has taken over the trial that this one held
    │   └── LinkError     a link in it leads out of it
    ├── TeamError     the processes of one trial lost each other; it goes on from its state
    │   └── LoadingError  one that loads data is gone, or has no room
    └── ServiceError  something we talk to: Ray or MLflow cannot be reached

A bug of ours is any other exception, and keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class AblateError(Exception):
    """A mistake the user can mend; its text is one line that names the place and the nearest valid choice."""

    def __init__(self, text: str) -> None:
        line = " ".join(text.splitlines())  # one line, whatever a key or a file's name holds
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line))  # nor moves it the cursor


class StudyError(AblateError):
    """The study file asks for something that does not exist or cannot be."""


class PartError(AblateError):
    """A part or a knob that no shelf has."""


class DataError(AblateError):
    """A data folder is missing, damaged, or not what its set declares."""


class StoreError(AblateError):
    """A results folder cannot be read or written."""


class DamagedError(StoreError):
    """One document of a results folder is damaged or missing."""


class UnreadableError(StoreError):
    """One document of a results folder cannot be read at the moment, which says nothing of what is in it."""


class LostError(StoreError):
    """Another process has taken over the trial that this one held."""


class LinkError(StoreError):
    """A link in a results folder leads out of it; nothing is read or written there."""


class TeamError(AblateError):
    """The processes that train one trial lost each other: one died or fell silent. The trial is not at fault."""


class LoadingError(TeamError):
    """A process that loads data for a trial is gone, or has no room to hand it over. The trial is not at fault."""


class ServiceError(AblateError):
    """Ray, MLflow or another service cannot be reached."""


def nearest(name: object, choices: Iterable[str]) -> str:
    """The end of an error message: the closest valid choice, or all of them when none is close."""
    known = sorted(choices)
    close = get_close_matches(str(name), known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"choose from {', '.join(known)}" if known else "there is none to choose from"


def one_line(said: object, most: int = 300) -> str:
    """What an error or a library said, on one line, and no more characters of it."""
    return " ".join(str(said).split())[:most]
