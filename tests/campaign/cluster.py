"""A Ray cluster of one head and several workers on one machine, each node started by `ray start` as an operator would.

Every node has a loopback address, ports and a folder of its own, and the cluster asks for a token. The addresses that
Ray keeps of running clusters lie in the campaign's folder, so that other clusters of this machine are never found.
"""

import os
import secrets
import subprocess
import sys
from pathlib import Path

from campaign.processes import free_port, kill, tree, until, within

RAY = (sys.executable, "-c", "from ray.scripts.scripts import main; main()")
STORE_BYTES = 80_000_000  # Ray's object store, a node
START_SECONDS, START_ATTEMPTS = 120, 5
AGENT_PORTS = (
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "metrics-export-port",
    "runtime-env-agent-port",
)


class Node:
    """One `ray start --block` and all its processes."""

    def __init__(self, folder: Path, ip: str, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        ports = [f"--{name}={free_port()}" for name in AGENT_PORTS]
        own = ["--block", "--disable-usage-stats", "--include-log-monitor=false"]
        own += [f"--node-ip-address={ip}", f"--object-store-memory={STORE_BYTES}"]
        self.log = folder / "ray_start.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*RAY, "start", *own, *ports, *arguments],
                cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def ready(self) -> bool:
        """Whether it joined; a start that failed has ended."""
        return "Ray runtime started" in self.log.read_text()

    def pids(self) -> set[int]:
        """It and all that it started."""
        return tree(self.process.pid)

    def alive(self) -> bool:
        """Whether its raylet runs: without it `ray start --block` ends soon."""
        return self.process.poll() is None and any("raylet/raylet" in _program(pid) for pid in self.pids())

    def kill(self) -> set[int]:
        """SIGKILL to everything of it at once; returns what was there."""
        pids = self.pids()
        kill(pids)
        self.process.wait()
        return pids


class Cluster:
    """One head without processors for trials, and workers of one processor each."""

    def __init__(self, folder: Path, *, workers: int = 2) -> None:
        self.folder, self.count = folder, workers
        self.head: Node | None = None
        self.workers: dict[int, Node] = {}
        self.address = ""
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        (folder / "home").mkdir()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_", "ABLATE_", "TUNE_"))}
        tests = Path(__file__).parent.parent
        self.environment = kept | {
            "HOME": str(folder / "home"),
            "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "160",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_TMPDIR": str(folder / "r"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def heal(self) -> None:
        """Start what is not there: dead workers, or everything anew without a head, as an operator would.

        Raises:
            RuntimeError: a node does not start.
        """
        if self.head is None or not self.head.alive():
            self.stop()
            self.head = self._started("head", self._head)
        dead = [n for n in range(self.count) if n not in self.workers or not self.workers[n].alive()]
        for number in dead:
            if number in self.workers:
                self.workers.pop(number).kill()
            self.workers[number] = self._started(f"worker {number}", lambda number=number: self._worker(number))

    def stop(self) -> None:
        """End all nodes."""
        for node in [*self.workers.values(), *([self.head] if self.head else [])]:
            node.kill()
        self.workers, self.head = {}, None
        kill(within(self.folder / "r") | within(self.folder / "n"))

    def standing(self) -> set[int]:
        """The processes of living nodes."""
        return {pid for node in [self.head, *self.workers.values()] if node for pid in node.pids()}

    def _head(self) -> Node:
        self.address = f"127.0.7.1:{free_port()}"
        flags = ("--head", "--num-cpus=0", "--include-dashboard=false", f"--ray-client-server-port={free_port()}")
        place = (f"--port={self.address.partition(':')[2]}", f"--temp-dir={self.folder / 'r'}")
        return Node(self.folder / "r", "127.0.7.1", (*flags, *place), self.environment)

    def _worker(self, number: int) -> Node:
        folder = self.folder / "n" / str(number)
        flags = (f"--address={self.address}", "--num-cpus=1", f"--temp-dir={folder}")
        return Node(folder, f"127.0.7.{number + 2}", flags, self.environment)

    @staticmethod
    def _started(name: str, start) -> Node:
        for _ in range(START_ATTEMPTS):  # a node gives up after 15 s when its agents are slow, as on a loaded machine
            node = start()
            if until(lambda node=node: node.ready() or node.process.poll() is not None, START_SECONDS) and node.alive():
                return node
            node.kill()
        raise RuntimeError(f"the {name} does not start: {node.log.read_text()[-2000:]}")


def _program(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().split(b"\0")[0].decode()
    except OSError:
        return ""
