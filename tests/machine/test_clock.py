"""The clock of costs stands still while its process is stopped; times come from the process itself."""

import signal
import subprocess
import sys
import time

from ablate.machine import clock

SCRIPT = """
import time
from ablate.machine import clock
began, really = clock.now(), time.monotonic()
print("began", flush=True)
while time.monotonic() - really < 7:
    time.sleep(0.01)
print(clock.now() - began, time.monotonic() - really)
"""


def test_a_stopped_process_costs_nothing():
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    time.sleep(6)
    process.send_signal(signal.SIGCONT)
    counted, passed = map(float, process.communicate()[0].split())
    assert passed >= 7
    assert passed - counted > 5  # of the six


def test_it_runs_otherwise():
    began, really = clock.now(), time.monotonic()
    time.sleep(0.2)
    assert 0 < clock.now() - began <= time.monotonic() - really
