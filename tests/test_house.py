"""The house: who may import whom, what a file may be called, how long it may be.

The order of rooms is one list; a room imports only rooms before it.
"""

import ast
import importlib
import re
from itertools import chain
from pathlib import Path

import pytest

from ablate import registry

ROOT = Path(__file__).parent.parent
PACKAGES = ("ablate", "hrnet_core")
# A room imports only rooms before it; those of one line know nothing of each other.
ORDER = """
    errors
    machine
    registry
    study datasets models
    tasks metrics storage
    beside
    network analysis tracking
    training report
    planning evaluation
    running
    cli
    __main__
"""
RANK = {room: rank for rank, line in enumerate(ORDER.split("\n")) for room in line.split()}
SHELVES = ("datasets", "metrics", "models", "tasks", "report/sections")
LIGHT = ("machine", "study", "storage", "beside", "analysis", "tracking")  # rooms whose faces hand out their names
HEAVY = (
    "network",
    "training",
    "planning",
    "evaluation",
    "running",
    "running/ray",
)  # their faces import nothing: torch takes seconds
MOST_FILES, MOST_LINES = 12, 400
FORBIDDEN = {"utils", "helpers", "common", "base", "manager", "engine", "misc"}
OWNERS = {
    "ray": ("running/ray/",),
    "mlflow": ("tracking/experiment",),
    "yaml": ("study/yaml_subset",),
    "matplotlib": ("report/draw",),
    "vl_convert": ("report/vega",),
    "click": ("cli/",),
    "rich": ("cli/",),
    "fsspec": ("storage/bucket",),
    "filelock": ("storage/place",),
    "hrnet_core": ("models/", "tasks/", "training/weights", "network/published_costs", "evaluation/checkpoints"),
    "onnxruntime": ("evaluation/onnx_file", "network/export"),
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


def test_loose_are_only_what_every_room_needs():
    loose = {path.name for path in (ROOT / "ablate").glob("*.py")}
    assert loose == {"__init__.py", "__main__.py", "errors.py", "registry.py"}


@pytest.mark.parametrize("folder", [*LIGHT, *HEAVY, "report"])
def test_a_room_has_a_dozen_files_at_most(folder):
    assert 1 < len(list((ROOT / "ablate" / folder).glob("*.py"))) <= MOST_FILES + 1  # and its face


# A module and its one function share a name, and the face has the module.
DEEP = {
    "ablate.study.presets.presets",
    "ablate.machine.files.in_words",
    "ablate.machine.files.make",
    "ablate.machine.files.write_atomically",
}


@pytest.mark.parametrize("own", LIGHT)
def test_others_take_names_from_the_face_of_a_room(own):
    """What a face hands out is what others use: nothing is reached for behind it, nothing is handed out unused."""
    face = importlib.import_module(f"ablate.{own}")
    used = set()
    for path in OURS:
        if room(module(path)) != own:
            found = {dotted for dotted in imports(path) if dotted.startswith(f"ablate.{own}.")}
            deep = {dotted for dotted in found if dotted.count(".") > 2 and dotted not in DEEP}
            assert not deep, f"{path.name} reaches behind the face of {own}: {deep}"
            used |= {dotted.split(".")[2] for dotted in found if dotted.count(".") == 2}
    assert used - {dotted.split(".")[2] for dotted in DEEP} <= set(face.__all__) <= used


@pytest.mark.parametrize("folder", HEAVY)
def test_a_heavy_face_imports_nothing_and_names_its_files(folder):
    face = ROOT / "ablate" / folder / "__init__.py"
    assert not imports(face)
    text = face.read_text()
    for path in face.parent.glob("[a-z]*.py"):
        assert re.search(rf"\b{path.stem}\b", text), path.name


def test_the_map_names_every_room_and_every_file_says_what_it_is_for():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for path in OURS:
        folder = str(path.parent.relative_to(ROOT / "ablate"))
        assert folder == "." or f"`{folder}/`" in text, folder
    for loose in ("errors.py", "registry.py"):
        assert f"`{loose}`" in text
    for path in FILES:
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert len(docstring.split("\n")[0].split()) > 3, path


def test_tests_mirror_the_rooms():
    rooms = {name.split("/")[0] for name in RANK if (ROOT / "ablate" / name).is_dir()}
    assert rooms <= {path.name for path in (ROOT / "tests").iterdir() if list(path.glob("test_*.py"))}


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
        allowed = (
            "ablate.analysis",
            "ablate.registry",
            "ablate.report.blocks",
            "ablate.report.verdicts",
            "ablate.errors",
        )
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
def test_files_are_short_and_have_names(path):
    assert len(path.read_text().splitlines()) <= MOST_LINES
    assert not set(path.relative_to(ROOT).with_suffix("").parts) & FORBIDDEN


def test_defined_names_are_not_empty_words():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                words = set(re.findall("[A-Z]?[a-z]+", node.name))
                assert not {word.lower() for word in words} & FORBIDDEN, f"{path.name}: {node.name}"


def test_no_class_inherits_from_a_class_of_ours():
    ours = {n.name for p in FILES for n in ast.walk(ast.parse(p.read_text())) if isinstance(n, ast.ClassDef)}
    # The tree of errors is an exception, and so are contracts: protocols and typed dicts, which say more than others.
    said = {"Protocol", "Person"}
    for path in FILES:
        if path.name == "errors.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                parents = {base.id for base in node.bases if isinstance(base, ast.Name)}
                if parents & said:
                    continue
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


def test_tasks_protocols_and_data_sets_are_dataclasses():
    """Their fields are their knobs, listed once; models and metrics are functions, which return what others wrote."""
    for kind in ("task", "protocol", "dataset"):
        for part in registry.names(kind):
            found = registry.describe(kind, part)
            assert found.path.read_text().splitlines()[found.line - 1].startswith("class "), part


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


def test_the_readme_is_short():
    """What it is, two commands, a study, the tasks, where to go on; all else is in docs/."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert max(map(len, lines)) <= 100
