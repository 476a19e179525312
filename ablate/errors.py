"""Errors that a user can fix. Each prints one line and ends with exit status 2.

    AblateError
    ├── StudyError    the study file: an unknown key, a bad value, levels that collapse
    ├── PartError     the shelves: an unknown part or knob
    ├── DataError     a data folder: missing, damaged, or not the declared version
    ├── StoreError    a results folder: full, not writable, or written by a newer version
    │   ├── DamagedError  one document in it is damaged, and counts as missing
    │   ├── UnreadableError  one document cannot be read now; it is not changed
    │   ├── LostError     another process has taken over the trial that this one held
    │   └── LinkError     a link in it leads out of it
    ├── TeamError     the processes of one trial lost each other; it continues from its state
    │   └── LoadingError  a data-loading process died, or has no shared memory
    └── ServiceError  Ray or MLflow cannot be reached

Any other exception is a bug, and keeps its traceback.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from pydantic import ValidationError

URI = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*)://(\S+?)(?=[:,;)'\"]*(?:\s|$))")  # in a text
WHOLE = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]*)://(.+)\Z", re.DOTALL)  # a password may hold spaces
PIECES = re.compile("[:/@?&=#]+")


class AblateError(Exception):
    """A mistake the user can mend; its text is one line that names the place and the nearest valid choice."""

    def __init__(self, text: str) -> None:
        line = without_credentials(" ".join(text.splitlines()))  # one line, whatever a key or a file's name holds
        super().__init__(printable(line))


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


def printable(text: str) -> str:
    """What a terminal may be given: every character that moves its cursor, colours or names it stands as its escape."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def nearest(name: object, choices: Iterable[str]) -> str:
    """The end of an error message: the closest valid choice, or all of them when none is close."""
    known = sorted(choices)
    close = get_close_matches(str(name), known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"choose from {', '.join(known)}" if known else "there is none to choose from"


def one_line(said: object, most: int = 300) -> str:
    """What an error or a library said, on one line without credentials, and no more characters of it."""
    return without_credentials(" ".join(str(said).split()))[:most]


def invalid(error: "ValidationError") -> tuple[str, str]:
    """Where the first thing that pydantic finds wrong stands, with dots between keys, and what it is."""
    first = error.errors()[0]
    where = ".".join(str(step) for step in first["loc"])
    if first["type"] == "missing":
        return where, "is missing"
    what = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
    what = re.sub("a valid dictionary( or instance of .*)?$", "a mapping", what)
    return where, what if isinstance(first["input"], dict | list) else f"{what}, not {as_written(first['input']):.100}"


def as_written(value: object) -> str:
    """A value in a message as a study file writes it: null, true, [64, 48]; texts in quotes."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"[{', '.join(map(as_written, value))}]" if isinstance(value, list | tuple) else repr(value)


def without_credentials(text: str, *, of: str = "") -> str:
    """The text as it may be shown or stored: its URIs without user, password and query.

    A password may hold what it should have quoted, so all up to the last @ goes; where that may stand in a query, only
    the scheme stays. A library may take a URI apart before it complains: no piece of the credentials `of` one stays.
    """
    whole = WHOLE.sub(_bare, of)
    pieces = set(PIECES.split(of)) - set(PIECES.split(whole))
    bare = URI.sub(_bare, text.replace(of, whole) if of else text)
    for piece in sorted(pieces | {unquote(piece) for piece in pieces}, key=len, reverse=True):
        bare = bare.replace(piece, "***") if len(piece) > 2 else bare
    return bare


def _bare(found: re.Match[str]) -> str:
    scheme, rest = found.groups()
    before, at, after = rest.rpartition("@")
    if at and not rest.startswith("/"):  # of a file, it is in the path
        if "?" in before:
            return f"{scheme}://..."
        rest = after
    path, _, query = rest.partition("?")
    return f"{scheme}://{path}" + ("?..." if query else "")
