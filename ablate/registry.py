"""The shelves: a part is one file, the file's name is the part's name, its signature or its fields are its knobs.

A part's file is *read* (with `ast`) for its knobs, defaults and facts, and *imported* only when the part is built:
so lists, checks and trial keys need no torch. The rules that make this possible are the shelf's contract: one
decorated builder per file, literal defaults, a trailing comment that documents each knob. A builder is a function
with keyword-only arguments, or a frozen dataclass, whose fields are the knobs; a field whose name a method takes ends
in an underscore, which its knob's name lacks.
"""

import ast
import dataclasses
import importlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, Union

from pydantic import BaseModel, ConfigDict, StrictFloat, StrictInt, ValidationError, create_model

from ablate.errors import PartError, as_written, invalid, nearest
from ablate.machine import annotations, modules, source

FOLDERS = {
    "model": "models",
    "task": "tasks",
    "dataset": "datasets",
    "metric": "metrics",
    "section": "report/sections",
}
HOME = Path(__file__).parent
INSTALLED = "ablate.parts"  # the group of entry points by which a package says which of its modules hold parts
REQUIRED: Any = ...

Builder = TypeVar("Builder", bound=Callable[..., Any])
_plugins: dict[tuple[str, str], modules.Module] = {}
_builders: dict[tuple[str, str], Callable[..., Any]] = {}


class Chosen(Protocol):
    """A part as a recipe names it: what the doors of the shelves take (`datasets.build_dataset` and the like)."""

    @property
    def name(self) -> str: ...
    @property
    def knobs(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Knob:
    """One choice that a part offers: its annotation and default as they are written, its comment as text."""

    name: str
    type: str
    default: Any
    doc: str


@dataclass(frozen=True)
class Description:
    """What is known of a part without importing it; `facts` are the literal keywords of its decorator."""

    kind: str
    name: str
    summary: str
    knobs: tuple[Knob, ...]
    facts: dict[str, Any]
    path: Path
    line: int  # in the file, of the builder

    @property
    def meaning(self) -> int:
        """Raised by hand when the part's code changes what it computes; a part of every trial's key."""
        return int(self.facts.get("meaning", 1))

    def gives(self, score: str) -> bool:
        """Whether a metric gives a score of that name, of all classes or of one."""
        of_class = self.facts.get("of_class")
        return score in self.facts.get("scores", ()) or (of_class is not None and score.startswith(of_class))


def _decorator(kind: str) -> Callable[..., Callable[[Builder], Builder]]:
    def decorate(name: str, /, **facts: Any) -> Callable[[Builder], Builder]:
        def remember(builder: Builder) -> Builder:
            _builders[kind, name] = builder
            return builder

        return remember

    decorate.__doc__ = f"Marks the builder of a {kind} called `name`; `facts`, literals, are read with its knobs."
    return decorate


model = _decorator("model")
task = _decorator("task")
protocol = _decorator("protocol")  # a task's evaluation knobs; lives in the task's file
dataset = _decorator("dataset")
metric = _decorator("metric")
section = _decorator("section")


def names(kind: str) -> list[str]:
    """The names on a shelf, in alphabetical order; those of plugins and of installed packages are among them."""
    return sorted(_shipped(kind) | {name for other, name in [*_plugins, *_installed()] if other == kind})


@cache
def describe(kind: str, name: str) -> Description:
    """Read a part's file for its knobs and facts, without importing it.

    Raises:
        PartError: the shelf has no such part (the nearest name is given), or its file holds no builder.
    """
    if (kind, name) not in _plugins and name not in _shipped(kind) and name not in names(kind):
        raise PartError(f"unknown {kind} {name!r}; {nearest(name, names(kind))}")
    path = _path(kind, name)
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            call = next((d for d in node.decorator_list if _decorates(d, kind, name)), None)
            if isinstance(call, ast.Call):
                return _description(kind, name, node, call, path)
    raise PartError(f"{path}: no function or class decorated with @{kind}({name!r})")


def error_units(task: str) -> dict[str, str]:
    """Those of a task's scores of which less is better, with their units."""
    metrics = describe("task", task).facts.get("metrics", ())
    return {score: unit for name in metrics for score, unit in describe("metric", name).facts.get("errors", {}).items()}


def less_is_better(task: str, score: str) -> bool:
    """Whether a score of a task is an error."""
    return score in error_units(task)


def check_knobs(kind: str, name: str, knobs: dict[str, Any]) -> dict[str, Any]:
    """All knobs of a part with defaults filled in, validated against its annotations, as plain JSON values.

    Raises:
        PartError: an unknown knob or a value of the wrong type; the message begins with the knob's name.
    """
    known = [knob.name for knob in describe(kind, name).knobs]
    for knob in knobs:
        if knob not in known:
            raise PartError(f"{knob}: the {kind} {name!r} has no such knob; {nearest(knob, known)}")
    try:
        return _knob_model(kind, name)(**knobs).model_dump(mode="json")
    except ValidationError as error:
        where, what = invalid(error)
        wrong = str(error.errors()[0]["loc"][0])
        kinds = next((knob.type for knob in describe(kind, name).knobs if knob.name == wrong), "")
        if (" | " in kinds or kinds.startswith(("tuple", "list"))) and wrong in knobs:  # pydantic speaks of tuples
            where, what = wrong, f"should be: {annotations.in_words(kinds)}; not {as_written(knobs[wrong]):.100}"
        raise PartError(f"{where}: {what}") from None


def knob_schemas(kind: str, name: str) -> dict[str, dict[str, Any]]:
    """The JSON schema of each knob, with its comment as description."""
    properties: dict[str, dict[str, Any]] = _knob_model(kind, name).model_json_schema()["properties"]
    return {knob.name: properties[knob.name] | {"description": knob.doc} for knob in describe(kind, name).knobs}


def build(kind: str, name: str, knobs: dict[str, Any]) -> Any:
    """Import a part's file and call its builder. `knobs` as `check_knobs` returns them.

    What comes out has the type that the shelf's contract gives it: `build_task`, `build_dataset` and their like say so.
    """
    validated, builder = _knob_model(kind, name)(**knobs), _builder(kind, name)
    fields = {field.name for field in dataclasses.fields(builder)} if dataclasses.is_dataclass(builder) else set()
    values = {knob: getattr(validated, knob) for knob in type(validated).model_fields}
    return builder(**{f"{knob}_" if f"{knob}_" in fields else knob: value for knob, value in values.items()})


def load_plugins(named: Iterable[str], *, beside: Path | None = None) -> None:
    """Put parts from elsewhere on the shelves: modules by name, or by file (./mynet.py, from the folder `beside`).

    A plugin runs only because the user named it.

    Raises:
        PartError: the module cannot be imported, or holds no part.
    """
    for given in named:
        found = modules.imported(given, beside)
        parts = [key for key, builder in _builders.items() if builder.__module__ == found.module]
        if not parts:
            raise PartError(f"plugins: {given!r} holds no decorated part")
        for kind, name in parts:
            if _path(kind, name) != found.path and name in names(kind):  # two parts of one name would share keys
                raise PartError(f"plugins: {given!r} brings a {kind} {name!r}, which is there already")
            _plugins[kind, name] = found
    describe.cache_clear()
    _knob_model.cache_clear()


def is_plugin(kind: str, name: str) -> bool:
    """Whether a part is from another package."""
    return (kind, name) in _plugins


def plugins() -> list[str]:
    """What `load_plugins` has put on the shelves, by names with which another process can do it too."""
    return sorted({module.name for module in _plugins.values()})


def module_of(kind: str, name: str) -> modules.Module | None:
    """The module that a part comes from, with the digest of its content; None of a part of this repository.

    Raises:
        PartError: its source cannot be read.
    """
    if (kind, name) in _plugins:
        return _plugins[kind, name]
    if name in _shipped(kind) or (kind, name) not in _installed():
        return None
    return _read(*_installed()[kind, name])


@cache
def _read(module: str, path: Path) -> modules.Module:
    return modules.Module(module, module, path, source.digest(path, source.root_of(path, module)))


@cache
def _installed() -> dict[tuple[str, str], tuple[str, Path]]:
    """Parts of installed packages, by the modules that they name as entry points; their files are read, not imported.

    The first one of a name counts, and one of this repository before them.
    """
    found: dict[tuple[str, str], tuple[str, Path]] = {}
    for module, path in modules.installed(INSTALLED):
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        for node in tree.body:
            for call in getattr(node, "decorator_list", ()):
                for kind in (*FOLDERS, "protocol"):
                    if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant):
                        name = str(call.args[0].value)
                        if _decorates(call, kind, name):
                            found.setdefault((kind, name), (module, path))
    return found


def _shipped(kind: str) -> set[str]:
    files = (HOME / FOLDERS["task" if kind == "protocol" else kind]).glob("*.py")
    return {file.stem for file in files if not file.stem.startswith("_")}


def _builder(kind: str, name: str) -> Callable[..., Any]:
    if (kind, name) not in _builders and name not in _shipped(kind) and (kind, name) in _installed():
        load_plugins((_installed()[kind, name][0],))
    if (kind, name) not in _builders:
        folder = FOLDERS["task" if kind == "protocol" else kind].replace("/", ".")
        importlib.import_module(f"ablate.{folder}.{name}")
    return _builders[kind, name]


def _path(kind: str, name: str) -> Path:
    if (kind, name) in _plugins:
        return _plugins[kind, name].path
    if name not in _shipped(kind) and (kind, name) in _installed():
        return _installed()[kind, name][1]
    return HOME / FOLDERS["task" if kind == "protocol" else kind] / f"{name}.py"


def _decorates(decorator: ast.expr, kind: str, name: str) -> bool:
    if not isinstance(decorator, ast.Call) or not decorator.args:
        return False
    called = decorator.func.attr if isinstance(decorator.func, ast.Attribute) else getattr(decorator.func, "id", "")
    return called == kind and ast.literal_eval(decorator.args[0]) == name


def _description(
    kind: str, name: str, builder: ast.FunctionDef | ast.ClassDef, call: ast.Call, path: Path
) -> Description:
    summary = (ast.get_docstring(builder) or "").split("\n")[0]
    where, lines = f"{path}: {kind} {name!r}", path.read_text(encoding="utf-8").splitlines()
    written = _fields(builder, where) if isinstance(builder, ast.ClassDef) else _arguments(builder, where)
    try:
        facts = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
        knobs = tuple(_knob(*knob, lines) for knob in written)
    except ValueError:
        raise PartError(f"{where}: facts and defaults must be literals, for they are read") from None
    return Description(kind, name, summary, knobs, facts, path, builder.lineno)


Written = tuple[str, ast.expr | None, ast.expr | None, int]  # a knob's name, annotation, default and line


def _arguments(function: ast.FunctionDef, where: str) -> list[Written]:
    own = function.args
    if own.args or own.posonlyargs or own.vararg or own.kwarg:
        raise PartError(f"{where}: knobs are keyword-only arguments, after a '*'")
    pairs = zip(own.kwonlyargs, own.kw_defaults, strict=True)
    return [(argument.arg, argument.annotation, default, argument.lineno) for argument, default in pairs]


def _fields(made: ast.ClassDef, where: str) -> list[Written]:
    if not any(re.search(r"\bdataclass\(.*frozen=True", ast.unparse(own)) for own in made.decorator_list):
        raise PartError(f"{where}: a class whose fields are knobs needs @dataclass(frozen=True)")
    return [
        (node.target.id.removesuffix("_"), node.annotation, node.value, node.lineno)
        for node in made.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        if not ast.unparse(node.annotation).startswith("ClassVar")
    ]


def _knob(name: str, annotation: ast.expr | None, default: ast.expr | None, line: int, lines: list[str]) -> Knob:
    value = REQUIRED if default is None else ast.literal_eval(default)
    doc = lines[line - 1].partition("  # ")[2].strip()
    return Knob(name, ast.unparse(annotation) if annotation else "Any", value, doc)


TYPES: dict[str, Any] = {"Any": Any, "Literal": Literal, "str": str, "bool": bool, "list": list, "tuple": tuple}
TYPES |= {"dict": dict, "int": StrictInt, "float": StrictFloat}  # `true` is not 1, '3' not 3


def _type(written: ast.expr) -> Any:
    """What an annotation says, of these few names and nothing else: it is read and never run.

    Raises:
        NameError, TypeError: another name; something that is no type.
    """
    match written:
        case ast.Constant() | ast.UnaryOp():
            return ast.literal_eval(written)
        case ast.Name(name) if name in TYPES:
            return TYPES[name]
        case ast.Name(name):
            raise NameError(f"name {name!r} is not defined")
        case ast.Tuple(several):
            return tuple(_type(one) for one in several)
        case ast.BinOp(left, ast.BitOr(), right):
            return Union[_type(left), _type(right)]  # noqa: UP007 - `|` of values
        case ast.Subscript(outer, inner):
            return _type(outer)[_type(inner)]
    raise TypeError(f"{ast.unparse(written)!r} is no type")


@cache
def _knob_model(kind: str, name: str) -> type[BaseModel]:
    """A pydantic model of a part's knobs."""
    part = describe(kind, name)
    fields: dict[str, Any] = {}
    for knob in part.knobs:
        try:
            fields[knob.name] = (_type(ast.parse(knob.type, mode="eval").body), knob.default)
        except (NameError, TypeError, AttributeError) as error:
            raise PartError(f"{part.path}: knob {knob.name!r}: annotation {knob.type!r}: {error}") from None
    config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False,
        validate_default=True,  # a float knob's default of 2 is the same as a written 2, which is 2.0
    )  # fmt: skip
    return create_model(f"{name}_{kind}", __config__=config, **fields)
