"""The house: who may import whom, what a file may be called, how long it may be.

The order of rooms is one list; a room imports only rooms before it.
"""

import ast
import re
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("ablate", "hrnet_core")
# Rooms of one line know nothing of each other; a shelf is one room, and `report` is both renderers and sections.
ORDER = """
    errors watchdog stop
    registry env yaml_subset search archive count process_mark lease arrays confined
    presets trial site bucket
    paper budget factor result place
    study
    datasets
    metrics models tasks make_lspet make_camvid
    stats schedule
    design network store team
    notes
    cost resample weights comparable housekeeping sync_norm batches
    check measure paper_costs prices share
    fit match
    evaluate durations team_start
    plan
    run attempts
    team_follower
    ray_team
    ray_watchdog
    logged worker cluster evidence
    experiment
    mirror
    writer
    tracking hooks outcome preflight
    launch
    prediction
    drive report
    cli
    __main__
"""
RANK = {room: rank for rank, line in enumerate(ORDER.split("\n")) for room in line.split()}
SHELVES = ("datasets", "metrics", "models", "tasks", "report/sections")
FORBIDDEN = {"utils", "helpers", "common", "base", "manager", "engine", "misc"}
OWNERS = {
    "ray": ("launch", "cluster", "hooks", "worker", "ray_team", "preflight", "ray_watchdog"),
    "mlflow": ("experiment",),
    "yaml": ("yaml_subset",),
    "matplotlib": ("report/draw",),
    "click": ("cli/",),
    "rich": ("cli/",),
    "fsspec": ("bucket",),
    "filelock": ("place",),
    "hrnet_core": ("models/", "tasks/", "weights", "paper_costs"),
}

FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
OURS = [path for path in FILES if path.is_relative_to(ROOT / "ablate")]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, *, typing: bool = True) -> set[str]:
    """All modules that a file imports, anywhere in it, as absolute dotted names; `from a import b` gives a.b too."""
    found = set()
    package = module(path).split(".") if path.name == "__init__.py" else module(path).split(".")[:-1]
    tree = ast.parse(path.read_text())
    if not typing:
        tree.body = [node for node in tree.body if ast.unparse(node).split(":")[0] != "if TYPE_CHECKING"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*parent, *([node.module] if node.module else [])])
            found |= {source, *(f"{source}.{alias.name}" for alias in node.names)}
    return found


def room(dotted: str) -> str | None:
    """The room of a module of ours: `ablate.report.draw` is in `report`; other packages have none."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "ablate" and len(parts) > 1 else None


@pytest.mark.parametrize("path", [p for p in OURS if p != ROOT / "ablate/__init__.py"], ids=name)
def test_a_room_imports_only_rooms_before_it(path):
    own = room(module(path))
    others = {room(dotted) for dotted in imports(path)} - {None, own}
    assert {own, *others} <= RANK.keys()
    late = {other for other in others if RANK[other] >= RANK[own]}
    assert not late, f"{own} imports {late}"


def test_every_room_of_the_order_exists():
    assert set(RANK) == {room(module(path)) for path in OURS} - {None}


def test_the_core_knows_only_torch_and_itself():
    allowed = {"torch", "safetensors", "hrnet_core"}
    for path in (ROOT / "hrnet_core").glob("*.py"):
        tops = {dotted.split(".")[0] for dotted in imports(path)}
        assert "ablate" not in tops
        third_party = tops - allowed - set(__import__("sys").stdlib_module_names)
        assert not third_party, f"{path.name} imports {third_party}"


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_has_one_owner(library):
    users = [path for path in OURS if any(dotted.split(".")[0] == library for dotted in imports(path))]
    places = [str(path.relative_to(ROOT / "ablate").with_suffix("")) for path in users]
    assert places, f"nobody uses {library}"
    assert all(place.startswith(OWNERS[library]) for place in places), places


@pytest.mark.parametrize("shelf", SHELVES)
def test_a_part_imports_no_sibling(shelf):
    folder = ROOT / "ablate" / shelf
    parts = {path.stem for path in folder.glob("[a-z]*.py")} - {"__init__"}
    for path in folder.glob("*.py"):
        here = module(path) if path.name == "__init__.py" else module(path).rpartition(".")[0]
        siblings = {f"{here}.{part}" for part in parts} & imports(path)
        assert not siblings, f"{path.name} imports {siblings}"


def test_parts_see_nothing_of_the_corridor():
    for path in chain.from_iterable((ROOT / "ablate" / shelf).glob("*.py") for shelf in SHELVES[:4]):
        rooms = {room(dotted) for dotted in imports(path)} - {None}
        assert rooms <= {"errors", "registry", "datasets", "metrics", "tasks"}, path.name


def test_sections_see_evidence_and_blocks_only():
    for path in (ROOT / "ablate/report/sections").glob("[a-z]*.py"):
        seen = {dotted for dotted in imports(path) if dotted.startswith("ablate.")}
        allowed = ("ablate.evidence", "ablate.registry", "ablate.report.blocks", "ablate.errors")
        assert all(dotted.startswith(allowed) or dotted == "ablate.report" for dotted in seen), (path.name, seen)


def test_no_cycles_between_modules():
    modules = {module(path): path for path in FILES}
    needs = {name: imports(path, typing=False) & modules.keys() - {name} for name, path in modules.items()}
    # A module may import its own package, whose first lines have run by then.
    ordered: list[str] = []
    while rest := [name for name in modules if name not in ordered]:
        free = [name for name in rest if needs[name] <= {*ordered, *_packages(name)}]
        assert free, f"a cycle among {rest}"
        ordered += free


def _packages(dotted: str) -> set[str]:
    parts = dotted.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts))}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_are_short_say_what_they_are_and_have_names(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    assert not text.strip() or ast.get_docstring(ast.parse(text))
    assert not set(path.relative_to(ROOT).with_suffix("").parts) & FORBIDDEN


def test_defined_names_are_not_empty_words():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                words = set(re.findall("[A-Z]?[a-z]+", node.name))
                assert not {word.lower() for word in words} & FORBIDDEN, f"{path.name}: {node.name}"


def test_no_class_inherits_from_a_class_of_ours():
    ours = {n.name for p in FILES for n in ast.walk(ast.parse(p.read_text())) if isinstance(n, ast.ClassDef)}
    # The tree of errors and the typed dicts of a contract are the exceptions that design allows.
    for path in FILES:
        if path.name == "errors.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                parents = {base.id for base in node.bases if isinstance(base, ast.Name)}
                assert not parents & ours, f"{name(path)}: {node.name} inherits from {parents & ours}"


def shipped() -> list[Path]:
    kinds = ("*.py", "*.json", "*.css", "*.yaml", "*.toml", "*.md", "*.cfg", "*.txt")
    tops = [ROOT / top for top in ("ablate", "hrnet_core", "studies", "reports", "tests", "docs", "deploy")]
    found = [path for top in tops for kind in kinds for path in top.rglob(kind)]
    return found + [path for kind in kinds for path in ROOT.glob(kind)]


def test_no_file_speaks_of_one_machine():
    # Put together here, so that this file does not name them either.
    unwanted = ["/" + "work/", "/" + "home/", "/" + "Users/", ".." + "/shared", "shared" + "/data", "shared" + "/ref"]
    for path in shipped():
        text = path.read_text(encoding="utf-8")
        assert not [word for word in unwanted if word in text], name(path)


def test_no_builder_takes_anything():
    """Knobs are read from a signature, so a part hides none behind **kwargs or in positions."""
    for shelf in SHELVES:
        for path in (ROOT / "ablate" / shelf).glob("[a-z]*.py"):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.FunctionDef) and node.decorator_list:
                    arguments = node.args
                    assert not arguments.kwarg, name(path)
                    if node.name == path.stem:
                        assert [*arguments.args, *arguments.posonlyargs, arguments.vararg] == [None], name(path)
