"""A Ray cluster, this machine's own or a running one: reached, quiet, and able to place a trial at all."""

import logging
import os
import socket
import warnings
from typing import Any

from ablate.errors import ServiceError
from ablate.study import Budget


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


def refuse_unplaceable(nodes: list[dict[str, Any]], budget: Budget) -> None:
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    fits = [n for n in alive if n.get("CPU", 0) >= budget.cpus and n.get("GPU", 0) >= budget.gpus]
    if not fits:
        most = max((f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in alive), default="nothing")
        raise ServiceError(
            f"budget: a trial needs {budget.cpus:g} CPUs and {budget.gpus:g} GPUs, the largest node has {most}"
        )


def quiet(*, alone: bool) -> None:
    """Ray and Tune say nothing of their own and keep their hands off our folders; before they are first imported.

    `alone` is a Ray of this process' own: all its ports are on loopback, as Ray has it where it supports no clusters.
    """
    if alone:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0",
        TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
        TUNE_PRINT_ALL_TRIAL_ERRORS="0",
        RAY_CHDIR_TO_TRIAL_DIR="0",
        TUNE_DISABLE_SIGINT_HANDLER="1",
        RAY_AIR_NEW_OUTPUT="0",
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="1",
        TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S="0",
    )
    warnings.filterwarnings("ignore", module=r"ray\.")
    import ray  # noqa: F401  importing it sets the level of its loggers

    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
