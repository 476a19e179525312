"""The wheel: what is in it, and that a shipped study is planned and trained from it, without the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BUILT_FROM = ("ablate", "hrnet_core", "studies", "pyproject.toml", "README.md", "LICENSE")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
FOUND = """
from pathlib import Path
from ablate.study import Design, load
from ablate.training import weights
from ablate.training.site import Site
study = load("pretraining")
site = Site(results="results", beside=Path(study.file).parent)
print([weights.find(trial.recipe.weights, site) for trial in Design(study).trials if trial.recipe.weights])
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, for a build leaves folders behind; nothing is fetched."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in BUILT_FROM:
        place = ROOT / name
        if place.is_dir():
            shutil.copytree(place, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(place, tree / name)
    build = [*PIP, "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", out, tree]
    subprocess.run(build, check=True, cwd=out)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs a program of a fresh environment that has the wheel, and all else from the one that runs the tests."""
    place = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    python = place / "bin" / "python"
    libraries = next((place / "lib").glob("python*/site-packages"))
    # The .pth files of the named folder, the checkout's among them, are not read.
    (libraries / "others.pth").write_text(sysconfig.get_paths()["purelib"])
    subprocess.run(
        [*PIP, "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True, cwd=place
    )
    known = {name: value for name, value in os.environ.items() if not name.startswith(("ABLATE_", "MLFLOW_", "PYTHON"))}
    home = tmp_path_factory.mktemp("home")

    def run(program: str, *arguments: str) -> str:
        done = subprocess.run(
            [place / "bin" / program, *arguments], cwd=home, env=known | {"HOME": str(home), "COLUMNS": "160"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_wheel_holds_both_packages_whole_and_no_tests(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {path for folder in ("ablate", "hrnet_core") for path in (ROOT / folder).rglob("*") if path.is_file()}
    wanted = {str(path.relative_to(ROOT)) for path in ours if "__pycache__" not in path.parts}
    wanted |= {f"ablate/{path.relative_to(ROOT)}" for path in (ROOT / "studies").rglob("*") if path.is_file()}
    assert {name for name in names if ".dist-info/" not in name} == wanted
    assert {"ablate/py.typed", "hrnet_core/py.typed", "ablate/report/page.css"} <= names
    assert {"ablate/study/presets.json", "ablate/datasets/catalog.json", "ablate/studies/fusion_count.yaml"} <= names
    assert {Path(name).parts[0] for name in names if ".dist-info/" not in name} == {"ablate", "hrnet_core"}


def test_every_python_that_is_promised_is_classified():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: "
    versions = [line.removeprefix(prefix) for line in project["classifiers"] if line.startswith(prefix)]
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
    assert project["requires-python"] == f">={versions[0]}"


def test_what_is_installed_is_not_the_checkout(installed):
    place = installed("python", "-c", "import ablate, hrnet_core; print(ablate.__file__, hrnet_core.__file__)")
    assert str(ROOT) not in place
    assert place.count("site-packages") == 2


def test_a_shipped_study_is_planned_by_its_name(installed):
    assert "across" in installed("ablate", "plan", "fusion_count")
    assert "fusion_count" in installed("python", "-c", "from ablate.study import shipped; print(list(shipped()))")


def test_weights_that_a_shipped_study_starts_from_are_found(installed):
    """They lie beside the study file, in the package."""
    assert "figures_segmentation_w8.safetensors" in installed("python", "-c", FOUND)
