"""A real two-node cluster on this machine, started as the pages say: with a token, its nodes asked before any trial."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from small_studies import TESTS, write_study
from test_launch import results

ROOT = TESTS.parent
pytestmark = pytest.mark.slow


class Cluster:
    """Two `ray start` processes with one processor each, on two loopback addresses, and a home with their token."""

    def __init__(self, home: Path, temporary: str) -> None:
        self.home, self.temporary, self.nodes = home, temporary, []
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "ABLATE_", "MLFLOW_"))}
        self.environment |= {
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{TESTS}",
            "RAY_PORT": str(self.port),
        }

    def start(self, *arguments: str, before: tuple[str, ...] = (), **changes: str) -> subprocess.Popen:
        """One node; returns when it says that it runs."""
        log = self.home / f"node{len(self.nodes)}.log"
        options = ["--num-cpus", "1", "--num-gpus", "0", "--object-store-memory", "100000000"]
        with log.open("w") as file:
            node = subprocess.Popen(
                [*before, ROOT / "deploy" / "ray-node", *arguments, *options], env=self.environment | changes,
                stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.nodes.append(node)
        wait_for(lambda: "Ray runtime started" in log.read_text() or node.poll() is not None, 180)
        assert node.poll() is None, log.read_text()
        return node

    def head(self, **changes: str) -> subprocess.Popen:
        quiet = ["--include-dashboard", "false", "--temp-dir", self.temporary]
        return self.start("head", "--node-ip-address", "127.0.0.1", *quiet, **changes)

    def worker(self, before: tuple[str, ...] = (), **changes: str) -> subprocess.Popen:
        return self.start("worker", self.address, "--node-ip-address", "127.0.0.2", before=before, **changes)

    def stop(self) -> None:
        for node in reversed(self.nodes):
            for number, patience in ((signal.SIGTERM, 20), (signal.SIGKILL, 20)):
                try:
                    os.killpg(node.pid, number)
                    node.wait(timeout=patience)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(true, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.fixture
def ray_cluster(tmp_path):
    """A cluster to be started by the test; the sockets of Ray need a short path."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    temporary = tempfile.mkdtemp(prefix="ray-")
    cluster = Cluster(home, temporary)
    yield cluster
    cluster.stop()
    shutil.rmtree(temporary, ignore_errors=True)


def said(run: subprocess.CompletedProcess) -> list[str]:
    """What `ablate` said of an error: its line and the lines below."""
    lines = run.stderr.splitlines()
    assert "Traceback" not in run.stderr
    return lines[next(i for i, line in enumerate(lines) if line.startswith("ablate: ")) :]


def test_a_study_runs_on_two_nodes_as_it_runs_here(ablate, ray_cluster, tmp_path):
    """Both nodes train, and the numbers are those of the loop without Ray; the token's file is its owner's alone."""
    ray_cluster.head()
    ray_cluster.worker()
    token = ray_cluster.home / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    token.chmod(0o644)
    study = write_study(tmp_path, seeds=4)
    run = ablate("run", study, "--address", ray_cluster.address)
    assert run.returncode == 0, run.stderr
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert "8 trials ran, 0 of them without success" in run.stderr
    here = ablate("run", study, "--local", "--results", "here")
    assert here.returncode == 0, here.stderr
    assert results(tmp_path / "results") == results(tmp_path / "here")
    assert not list((tmp_path / "results").glob(".preflight*"))
    other = ablate("run", study, "--address", ray_cluster.address, "--results", "o", env={"RAY_AUTH_TOKEN": "0" * 64})
    assert other.returncode == 2
    assert said(other)[0].startswith(f"ablate: Ray at {ray_cluster.address} refuses the token of RAY_AUTH_TOKEN")
    token.rename(token.with_name("away"))
    none = ablate("run", study, "--address", ray_cluster.address, "--results", "o")
    assert none.returncode == 2
    assert said(none)[0].startswith(f"ablate: Ray at {ray_cluster.address} asks for a token")
    assert not list((tmp_path / "o").glob("trials/*/result.json"))
