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
from importlib import metadata
from pathlib import Path

import pytest
from launched import results
from small_studies import TESTS, write_study

from ablate.errors import ServiceError, StoreError
from ablate.running.ray import cluster, nodes
from ablate.storage import opened
from ablate.study import Design, load
from ablate.training.site import Site, packed

ROOT = TESTS.parent


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
    nodes = Cluster(home, temporary)
    yield nodes
    nodes.stop()
    shutil.rmtree(temporary, ignore_errors=True)


def said(run: subprocess.CompletedProcess) -> list[str]:
    """What `ablate` said of an error: its line and the lines below."""
    lines = run.stderr.splitlines()
    assert "Traceback" not in run.stderr
    return lines[next(i for i, line in enumerate(lines) if line.startswith("ablate: ")) :]


@pytest.mark.slow
@pytest.mark.cluster
def test_a_study_runs_on_two_nodes_as_it_runs_here(ablate, ray_cluster, tmp_path):
    """Both nodes train, and the numbers are those of the loop without Ray; the token's file is its owner's alone."""
    ray_cluster.head()
    ray_cluster.worker()
    token = ray_cluster.home / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    token.chmod(0o644)
    file = write_study(tmp_path, seeds=4)
    run = ablate("run", file, "--address", ray_cluster.address)
    assert run.returncode == 0, run.stderr
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert "8 trials ran, none failed" in run.stderr
    here = ablate("run", file, "--local", "--results", "here")
    assert here.returncode == 0, here.stderr
    assert results(tmp_path / "results") == results(tmp_path / "here")
    assert not list((tmp_path / "results").glob("preflight/*"))
    other = ablate("run", file, "--address", ray_cluster.address, "--results", "o", env={"RAY_AUTH_TOKEN": "0" * 64})
    assert other.returncode == 2
    assert said(other)[0].startswith(f"ablate: Ray at {ray_cluster.address} refuses the token of RAY_AUTH_TOKEN")
    token.rename(token.with_name("away"))
    none = ablate("run", file, "--address", ray_cluster.address, "--results", "o")
    assert none.returncode == 2
    assert said(none)[0].startswith(f"ablate: Ray at {ray_cluster.address} asks for a token")
    assert not list((tmp_path / "o").glob("trials/*/result.json"))


@pytest.mark.cluster
def test_nodes_that_are_not_ready_are_named_before_any_trial(ablate, ray_cluster, tmp_path):
    """One node sees another folder in the results' place and other code; later one more starts no process at all."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a mount namespace")
    ray_cluster.head()
    folder, shadow = tmp_path / "results", tmp_path / "shadow"
    folder.mkdir()
    (shadow / "pycocotools-9.9.dist-info").mkdir(parents=True)
    (shadow / "pycocotools-9.9.dist-info" / "METADATA").write_text("Name: pycocotools\nVersion: 9.9\n")
    (shadow / "small_parts.py").write_text((TESTS / "small_parts.py").read_text() + "older = True\n")
    path = ray_cluster.environment["PYTHONPATH"]
    hide = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(folder))
    ray_cluster.worker(before=hide, PYTHONPATH=f"{shadow}{os.pathsep}{path}")
    file = write_study(tmp_path)
    run = ablate("run", file, "--address", ray_cluster.address)
    assert run.returncode == 2, run.stderr
    first, line = said(run)
    assert first == "ablate: 1 of 2 nodes cannot run this study; no trial has begun"
    assert line.startswith("  node 127.0.0.2 (")
    assert f"pycocotools 9.9 instead of {metadata.version('pycocotools')}" in line
    assert f"results: {folder} is not the driver's folder" in line
    assert "plugin small_parts: other content than the driver's" in line
    assert "other code of ablate" not in line
    assert not list(folder.glob("trials/*/result.json"))

    stuck = tmp_path / "stuck"
    stuck.mkdir()
    (stuck / "sitecustomize.py").write_text(
        "import sys, time\nif 'default_worker' in ' '.join(sys.orig_argv): time.sleep(1000)\n"
    )
    ray_cluster.start(
        "worker", ray_cluster.address, "--node-ip-address", "127.0.0.3", PYTHONPATH=f"{stuck}{os.pathsep}{path}"
    )
    script = f"""
import ray
from importlib import metadata
from pathlib import Path
from ablate import registry
from ablate.running.ray import cluster, nodes
from ablate.study import Design, load
from ablate.errors import ServiceError
from ablate.training.site import Site
from ablate.training.site import packed
registry.load_plugins(("small_parts",))
cluster.quiet(alone=False)
cluster.connect(ray, {ray_cluster.address!r}, Path())
opened = load(Path({str(file)!r}))
try:
    site, budget, plugins = Site({str(folder)!r}), opened.budget, opened.plugins
    nodes.check_nodes(ray, Design(opened).trials, site, budget, plugins, patience=60)
except ServiceError as error:
    print(error, *error.__notes__, sep="\\n")
"""
    environment = ablate.environment
    asked = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert asked.stdout, asked.stderr
    lines = asked.stdout.splitlines()
    assert lines[0] == "2 of 3 nodes cannot run this study; no trial has begun", asked.stderr
    assert any("node 127.0.0.3" in line and "gave no answer within 60 s" in line for line in lines)


def test_a_token_that_others_can_read_is_narrowed(tmp_path, monkeypatch):
    token = tmp_path / "token"
    token.write_text("0" * 64)
    token.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    with pytest.raises(ServiceError, match="cannot be reached"):
        cluster.connect(None, f"127.0.0.1:{free_port()}", tmp_path)
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    token.unlink()
    with pytest.raises(ServiceError, match=r"RAY_AUTH_TOKEN_PATH: .* is not there"):
        cluster.connect(None, None, tmp_path)


def test_a_node_that_does_not_see_the_drivers_lock_is_told_apart(tmp_path):
    place = opened(str(tmp_path / "results"))
    with nodes._marked(place) as (marker, content):
        assert nodes._answer_marker(place.address, marker, "here") == content.decode()
        place.write("preflight/elsewhere", content)  # as a node with locks of its own would find it
        with pytest.raises(StoreError, match="a lock that the driver holds there is not seen here"):
            nodes._answer_marker(place.address, "preflight/elsewhere", "there")
    assert place.sizes("preflight") == {"preflight/elsewhere": len(content)}


def test_what_a_node_lacks_is_told_with_its_remedy(small_shelf, tmp_path):
    """Asked here, as if this were a node whose data and results were never mounted and whose torch sees no GPU."""
    trial = Design(load(write_study(tmp_path))).trials[0]
    dataset = trial.recipe.dataset.model_copy(update={"name": "coco_pose", "knobs": {"set": "mine"}})
    trial = trial.model_copy(update={"recipe": trial.recipe.model_copy(update={"dataset": dataset})})
    site = Site(results=str(tmp_path / "nowhere"), data=tmp_path)
    question = {"site": packed(site), "trials": [trial.model_dump_json()], "plugins": [], "marker": "m"}
    found = nodes.look(question | {"gpus": True}, "node")
    ours = found | {"results": "c", "mine, train": "0" * 16, "mine, val": "1" * 16, "torch": "0.1", "ablate": "2" * 16}
    told = list(nodes._differences(ours, found, {"Resources": {"GPU": 64.0}}, answered=False))
    assert [line.partition(" (")[0] for line in told[:3]] == [
        f"torch {found['torch']} instead of 0.1",
        "other code of ablate",
        f"results: {tmp_path}/nowhere is not there",
    ]
    assert sorted(line.partition(": ")[0] for line in told[3:5]) == ["mine, train", "mine, val"]
    assert str(tmp_path) in told[3]
    assert told[5].startswith(f"torch sees {found['gpus']} GPUs, Ray 64 (")
    assert list(nodes._differences(found, found, {"Resources": {}}, answered=True)) == []
    assert not (tmp_path / "nowhere").exists()
