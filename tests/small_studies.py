"""Small studies for tests: a document whose trials take some hundredths of a second, and how to run the command."""

import json
import sys
from pathlib import Path

TESTS = Path(__file__).parent
COMMAND = (sys.executable, "-m", "ablate")


def small_study(**changes) -> dict:
    """A study document whose trials take some hundredths of a second; `changes` replace its keys."""
    document = {
        "name": "small",
        "question": "Does depth help?",
        "plugins": ["small_parts"],
        "recipe": {
            "task": "brightness",
            "dataset": "noise",
            "model": {"name": "dots", "width": 4},
            "train": {"epochs": 3, "batch": 8, "lr": 0.01, "precision": "fp32"},
        },
        "factors": {"depth": {"at": "model.depth", "levels": [1, 2]}},
        "seeds": 2,
        "metrics": ["closeness", "near"],
    }
    return document | changes


def write_study(folder: Path, **changes) -> Path:
    """The study as a file; JSON is YAML."""
    file = folder / "small.yaml"
    file.write_text(json.dumps(small_study(**changes), indent=1))
    return file
