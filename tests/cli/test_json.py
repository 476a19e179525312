"""What --json prints is alone on stdout and as schemas.json says, for every command."""

import json
from pathlib import Path

import click
import painted
import pytest
from camvid_archive import archive_files, zipped
from jsonschema import Draft202012Validator
from small_studies import write_study

import ablate.cli
from ablate.cli import COMMANDS, group
from ablate.storage import Store

SCHEMAS = json.loads(Path(ablate.cli.__file__).with_name("schemas.json").read_text())
TYPES = {"recipe", "part", "result"}  # what commands share


def commands() -> dict[str, click.Command]:
    """Every command and subcommand by its words."""
    context, found = click.Context(group), {}
    for name in COMMANDS:
        command = group.get_command(context, name)
        found[name] = command
        if isinstance(command, click.Group):
            found |= {f"{name} {sub}": command.commands[sub] for sub in command.commands}
    return found


@pytest.fixture
def printed(called):
    """Calls a command with --json: its value, which is checked against the schema of that name."""

    def call(name: str, *arguments: object, status: int = 0):
        found, out, err = called(*arguments, "--json")
        assert found == status, err
        value = json.loads(out, parse_constant=lambda word: pytest.fail(f"{name} prints {word}, which is no JSON"))
        schema = {"$ref": f"#/$defs/{name.replace(' ', '%20')}", "$defs": SCHEMAS["$defs"]}
        errors = [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(value)]
        assert errors == []
        return value

    return call


def test_every_command_has_the_flag_and_a_schema():
    Draft202012Validator.check_schema(SCHEMAS)
    for name, command in commands().items():
        assert "--json" in {flag for parameter in command.params for flag in parameter.opts}, name
        assert name in SCHEMAS["$defs"], name
    described = set(SCHEMAS["$defs"]) - TYPES
    for name in described:
        assert name.split(" --")[0].split(" k")[0] in commands(), name
    page = (Path(__file__).parent.parent.parent / "docs/json.md").read_text()
    assert all(f"`{name}`" in page for name in described)


def test_a_study_from_its_plan_to_its_end(printed, called, tmp_path):
    study = write_study(tmp_path, budget={"keep_weights": True})
    assert [arm["trials"] for arm in printed("plan", "plan", study)["arms"]] == [2, 2]
    recipe = printed("plan --recipe", "plan", study, "--recipe", "2")
    assert recipe["recipe"]["model"]["depth"] == 2
    assert {row["status"] for row in printed("status", "status", study)} == {"missing"}
    assert len(printed("cancel", "cancel", study)["cancelled"]) == 4

    ran = printed("run", "run", study, "--local")
    assert {(trial["arm"], trial["status"]) for trial in ran["trials"]} == {("depth=1", "done"), ("depth=2", "done")}
    assert all(Path(file).exists() for file in ran["files"])
    assert printed("run", "run", study, "--local")["trials"] == []
    assert printed("plan", "plan", study)["last run"]["ran"] == 4
    assert {row["status"] for row in printed("status", "status", study)} == {"done"}

    trial = printed("trial", "trial", study, "--arm", "depth=2", "--seed", "1")
    assert trial["id"] == recipe["ids"]["1"]
    assert printed("show", "show", trial["id"])["scores"] == trial["scores"]
    report = printed("report", "report", study, "--format", "html", "--format", "csv")
    assert [Path(file).suffix for file in report["files"]] == [".html"] + [".csv"] * 6
    assert report["answer"]
    again = printed("reproduce", "reproduce", trial["id"])
    assert (again["same"], again["scores"]["near"]["is"]) == (True, trial["scores"]["near"])
    exported = printed("export", "export", trial["id"], "--to", "trained.safetensors")
    assert Path(exported["file"]).exists()
    assert printed("import", "import", "results", "--results", "mine")["taken"]
    assert printed("status", "status", study, "--results", "mine")[0]["imported from"] == "results"
    assert printed("show", "show", trial["id"], "--results", "mine")["imported"]["checked"] is True
    assert printed("reproduce --sample", "reproduce", "--sample", "1%", "--results", "mine")["agree"] == 1
    assert printed("gc", "gc", "--all", "--dry-run")["dry_run"] is True
    assert printed("track", "track", study)["trials"] == 4
    assert [row["arm"] for row in printed("cost", "cost", study)] == ["depth=1", "depth=2"]


def test_a_trial_that_failed_and_one_without_a_number(printed, called, tmp_path):
    recipe = {"model": {"name": "dots", "fault": "nan", "at": 2}, "task": "brightness", "dataset": "noise"}
    study = write_study(tmp_path, recipe=recipe | {"train": {"epochs": 2, "batch": 8}}, seeds=1)
    ran = printed("run", "run", study, "--local")
    assert {trial["status"] for trial in ran["trials"]} == {"diverged"}
    rows = printed("status", "status", study)
    assert (rows[0]["closeness"], rows[0]["status"]) == (None, "diverged")
    assert printed("show", "show", rows[0]["id"])["reason"]
    assert printed("reproduce", "reproduce", rows[0]["id"])["same"] is True
    assert printed("trial", "trial", study, "--seed", "0")["status"] == "diverged"


def test_a_trial_that_another_process_is_at(printed, called, tmp_path):
    study = write_study(tmp_path, seeds=1)
    trial = json.loads(called("status", study, "--json")[1])[0]["id"]
    store = Store("results")
    store.create()
    with store.lock(trial):
        assert printed("trial", "trial", study, "--seed", "0", status=1)["status"] == "busy"


def test_a_run_that_is_stopped(printed, tmp_path):
    study = write_study(tmp_path, seeds=1)
    ran = printed("run", "run", study, "--local", "--minutes", "1e-9", status=124)
    assert ran["stopped"]
    assert ran["files"] == []


def test_shelves_and_costs(printed):
    for what in ("models", "tasks", "datasets", "metrics", "sections"):
        assert printed("list", "list", what)
    assert printed("list knobs", "list", "knobs", "hrnet")
    assert printed("list keys", "list", "keys")
    assert printed("list keys --schema", "list", "keys", "--schema")["properties"]
    printed("cost", "cost", "hrnet", "--size", "64", "64")


def test_fvcores_count_stands_beside_ours(printed):
    (row,) = printed("cost --check fvcore", "cost", "hrformer", "--size", "64", "64", "--check", "fvcore")
    assert row["gap (%)"] == 0
    assert row["fvcore in all"] > row["fvcore, same layers"] == row["GMACs (10^9)"] > 0.1
    assert "of matrix products (ours, under attention: " in row["why"]
    assert " M of batch_norm" in row["why"]


@pytest.mark.slow
def test_the_published_costs(printed, tmp_path):
    assert printed("cost --paper", "cost", "--paper")
    printed("cost", "cost", write_study(tmp_path, seeds=1), "--measure")


def test_data_sets(printed, tmp_path):
    assert {"pose_lspet", "coco2017"} <= {row["set"] for row in printed("data", "data")}
    zipped(tmp_path / "archive.zip", archive_files())
    (tmp_path / "data").mkdir()
    made = printed("data make", "data", "make", "camvid", "--archive", "archive.zip", "--data", "data")
    checked = printed("data check", "data", "check", "camvid", "--data", "data", status=1)
    assert Path(made["folder"]).is_dir()
    assert set(checked["splits"]) == {"train", "val"}


def test_an_evaluation(printed, tmp_path):
    folder = painted.people(tmp_path)
    (tmp_path / "found.json").write_text(json.dumps(painted.results(folder, off=3.0)))
    command = ("evaluate", "--predictions", "found.json", "--task", "pose", "--data", folder, "--check", "official")
    assert printed("evaluate", *command)["check"]
    (tmp_path / "other.json").write_text(json.dumps(painted.results(folder, off=1.0)))
    command = ("compare", "found.json", "other.json", "--task", "pose", "--data", folder)
    assert printed("compare", *command)["most apart"]["other"]


def test_files_to_begin_with(printed):
    assert printed("init", "init", "model")["files"] == ["my_model.py", "my_model.yaml"]


def test_a_mistake_prints_no_json(called):
    status, out, err = called("plan", "absent.yaml", "--json")
    assert (status, out) == (2, "")
    assert err.startswith("ablate: absent.yaml: ")
