"""Tab completion as shells ask for it: a process with the words so far in its environment."""

import os
import shlex
import subprocess
import sys

import pytest
from small_studies import COMMAND, small_study, write_study

from ablate.cli import COMMANDS
from ablate.datasets import catalog
from ablate.study import shipped

HEAVY = ("torch", "ray", "mlflow", "pandas", "matplotlib", "small_parts")


@pytest.fixture
def completed(ablate, tmp_path):
    """Completes the last word of a line: the values that bash, zsh or fish would be given."""

    def complete(*words: str, shell: str = "bash") -> list[str]:
        asked = {"COMP_WORDS": shlex.join(["ablate", *words]), "COMP_CWORD": str(len(words))}
        if shell == "fish":
            asked = {"COMP_WORDS": shlex.join(["ablate", *words[:-1]]), "COMP_CWORD": words[-1]}
        done = ablate(env={"_ABLATE_COMPLETE": f"{shell}_complete"} | asked)
        assert (done.returncode, done.stderr) == (0, "")
        if shell == "zsh":
            return done.stdout.splitlines()[1::3]
        return [line.partition(",")[2].partition("\t")[0] for line in done.stdout.splitlines() if line]

    return complete


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scales_come_from_the_study_on_the_line(completed, shell):
    assert completed("run", "fusion_count", "--scale", "", shell=shell) == ["demo", "laptop", "paper"]
    assert completed("cost", "fusion_count", "--scale", "p", shell=shell) == ["paper"]


def test_commands_and_flags(completed):
    assert completed("") == list(COMMANDS)
    assert completed("re") == ["report", "reproduce"]
    assert "--retry" in completed("run", "--re")
    assert completed("data", "ch") == ["check"]


def test_arms_come_from_the_study_and_the_scale_on_the_line(completed, tmp_path):
    scales = {"wide": {"factors": {"width": {"at": "model.width", "levels": [16, 32]}}}}
    study = str(write_study(tmp_path, scales=scales))
    assert completed("run", study, "--only", "") == ["depth=1", "depth=2"]
    assert completed("trial", study, "--scale", "wide", "--arm", "width=3") == ["width=32"]
    assert completed("run", study, "--only=depth=2") == ["depth=2"]


def test_a_study_is_not_run_to_be_completed(ablate, tmp_path):
    """Its plug-ins stay where they are, and nothing heavy is loaded."""
    study = write_study(tmp_path)
    script = (
        "import atexit, sys; from ablate.cli import main\n"
        f"atexit.register(lambda: print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr))\nmain()"
    )
    asked = {"COMP_WORDS": f"ablate run {study} --only d", "COMP_CWORD": "4", "_ABLATE_COMPLETE": "bash_complete"}
    environment = ablate.environment | asked
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["plain,depth=1", "plain,depth=2"]
    assert done.stderr.strip() == "[]"
    assert small_study()["plugins"]


def test_ids_come_from_the_results_folder(completed, called, tmp_path):
    assert completed("show", "") == []
    assert called("run", write_study(tmp_path, seeds=1), "--local")[0] == 0
    ids = sorted(path.name for path in (tmp_path / "results" / "trials").iterdir())
    assert len(ids) == 2
    assert completed("show", "") == completed("reproduce", "") == completed("export", "") == ids
    assert completed("show", ids[0][:6]) == [ids[0]]
    assert completed("show", "--results", str(tmp_path / "elsewhere"), "") == []
    assert completed("show", "--results", "s3://absent/prefix", "") == []
    begun = tmp_path / "results" / "trials" / "00ff00ff00ff00ff"
    begun.mkdir()
    assert completed("cancel", "00") == [begun.name]
    assert begun.name not in completed("show", "")


def test_names_of_parts_sets_and_shipped_studies(completed, tmp_path):
    assert {"hrnet", "hourglass"} <= set(completed("cost", "h"))
    assert completed("list", "kn") == ["knobs"]
    assert {"segformer", "segmentation"} <= set(completed("list", "knobs", "seg"))
    assert completed("list", "models", "seg") == []
    assert completed("data", "check", "") == list(catalog())
    assert completed("run", "fusion") == [name for name in shipped() if name.startswith("fusion")]
    (tmp_path / "fusion.yaml").touch()
    assert completed("run", "fusion") == ["fusion"]  # the shell's turn: it completes files


@pytest.mark.parametrize(
    "words",
    [
        ["run", "absent.yaml", "--scale", ""], ["run", "--scale", ""], ["bogus", "x", ""], ["show", "../", ""],
        ["run", "damaged.yaml", "--only", ""], ["cost", "--size", "x", "y", "z", ""], ["show", "'"],
    ],
    ids=str,
)  # fmt: skip
def test_nonsense_completes_to_nothing_and_says_nothing(completed, tmp_path, words):
    (tmp_path / "damaged.yaml").write_text("factors: {a: [1, 2}\n")
    assert not {"demo", "a=1"} & set(completed(*words))


def test_words_that_bash_has_broken_are_put_together(ablate, tmp_path):
    """bash ends words at = and replaces the last one only; spaces in a level's name are escaped."""
    script = """
        eval "$(_ABLATE_COMPLETE=bash_source ablate)"
        try() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            _ablate_completion ablate
            printf '%s|' "${COMPREPLY[@]}"; echo
        }
        try ablate run pose_baselines --only network = hour
        try ablate run pose_baselines --only network =
        try ablate run pose_baselines --only = network = hr
        try ablate run pose_baselines --only netw
        try ablate run pose_baselines --scale = la
    """
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ablate").write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    (folder / "ablate").chmod(0o755)
    environment = ablate.environment | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    levels = ["hrnet", r"simple_baseline\ matched", r"hourglass\ matched", r"cpn\ matched"]
    assert done.stderr == ""
    assert [line.split("|")[:-1] for line in done.stdout.splitlines()] == [
        [r"hourglass\ matched"], levels, ["hrnet"], [f"network={level}" for level in levels], ["laptop"],
    ]  # fmt: skip
