"""What all tests share: one thread, small studies with parts that train in a blink, and where real data lies."""

import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads would make sums depend on the machine
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import pytest

from ablate import registry

TESTS = Path(__file__).parent
COMMAND = (sys.executable, "-m", "ablate")


@pytest.fixture(scope="session")
def ablate_data() -> Path:
    """The folder that holds pose_lspet, coco_mini and so on."""
    place = os.environ.get("ABLATE_DATA")
    if not place:
        pytest.skip("set ABLATE_DATA to the folder that holds the data sets")
    return Path(place)


@pytest.fixture
def small_shelf(monkeypatch):
    """The parts of small_parts.py on the shelves, for one test."""
    monkeypatch.setattr(registry, "_plugins", dict(registry._plugins))
    registry.load_plugins(("small_parts",))
    yield
    registry.describe.cache_clear()
    registry._knob_model.cache_clear()


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


@pytest.fixture
def ablate(tmp_path):
    """Runs the command line in a process of its own, in a folder and a home of its own."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ABLATE_", "MLFLOW_"))}
    environment |= {"HOME": str(home), "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}", "COLUMNS": "160"}

    def run(*arguments: object, timeout: float = 300, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*COMMAND, *map(str, arguments)], cwd=tmp_path, env=environment | (env or {}), timeout=timeout,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    run.environment = environment
    return run
