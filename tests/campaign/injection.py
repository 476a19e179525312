"""One injection: a fresh run of the study, a fault at a random moment, then the same command until all is done."""

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ablate.study import Design, Trial, load
from campaign import judge, mirror
from campaign.cluster import Cluster
from campaign.faults import Fault
from campaign.mlflow_server import Server
from campaign.observation import read_result
from campaign.processes import kill, name, until
from campaign.scene import Scene
from campaign.study import EPOCHS, TOTAL, write

MOST_RUNS = 6
GRACE_SECONDS = 30  # for a dead driver's processes to go


def undisturbed(folder: Path, cluster: Cluster, server: Server) -> dict[str, tuple]:
    """The numbers of a run that nothing happens to, by trial.

    Raises:
        RuntimeError: even that one does not end well.
    """
    scene = _scene(folder, cluster, server, random.Random(0), diverges=0)
    scene.start().wait()
    scene.ledger.close()
    if scene.missing():
        raise RuntimeError(f"the undisturbed run is not complete: {scene.drivers[0].log.read_text()[-2000:]}")
    return {trial.id: judge.numbers(scene.results, trial.id) for trial in scene.trials}


def injected(kind: str, fault: Fault, seed: int, number: int, *, folder: Path, cluster: Cluster, server: Server,
             reference: dict[str, tuple]) -> dict[str, Any]:  # fmt: skip
    """A row of what one fault did; `seed` and `number` decide its moment and everything else that is drawn."""
    chance = random.Random(f"{seed} {kind} {number}")
    cluster.heal()
    server.start()
    scene = _scene(folder, cluster, server, chance, diverges=chance.randint(1, EPOCHS) if fault.unstable else 0)
    with scene.after:
        fault.prepare(scene)
        scene.start()
        moment = chance.randint(1, round(0.75 * TOTAL))
        until(lambda: len(scene.trace()) >= moment or not scene.drivers[0].running(), 300)
        time.sleep(chance.uniform(0, 1.5))
        hit = fault.act(scene)
        complete = _seen_through(scene)
        strays = _left_behind(scene)
        scene.ledger.close()
        return {
            "fault": kind,
            "number": number,
            "moment": moment,
            "seconds": round(time.time() - scene.begun, 1),
            "complete": complete,
            **_costs(scene, hit, reference),
            **judge.said([driver.log for driver in scene.drivers]),
            "mlflow": _mirrored(scene),
            "orphans": strays,
            "notes": scene.notes,
        }


def _scene(folder: Path, cluster: Cluster, server: Server, chance: random.Random, *, diverges: int) -> Scene:
    folder.mkdir(parents=True)
    trials = Design(load(write(folder, diverges=diverges))).trials
    unstable = {trial.id for trial in trials if trial.recipe.model.knobs["diverges"]}
    return Scene(folder, cluster, server, chance, trials, unstable)


def _seen_through(scene: Scene) -> bool:
    """Wait, and give the same command again while anything is missing, as a user would."""
    while True:
        for driver in scene.drivers:
            if not driver.wait():
                scene.notes.append("a driver hung and was killed")
        scene.ledger.look()
        if not scene.missing():
            return True
        if len(scene.drivers) >= MOST_RUNS:
            return False
        if scene.drivers[-1].process.returncode == 0:
            scene.notes.append(f"a run ended with 0 and left {len(scene.missing())} trials")
        scene.cluster.heal()
        failed = {t for t, stored in scene.ledger.first.items() if stored.status == "failed"}
        scene.start(*(["--retry"] if failed else []))


def _costs(scene: Scene, hit: Any, reference: dict[str, tuple]) -> dict[str, Any]:
    trace, trials = scene.trace(), {trial.id for trial in scene.trials}
    same = [judge.numbers(scene.results, trial) == reference[trial] for trial in trials - scene.unstable]
    return {
        "lost": judge.lost(scene.ledger),
        "twice": judge.twice(scene.ledger, trace),
        "repeated": judge.repeated(trace, trials - hit.rebuilt),
        "repeated_of_damaged": judge.repeated(trace, set(hit.rebuilt)),
        "interval": judge.interval(trace),
        "equal": all(same) and not scene.missing(),
        "resume_seconds": judge.seconds_to_resume(hit, trace, scene.ledger),
        "statuses": [driver.process.returncode for driver in scene.drivers],
    }


def _left_behind(scene: Scene) -> int:
    """Count the processes that outlive their driver, then end them, for the next injection must not suffer."""
    until(lambda: not scene.strays(), GRACE_SECONDS, every=1)
    strays = scene.strays()
    scene.notes += [f"left behind: {name(pid)}" for pid in sorted(strays)]
    kill(strays)
    return len(strays)


def _mirrored(scene: Scene) -> dict[str, int]:
    """What MLflow shows after `ablate track`, and how that ended."""
    scene.server.start()
    command = [sys.executable, "-m", "ablate", "track", "campaign.yaml", *scene.place]
    with (scene.folder / "track.log").open("w") as log:
        track: Callable[..., Any] = subprocess.run
        status = track(command, cwd=scene.folder, env=scene.cluster.environment, stdout=log, stderr=log, check=False)
    stored = {trial.id: read_result(scene.results / "trials" / trial.id) for trial in _unique(scene.trials)}
    statuses = {trial: found.status for trial, found in stored.items() if found}
    return {"track": status.returncode, **mirror.judged(scene.server.uri, scene.folder.name, statuses)}


def _unique(trials: list[Trial]) -> list[Trial]:
    return list({trial.id: trial for trial in trials}.values())
