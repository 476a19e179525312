"""A Ray cluster, this machine's own or a running one: reached, quiet, watched, and able to place a trial at all."""

import logging
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ablate.errors import ServiceError
from ablate.study import Budget

HEAD_SECONDS = 45.0  # without an answer of the head, after which a run ends; Ray ends the process, unasked, after 60


def connect(ray: Any, address: str | None) -> None:
    if address and address.startswith("ray://"):
        raise ServiceError(
            f"--address {address}: a ray:// client would keep the driver off the cluster; "
            "run `ablate` on the head node with --address auto"
        )
    if address and address != "auto":
        _refuse_silent(address)
    silent = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    old_mask = os.umask(0o077)  # ray writes its access token with the process's mask
    try:
        ray.init(address=address or "local", include_dashboard=None if address else False, **silent)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        where = f"Ray at {address}" if address else "a local Ray"
        raise ServiceError(f"{where} cannot be reached: {' '.join(str(error).split())[:200]}; try --local") from None
    finally:
        os.umask(old_mask)


def _refuse_silent(address: str) -> None:
    """Ray itself would wait for minutes where nothing answers."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ServiceError(f"Ray at {address} cannot be reached: {error}; give auto or HOST:PORT") from None


@contextmanager
def watched(ray: Any, lost: Callable[[str], None]) -> Iterator[None]:
    """Call `lost`, from another thread, with a sentence once the head has not answered for `HEAD_SECONDS`.

    It is to end the process: the main thread may hang in a question to the head by then, and Ray has no way to give up.
    """
    address, finished = str(ray.get_runtime_context().gcs_address), threading.Event()
    watcher = threading.Thread(target=_watch, args=(address, finished, lost), name="head", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()


def _watch(address: str, finished: threading.Event, lost: Callable[[str], None]) -> None:
    host, _, port = address.rpartition(":")
    heard = time.monotonic()
    while not finished.wait(2):
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            heard = time.monotonic()
        except OSError:
            if time.monotonic() - heard >= HEAD_SECONDS:
                lost(f"Ray at {address} does not answer any more; once it does, the same command goes on from here")
                return


def refuse_unplaceable(nodes: list[dict[str, Any]], budget: Budget) -> None:
    alive = [node for node in nodes if node["Alive"]]
    labelled = [n["Resources"] for n in alive if budget.labels.items() <= n.get("Labels", {}).items()]
    if not labelled and budget.labels:
        wish = ", ".join(f"{name}={value}" for name, value in budget.labels.items())
        raise ServiceError(f"budget.labels: no node has the labels {wish}; nodes get theirs by `ray start --labels`")
    if not any(n.get("CPU", 0) >= budget.cpus and n.get("GPU", 0) >= budget.gpus for n in labelled):
        most = max((f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in labelled), default="nothing")
        raise ServiceError(
            f"budget: a trial needs {budget.cpus:g} CPUs and {budget.gpus:g} GPUs, the largest node has {most}"
        )


def shape(tune: Any, budget: Budget) -> Callable[[dict[str, Any]], Any]:
    """What a trial's process needs of a node, as Tune asks for it; `gpus` of the trial's own configuration."""
    cpus, selector = budget.cpus, {"bundle_label_selector": [dict(budget.labels)]} if budget.labels else {}

    def needed(config: dict[str, Any]) -> Any:
        return tune.PlacementGroupFactory([{"CPU": cpus, "GPU": config["gpus"]}], **selector)

    return needed


def alive(ray: Any) -> set[str]:
    """The ids of the nodes that are there."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def slots(ray: Any, budget: Budget) -> int:
    """About how many trials fit on the cluster at once."""
    there = ray.cluster_resources()
    by_cpu = there.get("CPU", 0) / budget.cpus
    return int(min(by_cpu, there.get("GPU", 0) / budget.gpus) if budget.gpus else by_cpu)


def gpu_memory(ray: Any) -> int:
    """Bytes of the smallest GPU of the cluster.

    Raises:
        ServiceError: a node cannot tell.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def total() -> int:
        import torch

        return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0

    there = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
    asked = [
        ray.remote(num_cpus=0, num_gpus=0.01, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))(
            total
        ).remote()
        for node in there
    ]
    try:
        smallest = min(ray.get(asked, timeout=120))
    except ray.exceptions.RayError as error:
        raise ServiceError(f"budget.share: a node's GPU could not be asked: {type(error).__name__}") from None
    if not smallest:
        raise ServiceError("budget.share: torch sees no CUDA device on a node that Ray counts a GPU on")
    return int(smallest)


def quiet() -> None:
    """Ray and Tune say nothing of their own and keep their hands off our folders; before they are first imported."""
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0",
        TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
        TUNE_PRINT_ALL_TRIAL_ERRORS="0",
        RAY_CHDIR_TO_TRIAL_DIR="0",
        TUNE_DISABLE_SIGINT_HANDLER="1",
        RAY_AIR_NEW_OUTPUT="0",
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="1",
        TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S="0",
        TUNE_GLOBAL_CHECKPOINT_S="1000000000",  # Tune's own state is never read
        TUNE_MAX_PENDING_TRIALS_PG="1000",  # hooks.py bounds them; Tune's bound for a source of trials would be one
    )
    warnings.filterwarnings("ignore", module=r"ray\.")
    import ray  # noqa: F401  importing it sets the level of its loggers

    for name in ("ray", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what became of trials is told by hooks.py
