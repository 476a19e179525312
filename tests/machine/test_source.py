"""Digests of source: of what it computes, equal on every version of Python, with all that it imports from beside it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ablate.errors import PartError
from ablate.machine import source

ROOT = Path(__file__).parents[2]
EXAMPLE = '''
"""A network."""
from __future__ import annotations

import math as m
from . import blocks
from .blocks import Block as B, other


@decorated("x", meaning=1, factor=1e-3)
async def f(a, /, b: int = 0x10, *args: float, c=b"\\xff", d="caf\\u00e9 \\ud800 \\u1c89", **kwargs) -> None:
    """What it does."""
    x = f"{a!r:>{b}} and {c + 1:.3f} {{}}" "more" f"{d=}"
    y: list[int] = [i for i in range(10) if i % 2 and not i > 7 or m.inf]
    async with a as q, b:
        yield x[1:2, ..., ::-1]
    try:
        assert y, "none"
    except* (ValueError, KeyError) as error:
        raise RuntimeError from error
    match a:
        case {"k": [1, *rest], **others} | B(x=1.5, y=None) if rest:
            return
        case _:
            global z
            z = lambda *, k=1j: (k := 2) if k else -3
    del x, y
    while 123456789012345678901234567890: break
    else: pass


class C(B, metaclass=type):
    """A class."""

    @property
    def g(self): return self.__class__, True, None, ..., not 1 <= 2 < 3 != 4, {**{}, 1: 2}, {1, 2}, 2 ** 3 // 4 @ 5
'''
DIGEST = "88ee76a756074a4a"
WITHOUT_EFFECT = [
    ("    # a comment\n", ""),
    ('"""A network."""', '"""Another text."""'),
    ('    """What it does."""\n', ""),
    ("0x10", "16"),
    ("[1:2, ..., ::-1]", "[ 1 : 2,...,::-1 ]"),
    ("while 123456789012345678901234567890: break", "while 123456789012345678901234567890:\n        break"),
    ('"k"', "'k'"),
    ("(k := 2) if k else -3", "((k := 2) if k else (-3))"),
]
WITH_EFFECT = [
    ("range(10)", "range(11)"),
    ("1e-3", "1e-4"),
    (".3f", ".4f"),
    ("{d=}", "{d}"),
    ("True, None", "None, True"),
    ('"more"', '"less"'),
    ("async with", "with"),
    ("c=b", "c="),
    ("from .blocks", "from blocks"),
    ("2 < 3", "2 <= 3"),
    ("x=1.5", "x=1"),
    ("case _:", "case w:"),
]


def written(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__in", "/__in").replace("_in_", "/")
        path = path.with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def digest(folder: Path, name: str = "mynet.py") -> str:
    return source.digest(folder / name, folder)


def of_text(folder: Path, text: str) -> str:
    (folder / "mynet.py").write_text(text, encoding="utf-8", errors="surrogatepass")
    return digest(folder)


def test_the_digest_of_a_file_is_known(tmp_path):
    assert of_text(tmp_path, EXAMPLE) == DIGEST


SCRIPT = """
import importlib.util, sys, types
from pathlib import Path
for name in ("ablate", "ablate.machine"):  # without their dependencies
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [str(Path({root!r}, *name.split(".")))]
from ablate.machine import source
print(source.digest(Path({file!r}), Path({file!r}).parent))
"""


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_it_is_the_same_on_every_python(tmp_path, version):
    """On those that this machine has."""
    python = python_of(version)
    of_text(tmp_path, EXAMPLE)
    script = SCRIPT.format(root=str(ROOT), file=str(tmp_path / "mynet.py"))
    run = subprocess.run([python, "-c", script], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == DIGEST, run.stderr


def python_of(version: str) -> str:
    """An interpreter of that version: this one, on the path, or of pyenv."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [sys.executable, f"python{version}", *map(str, sorted(versions.glob(f"{version}.*/bin/python")))]
    for candidate in candidates:
        try:
            said = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False).stdout
        except OSError:
            continue
        if said.startswith(f"Python {version}."):
            return candidate
    pytest.skip(f"no Python {version} here")


@pytest.mark.parametrize(("old", "new"), WITHOUT_EFFECT)
def test_comments_docstrings_and_layout_change_nothing(tmp_path, old, new):
    text = EXAMPLE.replace("del x, y\n", "# a comment\n    del x, y\n")
    assert old in text
    assert of_text(tmp_path, text) == of_text(tmp_path, text.replace(old, new)) == DIGEST


@pytest.mark.parametrize(("old", "new"), WITH_EFFECT)
def test_what_computes_something_else_has_another_digest(tmp_path, old, new):
    assert old in EXAMPLE
    assert of_text(tmp_path, EXAMPLE.replace(old, new)) != DIGEST


def test_modules_from_beside_it_count_and_others_do_not(tmp_path):
    written(tmp_path, mynet="import numpy\nimport blocks\n", blocks="from deep.er import a\n", unused="x = 1\n")
    written(tmp_path / "deep", er="a = 1\n")
    written(tmp_path, ablate="x = 1\n", numpyx="x = 1\n")
    before = digest(tmp_path)
    written(tmp_path, unused="x = 2\n", ablate="x = 2\n")
    assert digest(tmp_path) == before
    for name in ("blocks", "deep_in_er"):
        file = tmp_path / (name.replace("_in_", "/") + ".py")
        file.write_text(file.read_text() + "y = 1\n")
        assert digest(tmp_path) not in (before, None)
        before = digest(tmp_path)


def test_a_package_counts_as_far_as_it_is_imported(tmp_path):
    package = tmp_path / "mypkg"
    (package / "sub").mkdir(parents=True)
    files = {
        "__init__.py": "", "mynet.py": "from .sub import layers\nfrom . import a as b\n", "a.py": "x = 1\n",
        "sub/__init__.py": "from mypkg.sub.more import y\n", "sub/layers.py": "", "sub/more.py": "y = 1\n", "no.py": "",
    }  # fmt: skip
    for name, text in files.items():
        (package / name).write_text(text)
    found = [str(file.relative_to(package)) for file in source.closure(package / "mynet.py", tmp_path)]
    assert found == sorted(set(files) - {"no.py"})


def test_neighbours_in_site_packages_do_not_count(tmp_path):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "mynet.py").write_text("import torch\n")
    (folder / "torch.py").write_text("")
    assert source.closure(folder / "mynet.py", folder) == [folder / "mynet.py"]


def test_modules_that_import_each_other_end(tmp_path):
    written(tmp_path, mynet="import a\n", a="import b\n", b="import a, mynet\n")
    assert len(source.closure(tmp_path / "mynet.py", tmp_path)) == 3


def test_data_files_count_where_the_module_names_them(tmp_path):
    (tmp_path / "table.json").write_text("[1]")
    (tmp_path / "mynet.py").write_text('FILES = ("table.json",)\n')
    before = digest(tmp_path)
    (tmp_path / "table.json").write_text("[2]")
    assert digest(tmp_path) != before
    (tmp_path / "mynet.py").write_text('FILES = ("tables.json",)\n')
    with pytest.raises(PartError, match=r"tables\.json: No such file"):
        digest(tmp_path)
    (tmp_path / "mynet.py").write_text("FILES = tuple(names)\n")
    with pytest.raises(PartError, match="FILES lists file names, as literals"):
        digest(tmp_path)


def test_source_that_is_nested_deeply_has_a_digest(tmp_path):
    assert len(of_text(tmp_path, "x = " + " + ".join(["1"] * 900))) == 16


def test_what_is_no_python_is_one_line(tmp_path):
    with pytest.raises(PartError, match=r"mynet\.py: is no Python source"):
        of_text(tmp_path, "def f(:\n")
