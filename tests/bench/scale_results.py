"""How long `ablate status` and a report take as results grow: 100, 1,000 and 10,000 stored results of toy trials.

    python tests/bench/scale_results.py

Results are made up and stored as trials store them. The report is timed without the resampling of test images, whose
time is a number of draws; that of the last shape also with it: 400 redrawn sets of 8 images for each trial. Processor
time stands beside wall time, for machines that do other things too.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ratios import told

TESTS = Path(__file__).resolve().parent.parent
SHAPES = ((10, 10), (100, 10), (100, 100), (1_000, 10))  # arms and seeds
REDRAWN = "the same with intervals over test images"
BARS = {"status": 10.0, "report": 60.0}  # seconds, for 10,000
REPORT = """
import sys
from pathlib import Path
from ablate.analysis import gather
from ablate.report import write
from ablate.storage import Store
from ablate.study import Design, load
evidence = gather(Design(load("study.yaml")), Store("results"), images=sys.argv[1] == "images")
write(evidence, Path("report"), formats=("md", "html"))
"""


def fill(folder: Path, arms: int, seeds: int) -> None:
    """A study of so many learning rates and seeds with all of its results."""
    sys.path[:0] = [str(TESTS), str(TESTS.parent)]
    import numpy as np
    from small_studies import small_study

    from ablate.storage import Cost, Epoch, Result, Store
    from ablate.study import Design, load

    factors = {"rate": {"at": "train.lr", "levels": [round(0.001 * (i + 1), 3) for i in range(arms)]}}
    (folder / "study.yaml").write_text(json.dumps(small_study(factors=factors, seeds=seeds)), encoding="utf-8")
    store, rng = Store(folder / "results"), np.random.default_rng(0)
    store.create()
    cost = Cost(parameters=100, used_parameters=100, macs=10_000, image=(8, 8), images_per_second=1e4)
    for trial in Design(load(folder / "study.yaml")).trials:
        scores = {"closeness": float(rng.normal(0.8, 0.02)), "near": float(rng.uniform(0.4, 0.6))}
        curve = [Epoch(epoch=i + 1, loss=1 / (i + 1), lr=0.01, seconds=1, images_per_second=20) for i in range(3)]
        result = Result(
            id=trial.id, recipe=trial.recipe, seed=trial.seed, data_version=trial.data_version, cost=cost,
            meanings=trial.meanings, plugins=trial.plugins, status="done", scores=scores, curve=curve, seconds=3.0,
            env={"processor": "made up", "threads": "1", "device": "cpu"}, finished="2026-01-01T00:00:00+00:00",
        )  # fmt: skip
        arrays = {"closeness/image_ids": np.arange(1, 9), "closeness/error": rng.uniform(0, 0.4, 8)}
        store.put(result, arrays)


def timed(command: list[str], folder: Path) -> tuple[float, float]:
    """Wall and processor seconds of a process."""
    path = f"{TESTS.parent}{os.pathsep}{TESTS}"
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, *command], check=True, cwd=folder, stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "160"},
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = sum(getattr(after, kind) - getattr(before, kind) for kind in ("ru_utime", "ru_stime"))
    return time.perf_counter() - start, used


def main() -> None:
    """Print both curves and the bars."""
    os.fsync = lambda _: None  # made-up results need not survive a power cut
    for arms, seeds in SHAPES:
        with tempfile.TemporaryDirectory() as place:
            start = time.perf_counter()
            fill(Path(place), arms, seeds)
            commands = {"status": ["-m", "ablate", "status", "study.yaml"], "report": ["-c", REPORT, "scores"]}
            if (arms, seeds) == SHAPES[-1]:
                commands[REDRAWN] = ["-c", REPORT, "images"]
            seconds = {}
            line = f"{arms * seeds:>6,} results ({arms:,} arms; stored in {time.perf_counter() - start:.0f} s)"
            for name, command in commands.items():
                wall, seconds[name] = timed(command, Path(place))
                line += f"   {name} {wall:.1f} s ({seconds[name]:.1f} s of processor)"
            print(line, flush=True)
    told(f"the report of {arms * seeds:,} trials", REDRAWN, seconds[REDRAWN] / seconds["report"])
    print("bars for 10,000: " + ", ".join(f"{name} {bar:g} s" for name, bar in BARS.items()))


if __name__ == "__main__":
    main()
