"""What a near-empty trial costs through Ray: the slope from 16 to 48 trials, ours against `tune.Tuner` by itself.

    python tests/bench/overhead.py

The fair peer is a class trainable whose actors are reused (`reuse_actors`), as ours are; beside it stands a function
trainable, as most people write it. Both import torch and report once. Ours trains a one-module network on two drawn
pictures and evaluates it, so its trials do strictly more. Prints seconds and their ratios.
"""

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from ratios import told

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

class Reused(tune.Trainable):
    def setup(self, config):
        import torch

    def step(self):
        import torch
        return {"value": float(torch.zeros(1)), "done": True}

    def reset_config(self, config):
        return True

    def save_checkpoint(self, folder):
        return None

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
reused = sys.argv[3] == "reused"
tune.Tuner(
    tune.with_resources(Reused if reused else trainable, {"cpu": 1}),
    param_space={"index": tune.grid_search(list(range(int(sys.argv[1]))))},
    tune_config=tune.TuneConfig(reuse_actors=reused),
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


def plain(trials: int, kind: str) -> float:
    """`tune.Tuner` with as many trials of a trainable."""
    with tempfile.TemporaryDirectory() as folder:
        return seconds([sys.executable, "-c", PLAIN, str(trials), folder, kind], folder)


def main() -> None:
    """Print the slope and the start-up of each, and the ratios of the slopes."""
    # A few trials end while MLflow still makes its database, so that the slope is taken beyond them.
    runs = {
        "ablate run": ours,
        "tune.Tuner, class trainable, reuse_actors": partial(plain, kind="reused"),
        "tune.Tuner, function trainable": partial(plain, kind="function"),
    }
    slopes = {}
    for name, run in runs.items():
        few, many = run(16), run(48)
        slopes[name] = (many - few) / 32
        print(f"{name}: {slopes[name]:.2f} s a trial, {few - 16 * slopes[name]:.1f} s start-up", flush=True)
    own = slopes.pop("ablate run")
    for name, slope in slopes.items():
        told("a further near-empty trial", name, slope / own)


if __name__ == "__main__":
    main()
