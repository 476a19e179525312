"""One injection as it goes: its folder, its drivers, the cluster and the server they use."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ablate.study import Trial
from campaign.cluster import Cluster
from campaign.mlflow_server import Server
from campaign.observation import Ledger, Line, read_trace
from campaign.processes import tree, within

RUN_SECONDS = 600  # no run of this study takes longer: a driver that does hangs


class Driver:
    """One `ablate run` in a process group of its own, as a shell starts it."""

    def __init__(self, command: list[str], folder: Path, number: int, environment: dict[str, str]) -> None:
        self.log = folder / f"run{number}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ablate", *command],
                cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL to the driver alone."""
        self.process.kill()
        self.process.wait()

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal sends it: to the whole group."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)

    def wait(self) -> bool:
        """Wait for its end; one that hangs is killed, and False returned."""
        try:
            self.process.wait(RUN_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True


@dataclass
class Scene:
    """What a fault may touch."""

    folder: Path
    cluster: Cluster
    server: Server
    random: random.Random
    trials: list[Trial]
    unstable: set[str]  # trials that diverge by themselves
    drivers: list[Driver] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    after: ExitStack = field(default_factory=ExitStack)  # what is put right when it is over

    def __post_init__(self) -> None:
        self.results = self.folder / "results"
        self.results.mkdir(exist_ok=True)
        self.ledger = Ledger(self.results)
        self.begun = time.time()

    @property
    def place(self) -> list[str]:
        """The flags that all commands of this injection share."""
        return ["--results", "results", "--mlflow", self.server.uri, "--experiment", self.folder.name]

    def start(self, *flags: str) -> Driver:
        """Start `ablate run`, on the cluster unless `--local` is among the flags."""
        where = [] if "--local" in flags else ["--address", self.cluster.address]
        command = ["run", "campaign.yaml", *self.place, *where, *flags]
        driver = Driver(command, self.folder, len(self.drivers) + 1, self.cluster.environment)
        self.drivers.append(driver)
        return driver

    def trace(self) -> list[Line]:
        """What the networks noted so far."""
        return read_trace(self.folder / "trace")

    def training(self) -> dict[int, str]:
        """The living processes that train, and their trials."""
        alive, last = tree(*(line.pid for line in self.trace())), {line.pid: line for line in self.trace()}
        return {pid: line.trial for pid, line in last.items() if pid in alive and line.trial not in self.ledger.first}

    def missing(self) -> list[str]:
        """Trials without the result that they should have."""
        want = {trial.id: "diverged" if trial.id in self.unstable else "done" for trial in self.trials}
        have = {trial: stored.status for trial, stored in self.ledger.first.items()}
        return [trial for trial, status in want.items() if have.get(trial) != status]

    def strays(self) -> set[int]:
        """Processes of this campaign that should be gone once no driver runs."""
        ours = within(self.folder.parent)
        return (ours - self.cluster.standing() - self.server.standing()) | (ours & {line.pid for line in self.trace()})
