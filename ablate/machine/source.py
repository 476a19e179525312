"""What Python source computes, as a digest: comments, docstrings and layout do not count, all that runs does.

A module's digest covers the modules that it imports from its own package or folder, and theirs. It is a digest of the
syntax tree in a form of our own, for `ast.dump` and the tree itself differ between versions of Python.
"""

import ast
import hashlib
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ablate.errors import PartError

FILES = "FILES"  # the name by which a module lists the data files that it reads
SILENT = {"ctx", "kind", "type_comment", "type_ignores"}  # fields that decide nothing
OURS = {"ablate", "hrnet_core"}  # whose parts have a `meaning`
LENGTH = 8  # bytes of a digest


def digest(module: Path, root: Path, *, within: tuple[str, ...] = ()) -> str:
    """16 hexadecimal digits of a module's file and of all that it imports from under `root`, which modules are named
    from; from these packages and folders of packages alone, where any are named.

    Raises:
        PartError: a file that cannot be read, or is no Python.
    """
    return digest_of(closure(module, root, within=within), root)


def digest_of(files: Iterable[Path], root: Path) -> str:
    """The same of these files alone, whose names count from `root`."""
    content = hashlib.blake2b(digest_size=LENGTH)
    for file in files:
        content.update(f"{file.relative_to(root).as_posix()}\0".encode("utf-8", "surrogateescape"))
        if file.suffix != ".py":
            content.update(_read(file))
            continue
        tree = _parsed(file)
        for token in _tokens(tree):
            content.update(token.encode("utf-8", "surrogatepass") + b"\0")
        for name in _data_files(tree, file):
            content.update(f"{name}\0".encode() + hashlib.blake2b(_read(file.parent / name)).digest())
    return content.hexdigest()


def closure(module: Path, root: Path, *, within: tuple[str, ...] = ()) -> list[Path]:
    """The module's file and those that it imports from under `root`, directly or not, in the order of their names."""
    own = module.relative_to(root).parts[0].removesuffix(".py")
    if not within and root.name in ("site-packages", "dist-packages"):
        within = (own,)  # its neighbours are packages of others
    found: set[Path] = set()
    waiting = [module, *_packages(module, root)]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        if file.suffix == ".py":
            for dotted in _imports(_parsed(file), file, root):
                if _inside(dotted, within):
                    waiting += [path for path in _located(dotted, root) if path not in found]
    return sorted(found)


def _inside(dotted: str, within: tuple[str, ...]) -> bool:
    if within:
        return any(f"{dotted}.".startswith(f"{package}.") for package in within)
    return dotted.split(".", maxsplit=1)[0] not in {*OURS, "__future__"}


def located(file: Path) -> tuple[Path, str]:
    """The folder that a file's module is imported from, and the module's name: packages around it are part of that."""
    root, parts = file.parent, [] if file.name == "__init__.py" else [file.stem]
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    return root, ".".join(parts)


def root_of(file: Path, module: str) -> Path:
    """The folder that a module of that name was imported from."""
    depth = module.count(".") + (file.name == "__init__.py")
    return file.parents[min(depth, len(file.parents) - 1)]


def _packages(module: Path, root: Path) -> list[Path]:
    """The `__init__.py` files that run before the module does."""
    folders = [folder for folder in module.parents if folder != root and folder.is_relative_to(root)]
    return [file for folder in folders if (file := folder / "__init__.py").is_file()]


def _located(dotted: str, root: Path) -> list[Path]:
    """The files that importing a module from under `root` runs; none where it does not lie there."""
    parts = dotted.split(".")
    files: list[Path] = []
    for end in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:end])
        compiled = (place.with_name(place.name + suffix) for suffix in _suffixes())
        choices = (place / "__init__.py", place.with_name(f"{place.name}.py"), *compiled)
        found = next((file for file in choices if file.is_file()), None)
        if found:
            files.append(found)
        elif not place.is_dir():
            break
    return files


def _suffixes() -> list[str]:
    return [str(sysconfig.get_config_var("EXT_SUFFIX")), ".abi3.so", ".so"]


def _imports(tree: ast.Module, file: Path, root: Path) -> Iterator[str]:
    """Absolute names of what a file imports, anywhere in it; `from a import b` may mean the module a.b."""
    package = file.parent.relative_to(root).parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join([*parent, *([node.module] if node.module else [])])
            yield from ([source] if source else [])
            yield from (f"{source}.{alias.name}".lstrip(".") for alias in node.names)


def _data_files(tree: ast.Module, file: Path) -> list[str]:
    """What a module lists as `FILES = ("table.json",)`, beside itself."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [FILES]:
            try:
                names = ast.literal_eval(node.value)
            except ValueError:
                names = None
            if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
                raise PartError(f"{file}: {FILES} lists file names, as literals: {FILES} = ('table.json',)")
            return sorted(names)
    return []


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(_read(file))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise PartError(f"{file}: is no Python source: {error}") from None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise PartError(f"{file}: {error.strerror}") from None


def _tokens(tree: ast.AST) -> Iterator[str]:
    """The tree in words, from left to right. Without recursion: source may be nested deeper than Python's stack."""
    waiting: list[Any] = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, ast.Constant):
            yield f"{type(item.value).__name__} {_written(item.value)}"
        elif isinstance(item, ast.AST):
            yield type(item).__name__
            waiting += ["}", *reversed([part for name, value in _fields(item) for part in (f"{name}=", value)]), "{"]
        elif isinstance(item, list):
            waiting += ["]", *reversed([part for part in item if not _is_said(part)]), "["]
        else:
            yield repr(item)


def _fields(node: ast.AST) -> list[tuple[str, Any]]:
    """A node's fields that say something; those that other versions of Python lack are empty here."""
    fields = {name: value for name, value in ast.iter_fields(node) if name not in SILENT and value not in (None, [])}
    if isinstance(node, ast.JoinedStr):
        fields["values"] = _joined(node.values)
    return sorted(fields.items())


def _is_said(node: Any) -> bool:
    """A text that stands as a statement: a docstring, or a comment in its form."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """The pieces of an f-string, texts that stand side by side as one: versions of Python cut them differently."""
    pieces: list[ast.expr] = []
    for value in values:
        last = pieces[-1] if pieces else None
        if isinstance(value, ast.Constant) and isinstance(last, ast.Constant):
            pieces[-1] = ast.Constant(str(last.value) + str(value.value))
        elif not (isinstance(value, ast.Constant) and value.value == ""):
            pieces.append(value)
    return pieces


def _written(value: Any) -> str:
    return hex(value) if type(value) is int else ascii(value)  # what can be printed, and how long, differs
