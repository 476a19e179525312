"""What is imported is declared: nothing may come along by chance with somebody else's dependency."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OURS = {"ablate", "hrnet_core", *(path.stem for path in (ROOT / "tests").rglob("*"))}


def names(requirements: list[str]) -> set[str]:
    """The distributions that requirements name, in the spelling of PEP 503."""
    return {re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", line)[0]).lower() for line in requirements}


def imported(folder: str) -> set[str]:
    """The top-level modules of others that a folder's files import, anywhere in them."""
    found: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - OURS - set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    ("folder", "extra"), [("hrnet_core", []), ("ablate", []), ("tests", EXTRAS["test"] + EXTRAS["bench"])]
)
def test_every_import_has_a_declared_distribution(folder: str, extra: list[str]) -> None:
    declared = names(PROJECT["dependencies"] + extra)
    homes = metadata.packages_distributions()
    undeclared = {
        module: homes.get(module)
        for module in imported(folder)
        if not names(homes.get(module, [module])) & declared  # peers of benchmarks need not be installed
    }
    assert not undeclared
    assert imported(folder)


def test_every_dependency_is_pinned() -> None:
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    pinned = {line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert names(PROJECT["dependencies"] + extras) <= names(sorted(pinned))


# The first versions without: CVE-2026-24747 (torch.load runs code of a checkpoint), CVE-2026-42308 (Pillow).
FIRST_SOUND = {"torch": (2, 10), "pillow": (12, 2)}


@pytest.mark.parametrize("name", FIRST_SOUND)
def test_least_versions_exclude_known_holes(name: str) -> None:
    (least,) = [line.partition(">=")[2] for line in PROJECT["dependencies"] if line.startswith(f"{name}>=")]
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    (pinned,) = [line.partition("==")[2] for line in pins if line.startswith(f"{name}==")]
    assert FIRST_SOUND[name] <= numbers(least) <= numbers(pinned)
    assert FIRST_SOUND[name] <= numbers(metadata.version(name).partition("+")[0])


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def test_a_typing_that_hides_pythons_own_is_named_at_once(tmp_path) -> None:
    """As where PYTHONPATH puts an environment's packages first, with what cityscapesscripts brings among them."""
    (tmp_path / "typing.py").write_text("raise AttributeError('_abc_registry')")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    for command in (["-m", "ablate", "list", "models"], ["-c", "from ablate.cli import main"]):
        run = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 2
        assert run.stderr == f"ablate: {tmp_path}/typing.py hides Python's own module: pip uninstall typing\n"
