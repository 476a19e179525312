"""What is imported is declared: nothing may come along by chance with somebody else's dependency."""

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
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
    ("folder", "extra"), [("hrnet_core", []), ("ablate", []), ("tests", PROJECT["optional-dependencies"]["test"])]
)
def test_every_import_has_a_declared_distribution(folder: str, extra: list[str]) -> None:
    declared = names(PROJECT["dependencies"] + extra)
    homes = metadata.packages_distributions()
    undeclared = {
        module: homes.get(module) for module in imported(folder) if not names(homes.get(module, [])) & declared
    }
    assert not undeclared
    assert imported(folder)


def test_every_dependency_is_pinned() -> None:
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    pinned = {line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert names(PROJECT["dependencies"] + extras) <= names(sorted(pinned))
