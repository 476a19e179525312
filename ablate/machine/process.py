"""Whether a process that left its mark somewhere still runs: known at once on its own machine, by heartbeat elsewhere.

A mark names the machine's boot, the process namespace, the process and its start, so that a number which is used again
is not taken for the process that had it before.
"""

import os
from contextlib import suppress
from pathlib import Path
from socket import gethostname

HEARTBEAT = 60.0  # seconds between two signs of life
STALE = 300.0  # seconds without one, after which a process that cannot be looked at counts as dead


def own() -> str:
    """This process, in one word."""
    return f"{_machine()}/{os.getpid()}/{_start(os.getpid())}"


def lives(mark: str, silence: float) -> bool:
    """Whether the process of that mark runs; `silence` is how many seconds ago it gave its last sign of life."""
    machine, _, process = mark.partition("/")
    number, _, start = process.partition("/")
    if machine != _machine() or machine.startswith("unknown") or not number.isdecimal():
        return silence < STALE
    return _start(int(number)) == start


def signed() -> str:
    """This process's mark and its machine's name, for people who look for it."""
    return f"{own()} {gethostname()}"


def in_words(signature: str) -> str:
    """Whose signature that is: a process and its machine, and that it is stopped where that can be seen from here."""
    mark, _, host = signature.partition(" ")
    machine, _, process = mark.partition("/")
    number = process.partition("/")[0]
    if not number.isdecimal() or not host.isprintable():
        return "an unknown process"
    here = machine == _machine() and not machine.startswith("unknown")
    stopped = here and _state(int(number)) in ("T", "t")
    return f"process {number} on {host}" + (f", which is stopped (kill -CONT {number})" if stopped else "")


def _machine() -> str:
    """The boot of this machine and the namespace that process numbers belong to."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{Path('/proc/self/ns/pid').readlink().name}"
    return "unknown"


def _start(number: int) -> str:
    """When a process began, in the kernel's ticks since boot; nothing for one that has ended."""
    fields = _stat(number)
    return "" if len(fields) < 20 or fields[0] in "ZX" else fields[19]


def _state(number: int) -> str:
    """The kernel's letter for what a process does; nothing for one that is gone."""
    return next(iter(_stat(number)), "")


def _stat(number: int) -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    return []
