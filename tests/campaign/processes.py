"""Processes as Linux lists them: who is whose child, and who belongs to the campaign. Only those are ever ended."""

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def parents() -> dict[int, int]:
    """Every living process's parent; zombies are not alive."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):  # it may end while we look
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    found[int(entry.name)] = int(parent)
    return found


def tree(*roots: int) -> set[int]:
    """The living processes among `roots` and all that descend from them."""
    alive = parents()
    found, more = set(), set(roots) & alive.keys()
    while more:
        found |= more
        more = {pid for pid, parent in alive.items() if parent in more} - found
    return found


def within(folder: Path) -> set[int]:
    """The living processes whose working folder is `folder` or inside it."""
    found = set()
    for pid in parents():
        with suppress(OSError):
            place = Path(str((Path("/proc") / str(pid) / "cwd").readlink()).removesuffix(" (deleted)"))
            if place.is_relative_to(folder) and pid != os.getpid():
                found.add(pid)
    return found


def kill(pids: set[int]) -> None:
    """SIGKILL, all of them at once."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def name(pid: int) -> str:
    """How a process calls itself, in short and without this machine's paths."""
    with suppress(OSError):
        words = (Path("/proc") / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
        return " ".join(
            [Path(words[0]).name, *(word for word in words[1:4] if "/" not in word and len(word) < 40)]
        ).strip()
    return ""


def until(condition: Callable[[], object], seconds: float, *, every: float = 0.1) -> bool:
    """Wait for a condition; False when it did not come true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every)
    return True


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
