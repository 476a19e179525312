"""Python modules from outside of this repository: found by name, by file or by what is installed, and imported."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from types import ModuleType

from ablate.errors import PartError, one_line
from ablate.machine import source


@dataclass(frozen=True)
class Module:
    """One of them, as it was when it was imported."""

    name: str  # by which another process gets it: the module's own, or its file's absolute path
    module: str  # as Python calls it
    path: Path
    digest: str  # of it and of what it imports from its package or folder, see `source.digest`

    @property
    def shown(self) -> str:
        """Its name without a place of this machine."""
        return self.name.rpartition("/")[2]


_imported: dict[str, tuple[ModuleType, Module]] = {}


def imported(name: str, beside: Path | None = None) -> Module:
    """Import a module by its name, or by its file: absolute, or in the folder `beside`, the current one otherwise.

    A file's folder comes last among those that Python imports from, so that nothing in it takes another module's place.
    What was imported before is as it was then, whatever became of its file.

    Raises:
        PartError: there is none, it cannot be imported, or another module has its name.
    """
    name = absolute(name, beside)
    is_file = name.endswith(".py")
    root, module = source.located(Path(name)) if is_file else (None, name)
    if root and str(root) not in sys.path:
        sys.path.append(str(root))
    try:
        found = importlib.import_module(module)
    except (ImportError, SyntaxError, TypeError, ValueError) as error:  # TypeError, ValueError: '.x' and ''
        raise PartError(f"plugins: cannot import {name!r}: {one_line(error)}") from None
    known = _imported.get(module)
    if known and known[0] is found:
        return replace(known[1], name=name)
    if not found.__file__:
        raise PartError(f"plugins: {name!r} is a folder, not a module")
    path = Path(found.__file__)
    if is_file and not path.samefile(name):
        raise PartError(f"plugins: {name}: {path} has that name already; give the file another")
    root = root or source.root_of(path, module)
    _refuse_namesakes(path, root)
    made = Module(name, module, path, source.digest(path, root))
    _imported[module] = found, made
    return made


def absolute(name: str, beside: Path | None = None) -> str:
    """The name by which any process gets a module: of one that is named by its file, the file's absolute path.

    Raises:
        PartError: there is no such file.
    """
    if not name.endswith(".py") and "/" not in name:
        return name
    path = Path(os.path.normpath((beside or Path.cwd()).absolute() / name))
    path = path / "__init__.py" if path.is_dir() else path
    if path.suffix != ".py" or not path.is_file():
        raise PartError(f"plugins: {name}: no Python file at {path}")
    return str(path)


def installed(group: str) -> Iterator[tuple[str, Path]]:
    """The modules that installed packages name in a group of entry points, with their files. Nothing is imported."""
    for point in metadata.entry_points(group=group):
        if path := _file(point.module):
            yield point.module, path


def _file(module: str) -> Path | None:
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin else None
    for place in spec.submodule_search_locations or ():
        for file in (Path(place, *rest).with_suffix(".py"), Path(place, *rest, "__init__.py")):
            if file.is_file():
                return file
    return None


def _refuse_namesakes(path: Path, root: Path) -> None:
    """That Python has imported the very files that the digest is of."""
    for file in source.closure(path, root):
        parts = file.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        other = getattr(sys.modules.get(name), "__file__", None)
        if other and Path(other).is_file() and not file.samefile(other):
            raise PartError(f"plugins: {path.name} imports {name!r}, which is {other}, not {file}; rename that")
