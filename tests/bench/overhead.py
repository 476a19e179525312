"""What a near-empty trial costs through Ray: the slope from 4 to 16 trials, ours against plain `tune.Tuner`.

    python tests/bench/overhead.py

The peer is a function trainable that imports torch and reports once, as most people write it. Ours trains a one-module
network on two drawn pictures and evaluates it, so its trials do strictly more. Prints seconds and their ratio.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STUDY = """
name: near_empty
question: What does a trial cost that computes next to nothing?
recipe:
  task: {name: pose, size: [32, 32]}
  dataset: {name: figures, train: 2, val: 1, size: [48, 48]}
  model: {name: hrnet, width: 2, blocks: 1, stage1_blocks: 1, modules: [1, 1, 1], streams: 1, stage1_planes: 4}
  train: {preset: pose, epochs: 1, batch: 2}
factors:
  fusions: {at: model.width, levels: [2, 3]}
metrics: [AP]
seeds: SEEDS
"""

PLAIN = """
import sys
from ray import tune
import ray

def trainable(config):
    import torch
    tune.report({"value": float(torch.zeros(1))})

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
tune.Tuner(
    tune.with_resources(trainable, {"cpu": 1}),
    param_space={"index": tune.grid_search(list(range(int(sys.argv[1]))))},
    run_config=tune.RunConfig(verbose=0, storage_path=sys.argv[2]),
).fit()
"""


def seconds(command: list[str], folder: str) -> float:
    """Wall time of a whole process with 2 CPUs and no tracking of usage."""
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=folder, env=environment)
    return time.perf_counter() - start


def ours(trials: int) -> float:
    """`ablate run` of that many trials, MLflow and report included."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "study.yaml").write_text(STUDY.replace("SEEDS", str(trials // 2)), encoding="utf-8")
        return seconds([sys.executable, "-m", "ablate", "run", "study.yaml"], folder)


def plain(trials: int) -> float:
    """`tune.Tuner` with as many function trials."""
    with tempfile.TemporaryDirectory() as folder:
        return seconds([sys.executable, "-c", PLAIN, str(trials), folder], folder)


def main() -> None:
    """Print the slope and the start-up of both, and the ratio of the slopes."""
    slopes = {}
    for name, run in (("ablate run", ours), ("tune.Tuner", plain)):
        few, many = run(4), run(16)
        slopes[name] = (many - few) / 12
        print(f"{name}: {slopes[name]:.2f} s a trial, {few - 4 * slopes[name]:.1f} s start-up", flush=True)
    print(f"ratio of a trial's cost: {slopes['ablate run'] / slopes['tune.Tuner']:.2f}")
    # A few trials end while MLflow still makes its database; the slope beyond that is the dearer one.
    later = (ours(48) - ours(16)) / 32
    print(f"ablate run, from 16 to 48 trials: {later:.2f} s a trial, ratio {later / slopes['tune.Tuner']:.2f}")


if __name__ == "__main__":
    main()
