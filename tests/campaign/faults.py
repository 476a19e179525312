"""The faults, one function each: it does its harm to a running study and says when, and whom it stopped."""

import errno
import json
import os
import resource
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from campaign.processes import kill, tree, until
from campaign.scene import Scene
from campaign.study import HANG_MINUTES

DISK_BYTES = 300 * 2**20  # the small disk: a run asks for 200 MiB of room before it starts
NO_MOUNT = "a disk cannot be mounted here: instead no file of the training processes could grow"


@dataclass(frozen=True)
class Hit:
    """What a fault did."""

    time: float  # of the harm, in seconds since the epoch
    stopped: dict[int, str] = field(default_factory=dict)  # processes that train no more, and their trials
    rebuilt: frozenset[str] = frozenset()  # trials whose files were damaged: they are trained again, and should be


@dataclass(frozen=True)
class Fault:
    """A kind of harm."""

    title: str
    act: Callable[[Scene], Hit]
    prepare: Callable[[Scene], None] = lambda scene: None
    unstable: bool = False  # needs the arm that diverges


def worker(scene: Scene) -> Hit:
    """SIGKILL to one process that trains."""
    training = _busy(scene)
    pid = scene.random.choice(sorted(training))
    kill({pid})
    return Hit(time.time(), {pid: training[pid]})


def node(scene: Scene) -> Hit:
    """SIGKILL to a node, all processes at once; another takes its place, as on preemptible machines."""
    training = _busy(scene)
    busy = [node for _, node in sorted(scene.cluster.workers.items()) if node.pids() & training.keys()]
    gone = scene.random.choice(busy).kill()
    hit = Hit(time.time(), {pid: trial for pid, trial in training.items() if pid in gone})
    scene.cluster.heal()
    return hit


def driver(scene: Scene) -> Hit:
    """SIGKILL to `ablate run`."""
    training = _busy(scene)
    scene.drivers[-1].kill()
    return Hit(time.time(), training)


def head(scene: Scene) -> Hit:
    """SIGKILL to the head with Ray's control store; the cluster is started anew once the driver gave up."""
    training = _busy(scene)
    scene.cluster.head.kill()
    hit = Hit(time.time(), training)
    if not scene.drivers[-1].wait():
        scene.notes.append("the driver hung without a head")
    scene.notes.append(f"the driver ended {time.time() - hit.time:.0f} s after the head")
    return hit


def mlflow(scene: Scene) -> Hit:
    """The tracking server is killed and comes back some seconds later."""
    hit = Hit(time.time())
    scene.server.stop()
    time.sleep(scene.random.uniform(2, 15))
    scene.server.start()
    return hit


def small_disk(scene: Scene) -> None:
    """The results folder becomes a disk of its own, where this user may mount one."""
    try:
        _mount(scene.results, DISK_BYTES)
    except (OSError, subprocess.CalledProcessError):
        scene.notes.append(NO_MOUNT)
    else:
        scene.after.callback(subprocess.run, ["umount", "--lazy", str(scene.results)], check=False)


def disk(scene: Scene) -> Hit:
    """The disk of the results is full, until the driver has ended or a minute has gone; then there is room again."""
    training = _busy(scene)
    hit = Hit(time.time(), training)
    make_room = _forbid_writing(training) if NO_MOUNT in scene.notes else _fill(scene.results / "filler")
    if not until(lambda: not scene.drivers[-1].running(), 60):
        scene.notes.append("the driver went on without room")
    make_room()
    return hit


def state(scene: Scene) -> Hit:
    """A checkpoint is cut short while no driver runs."""
    return _cut(scene, lambda: [p for p in scene.results.glob("trials/*/state") if p.stat().st_size])


def result(scene: Scene) -> Hit:
    """A stored result, or its arrays, is cut short while no driver runs."""
    files = ("result.json", "per_image.npz")
    return _cut(scene, lambda: [p for p in scene.results.glob("trials/*/*") if p.name in files])


def two_drivers(scene: Scene) -> Hit:
    """A second `ablate run` of the same study on the same folder, here or on the same cluster."""
    hit = Hit(time.time())
    scene.start(*scene.random.choice([("--local",), ()]))
    return hit


def nan(scene: Scene) -> Hit:
    """The outputs of one arm become nan in some epoch."""
    until(lambda: scene.unstable & scene.ledger.first.keys() or not scene.drivers[-1].running(), 600)
    times = [scene.ledger.first[trial].time for trial in scene.unstable & scene.ledger.first.keys()]
    return Hit(min(times, default=time.time()))


def hang(scene: Scene) -> Hit:
    """A process stops for ever in the middle of an epoch."""
    (scene.folder / "hang").touch()
    if not until((scene.folder / "hung").exists, 120):
        scene.notes.append("no process was left to hang")
        return Hit(time.time())
    until(lambda: (scene.folder / "hung").read_text().endswith("\n"), 10)
    victim = json.loads((scene.folder / "hung").read_text())
    return Hit(victim["time"], {victim["pid"]: victim["trial"]})


def ctrl_c(scene: Scene) -> Hit:
    """Ctrl-C twice, with a pause of up to three seconds."""
    training = _busy(scene)
    hit = Hit(time.time(), training)
    scene.drivers[-1].interrupt()
    time.sleep(scene.random.uniform(0.05, 3))
    scene.drivers[-1].interrupt()
    return hit


FAULTS = {
    "worker": Fault("SIGKILL a worker", worker),
    "node": Fault("SIGKILL a node", node),
    "driver": Fault("SIGKILL the driver", driver),
    "head": Fault("SIGKILL the head", head),
    "mlflow": Fault("MLflow server killed and restarted", mlflow),
    "disk": Fault("results disk full, then room again", disk, prepare=small_disk),
    "state": Fault("checkpoint truncated", state),
    "result": Fault("result truncated", result),
    "two_drivers": Fault("two drivers on one folder", two_drivers),
    "nan": Fault("NaN loss in one arm", nan, unstable=True),
    "hang": Fault(f"a trial hangs ({HANG_MINUTES * 60:.0f} s allowed)", hang),
    "ctrl_c": Fault("Ctrl-C twice", ctrl_c),
}


def _busy(scene: Scene) -> dict[int, str]:
    """The processes that train, once there are some."""
    until(lambda: scene.training() or not scene.drivers[-1].running(), 300)
    training = scene.training()
    if not training:
        raise RuntimeError("nothing trains that could be disturbed")
    return training


def _cut(scene: Scene, files: Callable[[], list[Path]]) -> Hit:
    """Once there is a fitting file, the driver is killed and the file cut at some byte."""
    until(lambda: files() or not scene.drivers[-1].running(), 300)
    training = scene.training()
    scene.drivers[-1].kill()
    until(lambda: not tree(*training), 60)  # the dead driver's processes end, as they would before anyone looks
    path = scene.random.choice(sorted(files()))
    scene.ledger.look()
    length = scene.random.randrange(path.stat().st_size)
    scene.notes.append(f"{path.name}: {length} of {path.stat().st_size} bytes left")
    os.truncate(path, length)
    scene.ledger.forget(path.parent.name)
    return Hit(time.time(), training, frozenset({path.parent.name}))


def _fill(filler: Path) -> Callable[[], None]:
    """Leave no byte; returns how to make room again."""
    with filler.open("wb", buffering=0) as file:
        for block in (2**20, 4096, 1):
            try:
                while file.write(bytes(block)) == block:
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    return filler.unlink


def _forbid_writing(training: dict[int, str]) -> Callable[[], None]:
    """No file of these processes may grow; returns how to allow it again."""

    def limit(size: int) -> None:
        for pid in tree(*training):
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    limit(0)
    return partial(limit, resource.RLIM_INFINITY)


def _mount(place: Path, size: int) -> None:
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "campaign", str(place)]
    subprocess.run(command, check=True, capture_output=True)
