"""What a trial costs on one GPU, alone and beside others: for ten minutes at most.

    PYTHONPATH=. python tests/gpu/price.py [--seconds 5] [--study studies/fusion_count.yaml]

First the laptop study's control, its own steps and steps that are replayed as CUDA graphs, in 1, 4, 8 and 16 processes
that share the device: images a second of all together, and what one trial then takes of the device. Batches lie on the
device already, so loading has no part in it; drawn figures stand for the study's photographs. Then HRNet-W32 at
256x192, batches of 32 and 128 images in bf16: ours and timm's with the same weights, timm's also compiled. After nine
minutes what is left is named and left out.
"""

import argparse
import math
import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "bench")]
TOGETHER = (1, 4, 8, 16)
BATCHES = (32, 128)
ENOUGH = 9 * 60  # seconds
KEPT = 8  # batches on the device
WARMING, TIMED = 5, 10  # steps of W32


def one(study: Path, seconds: float, *, graphs: bool) -> None:
    """A process among several: says that it is ready, waits for a word, trains for so long, then says how many images a
    second it took, and how many its trial takes."""
    from graphed import Graphed

    from ablate.network.build import build
    from ablate.planning.durations import image_counts
    from ablate.study import Design, Recipe, load
    from ablate.tasks import build_task
    from ablate.training.batches import Encoded, opened, to_device
    from ablate.training.fit import Training

    trial = Design(load(study, scale="laptop")).control.trials[0]
    counts = image_counts(trial.recipe)
    drawn = {"dataset": {"name": "figures", "train": 512, "val": 1}}
    recipe = Recipe.model_validate(trial.recipe.model_dump() | drawn).settled(on_gpu=True)
    task, trial = build_task(recipe.task), trial.model_copy(update={"recipe": recipe})
    splits, _ = opened(recipe, None, seed=0)
    samples = Encoded(task.samples(splits["train"]), task, splits["train"].info, seed=0)
    size, device = recipe.train.batch, torch.device("cuda")
    wanted = range(min(len(samples) // size, KEPT))
    here = [to_device(task.collate([samples[at * size + i] for i in range(size)]), device) for at in wanted]
    training = Training(trial, build(recipe).train(), device)
    graphed = Graphed(training, task)
    batches = cycle(here)

    def step() -> None:
        batch = next(batches)
        graphed.step(batch, recipe.train.lr) if graphs else training.step(task, batch, recipe.train.lr)

    for _ in range(10):
        step()
    torch.cuda.synchronize()
    images, whole = 0, recipe.train.epochs * counts[0] if counts else math.nan
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(10):
            step()
            images += size
        torch.cuda.synchronize()  # or the processor would run ahead of what is counted
    print(images / (time.perf_counter() - start), whole, flush=True)


def together(study: Path, count: int, seconds: float, *, graphs: bool) -> None:
    """One line: so many processes at the same time."""
    command = [sys.executable, __file__, "--one", "graphs" if graphs else "eager", "--study", str(study)]
    command += ["--seconds", str(seconds)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
    ]
    ready = [process.stdout.readline().strip() == "ready" for process in processes if process.stdout]
    found = [process.communicate("go\n" if all(ready) else None)[0].split() for process in processes]
    name = f"{'graphs' if graphs else 'eager':7} {count:2} together"
    if not all(ready) or any(process.returncode for process in processes):
        print(f"{name}: {sum(map(bool, (p.returncode for p in processes)))} of {count} processes failed", flush=True)
        return
    rate = sum(float(own[0]) for own in found)
    minutes = float(found[0][1]) / rate / 60
    print(f"{name}: {rate:8.0f} img/s, {minutes:.2f} GPU-minutes of training per trial", flush=True)


def large(batch: int, network: str) -> None:
    """One line: HRNet-W32 alone on the device."""
    import step

    made = step.Training(network, step.BEST, model="hrnet_w32", batch=batch, device="cuda")
    for _ in range(WARMING):
        made.step()
    seconds = sorted(made.step()[0] for _ in range(TIMED))[TIMED // 2]
    held = torch.cuda.max_memory_allocated() / 2**30
    print(f"W32 256x192, batch {batch:3}, {network:13}: {batch / seconds:7.0f} img/s, {held:.1f} GiB", flush=True)
    del made
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=HERE.parents[1] / "studies/fusion_count.yaml")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--one", choices=["eager", "graphs"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("price.py: needs a GPU, and this machine shows none")
    if arguments.one:
        one(arguments.study, arguments.seconds, graphs=arguments.one == "graphs")
        return
    start, left = time.monotonic(), []
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    work = [
        (f"{count} together, {graphs=}", lambda c=count, g=graphs: together(
            arguments.study, c, arguments.seconds, graphs=g))
        for count in TOGETHER for graphs in (False, True)
    ]  # fmt: skip
    work += [
        (f"batch {batch}, {network}", lambda b=batch, n=network: large(b, n))
        for network in ("ours", "timm", "compiled timm") for batch in BATCHES
    ]  # fmt: skip
    for name, run in work:
        if time.monotonic() - start > ENOUGH:
            left.append(name)
        else:
            run()
    print(f"after {(time.monotonic() - start) / 60:.1f} minutes" + (f"; left out: {', '.join(left)}" if left else ""))


if __name__ == "__main__":
    main()
