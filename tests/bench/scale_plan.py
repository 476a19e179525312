"""How long planning takes as studies grow: `ablate plan` of 100, 1,000 and 10,000 trials, as a user would wait for it.

    python tests/bench/scale_plan.py [--laptop]

Studies of few networks vary the training; those of 1,000 networks vary the widths and modules of an HRNet, so that no
two cost the same. Networks are small ones of the drawn figures, or with `--laptop` as wide and deep as that scale's.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BAR = 20.0  # seconds for 10,000 trials
TRAINING = {
    "rate": {"at": "train.lr", "levels": [round(1e-4 * (i + 1), 4) for i in range(10)]},
    "decay": {"at": "train.weight_decay", "levels": [round(1e-5 * i, 5) for i in range(10)]},
    "gamma": {"at": "train.gamma", "levels": [round(0.1 + 0.05 * i, 2) for i in range(10)]},
}
NETWORKS = {
    "width": {"at": "model.width", "levels": list(range(2, 22, 2))},
    "planes": {"at": "model.stage1_planes", "levels": list(range(2, 22, 2))},
    "depth": {"at": "model.blocks", "levels": [1, 2]},
    "modules": {"at": "model.modules", "levels": [[1, 1, 1], [1, 1, 2], [1, 2, 1], [1, 2, 2], [1, 3, 1]]},
}


def study(factors: dict, seeds: int) -> dict:
    """A full factorial study of the drawn figures."""
    return {
        "name": "many",
        "question": "How long does a plan take?",
        "recipe": {
            "task": {"name": "pose", "size": [64, 64]},
            "dataset": {"name": "figures", "train": 64, "val": 32},
            "model": {"name": "hrnet", "width": 4, "blocks": 1, "stage1_blocks": 1, "modules": [1, 1, 1]},
            "train": {"preset": "pose", "epochs": 2, "batch": 16, "precision": "fp32"},
        },
        "factors": factors,
        "design": "full_factorial",
        "seeds": seeds,
        "metrics": ["AP"],
    }


def some(factors: dict, *names: str) -> dict:
    """These factors, in this order."""
    return {name: factors[name] for name in names}


STUDIES = {
    "10 arms x 10 seeds": study(some(TRAINING, "rate"), 10),
    "100 arms x 10 seeds": study(some(TRAINING, "rate", "decay"), 10),
    "100 arms x 100 seeds": study(some(TRAINING, "rate", "decay"), 100),
    "10 arms x 1,000 seeds": study(some(TRAINING, "rate"), 1000),
    "1,000 arms x 10 seeds": study(TRAINING, 10),
    "100 networks x 10 seeds": study(some(NETWORKS, "width", "planes"), 10),
    "1,000 networks x 10 seeds": study(NETWORKS, 10),
}


def seconds(document: dict) -> tuple[float, float]:
    """Wall and processor seconds of `ablate plan`, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "study.yaml").write_text(json.dumps(document), encoding="utf-8")
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [sys.executable, "-m", "ablate", "plan", "study.yaml"]
        subprocess.run(command, check=True, capture_output=True, cwd=folder, env=os.environ | {"COLUMNS": "160"})
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        return wall, sum(getattr(after, kind) - getattr(before, kind) for kind in ("ru_utime", "ru_stime"))


def main() -> None:
    """Print the curve, and whether 10,000 trials stay under the bar."""
    worst = 0.0
    for name, document in STUDIES.items():
        if "--laptop" in sys.argv:
            document["recipe"]["model"] = {"name": "hrnet", "width": 8}
        took, used = seconds(document)
        trials = document["seeds"]
        for factor in document["factors"].values():
            trials *= len(factor["levels"])
        print(f"{name:<26} {trials:>6,} trials {took:>7.1f} s ({used:.1f} s of processor)", flush=True)
        worst = max(worst, took)
    print(f"slowest {worst:.1f} s; the bar is {BAR:g} s")


if __name__ == "__main__":
    main()
