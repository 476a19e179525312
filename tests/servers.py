"""Real servers for tests, on loopback and in folders of their own: PostgreSQL, and MLflow's over it or over SQLite."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def postgres_program(name: str) -> Path | None:
    """On the path, or where Debian keeps it: the newest version."""
    found = shutil.which(name)
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    return Path(found) if found else next(reversed(places), None)


@contextmanager
def postgres() -> Iterator[str]:
    """A cluster with a password and one database, as MLflow's URI of it; the test is skipped where there is none.

    PostgreSQL refuses to be root, and whoever it is instead could not reach into pytest's own folder.
    """
    initdb, server = postgres_program("initdb"), postgres_program("postgres")
    if not initdb or not server:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    place, port, password = Path(tempfile.mkdtemp(prefix="ablate-pg-")), free_port(), secrets.token_hex(8)
    (place / "password").write_text(password)
    identity = {}
    if os.geteuid() == 0:
        identity = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        shutil.chown(place, "nobody", "nogroup")
        shutil.chown(place / "password", "nobody", "nogroup")
    settings = ["-U", "ablate", "-A", "scram-sha-256", "--pwfile", place / "password", "-E", "UTF8", "--no-locale"]
    made = subprocess.run(
        [initdb, "-D", place / "data", *settings], cwd=place, capture_output=True, text=True, check=False, **identity
    )
    assert made.returncode == 0, made.stderr
    options = ["listen_addresses=127.0.0.1", f"unix_socket_directories={place}", f"port={port}", "fsync=off"]
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            [server, "-D", place / "data", *(word for option in options for word in ("-c", option))],
            cwd=place, stdout=log, stderr=log, **identity,
        )  # fmt: skip
    try:
        wait_for(lambda: socket.create_connection(("127.0.0.1", port), 1).close(), process, place / "log")
        yield f"postgresql://ablate:{password}@127.0.0.1:{port}/postgres"
    finally:
        process.send_signal(signal.SIGQUIT)  # at once: nothing of it is kept
        process.wait(60)
        shutil.rmtree(place, ignore_errors=True)


class Tracker:
    """`mlflow server` on a port that stays its own over restarts."""

    def __init__(self, place: Path, backend: str) -> None:
        self.place, self.backend, self.port = place, backend, free_port()
        self.uri, self.process = f"http://127.0.0.1:{self.port}", None
        place.mkdir(exist_ok=True)

    def start(self, *, admin: str = "") -> None:
        """With a password for the user `admin` it asks for one."""
        options = {
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--workers": "1",
            "--backend-store-uri": self.backend,
            "--artifacts-destination": str(self.place / "artifacts"),
        }
        quiet = {
            "HOME": str(self.place),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        if admin:
            options["--app-name"] = "basic-auth"
            quiet |= {"MLFLOW_AUTH_ADMIN_PASSWORD": admin, "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex()}
        with (self.place / "log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *(word for option in options.items() for word in option)],
                cwd=self.place, stdout=log, stderr=log, start_new_session=True, env=os.environ | quiet,
            )  # fmt: skip
        wait_for(
            lambda: urllib.request.urlopen(f"{self.uri}/health", timeout=1).close(), self.process, self.place / "log"
        )

    def stop(self, how: int = signal.SIGKILL) -> None:
        """All its processes, at once."""
        if self.process:
            os.killpg(self.process.pid, how)
            self.process.wait(60)
            self.process = None

    def requests(self) -> list[str]:
        """What it was asked so far, as in `POST /api/2.0/mlflow/runs/create`."""
        lines = (self.place / "log").read_text().splitlines()
        return [
            line.split('"')[1].split("?")[0].rsplit(" HTTP", 1)[0]
            for line in lines
            if "/mlflow" in line and '"' in line
        ]


def wait_for(answer, process: subprocess.Popen, log: Path) -> None:
    """Until that call raises no OSError; fails with the log if the process ends, or after five minutes."""
    for _ in range(600):
        try:
            answer()
            return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.5)
    pytest.fail(log.read_text()[-2000:])
