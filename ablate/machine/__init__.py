"""This process, its machine and its disk: provenance, signals, signs of life, time, files. Knows no studies.

Every room may call it.
"""

from ablate.machine import annotations, clock, files, memory, modules, origin, process, scratch, source, watchdog
from ablate.machine.digests import fingerprint
from ablate.machine.files import refuse_outside, write_atomically
from ablate.machine.process import HEARTBEAT
from ablate.machine.signals import GRACE, Stop
from ablate.machine.watchdog import beat

__all__ = [
    "GRACE",
    "HEARTBEAT",
    "Stop",
    "annotations",
    "beat",
    "clock",
    "files",
    "fingerprint",
    "memory",
    "modules",
    "origin",
    "process",
    "refuse_outside",
    "scratch",
    "source",
    "watchdog",
    "write_atomically",
]
