"""An MLflow tracking server on loopback, over a SQLite file; stopped and started again like any service."""

import subprocess
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from campaign.processes import free_port, kill, tree, until


class Server:
    """The server's process; its port and its file stay when it is started again."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        folder.mkdir(parents=True)
        self.folder, self.port = folder, free_port()
        self.environment = environment | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # eight processes less
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers.

        Raises:
            RuntimeError: it does not answer.
        """
        if not self.process or self.process.poll() is not None:
            store = f"sqlite:///{self.folder / 'mlflow.db'}"
            command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--workers", "1"]
            where = ["--host", "127.0.0.1", "--port", str(self.port), "--artifacts-destination", str(self.folder / "a")]
            with (self.folder / "server.log").open("a") as log:
                self.process = subprocess.Popen(
                    [*command, *where],
                    cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
        if not until(self.answers, 180, every=0.5):
            raise RuntimeError(f"MLflow does not answer: {(self.folder / 'server.log').read_text()[-2000:]}")

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            urlopen(f"{self.uri}/health", timeout=5).close()
        except (URLError, OSError):
            return False
        return True

    def stop(self) -> None:
        """SIGKILL to it and its workers."""
        if self.process:
            kill(self.standing())
            self.process.wait()

    def standing(self) -> set[int]:
        """Its processes."""
        return tree(self.process.pid) if self.process else set()
