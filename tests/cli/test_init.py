"""What `ablate init` writes runs as it is, and `plan --recipe` shows what would be trained."""

import re

import pytest
import yaml
from jsonschema import Draft202012Validator
from small_studies import write_study

from ablate import registry
from ablate.cli.init import FILES
from ablate.study import Design, Recipe, load, study_schema, yaml_subset


def shortened(text: str) -> str:
    """A study with fewer pictures, epochs and seeds."""
    text = re.sub(r"train: \d+, val: \d+", "train: 12, val: 6", text)
    return re.sub(r"seeds: \d+", "seeds: 1", re.sub(r"epochs: \d+", "epochs: 1", text))


@pytest.mark.slow
@pytest.mark.parametrize("what", FILES)
def test_what_is_written_runs(ablate, tmp_path, what):
    done = ablate("init", what, "--to", f"own_{what}{FILES[what][0]}")
    assert done.returncode == 0, done.stderr
    study = tmp_path / f"own_{what}.yaml"
    assert done.stdout.split() == [f"own_{what}{suffix}" for suffix in FILES[what]]
    assert done.stderr.endswith(f"ablate run own_{what}.yaml --local\n")
    study.write_text(shortened(study.read_text()))
    done = ablate("run", study, "--local")
    assert done.returncode == 0, done.stderr
    assert "2 trials ran, none failed" in done.stderr
    assert f"my_{what}" not in "".join(path.read_text() for path in tmp_path.glob(f"own_{what}*"))


def test_a_written_study_is_one_that_the_schema_knows(called, tmp_path):
    assert called("init", "study")[:2] == (0, "my_study.yaml\n")
    text = (tmp_path / "my_study.yaml").read_text()
    whole = re.sub(r"^# (?=scales:|  )", "", text.partition("\n\n")[2], flags=re.MULTILINE)
    for document in map(yaml_subset.parse, (text, whole)):
        assert list(Draft202012Validator(study_schema()).iter_errors(document)) == []
    assert "scales" in yaml_subset.parse(whole)
    (tmp_path / "my_study.yaml").write_text(whole)
    assert load(tmp_path / "my_study.yaml", scale="full").recipe.model.knobs["width"] == 32
    assert called("plan", "my_study.yaml")[0] == 0


@pytest.mark.parametrize("what", ["model", "dataset"])
def test_a_written_plug_in_is_read_without_being_imported(called, tmp_path, monkeypatch, what):
    called("init", what, "--to", f"written_{what}.py")
    monkeypatch.syspath_prepend(tmp_path)
    assert len(Design(load(tmp_path / f"written_{what}.yaml")).trials) == 4
    described = registry.describe(what, f"written_{what}")
    assert described.summary
    assert all(knob.doc for knob in described.knobs)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["study", "--to", "a.yaml"], "a.yaml: is there already"),
        (["model", "--to", "a.py"], "a.yaml: is there already"),
        (["model", "--to", "hrnet.py"], "there is a model 'hrnet' already"),
        (["study", "--to", "My-Study.yaml"], "small letters, digits and _"),
        (["dataset", "--to", "mine.txt"], "ends in .py"),
        (["study", "--to", "nowhere/b.yaml"], "nowhere/b.yaml: No such file or directory"),
        (["study", "mine"], "a file is named by --to: ablate init study --to mine.yaml"),
        (["study", "."], "a file is named by --to: ablate init study --to my_study.yaml"),
        (["study", "My Study.yml"], "a file is named by --to: ablate init study --to my_study.yaml"),
        (["stduy"], "Invalid value for"),
    ],
    ids=str,
)
def test_what_cannot_be_written_is_one_line_and_nothing_is_overwritten(called, tmp_path, argv, message):
    (tmp_path / "a.yaml").write_text("mine")
    status, out, err = called("init", *argv)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.yaml": "mine"}


def test_a_recipe_is_printed_as_it_would_be_trained(called, tmp_path):
    study = write_study(tmp_path)
    trials = {(trial.arm["depth"], trial.seed): trial for trial in Design(load(study)).trials}
    for arm in ("2", "depth=2"):
        status, out, err = called("plan", study, "--recipe", arm)
        assert (status, err) == (0, "")
        for document in (yaml.safe_load(out), yaml_subset.parse(out)):
            assert Recipe.model_validate(document) == trials["2", 0].recipe
        assert f"# seeds and ids: 0 {trials['2', 0].id}, 1 {trials['2', 1].id}" in out
    assert yaml_subset.parse(called("plan", study, "--recipe", "1")[1])["model"]["depth"] == 1
    status, out, err = called("plan", study, "--recipe", "3")
    assert (status, out) == (2, "")
    assert "--recipe 3: no level '3'; choose from 1, 2" in err
