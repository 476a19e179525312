"""Provenance: what a result says of the machine and code that made it."""

import base64
import hashlib
import os
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
import torch
from small_studies import TESTS

from ablate.machine import origin


def test_provenance_names_versions_and_hardware():
    facts = origin.provenance()
    assert facts["torch"] == metadata.version("torch")
    assert facts["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"python", "system", "processor", "cores", "ray", "mlflow", "numpy", "revision", "dirty"} <= facts.keys()
    assert all(isinstance(value, str) and value for value in facts.values())


def test_the_revision_is_that_of_the_checkout():
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=TESTS, capture_output=True, text=True, check=False)
    if git.returncode:
        pytest.skip("not a git checkout")
    assert origin.revision()["revision"] == git.stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of its own that `revision` takes for ours."""

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    (tmp_path / "ablate" / "machine").mkdir(parents=True)
    (tmp_path / "ablate" / "machine" / "origin.py").write_text("x = 1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    monkeypatch.setattr(origin, "__file__", str(tmp_path / "ablate" / "machine" / "origin.py"))
    yield git
    origin.revision.cache_clear()


def look() -> dict[str, str]:
    origin.revision.cache_clear()
    return origin.revision()


def test_uncommitted_changes_are_told_apart(checkout, tmp_path):
    file = tmp_path / "ablate" / "machine" / "origin.py"
    assert look() == {"revision": checkout("rev-parse", "HEAD"), "dirty": "no"}
    file.write_text("x = 2\n")
    two = look()["dirty"]
    file.write_text("x = 3\n")
    three = look()["dirty"]
    assert len({"no", two, three}) == 3
    file.write_text("x = 2\n")
    assert look()["dirty"] == two
    (tmp_path / "notes.md").write_text("not code\n")
    file.write_text("x = 1\n")
    assert look()["dirty"] == "no"


def test_a_new_file_of_code_is_a_change(checkout, tmp_path):
    (tmp_path / "ablate" / "new.py").write_text("y = 1\n")
    assert look()["dirty"] != "no"


def odd_files(folder: Path) -> dict[str, str]:
    """By what they are, names in the folder: each made, none readable as what its name says."""
    (folder / ".#fit.py").symlink_to("user@host.1:1")  # an editor's lock
    (folder / "gone.py").symlink_to("nowhere.py")
    (folder / "a_folder.py").symlink_to(folder.parent, target_is_directory=True)
    (folder / "folder.py").mkdir()
    (folder / "folder.py" / "inner.py").write_text("")
    (folder / "größe.py").write_text("z = 1\n")
    (folder / 'a "quote"\nand a line.py').write_text("z = 1\n")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.py")).write_text("z = 1\n")
    os.mkfifo(folder / "pipe.py")  # git lists none, sources() finds it
    return {path.name: str(path) for path in folder.iterdir()}


@pytest.mark.parametrize("odd", [False, True])
def test_files_that_cannot_be_read_or_named_cost_nothing(checkout, tmp_path, odd):
    """They count as a change all the same."""
    if odd:
        odd_files(tmp_path / "ablate")
    origin.sources.cache_clear()
    assert (look()["dirty"] != "no") is odd
    assert len(origin.sources()) == 16
    origin.sources.cache_clear()
    if odd:
        first = look()["dirty"]
        (tmp_path / "ablate" / "größe.py").write_text("z = 2\n")
        second = look()["dirty"]
        (tmp_path / "ablate" / "gone.py").unlink()
        (tmp_path / "ablate" / "gone.py").symlink_to("elsewhere.py")
        assert len({first, second, look()["dirty"]}) == 3


def test_an_editors_lock_is_no_other_code(checkout, tmp_path):
    """A worker that starts while a file is being edited has the driver's code."""
    origin.sources.cache_clear()
    before = origin.sources()
    (tmp_path / "ablate" / ".#origin.py").symlink_to("user@host.1:1")
    origin.sources.cache_clear()
    assert origin.sources() == before
    origin.sources.cache_clear()


def test_a_byte_that_is_no_utf8_in_a_change_costs_nothing(checkout, tmp_path):
    file = tmp_path / "ablate" / "machine" / "origin.py"
    file.write_bytes(b"# caf\xe9\nx = 1\n")
    latin = look()["dirty"]
    file.write_bytes(b"# caf\xe8\nx = 1\n")
    assert len({"no", latin, look()["dirty"]}) == 3


def test_a_git_that_does_not_answer_costs_nothing(checkout, monkeypatch, tmp_path):
    (tmp_path / "bin").mkdir()
    slow = tmp_path / "bin" / "git"
    answers = "*rev-parse*) echo abc;; *ls-files*origin.py*) echo ablate/machine/origin.py;; *) exit 1;;"
    slow.write_text(f'#!/bin/sh\ncase "$*" in {answers} esac\n')
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    assert look() == {"revision": "abc", "dirty": "unknown"}


def test_git_answers_for_another_users_checkout_too(checkout, tmp_path):
    if os.geteuid():
        pytest.skip("takes root")
    commit = checkout("rev-parse", "HEAD")
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, 65534, 65534)
    assert look() == {"revision": commit, "dirty": "no"}
    (tmp_path / "ablate" / "new.py").write_text("y = 1\n")
    assert look()["dirty"] != "no"


def test_a_git_hooks_environment_names_another_repository(checkout, tmp_path, monkeypatch):
    commit = checkout("rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert look()["revision"] == commit


def recorded(content: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).decode().rstrip("=")
    return f"sha256={digest},{len(content)}"


def test_an_installed_copy_has_its_version_whatever_repository_it_lies_in(checkout, tmp_path, monkeypatch):
    site = tmp_path / ".venv" / "site-packages"
    own, other = site / "ablate" / "machine" / "origin.py", site / "hrnet_core" / "blocks.py"
    for file in (own, other):
        file.parent.mkdir(parents=True)
        file.write_text("x = 1\n")
    about = site / "ablate_backbones-1.2.3.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ablate-backbones\nVersion: 1.2.3\n")
    (about / "RECORD").write_text(
        f"ablate/machine/origin.py,{recorded('x = 1' + chr(10))}\nhrnet_core/blocks.py,{recorded('x = 1' + chr(10))}\n"
    )
    monkeypatch.setattr(origin, "__file__", str(own))
    assert look() == {"revision": "1.2.3", "dirty": "no"}
    other.write_text("x = 2\n")
    edited = look()["dirty"]
    other.write_text("x = 1\n")
    (site / "ablate" / "new.py").write_text("y = 1\n")
    added = look()["dirty"]
    (site / "ablate" / "new.py").unlink()
    other.unlink()
    assert len({"no", edited, added, look()["dirty"]}) == 4
    assert look()["revision"] == "1.2.3"


def test_any_other_copy_is_told_by_its_files(checkout, tmp_path, monkeypatch):
    own = tmp_path / "copy" / "ablate" / "machine" / "origin.py"
    own.parent.mkdir(parents=True)
    own.write_text("x = 1\n")
    monkeypatch.setattr(origin, "__file__", str(own))
    first = look()
    assert first["revision"] == "unknown"
    own.write_text("x = 2\n")
    assert look()["dirty"] != first["dirty"]


def test_bf16_is_what_the_processor_says():
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    assert origin.has_bf16() == any(word in flags.split() for word in ("avx512_bf16", "amx_bf16", "bf16"))
