"""Provenance: what a result says of the machine and code that made it."""

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


def test_outside_a_checkout_the_revision_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(origin, "__file__", str(tmp_path / "ablate" / "machine" / "origin.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    facts = look()
    origin.revision.cache_clear()
    assert facts["revision"] == facts["dirty"] == "unknown"


def test_bf16_is_what_the_processor_says():
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    assert origin.has_bf16() == any(word in flags.split() for word in ("avx512_bf16", "amx_bf16", "bf16"))
