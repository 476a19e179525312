"""Help on a terminal and in a pipe: its colours, and where its lines end."""

import os
import pty
import re
import subprocess

import pytest
from small_studies import COMMAND

from ablate.cli import COMMANDS

COLOUR = "\x1b["


def on_a_terminal(*argv: str, **environment: str) -> str:
    """What a command writes to a terminal."""
    driver, terminal = pty.openpty()
    known = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    env = known | {"TERM": "xterm-256color"} | environment
    with subprocess.Popen([*COMMAND, *argv], stdout=terminal, stderr=terminal, env=env) as process:
        os.close(terminal)
        said = b""
        while more := _read(driver):
            said += more
        assert process.wait() == 0
    os.close(driver)
    return said.decode()


def _read(driver: int) -> bytes:
    try:
        return os.read(driver, 65536)
    except OSError:  # Linux's way to say that the other side is closed
        return b""


def test_help_is_coloured_on_a_terminal():
    said = on_a_terminal("run", "--help")
    assert re.search(r"\x1b\[\d+m--scale\x1b\[0m", said)
    assert re.search(r"\x1b\[\d+mFOLDER\|URL\x1b\[0m", said)
    assert re.search(r"\x1b\[\d+mplan\x1b\[0m", on_a_terminal("--help"))
    assert re.search(r"\x1b\[\d+m--quick\x1b\[0m", on_a_terminal("data", "check", "--help"))


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_colours_can_be_refused(environment):
    assert COLOUR not in on_a_terminal("run", "--help", **environment)


def test_a_pipe_gets_plain_text(called):
    for name in COMMANDS:
        status, out, _ = called(name, "--help")
        assert status == 0
        assert COLOUR not in out
        assert out.isascii()  # what glues words together while lines are broken is gone again


@pytest.mark.parametrize("columns", ["80", "120"])
def test_lines_fit_and_end_where_nothing_is_torn(called, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    for name in COMMANDS:
        lines = called(name, "--help")[1].splitlines()
        assert max(map(len, lines)) < min(int(columns), 100)
        assert all(line.count("[") == line.count("]") for line in lines), name
        example = next(line for line in lines if "Example:" in line)
        assert example.lstrip().startswith("Example: ablate ")
