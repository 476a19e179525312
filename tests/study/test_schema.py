"""The JSON schema of a study file: what it refuses a plan refuses too, and what a plan accepts it accepts."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ablate.errors import AblateError
from ablate.study import Design, check_study, keys, load, study_schema, yaml_subset
from ablate.study.budget import Budget
from ablate.study.recipe import TrainSpec

ROOT = Path(__file__).parent.parent.parent
STUDIES = sorted([*(ROOT / "studies").glob("*.yaml"), *(ROOT / "tests/published/studies").glob("*.yaml")])
SCHEMA = study_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
BASE = {
    "name": "base",
    "question": "Does it?",
    "recipe": {"task": "pose", "dataset": "figures", "model": "hrnet"},
    "factors": {"fusions": {"at": "model.fusions", "levels": ["within", "final"]}},
    "metrics": ["AP"],
}


def refused(document) -> list[str]:
    """What the schema says of a document, as a file holds it: keys are texts in JSON."""
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(json.loads(json.dumps(document)))]


def loaded(tmp_path, document):
    file = tmp_path / "study.yaml"
    file.write_text(yaml_subset.dump(document))
    study = load(file)
    check_study(Design(study))
    return study


def test_the_schema_is_one_of_draft_2020_12():
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("file", STUDIES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_it_accepts_every_shipped_and_published_study(file):
    assert refused(yaml_subset.parse(file.read_text())) == []


def changed(path, value):
    document = json.loads(json.dumps(BASE))
    *steps, last = path.split("/")
    at = document
    for step in steps:
        at = at.setdefault(step, {})
    at[last] = value
    return document


RIGHT = [
    ("seeds", 3), ("seeds", [0, 5]), ("design", "full_factorial"), ("paper", "fusion_count"), ("paper", None),
    ("recipe/model", {"name": "hrnet", "width": 8}), ("recipe/train", {"preset": "pose", "epochs": 3}),
    ("recipe/train", {"lr": 1}), ("recipe/evaluation", {"flip": False}),
    ("recipe/task", {"name": "pose", "size": [64, 64]}),
    ("factors/fusions", {"at": "model.fusions", "levels": {"a": "within", "b": "final"}}),
    ("factors/fusions", {"levels": {"a": {}, "b": {"model.fusions": "final", "train.lr": 0.1}}}),
    ("factors/fusions", {"levels": {"a": {"model": "hrnet"}, "b": {"model": "unet"}}}),
    ("factors/fusions", {"at": "model", "levels": {"a": "hrnet", "b": {"name": "unet"}}}),
    ("factors/fusions", {"at": "model.width", "levels": [8, 16]}),
    ("scales", {"demo": {"seeds": 2, "recipe": {"model": {"width": 4}, "train": {"preset": "pose"}}}}),
    ("scales", {"demo": {"recipe": {"model": "unet"}, "factors": {"fusions": {"at": "train.lr", "levels": [0.1, 1]}}}}),
    ("budget", {"cpus": 2, "labels": {"gpu-type": "a100"}}), ("sections", ["table", "answer"]),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), RIGHT, ids=str)
def test_it_knows_every_spelling_that_loads(tmp_path, path, value):
    document = changed(path, value)
    assert refused(document) == []
    loaded(tmp_path, document)


WRONG = [
    ("questoin", "?"), ("name", "No Name"), ("seeds", 0), ("seeds", [1, 1]), ("seeds", "3"), ("metrics", []),
    ("metrics", ["APP"]), ("design", "some"), ("paper", "fusion_cuont"), ("sections", ["answr"]), ("scale", "demo"),
    ("recipe/model", "hrnett"), ("recipe/model", {"name": "hrnet", "widht": 8}), ("recipe/model", {"width": 8}),
    ("recipe/model", {"name": "hrnet", "width": "8"}), ("recipe/task", 3), ("recipe/train", {"epochs": 0}),
    ("recipe/train", {"preset": "pse"}), ("recipe/train", {"optimizer": "adma"}), ("recipe/train", {"eopchs": 3}),
    ("recipe/evaluation", {"flp": True}), ("recipe/weights", {"file": "x.pth", "sha256": "short"}),
    ("recipe/weights", {"file": "x.pth"}), ("recipe/dataset", {"name": "figures", "train": True}),
    ("factors", {}), ("factors/fusions", {"levels": ["within", "final"]}), ("factors/fusions/levels", ["within"]),
    ("factors/fusions", {"at": "modl.fusions", "levels": ["within", "final"]}),
    ("factors/fusions", {"levels": {"a": {}, "b": {"modl.fusions": "final"}}}),
    ("factors/fusions/match", {"gmacs": "control", "by": "train.lr"}), ("factors/fusions/match", {"by": "model.width"}),
    ("scales", {"demo": {"recipe": {"modl": {}}}}), ("scales", {"demo": {"sedes": 3}}),
    ("scales", {"demo": {"recipe": {"train": {"epochs": "3"}}}}), ("budget", {"cpus": 0}), ("budget", {"cpu": 1}),
    ("budget", {"retries": -1}), ("plugins", "mine"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), WRONG, ids=str)
def test_it_refuses_what_does_not_load(tmp_path, path, value):
    document = changed(path, value)
    assert refused(document)
    with pytest.raises(AblateError):
        loaded(tmp_path, document)


def test_a_study_with_plug_ins_may_name_any_part():
    document = changed("recipe/model", {"name": "mine", "depth": 3})
    assert refused(document)
    assert refused(document | {"plugins": ["mypkg.mine"], "metrics": ["mine"]}) == []


def test_descriptions_are_the_comments_of_the_source():
    defs = SCHEMA["$defs"]
    for model in (TrainSpec, Budget):
        for name, key in keys(model).items():
            assert defs[model.__name__]["properties"][name]["description"] == key.meaning
    hrnet = next(
        rule["then"] for rule in defs["model"]["allOf"] if rule["if"]["properties"]["name"]["const"] == "hrnet"
    )
    assert "channels" in hrnet["properties"]["width"]["description"]
    assert "official" in defs["TrainSpec"]["properties"]["preset"]["description"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(VALUES)
def test_what_is_dumped_as_yaml_is_read_as_it_was(value):
    text = yaml_subset.dump(value)
    assert json.dumps(yaml_subset.parse(text)) == json.dumps(value)


WORDS = ["1e-3", "off", "010", "1:30", "true", "null", "~", "1_000", "2026-01-01", ".5", "<<", "=", "#", "-", ""]
WORDS += ["\x85", "\u2028", "a\nb"]


@pytest.mark.parametrize("word", WORDS)
def test_words_that_yaml_might_take_for_something_else_stay_words(word):
    assert yaml_subset.parse(yaml_subset.dump({word: [word]})) == {word: [word]}
