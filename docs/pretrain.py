"""The pretraining route from end to end, at the size of a demonstration; docs/classification.md explains it.

    python docs/pretrain.py FOLDER

A small HRNet learns what drawn people do (classification), `ablate export` writes it, and a study trains it to find the
joints of few people, from scratch and from these weights. FOLDER gets the two studies, the weights, the results and the
report. Run again, it goes on where it stopped.
"""

import json
import subprocess
import sys
from pathlib import Path

BODY = {"name": "hrnet", "width": 8, "blocks": 1, "stage1_blocks": 1}  # of both studies; only the way out differs
PRETRAINING = {
    "name": "pretraining_route_1",
    "question": "What do the drawn people do?",
    "recipe": {
        "task": {"name": "classification", "size": [64, 64], "scale": [0.5, 1.0], "head": "gather"},
        "dataset": {"name": "figures", "train": 1000},
        "model": BODY | {"output": "streams"},
        "train": {"preset": "classification", "epochs": 10, "batch": 32, "lr": 0.02, "precision": "fp32"},
    },
    "factors": {"head": {"at": "task.head", "levels": ["gather", "join"]}},  # of which the first is trained
    "metrics": ["top1"],
    "seeds": 1,
    "budget": {"keep_weights": True},
}
FINE_TUNING = {
    "name": "pretraining_route_2",
    "question": "Do joints of few people profit from weights that were trained to tell what many people do?",
    "recipe": {
        "task": {"name": "pose", "size": [64, 64], "sigma": 1.5, "rotation": 20, "scale": 0.2, "half_body": 0},
        "dataset": {"name": "figures", "train": 200},
        "model": BODY | {"output": "v1"},
        "train": {"preset": "pose", "epochs": 10, "batch": 32, "precision": "fp32"},
    },
    "metrics": ["AP", "PCK"],
    "seeds": 3,
}


def main(folder: Path, *changes: str) -> None:
    """All steps, each of which is one command; `changes`, SECTION.KEY=VALUE in JSON, are of both recipes."""
    folder.mkdir(parents=True, exist_ok=True)
    results = ("--results", folder / "results")
    pretraining, weights = folder / "pretrain.yaml", folder / "pretrained.safetensors"
    write(pretraining, PRETRAINING, changes)
    trial = json.loads(run("trial", pretraining, "--seed", 0, "--json", *results))
    weights.unlink(missing_ok=True)
    exported = json.loads(run("export", trial["id"], "--to", weights, "--json", *results))
    levels = {"scratch": None, "pretrained": {"file": weights.name, "sha256": exported["sha256"]}}
    fine_tuning = folder / "finetune.yaml"
    write(fine_tuning, FINE_TUNING | {"factors": {"start": {"at": "weights", "levels": levels}}}, changes)
    run("run", fine_tuning, "--local", *results)
    print(run("report", fine_tuning, *results))


def write(file: Path, study: dict, changes: tuple[str, ...]) -> None:
    """The study as a file; JSON is YAML."""
    document = json.loads(json.dumps(study))
    for change in changes:
        path, _, value = change.partition("=")
        section, _, key = path.partition(".")
        document["recipe"][section][key] = json.loads(value)
    file.write_text(json.dumps(document, indent=1))


def run(*words: object) -> str:
    """What `ablate WORDS` prints; its progress is seen."""
    command = [sys.executable, "-m", "ablate", *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
