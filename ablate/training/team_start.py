"""Process 0 of a trial calls the others together, watches over them, and says what is to blame when they are lost.

`here` starts them as fresh interpreters on this machine; others, such as Ray's actors, come through `led`. Whatever
ends process 0 ends them: it makes an end of them when the trial is over, and they end by themselves when it is gone.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

import torch
from torch.distributed import DistError, Store, TCPStore, group  # type: ignore[attr-defined]  # stubs

from ablate import errors, registry
from ablate.errors import DataError, TeamError
from ablate.machine import origin
from ablate.study import Trial
from ablate.training.site import Site, packed
from ablate.training.team import ALONE, PATIENCE, Team, joined

LOOPBACK = "127.0.0.1"
LAST_WORDS = 5  # seconds until the end of a process that broke off is known, or what it reported
GRACE = 600  # seconds after another process's end until process 0, stuck where Python cannot reach it, ends itself


class Crew(Protocol):
    """Processes 1 and up of a team, as process 0 has them."""

    def ended(self) -> str:
        """Which of them ended without success, in words; empty while none has."""

    def stop(self) -> None:
        """Make an end of them all, whatever they are at."""


@contextmanager
def here(trial: Trial, site: Site) -> Iterator[Team]:
    """The trial's team on this machine, with this process as its first; alone where one process is all.

    Raises:
        DataError: fewer GPUs than processes.
        TeamError: a process died or fell silent.
    """
    if site.gpu and site.budget.team > max(1, torch.cuda.device_count()):
        found = torch.cuda.device_count()
        raise DataError(f"budget.gpus: {site.budget.team} processes need a GPU each, this machine shows {found}")
    with led(trial, site, lambda jobs: Subprocesses(jobs, gpu=site.gpu), address=LOOPBACK) as team:
        yield team


@contextmanager
def led(trial: Trial, site: Site, start: Callable[[list[str]], Crew], *, address: str) -> Iterator[Team]:
    """The team whose other processes `start` starts, from jobs for `team_follower.follow`; they meet at `address`.

    Raises:
        TeamError: a process died or fell silent; the trial is not at fault.
        Exception: what another process reported, as if it had happened here.
    """
    if site.budget.team == 1:
        yield ALONE
        return
    server = socket.create_server((address, 0))  # handed on, for torch's own would listen on all interfaces
    port = server.getsockname()[1]
    store = TCPStore(
        address, port, is_master=True, timeout=PATIENCE, wait_for_workers=False, master_listen_fd=server.detach()
    )
    job: dict[str, object] = {"trial": trial.model_dump_json(), "site": packed(site), "plugins": registry.plugins()}
    job |= {"size": site.budget.team, "address": address, "port": port, "code": origin.code()}
    crew, over = start([json.dumps(job | {"rank": rank}) for rank in range(1, site.budget.team)]), threading.Event()
    threading.Thread(target=_watch, args=(crew, over, site.gpu), daemon=True).start()
    try:
        _await(store, crew, site.budget.team)
        with joined(0, site.budget.team, store, address, gpu=site.gpu) as team:
            yield team
    except Exception as error:
        raise _to_blame(error, store, crew, trial, site.budget.team) from None
    finally:
        over.set()
        crew.stop()


class Subprocesses:
    """Fresh interpreters on this machine; they end when their standard input does."""

    def __init__(self, jobs: list[str], *, gpu: bool) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TORCH_CPP_LOG_LEVEL": "ERROR"}
        shown = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(len(jobs) + 1)))
        self.processes = []
        for rank, job in enumerate(jobs, 1):
            device = {"CUDA_VISIBLE_DEVICES": shown.split(",")[rank]} if gpu else {}
            process = subprocess.Popen(
                [sys.executable, "-m", "ablate.training.team_follower"], env=environment | device, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True,  # Ctrl-C is for process 0
            )  # fmt: skip
            self.processes.append(process)
            assert process.stdin
            with suppress(BrokenPipeError):  # dead already: `ended` tells
                process.stdin.write(job + "\n")
                process.stdin.flush()

    def ended(self) -> str:
        for rank, process in enumerate(self.processes, 1):
            code = process.poll()
            if code:
                how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
                return f"process {rank} of 0 to {len(self.processes)} {how}"
        return ""

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
            assert process.stdin
            with suppress(BrokenPipeError):
                process.stdin.close()


def _await(store: Store, crew: Crew, size: int) -> None:
    """Until all are there."""
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while not store.check([f"here/{rank}" for rank in range(1, size)]):
        if crew.ended() or time.monotonic() > deadline:
            raise TeamError("not all processes of the trial came")
        time.sleep(0.05)


def _watch(crew: Crew, over: threading.Event, gpu: bool) -> None:
    """Free process 0 from waiting for a process that is no more; gloo breaks off by itself, NCCL must be told."""
    while not over.wait(1):
        if why := crew.ended():
            world = group.WORLD
            if gpu and world is not None:
                with suppress(RuntimeError):
                    world.abort()
            if not over.wait(GRACE):
                os.write(2, f"error: {why}, and this process could not be freed from waiting for it\n".encode())
                os._exit(os.EX_TEMPFAIL)
            return


def _to_blame(error: Exception, store: Store, crew: Crew, trial: Trial, size: int) -> Exception:
    """What to raise where `error` came up in process 0: another process's end may be its cause."""
    broke_off = isinstance(error, TeamError | DistError)
    deadline = time.monotonic() + (LAST_WORDS if broke_off else 0)
    while not (why := crew.ended()) and not _reported(store, size) and time.monotonic() < deadline:
        time.sleep(0.05)
    reported = _reported(store, size)
    if reported:
        return reported[0] if broke_off else error
    if why or broke_off:
        return TeamError(f"trial {trial.id}: {why or error}; run again to continue from its last state")
    return error


def _reported(store: Store, size: int) -> list[Exception]:
    """The exceptions that other processes ended with: ours by their class, others as RuntimeErrors."""
    found: list[Exception] = []
    for name in [f"fault/{rank}" for rank in range(1, size)]:
        if store.check([name]):
            kind, text = json.loads(store.get(name))
            known: type[Exception] = getattr(errors, kind, RuntimeError)
            found.append(known(text if known is not RuntimeError or kind == "RuntimeError" else f"{kind}: {text}"))
    return found
