"""What the driver of a run keeps in memory for every trial through Ray: its growth between two numbers of trials.

    python tests/bench/driver_memory.py [FEW MANY]

Trials are near-empty: a one-layer network, two pictures. Prints seconds, bytes and both per trial.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path.insert(0, str(TESTS))

from small_studies import small_study  # noqa: E402

DRIVER = """
import time
from pathlib import Path
from ablate.cli import main
from ablate.running import drive

def memory():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmRSS")).split()[1])

run_on_ray, ends = drive.run_on_ray, []

class Notes:
    def started(self, trial): pass
    def epoch(self, trial, row): pass
    def ended(self, trial, status): ends.append((time.monotonic(), memory()))
    def retried(self, trial, reason): pass
    def died(self, trial, reason): pass

def measured(trials, site, budget, listeners, **more):
    run_on_ray(trials, site, budget, (*listeners, Notes()), **more)
    first, last = ends[len(ends) // 5], ends[-1]  # the first fifth holds what is loaded once
    count = len(ends) - 1 - len(ends) // 5
    print("measured", len(ends), (last[0] - first[0]) / count, (last[1] - first[1]) / count, last[1])

drive.run_on_ray = measured
main()
"""


def run(trials: int) -> tuple[float, float, float]:
    """Seconds and bytes a trial, and bytes at the end, of a run of so many trials."""
    recipe = small_study()["recipe"]
    recipe |= {"dataset": {"name": "noise", "train": 2, "val": 2}, "train": recipe["train"] | {"epochs": 1}}
    with tempfile.TemporaryDirectory() as folder:
        study = small_study(recipe=recipe, seeds=trials // 2)
        Path(folder, "study.yaml").write_text(json.dumps(study), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
        command = [sys.executable, "-c", DRIVER, "run", "study.yaml"]
        done = subprocess.run(command, check=True, capture_output=True, cwd=folder, env=environment, text=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("measured "))
    count, seconds, growth, at_end = map(float, line.split()[1:])
    assert count == trials
    return seconds, growth, at_end


def main() -> None:
    """Print both runs and what one has to do with the other."""
    few, many = map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (100, 1000)
    found = {}
    for trials in (few, many):
        found[trials] = run(trials)
        seconds, growth, at_end = found[trials]
        print(f"{trials} trials: {seconds:.3f} s and {growth / 1e3:.1f} kB each, {at_end / 1e6:.0f} MB", flush=True)
    growth = (found[many][2] - found[few][2]) / (many - few)
    print(f"between them: {growth / 1e3:.1f} kB a trial, {found[many][0] / found[few][0]:.2f} of the time a trial")


if __name__ == "__main__":
    main()
