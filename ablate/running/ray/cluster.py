"""A Ray cluster, this machine's own or a running one: reached, quiet, watched, and able to place a trial at all."""

import gc
import logging
import os
import signal
import socket
import stat
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ablate.errors import ServiceError, one_line
from ablate.machine import scratch
from ablate.study import Budget

HEAD_SECONDS = 45.0  # without an answer of the head, after which a run ends; Ray ends the process, unasked, after 60

LONGEST_PLACE = 25  # bytes: a socket's 107 less /ablate-12345678/r/session_..._1234567/sockets/plasma_store
GET_CLUSTER_ID = "/ray.rpc.NodeInfoGcsService/GetClusterId"  # a Ray head's answer to its first caller


def short_place() -> Path:
    """Where the folder of a local Ray may lie: its sockets' paths have a limit.

    Raises:
        ServiceError: no place is short enough, or can be written.
    """
    asked = os.environ.get("RAY_TMPDIR")
    if asked and len(os.fsencode(Path(asked).absolute())) <= LONGEST_PLACE and os.access(asked, os.W_OK | os.X_OK):
        return Path(asked).absolute()
    place = None if asked else scratch.for_sockets(LONGEST_PLACE)
    if place is None:
        raise ServiceError(
            f"{asked or scratch.default()}: no place for Ray's sockets, whose paths are limited; set "
            f"{'RAY_TMPDIR' if asked else 'TMPDIR'} to a folder of at most {LONGEST_PLACE} characters that you can "
            "write to, or try --local"
        )
    return place


def connect(ray: Any, address: str | None, own: Path) -> None:
    """Join the cluster at `address`, or start one of this machine's own, which asks for Ray's token.

    All that a Ray of this machine's own keeps on disk, its sockets above all, lies in `own`, which is private: whoever
    may rename a socket may listen in its place.

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
        # Raylets' remarks on workers that died go to our standard output, whatever is asked; hooks.py tells of those.
        ray._private.worker.print_to_stdstream = lambda data, ignore_prefix: None
        # Ray keeps and shows the command line, which may hold a password, and knows UTF-8 only.
        ray._private.utils.get_entrypoint_name = lambda: "ablate"
        ray._private.utils.set_sigterm_handler = lambda handler: None  # Stop listens, also while Ray starts
        signal.pthread_sigmask(
            signal.SIG_BLOCK, {signal.SIGHUP}
        )  # what Ray starts inherits it, and outlives a terminal
        local = {} if address else {"include_dashboard": False, "_temp_dir": str(own / "r")}  # which Ray opens to all
        ray.init(address=address or "local", **local, **silent)
    except Exception as error:  # Ray raises a bare one where a node takes too long to start
        where = f"Ray at {address}" if address else "a local Ray"
        raise ServiceError(f"{where} cannot be reached: {one_line(error)}; try --local") from None
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        os.umask(old_mask)


def leave(ray: Any, own: Path) -> None:
    """Leave the cluster, or end this machine's own, whose files lie in `own`.

    Ray ends a process in which another thread frees a handle of an actor meanwhile, as the collector of garbage may at
    any time: what there is of it goes before, and none is collected until Ray is gone.
    """
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
        _end_children(own)
    finally:
        gc.enable()


def _end_children(own: Path) -> None:
    """Wait for the helpers of a local Ray, which look for its logs once more before they end; kill those that stay.

    Of a Ray that was ended while it started none is known to Ray itself yet.
    """
    for _ in range(50):
        if not _children(own):
            return
        time.sleep(0.1)
    for number in _children(own):
        with suppress(OSError):
            os.kill(number, signal.SIGKILL)


def _children(own: Path) -> set[int]:
    """The other processes that have a file in the folder open: their logs, whatever they call themselves."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if link.readlink().is_relative_to(own):
                found.add(int(link.parts[2]))
    return found - {os.getpid()}


def umask() -> int:
    """This process's mask for the modes of new files."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _token_file() -> Path:
    if path := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return Path(path)
    with _at_home("the home folder"):
        return Path.home() / ".ray" / "auth_token"


@contextmanager
def _at_home(what: object) -> Iterator[None]:
    """What a home that is another's, or is not there, does to the one who looks for Ray's token in it, in words."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or one_line(error)
        raise ServiceError(
            f"{what}: {why}; Ray keeps its token in the home folder: set HOME to a folder of yours, or try --local"
        ) from None


def _narrow() -> None:
    """Whoever reads the token may run code on the cluster, so nobody else may read its file."""
    file = _token_file()
    with _at_home(file):
        mode = stat.S_IMODE(file.stat().st_mode) if _is_there(file) else None
    if mode is None:
        if "RAY_AUTH_TOKEN_PATH" in os.environ:  # Ray itself would abort the process
            raise ServiceError(f"RAY_AUTH_TOKEN_PATH: {file} is not there")
        return
    if mode & 0o077:
        try:
            file.chmod(0o600)
        except OSError:
            raise ServiceError(f"{file}: others can read Ray's token; its owner mends it: chmod 600 {file}") from None


def _is_there(file: Path) -> bool:
    """Whether it exists; raises OSError where that cannot be known."""
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _refuse_stranger(address: str) -> None:
    """Ask for the cluster's id, with our token if there is one; Ray itself would try for 20 s, or for minutes."""
    import grpc
    from ray._private import services
    from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

    try:
        place = services.canonicalize_bootstrap_address("auto") if address == "auto" else address
    except ConnectionError:  # what Ray raises where none runs and none ever ran
        place = None
    if place is None:
        raise ServiceError(
            "--address auto: no Ray runs on this machine; start one (`ray start --head`) or give HOST:PORT"
        )
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
    with _at_home(file):
        return file.read_text().strip() if _is_there(file) else ""


def _refusal(address: str, token: str) -> str:
    file = _token_file()
    if token:
        whose = "RAY_AUTH_TOKEN" if os.environ.get("RAY_AUTH_TOKEN") else str(file)
        return f"Ray at {address} refuses the token of {whose}: take the cluster's own (its head's ~/.ray/auth_token)"
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return f"Ray at {address} asks for a token, and RAY_AUTH_MODE={os.environ['RAY_AUTH_MODE']} here"
    return f"Ray at {address} asks for a token, and {file} is not there: copy the head's, with mode 600"


def able(nodes: list[dict[str, Any]], budget: Budget) -> list[dict[str, Any]]:
    """The nodes, of `ray.nodes()`, that are alive, have the labels, and that a process of a trial fits on."""
    needs = {"CPU": budget.cpus, "GPU": budget.gpus / budget.team}
    there = _labelled(nodes, budget)
    return [node for node in there if all(node["Resources"].get(kind, 0) >= need for kind, need in needs.items())]


def _labelled(nodes: list[dict[str, Any]], budget: Budget) -> list[dict[str, Any]]:
    return [node for node in nodes if node["Alive"] and budget.labels.items() <= node.get("Labels", {}).items()]


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
                lost(f"Ray at {address} no longer answers; once it does, the same command continues from here")
                return


def refuse_unplaceable(nodes: list[dict[str, Any]], budget: Budget) -> None:
    """Of the nodes in `ray.nodes()` those that are alive and have the labels must have room for a trial's processes.

    Raises:
        ServiceError: they have not, however empty.
    """
    there = [node["Resources"] for node in _labelled(nodes, budget)]
    if not there and budget.labels:
        wish = ", ".join(f"{name}={value}" for name, value in budget.labels.items())
        raise ServiceError(f"budget.labels: no node has the labels {wish}; nodes get theirs by `ray start --labels`")
    gpus = budget.gpus / budget.team
    fits = [int(min(n.get("CPU", 0) // budget.cpus, n.get("GPU", 0) // gpus if gpus else 10**9)) for n in there]
    if sum(fits) < budget.team:
        most: dict[str, float] = max(there, key=lambda n: (n.get("GPU", 0), n.get("CPU", 0)), default={})
        what = f"{budget.team} processes of a trial need" if budget.team > 1 else "a trial needs"
        each = " each" if budget.team > 1 else ""
        raise ServiceError(
            f"budget: {what} {budget.cpus:g} CPUs and {gpus:g} GPUs{each}, "
            f"the largest node has {most.get('CPU', 0):g} CPUs and {most.get('GPU', 0):g} GPUs"
        )


def shape(tune: Any, budget: Budget) -> Callable[[dict[str, Any]], Any]:
    """What a trial's processes need, as Tune asks for it, a bundle each; `gpus` of the trial's own configuration."""
    cpus, team, strategy = budget.cpus, budget.team, "SPREAD" if budget.across_nodes else "PACK"
    selector = {"bundle_label_selector": [dict(budget.labels)] * team} if budget.labels else {}

    def needed(config: dict[str, Any]) -> Any:
        return tune.PlacementGroupFactory([{"CPU": cpus, "GPU": config["gpus"] / team}] * team, strategy, **selector)

    return needed


def alive(ray: Any) -> set[str]:
    """The ids of the nodes that are there."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def slots(ray: Any, budget: Budget) -> int:
    """About how many trials fit on the cluster at once."""
    there = ray.cluster_resources()
    by_cpu = there.get("CPU", 0) / (budget.cpus * budget.team)
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
        TUNE_GLOBAL_CHECKPOINT_S="1000000000",  # Tune's own state is never read
        TUNE_MAX_PENDING_TRIALS_PG="1000",  # hooks.py bounds them; Tune's bound for a source of trials would be one
    )
    warnings.filterwarnings("ignore", module=r"ray\.")
    import ray  # noqa: F401  importing it sets the level of its loggers

    for name in ("ray", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what became of trials is told by hooks.py
