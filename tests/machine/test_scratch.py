"""Folders for temporary files: private, gone with their process, and removed after a kill by the next one."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ablate.errors import StoreError
from ablate.machine import scratch

SCRIPT = """
import sys, time
from pathlib import Path
from ablate.machine import scratch
with scratch.folder(Path(sys.argv[1])) as own:
    (own / "kept").mkdir()
    print(own, flush=True)
    time.sleep(600)
"""


def test_a_folder_is_private_and_goes(tmp_path):
    old = os.umask(0)
    try:
        with scratch.folder(tmp_path) as own:
            assert stat.S_IMODE(own.stat().st_mode) == 0o700
            (own / "file").touch()
            with scratch.folder(tmp_path) as other:
                assert own != other
            assert own.exists()
    finally:
        os.umask(old)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_goes_with_the_next_and_nothing_else(tmp_path):
    (tmp_path / "ablate-checkout").mkdir()  # a user's own, whatever it is called
    processes = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, tmp_path], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    killed, living = (process.stdout.readline().strip() for process in processes)
    processes[0].kill()
    processes[0].communicate()
    assert Path(killed, "kept").exists()
    with scratch.folder(tmp_path):
        assert not Path(killed).exists()
        assert Path(living, "kept").exists()
    processes[1].kill()
    processes[1].communicate()
    scratch.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["ablate-checkout"]


def test_a_full_or_closed_place_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(StoreError, match="missing: No such file"), scratch.folder(tmp_path / "missing"):
        pass
    room = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(scratch, "LEAST_ROOM", room + 2**40)
    with pytest.raises(StoreError, match=r"no room left for temporary files .* TMPDIR"), scratch.folder(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_pipe_in_place_of_the_owner_file_is_left_alone(tmp_path):
    (tmp_path / "ablate-x").mkdir()
    os.mkfifo(tmp_path / "ablate-x" / scratch.OWNER)
    sweeps = (
        "import sys; from pathlib import Path; from ablate.machine import scratch; scratch.sweep(Path(sys.argv[1]))"
    )
    subprocess.run(
        [sys.executable, "-c", sweeps, tmp_path], check=True, timeout=60
    )  # opened to read, it waits for ever
    assert (tmp_path / "ablate-x" / scratch.OWNER).is_fifo()


def test_who_joins_while_the_last_user_leaves_keeps_a_folder(tmp_path, monkeypatch):
    """The second user comes when the first has removed the files, and not yet the folder."""
    joined, remove = [], shutil.rmtree

    def removes(path, **how):
        (path / scratch.OWNER).unlink()
        if not joined:
            joined.append(scratch.shared(tmp_path, "pictures"))
            assert (joined[0].__enter__() / scratch.OWNER).exists()
        remove(path, **how)

    monkeypatch.setattr(shutil, "rmtree", removes)
    with scratch.shared(tmp_path, "pictures") as folder:
        pass
    assert (folder / scratch.OWNER).exists()
    monkeypatch.undo()
    joined[0].__exit__(None, None, None)
    assert not list(tmp_path.iterdir())
