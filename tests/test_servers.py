"""What a run on this machine opens: a token that only its user reads, no dashboard, and which doors stand where."""

import stat
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from small_studies import COMMAND, small_study, write_study

LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


def doors(home: Path) -> set[tuple[str, str, int]]:
    """Program, address and port of every socket that a process of this home listens on."""
    found = set()
    for process in psutil.process_iter():
        try:
            if process.environ().get("HOME") == str(home):
                for socket in process.net_connections("tcp"):
                    if socket.status == psutil.CONN_LISTEN:
                        found.add((process.name(), socket.laddr.ip, socket.laddr.port))
        except (psutil.Error, OSError):  # it has ended, or is another user's
            continue
    return found


@pytest.mark.slow
def test_a_run_opens_no_dashboard_and_no_tracker_and_its_token_is_its_users(ablate, tmp_path):
    """All processes of one run are looked at while it lasts: every port of theirs is on loopback."""
    study = write_study(
        tmp_path, recipe=small_study()["recipe"] | {"train": {"epochs": 30, "batch": 8, "precision": "fp32"}}
    )
    home, log, seen = tmp_path / "home", tmp_path / "log", set()
    with (
        log.open("w") as out,
        subprocess.Popen(
            [*COMMAND, "run", str(study)], cwd=tmp_path, env=ablate.environment, stdout=out, stderr=out
        ) as run,
    ):
        while run.poll() is None:
            seen |= doors(home)
            time.sleep(0.5)
    assert run.returncode == 0, log.read_text()
    token = home / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) & 0o077 == 0
    names = {name for name, _, _ in seen}
    assert any("raylet" in name for name in names), names  # else nothing was looked at
    assert not {port for _, _, port in seen} & {8265, 5000}
    assert not {(name, address) for name, address, _ in seen if address not in LOOPBACK}
