"""A Ray cluster, this machine's own or a running one: reached, quiet, and able to place a trial at all."""

import logging
import os
import socket
import stat
import warnings
from pathlib import Path
from typing import Any

from ablate.errors import ServiceError
from ablate.study import Budget

GET_CLUSTER_ID = "/ray.rpc.NodeInfoGcsService/GetClusterId"  # a Ray head's answer to its first caller


def connect(ray: Any, address: str | None) -> None:
    """Join the cluster at `address`, or start one of this machine's own, which asks for Ray's token.

    Raises:
        ServiceError: it cannot be reached, or takes no token of ours.
    """
    if address and address.startswith("ray://"):
        raise ServiceError(
            f"--address {address}: a ray:// client would keep the driver off the cluster; "
            "run `ablate` on the head node with --address auto"
        )
    _narrow()
    if address:
        _refuse_stranger(address)
    silent = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    old_mask = os.umask(0o077)  # ray writes its access token with the process's mask
    try:
        ray.init(address=address or "local", include_dashboard=None if address else False, **silent)
    except (ray.exceptions.RayError, ConnectionError, OSError, RuntimeError, ValueError) as error:
        where = f"Ray at {address}" if address else "a local Ray"
        raise ServiceError(f"{where} cannot be reached: {' '.join(str(error).split())[:200]}; try --local") from None
    finally:
        os.umask(old_mask)


def _token_file() -> Path:
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def _narrow() -> None:
    """Whoever reads the token may run code on the cluster, so nobody else may read its file."""
    file = _token_file()
    if not file.exists():
        if "RAY_AUTH_TOKEN_PATH" in os.environ:  # Ray itself would abort the process
            raise ServiceError(f"RAY_AUTH_TOKEN_PATH: {file} is not there")
        return
    if stat.S_IMODE(file.stat().st_mode) & 0o077:
        try:
            file.chmod(0o600)
        except OSError:
            raise ServiceError(f"{file}: others can read Ray's token; its owner mends it: chmod 600 {file}") from None


def _refuse_stranger(address: str) -> None:
    """Ask for the cluster's id, with our token if there is one; Ray itself would try for 20 s, or for minutes."""
    import grpc
    from ray._private import services
    from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

    place = services.canonicalize_bootstrap_address("auto") if address == "auto" else address
    if place is None:
        return  # ray.init says that there is none
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ServiceError(f"Ray at {address} cannot be reached: {error}; give auto or HOST:PORT") from None
    armed = maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    token = (os.environ.get("RAY_AUTH_TOKEN") or _read(_token_file())) if armed else ""
    with grpc.insecure_channel(place) as channel:
        try:
            channel.unary_unary(GET_CLUSTER_ID)(
                b"", timeout=10, metadata=(("authorization", f"Bearer {token}"),) if token else ()
            )
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                raise ServiceError(_refusal(address, token)) from None


def _read(file: Path) -> str:
    return file.read_text().strip() if file.exists() else ""


def _refusal(address: str, token: str) -> str:
    file = _token_file()
    if token:
        whose = "RAY_AUTH_TOKEN" if os.environ.get("RAY_AUTH_TOKEN") else str(file)
        return f"Ray at {address} refuses the token of {whose}: take the cluster's own (its head's ~/.ray/auth_token)"
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return f"Ray at {address} asks for a token, and RAY_AUTH_MODE={os.environ['RAY_AUTH_MODE']} here"
    return f"Ray at {address} asks for a token, and {file} is not there: copy the head's, with mode 600"


def able(nodes: list[dict[str, Any]], budget: Budget) -> list[dict[str, Any]]:
    """The nodes, of `ray.nodes()`, that are alive and that a trial fits on."""
    alive = [node for node in nodes if node["Alive"]]
    return [
        n for n in alive if all(n["Resources"].get(k, 0) >= v for k, v in (("CPU", budget.cpus), ("GPU", budget.gpus)))
    ]


def refuse_unplaceable(nodes: list[dict[str, Any]], budget: Budget) -> None:
    if not able(nodes, budget):
        alive = [node["Resources"] for node in nodes if node["Alive"]]
        most = max((f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in alive), default="nothing")
        raise ServiceError(
            f"budget: a trial needs {budget.cpus:g} CPUs and {budget.gpus:g} GPUs, the largest node has {most}"
        )


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
    )
    warnings.filterwarnings("ignore", module=r"ray\.")
    import ray  # noqa: F401  importing it sets the level of its loggers

    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
