"""A Ray cluster of several nodes on this machine, in a process of its own: `python small_cluster.py` obeys its stdin.

In a process of its own, for Ray's warnings would be errors here, and for what a test kills is then never the test.
"""

import contextlib
import json
import subprocess
import sys

PATIENCE = {"RAY_raylet_start_wait_time_s": "200", "RAY_agent_register_timeout_ms": "200000"}  # on a busy machine


@contextlib.contextmanager
def small_cluster(environment: dict[str, str], *nodes: dict):
    """A head without CPUs and a node for each of `nodes`, arguments of Ray's `Cluster.add_node`."""
    process = subprocess.Popen(
        [sys.executable, __file__], env=environment | PATIENCE, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    cluster = SmallCluster(process)
    try:
        cluster.address = cluster.say("head")
        for node in nodes:
            cluster.say("add", node)
        yield cluster
    finally:
        process.stdin.close()  # tells it to end
        process.wait(300)
        process.stdout.close()


class SmallCluster:
    address = ""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process

    def say(self, *words) -> str:
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("done "):
                return line.split()[1]
        raise AssertionError(f"the cluster could not {words}")

    def add(self, **node) -> None:
        self.say("add", node)

    def kill_node(self, index: int) -> None:
        """SIGKILL to the node's own process; its workers follow."""
        self.say("kill", index)

    def kill_head(self) -> None:
        self.say("behead")


def main() -> None:
    from ray.cluster_utils import Cluster

    cluster, nodes = Cluster(), []
    try:
        for line in sys.stdin:
            match json.loads(line):
                case ["head"]:
                    cluster.add_node(num_cpus=0, include_dashboard=False)
                case ["add", arguments]:
                    nodes.append(cluster.add_node(**arguments))
                case ["kill", index]:
                    kill(nodes[index], "raylet")
                case ["behead"]:
                    kill(cluster.head_node, "gcs_server", "raylet")
            print("done", cluster.address, flush=True)
    finally:
        cluster.shutdown()


def kill(node, *kinds: str) -> None:
    for kind in kinds:
        process = node.all_processes[kind][0].process
        process.kill()
        process.wait()  # as a zombie it would seem alive to its workers, and they would stay


if __name__ == "__main__":
    main()
