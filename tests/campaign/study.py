"""The study that is disturbed: real networks on drawn figures, three arms, two seeds, epochs of about a second.

A trial has twice the epochs that a checkpoint interval holds: a state never saved, or never used, shows.
"""

import json
from pathlib import Path

EPOCHS, ARMS, SEEDS = 12, 3, 2
TOTAL = EPOCHS * ARMS * SEEDS  # epochs of the whole study
CHECKPOINT_SECONDS = 2.0
HANG_MINUTES = 1.0


def document(*, diverges: int = 0) -> dict:
    """The study; `diverges` adds an arm whose outputs are nan from that epoch on (0: no such arm)."""
    levels = {name: {"model": {"fusions": name}} for name in ("within", "across", "final")}
    if diverges:
        levels["unstable"] = {"model": {"diverges": diverges}}
    budget = {"cpus": 1, "checkpoint_minutes": CHECKPOINT_SECONDS / 60, "hang_minutes": HANG_MINUTES}
    return {
        "name": "campaign",
        "question": "Does anything get lost?",
        "plugins": ["campaign.parts"],
        "recipe": {
            "task": {"name": "pose", "size": [64, 64], "sigma": 1.5, "half_body": 0},
            "dataset": {"name": "figures", "train": 64, "val": 24},
            "model": "watched_hrnet",
            "train": {"preset": "pose", "epochs": EPOCHS, "batch": 16, "precision": "fp32"},
        },
        "factors": {"fusions": {"levels": levels}},
        "seeds": SEEDS,
        "metrics": ["AP", "PCK"],
        "budget": budget,
    }


def write(folder: Path, *, diverges: int = 0) -> Path:
    """The study as a file; JSON is YAML."""
    file = folder / "campaign.yaml"
    file.write_text(json.dumps(document(diverges=diverges), indent=1))
    return file
