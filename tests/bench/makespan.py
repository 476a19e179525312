"""How near a forecast comes to real runs: trials of fixed steps, two at once, undisturbed and with workers killed.

    python tests/bench/makespan.py

Trials sleep in every step, so that what they take depends little on what else the machine does. A first run tells what
each takes and how soon a killed one goes on; the others, of further seeds, are predicted from its results. Preemptions
are SIGKILLs at exponential times. Real seconds are those from the first epoch's start to the last trial's end.
"""

import json
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
BAR = 0.2  # of the real time
LEAST_EVERY = 30.0  # seconds, mean between kills of one worker; more where coming back takes long
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}", "OMP_NUM_THREADS": "1"}
PAUSES = [0.4, 0.2, 0.1, 0.05]  # seconds a step
EPOCHS, STEPS = 12, 5


def write_study(folder: Path, *, seeds: int, parallel: int) -> None:
    """Four lengths of trials, saved at the end of every epoch."""
    sys.path.insert(0, str(TESTS))
    from small_studies import small_study

    recipe = small_study()["recipe"]
    document = small_study(
        name="pauses",
        recipe=recipe
        | {"dataset": {"name": "noise", "train": 4 * STEPS}, "train": recipe["train"] | {"epochs": EPOCHS, "batch": 4}},
        factors={"pause": {"at": "model.pause", "levels": PAUSES}},
        seeds=seeds,
        budget={"parallel": parallel, "cpus": 1, "checkpoint_minutes": 0, "retries": 100},
    )
    (folder / "pauses.yaml").write_text(json.dumps(document), encoding="utf-8")


def workers(driver: int) -> list[int]:
    """Processes in which this run's trials are: descendants of its driver alone."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [
        (int(pid), int(parent), args) for pid, parent, args in (line.split(None, 2) for line in listed.splitlines())
    ]
    mine = {driver}
    while fresh := {pid for pid, parent, _ in rows if parent in mine} - mine:
        mine |= fresh
    return sorted(pid for pid, _, args in rows if pid in mine and args.startswith("ray::ResourceTrainable"))


def states(folder: Path) -> float:
    """When a training state was last written."""
    found = [0.0]
    for state in (folder / "results" / "trials").glob("*/state"):
        with suppress(OSError):  # the trial ended just now
            found.append(state.stat().st_mtime)
    return max(found)


def started(folder: Path) -> subprocess.Popen:
    """One `ablate run`, up to its first saved state; again where a busy machine takes Ray too long to start."""
    before, log = states(folder), folder / "run.log"
    for _ in range(6):
        with log.open("w") as file:
            command = [sys.executable, "-m", "ablate", "run", "pauses.yaml"]
            driver = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=file, stderr=file)
        while driver.poll() is None and states(folder) <= before:
            time.sleep(0.02)
        if driver.poll() is None or "timed out during startup" not in log.read_text():
            break
    return driver


def until(driver: subprocess.Popen, folder: Path, condition: Callable[[], object]) -> None:
    """Wait for a condition as long as the run lasts."""
    while not condition():
        if driver.poll() is not None:
            raise SystemExit(f"the run ended early:\n{(folder / 'run.log').read_text()[-2000:]}")
        time.sleep(0.02)


def finished(driver: subprocess.Popen, folder: Path) -> None:
    """Wait for the end of a run that has to go well."""
    if driver.wait():
        raise SystemExit(f"the run failed:\n{(folder / 'run.log').read_text()[-2000:]}")


def calibrated(folder: Path) -> float:
    """Train one seed of every arm, one at a time; from a worker killed there, the seconds until its trial goes on."""
    write_study(folder, seeds=1, parallel=1)
    driver, lost = started(folder), []
    for _ in range(3):
        until(driver, folder, lambda: workers(driver.pid))
        last, found = states(folder), workers(driver.pid)
        until(driver, folder, lambda last=last: states(folder) > last)
        last, killed = states(folder), time.time()
        os.kill(found[0], signal.SIGKILL)
        until(driver, folder, lambda last=last: states(folder) > last)
        lost.append(states(folder) - killed - max(PAUSES) * STEPS)  # the longest trial runs first
    finished(driver, folder)
    return statistics.median(lost)


def killed_at_random(folder: Path, every: float, *, seed: int) -> int:
    """One run; each of the two workers' places is hit at exponential times. Returns how often."""
    rng, hits = random.Random(seed), 0
    driver = started(folder)
    due = [time.monotonic() + rng.expovariate(1 / every) for _ in range(2)]
    while driver.poll() is None:
        time.sleep(0.1)
        for place in range(2):
            if time.monotonic() > due[place]:
                due[place] = time.monotonic() + rng.expovariate(1 / every)
                alive = workers(driver.pid)
                if place < len(alive):
                    os.kill(alive[place], signal.SIGKILL)
                    hits += 1
    finished(driver, folder)
    return hits


def compared(folder: Path, cluster: dict) -> tuple[float, float, float, float]:
    """Seconds of the last run as predicted at its start (mean, low, high), and as they were."""
    sys.path[:0] = [str(TESTS.parent), str(TESTS)]
    from ablate.planning.last_run import last_run
    from ablate.planning.schedule import Cluster, Job, forecast
    from ablate.storage import Store
    from ablate.study import load

    run = last_run(load(folder / "pauses.yaml"), Store(folder / "results"))
    assert run is not None
    jobs = [Job(seconds, saved_every=seconds / EPOCHS) for seconds in run.predicted_seconds.values()]
    found = forecast(jobs, Cluster(nodes=2, **cluster))
    return found.seconds, found.low, found.high, run.busy_seconds


def main() -> None:
    """Print predicted and real makespans."""
    with tempfile.TemporaryDirectory() as place:
        folder, worst = Path(place), 0.0
        back_after = calibrated(folder)
        every = max(LEAST_EVERY, 3 * back_after)
        print(f"a killed worker's trial goes on after {back_after:.1f} s; kills every {every:.0f} s", flush=True)
        disturbed = {"preempted_every": every, "back_after": back_after}
        many = math.ceil(2 * 3 * every / (sum(PAUSES) * STEPS * EPOCHS))  # seeds: about three kills of each worker
        seeds = 1
        for number, (more, cluster) in enumerate(((3, {}), (many, disturbed), (many, disturbed)), start=1):
            seeds += more
            write_study(folder, seeds=seeds, parallel=2)
            if cluster:
                hits = killed_at_random(folder, every, seed=number)
            else:
                hits = 0
                finished(started(folder), folder)
            mean, low, high, real = compared(folder, cluster)
            off = mean / real - 1
            worst = max(worst, abs(off))
            spread = f" ({low:.0f} to {high:.0f})" if cluster else ""
            print(f"{hits} kills: predicted {mean:.1f} s{spread}, really {real:.1f} s, {off:+.1%}", flush=True)
    print(f"worst {worst:.1%}; the bar is {BAR:.0%}")


if __name__ == "__main__":
    main()
