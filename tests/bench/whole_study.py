"""A whole study against the bare loop: the same networks on the same batches, by `ablate run --local` and by hand.

    python tests/bench/whole_study.py [--turns 3]

The peer opens the data once, trains each trial in a loop of a few lines and scores it: no results folder, no states,
no provenance, no MLflow, no report. Both are processes of their own; seconds are CPU seconds of the whole process.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from ratios import told

STUDY = """
name: bare
question: What does a study cost beside its training?
recipe:
  task: {name: pose, size: [64, 64], sigma: 1.0}
  dataset: {name: figures, train: 128, val: 64}
  model: {name: hrnet, width: 8, blocks: 1, stage1_blocks: 1}
  train: {preset: pose, epochs: 6, batch: 32, precision: fp32, memory_format: channels_last}
factors:
  fusions: {at: model.fusions, levels: [within, final]}
metrics: [AP]
seeds: 2
"""

BARE = """
import sys
import torch
from ablate.metrics import build_metric
from ablate.network.build import build
from ablate.study import Design, load
from ablate.tasks import build_protocol, build_task
from ablate.training.batches import Encoded, Shuffled, opened
from torch.utils.data import BatchSampler, DataLoader

torch.set_num_threads(1)
first, data = None, None
for arm in Design(load(sys.argv[1])).arms:
    for trial in arm.trials:
        recipe, task = trial.recipe, build_task(trial.recipe.task)
        data = data or opened(recipe, None, seed=0)[0]
        info, spec, protocol = data["train"].info, recipe.train, build_protocol(recipe.task, recipe.evaluation)
        torch.manual_seed(trial.seed)
        net = build(recipe).to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.Adam(net.parameters(), spec.lr)
        encoded = Encoded(data["train"], task, info, seed=trial.seed)
        order = Shuffled(len(data["train"]), seed=trial.seed)
        for epoch in range(spec.epochs):
            order.epoch = epoch + 1
            whole = BatchSampler(order, spec.batch, False)
            for batch in DataLoader(encoded, batch_sampler=whole, collate_fn=task.collate):
                optimizer.zero_grad()
                loss = task.loss(net(task.prepare(batch).contiguous(memory_format=torch.channels_last)), batch)
                loss.backward()
                optimizer.step()
        net.eval()
        tested, found = task.samples_for_evaluation(data["val"], protocol), []
        with torch.inference_mode():
            for batch in DataLoader(Encoded(tested, task, info, seed=0), spec.batch, collate_fn=task.collate):
                found += task.predict(net, batch, protocol)
        metric, found = build_metric("keypoint_ap"), task.finish(found, protocol, info)
        print(metric.aggregate(metric.per_image(found, task.ground_truth(data["val"]), info))["AP"])
"""


def cpu_seconds(command: list[str], folder: str) -> float:
    """Of a process and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {"ablate run --local": [], "the bare loop": []}
    for turn in range(arguments.turns):
        for name in seconds if turn % 2 else reversed(seconds):
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "study.yaml").write_text(STUDY, encoding="utf-8")
                ours = [sys.executable, "-m", "ablate", "run", "study.yaml", "--local"]
                command = [sys.executable, "-c", BARE, "study.yaml"] if name == "the bare loop" else ours
                seconds[name].append(cpu_seconds(command, folder))
    ours, bare = map(statistics.median, seconds.values())
    print(f"four trials of six epochs, CPU seconds: ablate run --local {ours:.1f}, the bare loop {bare:.1f}")
    print(f"{ours - bare:.1f} more, most of them once for a study: imports, its price, MLflow's database, the report")
    told(f"a study of four trials of {bare / 4:.0f} s, report and MLflow included", "the bare loop", bare / ours)


if __name__ == "__main__":
    main()
