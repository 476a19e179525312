"""Parts from elsewhere: their content is in trials' identities, they are named by module or file, and never imported
because a result names them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_studies import TESTS, small_study, write_study

from ablate import registry
from ablate.errors import PartError
from ablate.machine import modules
from ablate.planning.match import _questions
from ablate.storage import Store
from ablate.study import Design, load

PARTS = (TESTS / "small_parts.py").read_text()


@pytest.fixture
def folder(tmp_path):
    """Beside a study lies a file of parts that imports another one."""
    (tmp_path / "outside.py").write_text(PARTS.replace("np.float32(1 + self", "np.float32(blocks.ONE + self"))
    text = (tmp_path / "outside.py").read_text().replace("import hashlib\n", "import hashlib\nimport blocks\n", 1)
    (tmp_path / "outside.py").write_text(text)
    (tmp_path / "blocks.py").write_text("ONE = 1\n")
    return tmp_path


def study(folder: Path, **changes) -> Path:
    return write_study(folder, **{"plugins": ["./outside.py"], "seeds": 1} | changes)


SHIPPED = {
    "recipe": {
        "task": "pose", "dataset": "figures", "model": {"name": "hrnet", "width": 4}, "train": {"precision": "fp32"},
    },
    "factors": {"w": {"at": "model.width", "levels": [4, 8]}}, "metrics": ["AP"],
}  # fmt: skip


# -- identity, each look in a process of its own ---------------------------------------------------------------


def ids(ablate, file: Path) -> list[str]:
    run = ablate("status", file, "--json")
    assert run.returncode == 0, run.stderr
    return [row["id"] for row in json.loads(run.stdout)]


def id_of(said: str) -> str:
    return re.search("^([0-9a-f]{16}) done", said, re.MULTILINE)[1]


@pytest.mark.slow
def test_a_changed_plugin_is_trained_anew_and_a_reformatted_one_is_not(ablate, folder):
    file = study(folder)
    assert "2 trials ran, none failed" in ablate("run", file, "--local").stderr
    for name in ("outside.py", "blocks.py"):
        path = folder / name
        path.write_text(f'"""New words."""  # and a comment\n\n\n{path.read_text()}')
    assert "0 trials to run, 2 done already" in ablate("run", file, "--local").stderr
    (folder / "blocks.py").write_text("ONE = 1 + 1e-9\n")
    assert "2 trials to run, 0 done already" in ablate("run", file, "--local").stderr
    results = Store(folder / "results").place.children("trials")
    assert len(results) == 4


def test_shipped_parts_know_nothing_of_a_plugin_beside_them(ablate, folder):
    with_plugin, without = study(folder, **SHIPPED), folder / "plain.yaml"
    without.write_text(json.dumps(json.loads(with_plugin.read_text()) | {"plugins": []}))
    assert ids(ablate, with_plugin) == ids(ablate, without)


@pytest.mark.slow
def test_a_result_says_which_plugins_it_used(ablate, folder):
    run = ablate("trial", study(folder), "--seed", "0")
    assert run.returncode == 0, run.stderr
    shown = json.loads(ablate("show", id_of(run.stderr)).stdout)
    assert set(shown["plugins"]) == {"task", "dataset", "model", "metric closeness"}
    assert {plugin["name"] for plugin in shown["plugins"].values()} == {"outside.py"}
    assert {len(plugin["digest"]) for plugin in shown["plugins"].values()} == {16}


# -- named by module or by file --------------------------------------------------------------------------------


@pytest.fixture
def fresh(monkeypatch):
    """The shelves and Python's modules as in a new process."""
    for name, value in (("_plugins", {}), ("_builders", {}), ("_imported", {})):
        owner = modules if name == "_imported" else registry
        monkeypatch.setattr(owner, name, value)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    registry._installed.cache_clear()
    yield
    for name in set(sys.modules) - before:
        if name in ("outside", "blocks", "mypkg", "mypkg.mynet", "mypkg.blocks"):
            del sys.modules[name]
    registry.describe.cache_clear()
    registry._knob_model.cache_clear()
    registry._installed.cache_clear()
    registry._read.cache_clear()


MODEL = '''
from ablate.registry import model
from {where} import WIDTH

@model("mynet", meaning=1)
def mynet(*, width: int = 4):  # channels
    """Mine."""
    return WIDTH * width
'''


def package(folder: Path) -> Path:
    (folder / "mypkg").mkdir()
    (folder / "mypkg" / "__init__.py").write_text("")
    (folder / "mypkg" / "blocks.py").write_text("WIDTH = 2\n")
    (folder / "mypkg" / "mynet.py").write_text(MODEL.format(where=".blocks"))
    return folder / "mypkg" / "mynet.py"


@pytest.mark.parametrize("how", ["./mypkg/mynet.py", "mypkg/mynet.py", "mypkg.mynet"])
def test_a_module_and_its_file_are_one_plugin(fresh, tmp_path, monkeypatch, how):
    package(tmp_path)
    if "/" not in how:
        monkeypatch.syspath_prepend(str(tmp_path))
    registry.load_plugins((how,), beside=tmp_path)
    assert registry.build("model", "mynet", {"width": 3}) == 6
    found = registry.module_of("model", "mynet")
    assert (found.module, found.digest) == ("mypkg.mynet", "86994530036a41ae")
    registry.load_plugins(registry.plugins())  # as another process does


def test_the_digest_is_of_what_was_imported(fresh, tmp_path):
    package(tmp_path)
    registry.load_plugins(("./mypkg/mynet.py",), beside=tmp_path)
    before = registry.module_of("model", "mynet").digest
    (tmp_path / "mypkg" / "blocks.py").write_text("WIDTH = 3\n")
    registry.load_plugins(("./mypkg/mynet.py",), beside=tmp_path)
    assert registry.module_of("model", "mynet").digest == before
    assert registry.build("model", "mynet", {"width": 3}) == 6


def test_names_that_cannot_be_told_apart_are_one_line(fresh, tmp_path):
    shutil.copy(package(tmp_path), tmp_path / "json.py")
    (tmp_path / "json.py").write_text((tmp_path / "json.py").read_text().replace(".blocks", "mypkg.blocks"))
    with pytest.raises(PartError, match=r"json\.py: .*json/__init__\.py has that name already; give the file another"):
        registry.load_plugins(("./json.py",), beside=tmp_path)
    (tmp_path / "outside.py").write_text("import secrets\n" + MODEL.format(where="mypkg.blocks"))
    (tmp_path / "secrets.py").write_text("")
    with pytest.raises(PartError, match=r"outside\.py imports 'secrets', which is .*, not .*; rename that"):
        registry.load_plugins(("./outside.py",), beside=tmp_path)
    with pytest.raises(PartError, match=r"plugins: \./none\.py: no Python file at "):
        registry.load_plugins(("./none.py",), beside=tmp_path)


# -- on the shelves of commands --------------------------------------------------------------------------------


@pytest.mark.slow
def test_commands_know_plugins_by_a_flag_and_by_a_study(ablate, folder):
    file = study(folder)
    for flag in ("outside.py", "./outside.py", folder / "outside.py", file):
        knobs = ablate("list", "knobs", "dots", "--plugin", flag)
        assert "how often a value is dropped" in knobs.stdout, knobs.stderr
    assert "dots" in ablate("list", "models", "--plugin", "outside.py").stdout
    assert "One or two convolutions" not in ablate("list", "models").stdout
    assert ablate("cost", file).returncode == 0
    assert ablate("init", "dataset", "--to", "mine.py").returncode == 0
    checked = ablate("data", "check", "mine", "--part", "mine", "--plugin", "mine.py", "--knobs", '{"val": 4}')
    assert checked.returncode == 0, checked.stderr  # a set of its own: it has no folder, and no knob for its name
    assert "val: 4 samples" in checked.stdout


@pytest.mark.slow
def test_a_network_of_a_plugin_is_exported_where_its_file_is_named(ablate, folder):
    trial = id_of(ablate("trial", study(folder, budget={"keep_weights": True}), "--seed", "0").stderr)
    assert ablate("export", trial, "--to", "net.safetensors").returncode == 0
    for words in (("export", trial, "--to", "net.pt2"), ("evaluate", "net.safetensors")):
        done = ablate(*words)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "is of the model 'dots', which is not here; --plugin names its file" in done.stderr
        assert "/tmp" not in done.stderr
    done = ablate("export", trial, "--to", "net.pt2", "--plugin", "outside.py")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_reproduce_names_the_flag_and_imports_nothing_without_it(ablate, folder):
    (folder / "outside.py").write_text((folder / "outside.py").read_text() + "open('imported', 'a').close()\n")
    run = ablate("trial", study(folder), "--seed", "0")
    trial = id_of(run.stderr)
    (folder / "imported").unlink()
    again = ablate("reproduce", trial)
    assert again.returncode == 2
    assert "used the task 'brightness' of a plugin: add --plugin outside.py" in again.stderr
    assert not (folder / "imported").exists()
    again = ablate("reproduce", trial, "--plugin", "outside.py")
    assert again.returncode == 0, again.stderr
    (folder / "blocks.py").write_text("ONE = 1.0\n")
    again = ablate("reproduce", trial, "--plugin", "outside.py")
    assert "outside.py, which brings the model: other content than the result was made with" in again.stderr


def install(folder: Path) -> None:
    """As pip would leave a package that names a module of parts as an entry point."""
    package(folder)
    (folder / "mypkg" / "__init__.py").write_text("open('imported', 'a').close()\n")
    info = folder / "mypkg-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mypkg\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[ablate.parts]\nany = mypkg.mynet\n")


def test_installed_parts_are_listed_without_an_import(ablate, tmp_path):
    (tmp_path / "lib").mkdir()
    install(tmp_path / "lib")
    path = {"PYTHONPATH": f"{ablate.environment['PYTHONPATH']}:{tmp_path / 'lib'}"}
    listed = ablate("list", "models", env=path)
    assert "Mine." in listed.stdout, listed.stderr
    assert "width" in ablate("list", "knobs", "mynet", env=path).stdout
    assert not (tmp_path / "imported").exists()
    script = (
        "from ablate import registry; print(registry.build('model', 'mynet', {}), registry.module_of('model', 'mynet'))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], env=ablate.environment | path, cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert run.stdout.startswith("8 Module(name='mypkg.mynet'"), run.stderr
    assert (tmp_path / "imported").exists()


# -- in other processes ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_further_processes_of_a_trial_load_the_file(ablate, folder):
    """Without PYTHONPATH; and one that finds other content trains nothing."""
    run = ablate("trial", study(folder, budget={"processes": 2}), "--seed", "0", timeout=900)
    assert run.returncode == 0, run.stderr


def test_a_process_that_has_other_content_trains_nothing(fresh, folder, monkeypatch):
    from ablate.training.reports import reports
    from ablate.training.site import Site

    trial = Design(load(study(folder))).trials[0]
    registry.load_plugins(("./outside.py",), beside=folder)
    Store(folder / "results").create()
    other = {role: plugin.model_copy(update={"digest": "0" * 16}) for role, plugin in trial.plugins.items()}
    for plugins, said in (
        ((), "which brings the task, is not what the driver has"),
        ((str(folder / "gone.py"),), "no Python file at"),
    ):
        told = list(
            reports(trial.model_copy(update={"plugins": other}), Site(str(folder / "results")), plugins=plugins)
        )
        assert len(told) == 1
        assert said in told[0]["trouble"]


@pytest.mark.slow
def test_workers_of_ray_load_the_file(ablate, folder):
    run = ablate("run", study(folder), timeout=900)
    assert run.returncode == 0, run.stderr
    assert "2 trials ran, none failed" in run.stderr


def test_solved_matches_are_of_the_plugins_content(fresh, folder, monkeypatch):
    """What a changed network costs is solved anew."""
    keys = []
    for text in ("ONE = 1\n", "ONE = 2\n"):
        for name in ("outside", "blocks"):
            sys.modules.pop(name, None)
        (folder / "blocks.py").write_text(text)
        recipe = small_study()["recipe"]
        factors = {"depth": {"at": "model.depth", "levels": [1, 2], "match": {"gmacs": "control", "by": "model.width"}}}
        made = load(study(folder, recipe=recipe, factors=factors))
        keys.append([question.key for question in _questions(made)])
    assert len(keys[0]) == 1
    assert keys[0] != keys[1]
