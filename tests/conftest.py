"""What all tests share: one thread, small studies with parts that train in a blink, and where real data lies."""

import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads would make sums depend on the machine
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import pytest
from s3_server import KEYS, new_bucket, serving
from small_studies import COMMAND, TESTS

from ablate import registry
from ablate.cli import main


@pytest.fixture(scope="session")
def ablate_data() -> Path:
    """The folder that holds pose_lspet, coco_mini and so on."""
    place = os.environ.get("ABLATE_DATA")
    if not place:
        pytest.skip("set ABLATE_DATA to the folder that holds the data sets")
    return Path(place)


@pytest.fixture(scope="session")
def s3_server():
    with serving() as url:
        yield url


@pytest.fixture
def s3(s3_server, monkeypatch):
    """The URL of an empty prefix on a real S3 server on loopback, which the environment names."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    return new_bucket()


@pytest.fixture
def small_shelf(monkeypatch):
    """The parts of small_parts.py on the shelves, for one test."""
    monkeypatch.setattr(registry, "_plugins", dict(registry._plugins))
    registry.load_plugins(("small_parts",))
    yield
    registry.describe.cache_clear()
    registry._knob_model.cache_clear()


@pytest.fixture
def called(small_shelf, monkeypatch, capsys, tmp_path):
    """Calls the command line in this process, in the test's folder: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in [name for name in os.environ if name.startswith(("ABLATE_", "MLFLOW_"))]:
        monkeypatch.delenv(name)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ablate", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


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
