"""This process, its machine and its disk: provenance, signals, signs of life, files. Knows no studies.

Every room may call it.
"""

from ablate.machine import files, origin, process, watchdog
from ablate.machine.digests import fingerprint
from ablate.machine.files import refuse_outside, write_atomically
from ablate.machine.process import HEARTBEAT
from ablate.machine.signals import GRACE, Stop
from ablate.machine.watchdog import beat

__all__ = [
    "GRACE",
    "HEARTBEAT",
    "Stop",
    "beat",
    "files",
    "fingerprint",
    "origin",
    "process",
    "refuse_outside",
    "watchdog",
    "write_atomically",
]
