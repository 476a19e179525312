"""One results folder for several people: a group's folder stays the group's, and who is kept out learns what to set."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from small_studies import COMMAND, TESTS, write_study

from ablate.errors import StoreError
from ablate.storage import Store

NOBODY = 65534


@pytest.fixture
def mask():
    """The usual mask of a user, whatever a test makes of it."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder) -> set[tuple[bool, int]]:
    """Of all below a folder: whether it is one, and its bits for the owner's group."""
    return {(path.is_dir(), stat.S_IMODE(path.stat().st_mode) & 0o2070) for path in folder.rglob("*")}


@pytest.mark.parametrize("there", [True, False], ids=["folder", "its parent"])
def test_what_is_written_in_a_groups_folder_is_the_groups(tmp_path, mask, there):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2775)
    store = Store(shared if there else shared / "results")
    store.create()
    with store.lock("ab") as hold:
        store.save("ab", b"state", hold=hold)
    (shared / "other").mkdir()  # what MLflow makes
    assert modes(shared) == {(True, 0o2070), (False, 0o060)}


def test_elsewhere_the_mask_stays(tmp_path, mask):
    Store(tmp_path / "results").create()
    assert modes(tmp_path) == {(True, 0o050), (False, 0o040)}


needs_users = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="takes root and setpriv")


@pytest.fixture
def open_folder():
    """One that other users may enter; pytest's may not be."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@needs_users
@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "not shared"])
def test_two_users_train_one_study(ablate, open_folder, shared):
    """The first user's folder has the second one's group, or has not."""
    study = write_study(open_folder, seeds=1)
    results = open_folder / "results"
    results.mkdir()
    if shared:
        os.chown(results, -1, NOBODY)
        results.chmod(0o2775)
    first = subprocess.run(
        [*COMMAND, "run", study, "--local", "--only", "depth=1"], cwd=open_folder, env=ablate.environment, umask=0o022,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert first.returncode == 0, first.stderr
    home = open_folder / "other"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all"]
    environment = ablate.environment | {"HOME": str(home), "PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
    starts = "import subprocess, sys; subprocess.run([sys.executable, '-m', 'ablate', '--version'], check=True)"
    asked = [*user, sys.executable, "-c", starts]  # a report starts one of its own, which setpriv's rights do not reach
    if subprocess.run(asked, env=environment, capture_output=True, check=False).returncode:
        pytest.skip("this Python's files are closed to other users")
    second = subprocess.run(
        [*user, *COMMAND, "run", study, "--local"], cwd=home, env=environment | {"ABLATE_RESULTS": str(results)},
        umask=0o022, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if shared:
        assert second.returncode == 0, second.stderr
        assert "1 trials ran, none failed" in second.stderr
        assert "MLflow" not in second.stderr
    else:
        assert second.returncode == 2
        assert "Traceback" not in second.stderr
        assert "Permission denied; " in second.stderr
        assert "chmod -R g+rwX FOLDER" in second.stderr


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"{}"])
def test_a_damaged_marker_names_its_remedy(tmp_path, content):
    (tmp_path / "store.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"store\.json: .*delete it: it contains only the format's version"):
        Store(tmp_path)
    (tmp_path / "store.json").unlink()
    Store(tmp_path).create()
    assert Store(tmp_path).read().results == {}
