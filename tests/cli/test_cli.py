"""The command line: data on stdout, talk on stderr, one line and status 2 for a mistake, nothing heavy loaded."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from small_studies import TESTS, small_study, write_study

from ablate import registry
from ablate.cli import COMMANDS
from ablate.machine import origin
from ablate.storage import Store

MODULES = (
    "import sys\nfrom ablate.cli import main\nsys.argv = {argv!r}\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
)
MODULES += "print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr)"


def loaded(heavy: tuple[str, ...], *argv: str) -> list[str]:
    """Which of these modules a command loads, in a fresh process."""
    script = MODULES.format(argv=["ablate", *argv], heavy=heavy)
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert "Traceback" not in done.stderr
    return eval(done.stderr.strip().splitlines()[-1])


HEAVY = ("torch", "ray", "mlflow", "pandas", "scipy", "matplotlib", "cv2", "pycocotools", "numpy")


@pytest.mark.parametrize(
    "argv", [["--help"], ["list", "models"], ["list", "knobs", "hrnet"], ["run", "--help"]], ids=str
)
def test_help_and_lists_load_nothing_heavy(argv):
    assert loaded(HEAVY, *argv) == []


def test_a_report_needs_no_torch_no_ray_and_no_mlflow(called, tmp_path):
    recipe = {
        "task": {"name": "pose", "size": [32, 32], "sigma": 1.0}, "dataset": {"name": "figures", "train": 4, "val": 4},
        "model": {"name": "hrnet", "width": 2, "blocks": 1, "modules": [1, 1, 1]}, "train": {"epochs": 1, "batch": 4},
    }  # fmt: skip
    factors = {"fusions": {"at": "model.fusions", "levels": ["across", "final"]}}
    study = write_study(tmp_path, recipe=recipe, factors=factors, metrics=["AP", "PCK"], plugins=[])
    assert called("run", study, "--local")[0] == 0
    assert loaded(("torch", "ray", "mlflow"), "report", str(study), "--to", str(tmp_path / "out")) == []
    assert (tmp_path / "out" / "report.md").exists()
    assert loaded(("torch", "ray", "mlflow"), "status", str(study)) == []


def test_every_command_has_help_that_ends_in_an_example(called):
    for name in COMMANDS:
        status, out, _ = called(name, "--help")
        assert status == 0
        assert "Example: ablate" in " ".join(out.split())


def test_every_key_of_a_study_is_listed_with_what_it_means(called):
    status, out, _ = called("list", "keys", "--json")
    rows = {row["key"]: row for row in json.loads(out)}
    assert status == 0
    assert all(row["meaning"] and row["type"] for row in rows.values())
    assert {"seeds", "recipe.train.milestones", "factors.NAME.match.within", "budget.evaluate_every"} <= rows.keys()
    assert rows["budget.checkpoint_minutes"]["default"] == "2"
    assert "pose" in rows["recipe.train.preset"]["meaning"]


def test_the_help_lists_every_command(called):
    status, out, err = called("--help")
    assert (status, err) == (0, "")
    assert all(f"  {name} " in out for name in COMMANDS)


def test_the_version_is_the_distributions(called):
    project = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["project"]
    assert project["version"] in called("--version")[1]


def one_line(answer: tuple[int, str, str]) -> str:
    status, out, err = answer
    assert (status, out) == (2, ""), err
    assert err.startswith("ablate: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err.removeprefix("ablate: ").rstrip()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["rnu", "x.yaml"], "no command 'rnu'; did you mean 'run'?"),
        (["plan", "absent.yaml"], "absent.yaml: No such file or directory"),
        (["plan"], "Missing argument 'STUDY'."),
        (["list", "modles"], "Invalid value for"),
        (["list", "knobs", "hrnett"], "list knobs hrnett: did you mean 'hrnet'?"),
        (["list", "knobs"], "list knobs NAME: choose from"),
        (["list", "datasets", "figures"], "list datasets: takes no name; a part's knobs: ablate list knobs figures"),
        (["show", "../x"], "'../x' is not a trial's id"),
        (["show", "abc"], "results: no trial with an id that begins 'abc'"),
        (["reproduce", "abc"], "results: no trial with an id that begins 'abc'"),
        (["cost", "hrnett"], "unknown model 'hrnett'; did you mean 'hrnet'?"),
        (["cost"], "give one of STUDY, MODEL, --all and --paper"),
        (["cost", "hrnet", "--all"], "give one of STUDY, MODEL, --all and --paper"),
        (["cost", "hrnet", "--scale", "paper"], "--scale is for studies"),
        (["cost", "--paper", "--task", "pose"], "--task and --size are for models"),
        (["cost", "hrnet", "--task", "psoe"], "Invalid value for '--task'"),
        (["cost", "hrnet", "--size", "8", "8"], "hrnet: image: (1, 3, 8, 8) is not"),
        (["import", "nowhere"], "Invalid value for 'SOURCE'"),
        (["run", "small.yaml", "--lr", "1"], "No such option"),
    ],
    ids=str,
)
def test_a_mistake_on_the_command_line_is_one_line(called, argv, message):
    assert message in one_line(called(*argv))
    assert not any(Path.cwd().iterdir())


BAD = {
    "unknown key": {"questoin": "?"},
    "unknown part": {"recipe": small_study()["recipe"] | {"model": "dotts"}},
    "unknown knob": {"recipe": small_study()["recipe"] | {"model": {"name": "dots", "widht": 3}}},
    "impossible network": {"recipe": small_study()["recipe"] | {"model": {"name": "dots", "width": 3}}},
    "collapsed levels": {"factors": {"f": {"at": "model.depth", "levels": {"a": 1, "b": 1}}}},
    "metric": {"metrics": ["AP"]},
    "name": {"name": "../up"},
    "damaged data": {"recipe": small_study()["recipe"] | {"dataset": {"name": "noise", "damaged": 2}}},
}


NOT_ASKED = {
    ("plan", "damaged data"),
    ("status", "damaged data"),
    ("status", "impossible network"),
    ("status", "metric"),
}


@pytest.mark.parametrize(
    ("command", "bad"), sorted({(c, bad) for c in ("run", "trial", "plan", "status") for bad in BAD} - NOT_ASKED)
)
def test_a_bad_study_is_one_line_and_nothing_is_trained(called, tmp_path, command, bad):
    study = write_study(tmp_path, **BAD[bad])
    more = {"run": ["--local"], "trial": ["--seed", "0"]}.get(command, [])
    status, out, err = called(command, study, *more)
    said = [line for line in err.splitlines() if not line.startswith("small: ")]  # how many trials there are to run
    assert (status, out) == (2, "")
    assert len(said) == 1
    assert said[0].startswith("ablate: ")
    assert bad == "damaged data" or "small.yaml" in said[0] or "recipe.model" in said[0]
    trials = tmp_path / "results" / "trials"
    assert not trials.exists() or not any(trials.iterdir())


def test_a_study_runs_here_and_goes_on_after_a_change_of_mind(called, tmp_path):
    study = write_study(tmp_path)
    status, out, err = called("run", study, "--local")
    assert status == 0
    assert "4 trials to run, 0 done already" in err
    assert "4 trials ran, none failed" in err
    assert all(line.startswith(str(tmp_path)) or line.startswith("results/") for line in out.splitlines())
    assert (tmp_path / "results" / "reports" / "small" / "report.md").exists()

    status, _, err = called("run", write_study(tmp_path, seeds=3), "--local")
    assert status == 0
    assert "2 trials to run, 4 done already" in err
    assert "0 trials to run" in called("run", write_study(tmp_path, seeds=3), "--local")[2]


def test_a_run_names_the_damaged_result_that_it_trains_again(called, tmp_path):
    study = write_study(tmp_path, seeds=1)
    assert called("run", study, "--local")[0] == 0
    path = sorted((tmp_path / "results" / "trials").glob("*/result.json"))[0]
    path.write_bytes(path.read_bytes()[:100])
    status, _, err = called("run", study, "--local")
    assert status == 0
    named = [line for line in err.splitlines() if line.startswith("damaged, so it counts as missing: ")]
    assert len(named) == 1
    assert str(path.relative_to(tmp_path)) in named[0]
    assert "1 trials ran, none failed" in err


def test_trials_are_shared_across_studies(called, tmp_path):
    called("run", write_study(tmp_path), "--local")
    other = {"name": "other", "factors": {"width": {"at": "model.width", "levels": [4, 6]}}}
    assert "2 trials to run, 2 done already" in called("run", write_study(tmp_path, **other), "--local")[2]


def test_only_runs_the_chosen_levels_and_the_control(called, tmp_path):
    factors = {"width": {"at": "model.width", "levels": [4, 6, 8]}}
    study = write_study(tmp_path, factors=factors, seeds=1)
    assert "2 trials to run" in called("run", study, "--local", "--only", "width=8")[2]
    rows = json.loads(called("status", study, "--json")[1])
    assert [(row["arm"], row["status"]) for row in rows] == [
        ("width=4", "done"),
        ("width=6", "missing"),
        ("width=8", "done"),
    ]
    assert "no factor 'widht'; did you mean 'width'?" in one_line(called("run", study, "--only", "widht=8"))
    assert "no level '9'" in one_line(called("run", study, "--only", "width=9"))
    assert "no level 'width'" in one_line(called("run", study, "--only", "width"))


def test_one_trial_can_be_run_and_shown(called, tmp_path):
    study = write_study(tmp_path)
    status, out, _ = called("trial", study, "--arm", "depth=2", "--seed", "1")
    assert status == 0
    assert out.startswith("closeness 0.")
    rows = json.loads(called("status", study, "--json")[1])
    done = [row for row in rows if row["status"] == "done"]
    assert [(row["arm"], row["seed"]) for row in done] == [("depth=2", 1)]
    status, out, _ = called("show", done[0]["id"][:6])
    assert status == 0
    assert json.loads(out)["recipe"]["model"]["depth"] == 2
    assert "no trial of depth=1 with seed 7; its seeds are 0, 1" in one_line(called("trial", study, "--seed", "7"))
    assert "--arm depth=9: no level '9'" in one_line(called("trial", study, "--arm", "depth=9", "--seed", "0"))


def test_a_trial_is_reproduced(called, tmp_path):
    study = write_study(tmp_path)
    called("trial", study, "--seed", "0")
    trial_id = json.loads(called("status", study, "--json")[1])[0]["id"]
    status, out, err = called("reproduce", trial_id)
    assert (status, "Traceback" in err) == (0, False)
    closeness = next(line.split() for line in out.splitlines() if line.startswith("closeness"))
    assert closeness[2] == closeness[4]


def test_a_failed_trial_is_shown_and_run_again_when_asked(called, tmp_path):
    recipe = small_study()["recipe"]
    recipe["model"] |= {"fault": "nan", "at": 5}
    study = write_study(tmp_path, recipe=recipe, seeds=1)
    status, _, err = called("run", study, "--local")
    assert status == 0
    assert "2 trials ran, 2 diverged" in err
    rows = json.loads(called("status", study, "--json")[1])
    assert {row["status"] for row in rows} == {"diverged"}
    assert all("the loss was nan in epoch 2" in row["reason"] for row in rows)
    report = (tmp_path / "results" / "reports" / "small" / "report.md").read_text()
    assert "the loss was nan in epoch 2" in report
    assert "0 trials to run" in called("run", study, "--local")[2]
    assert "2 trials to run" in called("run", study, "--local", "--retry")[2]


@pytest.mark.parametrize("command", ["run", "trial"])
def test_a_failure_has_exit_status_1_and_is_told_again_as_what_it_is(called, monkeypatch, tmp_path, command):
    recipe = small_study()["recipe"]
    recipe["model"] |= {"fault": "error"}
    study = write_study(tmp_path, recipe=recipe, seeds=1)
    arguments = {"run": [study, "--local", "--only", "depth=1"], "trial": [study, "--seed", "0"]}[command]
    status, _, err = called(command, *arguments)
    assert status == 1
    assert "Traceback" in err  # of the part's own code
    trial_id = json.loads(called("status", study, "--json")[1])[0]["id"]
    assert f"{trial_id} failed: RuntimeError: the dots went astray" in err.splitlines()
    lines = json.loads(called("show", trial_id)[1])["traceback"].splitlines()
    assert lines[-2:] == ["RuntimeError: the dots", "went astray"]
    assert any(line.strip().startswith('File "tests/small_parts.py", line ') for line in lines)
    status, _, err = called(command, *arguments)
    assert (status, "Traceback" in err, "--retry trains" in err) == (1, False, True)
    monkeypatch.setattr(origin, "revision", lambda: {"revision": "mended", "dirty": "no"})
    status, _, err = called(command, *arguments)
    assert f"{trial_id} failed with other code than today's (revision " in err
    status, _, err = called(command, *arguments, "--retry")
    assert (status, "Traceback" in err) == (1, True)


def test_what_diverged_is_a_finding(called, tmp_path):
    recipe = small_study()["recipe"]
    recipe["model"] |= {"fault": "nan"}
    study = write_study(tmp_path, recipe=recipe, seeds=1)
    status, _, err = called("trial", study, "--seed", "0")
    assert status == 0
    assert "diverged the loss was nan in epoch 1" in err


def test_a_model_is_priced_for_a_task_and_the_conventions_are_said(called):
    status, out, err = called("cost", "hrnet", "--task", "segmentation", "--size", "64", "128", "--json")
    row = json.loads(out)[0]
    assert (status, row["arm"], row["image"]) == (0, "hrnet", "64x128")
    assert row["GMACs (10^9)"] == pytest.approx(row["GFLOPs (MACs/2^30)"] * 1.0737, rel=1e-3)
    assert row["GFLOPs (papers' tool)"] == row["GFLOPs (MACs/2^30)"]
    assert row["not counted"] == "add batch_norm relu upsample_nearest2d"
    assert (row["activations (10^6)"] > 1, row["training memory (GiB)"] > 0.3) == (True, True)
    assert "transposed convolutions by their output's size" in err
    table = called("cost", "hrnet", "--size", "64", "64")[1]
    assert "Not counted: add, batch_norm, relu, upsample_nearest2d." in table
    assert "GFLOPs (MACs/2^30)" in " ".join(table.split())


def test_a_narrow_terminal_breaks_no_number(called, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    table = called("plan", write_study(tmp_path))[1].splitlines()[:6]  # sentences follow, which terminals wrap
    assert max(map(len, table)) <= 80
    assert {"trials", "failed", "GMACs", "(2^30)"} <= set(" ".join(table).split())
    lines = called("cost", "hrnet", "--size", "64", "64")[1].splitlines()
    assert [line.split() for line in lines if line.startswith("parameters")] == [["parameters", "28,536,113"]]
    assert lines[0].split() == ["arm", "hrnet"]  # one value a line


def test_costs_are_measured_when_asked(called, tmp_path):
    status, out, err = called("cost", write_study(tmp_path, seeds=1), "--measure", "--json")
    rows = json.loads(out)
    assert (status, len(rows)) == (0, 2)
    assert all(row["latency (ms)"] > 0 and row["images/s"] > 0 and row["images at once"] >= 1 for row in rows)
    assert "CPU threads, fp32, " in err or "CPU threads, bf16, " in err


def test_pricing_loads_no_compiler():
    """A second of imports, more than most networks take to be counted."""
    for model in ("hrnet", "hourglass", "unet"):  # additions, pooling and joined maps
        assert loaded(("torch._dynamo", "sympy", "ray", "mlflow"), "cost", model, "--json") == []


@pytest.mark.slow
def test_the_whole_shelf_is_priced(called):
    rows = json.loads(called("cost", "--all", "--json")[1])
    assert [row["arm"] for row in rows] == registry.names("model")
    assert all(row["GMACs (10^9)"] > 0 for row in rows)


@pytest.mark.slow
def test_the_papers_figures_stand_beside_ours(called):
    status, out, err = called("cost", "--paper", "--json")
    rows = {(row["row"], row["image"]): row for row in json.loads(out)}
    row = rows["SimpleBaseline, ResNet-50, ImageNet weights", "256x192"]
    assert (status, row["GFLOPs"], row["our GFLOPs"], row["GFLOPs gap (%)"]) == (0, 8.9, 8.9912, 1.02)
    assert "official tool" in row["why"]
    assert rows["G-RMI, ResNet-101", "353x257"]["our GFLOPs"] is None
    assert " rows are within 1 %; " in err
    said = called("cost", "--paper")[1]
    assert "  CPN, ResNet-50, ImageNet weights, 256x192\n      params (M) 27, ours 26.84 (-0.61 %); GFLOPs 6.2" in said


def test_rows_come_as_json_and_csv(called, tmp_path):
    study = write_study(tmp_path)
    for argv in (["plan", study], ["status", study], ["cost", study], ["list", "models"], ["list", "knobs", "hrnet"]):
        status, out, _ = called(*argv, "--json")
        assert status == 0
        rows = json.loads(out)
        rows = rows["arms"] if argv[0] == "plan" else rows
        table = list(csv.DictReader(io.StringIO(called(*argv, "--csv")[1])))
        assert [list(row) for row in rows] == [list(row) for row in table]
        assert len(rows) > 0


def test_json_is_json_even_where_a_number_is_missing(called, tmp_path):
    """Other readers refuse NaN."""

    def refuse(word):
        raise AssertionError(word)

    json.loads(called("status", write_study(tmp_path), "--json")[1], parse_constant=refuse)


def test_a_published_report_can_be_taken_in(called, tmp_path):
    study = write_study(tmp_path)
    called("run", study, "--local", "--results", "theirs")
    assert called("report", study, "--results", "theirs", "--to", "published", "--publish")[0] == 0
    status, out, _ = called("import", "published")
    assert (status, out) == (0, "4 results taken in, 0 refused\n")
    linked = re.findall(
        r"\]\((results/trials/[0-9a-f]{16}/result.json)\)", (tmp_path / "published/report.md").read_text()
    )
    assert len(linked) == 4
    assert all((tmp_path / "published" / address).is_file() for address in linked)
    assert "0 trials to run, 4 done already" in called("run", study, "--local")[2]


def test_kept_predictions_are_published_too(called, tmp_path):
    study = write_study(tmp_path, budget={"keep_predictions": True})
    called("run", study, "--local", "--results", "theirs")
    called("report", study, "--results", "theirs", "--to", "published", "--publish")
    theirs, published = Store(tmp_path / "theirs"), Store(tmp_path / "published" / "results")
    assert len(published.read().results) == 4
    for trial in published.read().results:
        assert published.predictions(trial) == theirs.predictions(trial) != []


def test_what_was_taken_in_says_so_wherever_it_is_shown(called, tmp_path):
    study = write_study(tmp_path)
    called("run", study, "--local", "--results", "theirs")
    called("report", study, "--results", "theirs", "--to", "published", "--publish")
    assert "none" in re.search(r"imported \|(.*)", (tmp_path / "published" / "report.md").read_text())[1]
    called("import", "published")
    _, out, err = called("status", study, "--json")
    assert {row["imported from"] for row in json.loads(out)} == {"published"}
    assert "4 of them were imported, not trained here" in err
    shown = json.loads(called("show", json.loads(out)[0]["id"])[1])
    assert shown["imported"] | {"when": ""} == {"source": "published", "when": "", "checked": True}
    assert called("report", study, "--to", "mine", "--publish")[0] == 0
    text = (tmp_path / "mine" / "report.md").read_text()
    assert "4 of 4 trials, from published on 20" in re.search(r"imported \|(.*)", text)[1]
    assert len(re.findall(r"\d, imported", text)) == 4
    third = Store(tmp_path / "mine" / "results").read().results.values()
    assert {result.imported.source for result in third} == {"published"}


@pytest.mark.slow
def test_results_of_parts_that_nobody_named_are_taken_in_unchecked(ablate, tmp_path):
    study = write_study(tmp_path)
    assert ablate("run", study, "--local", "--results", "theirs").returncode == 0
    done = ablate("import", "theirs")
    part = r"'\w+' \(small_parts, digest [0-9a-f]{16}\)"
    assert re.search(f"4 results of dataset {part}, model {part}, task {part}; with --plugin", done.stderr)
    assert ablate("import", "theirs").stdout == "0 results taken in, 0 refused\n"
    assert ablate("import", "theirs", "--plugin", "small_parts").stdout == "4 results taken in, 0 refused\n"


def test_a_sample_of_imported_results_is_trained_again(called, tmp_path):
    study = write_study(tmp_path)
    called("run", study, "--local", "--results", "theirs")
    assert "no imported result to train again" in one_line(called("reproduce", "--sample", "1%", "--results", "theirs"))
    called("import", "theirs")
    status, out, err = called("reproduce", "--sample", "1%", "--seed", 5)
    assert status == 0
    assert out.splitlines()[-1] == "1 of 1 agree, of 4 imported results; --seed 5 draws the same ones"
    drawn = re.search("([0-9a-f]{16}), imported from theirs", err)[1]
    assert f"{drawn}, imported" in called("reproduce", "--sample", "1%", "--seed", 5)[2]
    store = Store(tmp_path / "results")
    other = store.get(drawn)
    store.put(other.model_copy(update={"scores": {"closeness": 0.1}}), store.statistics(drawn))
    status, out, _ = called("reproduce", "--sample", "100%")
    assert (status, out.splitlines()[-1][:14]) == (1, "3 of 4 agree, ")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--sample", "1"], "1 is no share"), (["--sample", "nan%"], "nan% is no share"), ([], "name one result"),
        (["--sample", "101%"], "101% is no share"), (["ab", "--sample", "1%"], "name one result"),
    ],
    ids=str,
)  # fmt: skip
def test_a_sample_is_a_share(called, argv, said):
    assert said in one_line(called("reproduce", *argv))


OSC, CSI = "\x1b]0;PWNED\x07", "\x9b31mPWNED"


def test_no_command_prints_control_characters_of_files(called, tmp_path):
    """Of a result, a study, a file's name and the command line itself; in tables, CSV, JSON and errors."""
    bad = OSC + CSI
    study = write_study(tmp_path, note=bad, question=bad)
    assert called("run", study, "--local")[0] == 0
    store = Store(tmp_path / "results")
    for found in store.read().results.values():
        env = found.env | {"processor": bad, bad: bad}
        forged = found.model_copy(update={"status": "failed", "reason": bad, "scores": {bad: 1.0}, "env": env})
        store.put(forged, {})
        (store.folder(found.id) / f"{OSC}.damaged").touch()
    (tmp_path / "results" / "mlflow.link").write_text(bad)
    theirs = Store(tmp_path / "theirs")
    theirs.put(forged, {})
    commands = [
        ["status", study], ["status", study, "--csv"], ["status", study, "--json"], ["show", found.id],
        ["trial", study, "--arm", "depth=1", "--seed", 0], ["report", study], ["plan", study], ["plan", study, "--csv"],
        ["run", study, "--local"], ["import", "theirs"], ["import", bad], ["status", bad], ["show", bad], [bad],
        ["gc", bad], ["reproduce", found.id], ["gc", "--all", "--dry-run"], ["list", bad], ["list", "knobs", bad],
        ["data", "check", bad], ["cancel", study, bad], ["track", study, "--mlflow", bad], ["cost", bad],
        ["export", "ab", "--to", bad],
    ]  # fmt: skip
    for argv in commands:
        _, out, err = called(*argv)
        assert out + err, argv
        assert all(c.isprintable() or c == "\n" for c in out + err), (argv, out + err)


def test_commands_print_by_one_function():
    for path in (TESTS.parent / "ablate" / "cli").glob("*.py"):
        printers = re.findall(r"click\.s?echo|console\.print|\bprint\(", path.read_text())
        assert not printers or path.name in ("tables.py", "talk.py", "progress.py", "__init__.py"), path.name


def test_a_damaged_published_result_is_named_and_fails(called, tmp_path):
    study = write_study(tmp_path)
    called("run", study, "--local", "--results", "theirs")
    file = next((tmp_path / "theirs" / "trials").glob("*/result.json"))
    file.write_text(file.read_text()[:-9])
    status, out, err = called("import", "theirs")
    assert status == 0
    assert out == "3 results taken in, 1 refused\n"
    assert str(file.relative_to(tmp_path)) in err


def test_a_results_folder_of_a_newer_version_is_refused_everywhere(called, tmp_path):
    study = write_study(tmp_path)
    Store(tmp_path / "results").create()
    (tmp_path / "results" / "store.json").write_text('{"version": 99}')
    for argv in (["plan", study], ["run", study, "--local"], ["status", study], ["report", study], ["show", "ab"]):
        assert "written by a newer ablate (format 99" in one_line(called(*argv))


def test_a_closed_pipe_is_no_bug(ablate, tmp_path):
    command = f"{sys.executable} -m ablate list knobs hrnet --json | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, env=ablate.environment)
    assert done.stdout == "[\n"
    assert "Traceback" not in done.stderr


def test_plain_lines_when_piped(called, tmp_path):
    err = called("run", write_study(tmp_path, seeds=1), "--local")[2]
    lines = [line for line in err.splitlines() if "  epoch " in line]
    assert len(lines) == 6
    assert lines[0].startswith("depth=2 seed 0  epoch 1/3  loss 0.")  # the longer one first
    assert "img/s" in lines[0]
    assert "\x1b" not in err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"paper": "fusion_coun"}, "paper: no published table 'fusion_coun'; did you mean 'fusion_count'?"),
        ({"metrics": ["closeness", "closeness"]}, "metrics: 'closeness' is named twice"),
    ],
)
def test_what_only_the_report_needs_is_refused_before_any_training(called, tmp_path, changes, said):
    study = write_study(tmp_path, **changes)
    assert said in one_line(called("plan", study))
    assert said in called("run", study, "--local")[2]
    assert not (tmp_path / "results" / "trials").exists()


@pytest.mark.parametrize(
    "argv",
    [["run", "--grace", "inf"], ["run", "--minutes", "nan"], ["run", "--minutes", "1e300"],
     ["plan", "--back-after", "inf"], ["plan", "--preempted-every", "nan"]],
)  # fmt: skip
def test_times_are_numbers_that_clocks_take(called, tmp_path, argv):
    command, option, value = argv
    status, _, err = called(command, write_study(tmp_path), option, value)
    assert status == 2
    assert f"Invalid value for '{option}'" in err


def test_levels_may_look_like_markup_and_hold_what_moves_a_cursor(called, tmp_path):
    levels = {"base[/x]": {"model.depth": 1}, "try [none] \x1b[2J": {"model.depth": 2}}
    study = write_study(tmp_path, factors={"[/b]": {"levels": levels}}, seeds=1, question="\x1b[2J?")
    status, _, err = called("run", study, "--local")
    assert status == 0
    assert "base[/x] seed 0  epoch 1/3" in err
    assert "try [none] \\x1b[2J seed 0" in err
    for command in ("status", "plan", "report"):
        status, out, err = called(command, study)
        assert status == 0
        assert "\x1b" not in out + err
    assert "base[/x]" in called("status", study)[1]


def test_a_trial_that_waits_is_cancelled_through_its_study(called, tmp_path):
    study = write_study(tmp_path)
    ids = [row["id"] for row in json.loads(called("status", study, "--json")[1])]
    assert called("cancel", ids[0])[0] == 2
    assert called("cancel", study, ids[0][:8])[0] == 0
    assert [path.parent.name for path in (tmp_path / "results" / "trials").glob("*/cancel")] == [ids[0]]
    assert "freed 0 bytes" in called("gc", "--all")[2]  # it is asked for, and is to be heard
    assert (tmp_path / "results" / "trials" / ids[0] / "cancel").exists()
