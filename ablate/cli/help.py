"""How help looks: names, flags and values in colour on a terminal, an example on a line of its own."""

import os
import re
import textwrap
from collections.abc import Iterable
from typing import Any

import click

NAME: dict[str, Any] = {"fg": "cyan", "bold": True}
FLAG: dict[str, Any] = {"fg": "cyan"}
VALUE: dict[str, Any] = {"fg": "green"}
HEADING: dict[str, Any] = {"bold": True}
GLUE = str.maketrans({" ": "\xa0", "-": "\u2011"})  # a line may end at the left ones, not at the right ones
UNGLUE = str.maketrans({"\xa0": " ", "\u2011": "-"})


class Formatter(click.HelpFormatter):
    """click's own formatter with styles; click drops them where the output is no terminal."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(_styled(prog, NAME), args, _styled("Usage:", HEADING) + " " if prefix is None else prefix)

    def write_heading(self, heading: str) -> None:
        super().write_heading(_styled(heading, HEADING))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl([(_term(first), _glued(second)) for first, second in rows], col_max, col_spacing)

    def write_text(self, text: str) -> None:
        """The text, then its example, which is the last sentence of a command's help."""
        text, *example = re.split(r"\s+Example:\s+", text)
        super().write_text(text)
        if example:
            glued = re.sub(" (?!--)", "\xa0", " ".join(example[0].split()))  # a line ends before a flag
            lines = textwrap.wrap(glued, self.width - self.current_indent - len("Example:  \\"), break_on_hyphens=False)
            indent = " " * self.current_indent
            shown = f" \\\n{indent}    ".join(_styled(line, VALUE) for line in lines)
            self.write(f"\n{indent}{_styled('Example:', HEADING)} {shown}\n")

    def getvalue(self) -> str:
        return super().getvalue().translate(UNGLUE)


class Context(click.Context):
    """A command's context, whose help `Formatter` writes."""

    formatter_class = Formatter


def _styled(text: str, style: dict[str, Any]) -> str:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else click.style(text, **style)


def _term(text: str) -> str:
    """The first column of a list: a command's name, or flags and what they take."""
    if not text.startswith("-"):
        return _styled(text, FLAG)
    return re.sub(r"[^\s,]+", lambda word: _styled(word[0], FLAG if word[0].startswith("-") else VALUE), text)


def _glued(text: str) -> str:
    """Text in which no line ends inside brackets or a path."""
    return re.sub(r"\[[^]]*\]|\S+/\S+", lambda whole: whole[0].translate(GLUE), text)
