"""What is said to people: their log may be gone or full, and no training ends for that; and no text of a file moves a
terminal's cursor or names its window. Commands print by these functions and those of tables.py alone."""

import os
import sys
from contextlib import suppress

import click

from ablate.errors import printable


def open_streams() -> None:
    """Give the process the standard streams that it was started without; files would take their numbers otherwise."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115  for as long as the process lives


def say(*lines: object, err: bool = True) -> None:
    """Lines on stderr or stdout; once nobody can read them, nothing more is written there."""
    try:
        tell(*lines, err=err)
    except OSError:
        close_down(2 if err else 1)


def tell(*lines: object, err: bool = False) -> None:
    """Lines that somebody asked for; each argument is one, whatever the file that it comes from holds.

    Raises:
        OSError: nobody can read them.
    """
    click.echo("\n".join(printable(str(line)) for line in lines), err=err)


def close_down(number: int) -> None:
    """What is written to a stream from now on goes nowhere, also what it holds yet."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
