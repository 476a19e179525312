"""What is said to people while a command works: their log may be gone or full, and no training ends for that."""

import os
import sys
from contextlib import suppress

import click


def open_streams() -> None:
    """Give the process the standard streams that it was started without; files would take their numbers otherwise."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115  for as long as the process lives


def say(text: str, *, err: bool = True) -> None:
    """A line on stderr or stdout; once nobody can read it, nothing more is written there."""
    try:
        click.echo(text, err=err)
    except OSError:
        close_down(2 if err else 1)


def close_down(number: int) -> None:
    """What is written to a stream from now on goes nowhere, also what it holds yet."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
