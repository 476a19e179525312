"""The study file: what it may say, and the one line that says what is wrong with it."""

# ruff: noqa: E501  (tables of one case a line)

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_studies import small_study, write_study

from ablate.errors import AblateError, PartError, StudyError
from ablate.planning.match import solve
from ablate.study import Design, Study, check_study, load
from ablate.study.study import merge

pytestmark = pytest.mark.usefixtures("small_shelf")


def refusal(file, *, scale=None) -> str:
    """What is said about a study file, by loading or by what follows; it names the file and is one line."""
    with pytest.raises((StudyError, PartError)) as caught:
        check_study(Design(solve(load(file, scale=scale))))
    text = str(caught.value)
    assert text.startswith(f"{file}: ")
    assert "\n" not in text
    return text.removeprefix(f"{file}: ")


def recipe(**changes) -> dict:
    return small_study()["recipe"] | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets": {"a": {}, "b": {"datset.train": 4}}}, "datasets.b: no 'datset' in a recipe; did you mean 'dataset'?"),
        ({"datasets": {"a": {}, "b": {"train.epoch": 4}}}, "datasets.b: no train.epoch; did you mean 'epochs'?"),
        ({"datasets": {"a": {}, "b": {"train": {"epoch": 4}}}}, "datasets.b: no train.epoch; did you mean 'epochs'?"),
        ({"datasets": {"a": {}, "b": {"dataset": {"trian": 4}}}}, "datasets.b: dataset.trian: the dataset 'noise' has no such"),
        ({"tune": {"train.rl": [0.1, 0.2]}}, "tune: no train.rl; did you mean 'lr'?"),
        ({"tune": {"model.widht": [4, 8]}}, "tune: model.widht: the model 'dots' has no such knob; did you mean 'width'?"),
        ({"tune": {"evaluation.flp": [True, False]}}, "tune: evaluation.flp: the protocol 'brightness' has no such knob"),
        ({"budget": {"gpu": 1}}, "budget.gpu: unknown key; did you mean 'gpus'?"),
        ({"scales": {"big": {"tune": {"train.rl": [0.1, 0.2]}}}}, "scales.big.tune: no train.rl"),
        ({"scales": {"big": {}}, "tune": {"train.rl": [0.1, 0.2]}}, "tune: no train.rl"),
        ({"tune": {"weights.fiel": ["a", "b"]}}, "tune: no weights.fiel; did you mean 'file'?"),
        ({"tune": {"evaluation.name": ["a", "b"]}}, "tune: evaluation.name: the protocol 'brightness' has no such knob"),
        ({"factors": {"f": {"at": "train", "levels": {"a": {"preset": "pose"}, "b": {"epochs": 1}}}}},
         "factors.f: a preset stands in the train of a recipe, not in a level"),
        ({"factors": {"f": {"at": "model.depth", "levels": [1, 2], "match": {"gmacs": "control", "by": "model.widht"}}}},
         "factors.f.match: model.widht: the model 'dots' has no such knob; did you mean 'width'?"),
    ],
)  # fmt: skip
def test_a_misspelt_path_is_told_before_anything_is_made_of_the_study(tmp_path, changes, message):
    file = write_study(tmp_path, **changes)
    with pytest.raises((StudyError, PartError)) as caught:
        load(file)
    assert str(caught.value).startswith(f"{file}: {message}")


def test_knobs_of_a_part_that_a_level_brings_are_known(tmp_path):
    levels = {"noise": {}, "drawn": {"dataset": "figures", "dataset.people": 1}}
    load(write_study(tmp_path, factors={"data": {"levels": levels}}))
    named = {"noise": {}, "drawn": {"dataset.name": "figures", "dataset.people": 1}}
    load(write_study(tmp_path, factors={"data": {"levels": named}}))
    load(write_study(tmp_path, tune={"model.name": ["dots", "hrnet"], "model.blocks": [1, 2]}, seeds=3))


def test_a_study_is_read(tmp_path):
    study = load(write_study(tmp_path, seeds=[4, 2], note="n"))
    assert (study.name, study.seeds, study.note, study.design) == ("small", [4, 2], "n", "one_at_a_time")
    assert study.factors["depth"].levels == {"1": {"model.depth": 1}, "2": {"model.depth": 2}}
    assert study.factors["depth"].control == "1"
    check_study(Design(study))


def yaml_value(tmp_path, text: str):
    """What a value in a file is read as."""
    file = write_study(tmp_path, factors={"f": {"at": "train.lr", "levels": ["LEVEL", 0.75]}})
    file.write_text(file.read_text().replace('"LEVEL"', text))
    return next(iter(load(file).factors["f"].levels.values()))["train.lr"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1E+3", 1000.0), ("1.5e3", 1500.0), ("-2e2", -200.0), (".5", 0.5), ("5.", 5.0),
        ("0.1", 0.1), ("12", 12), ("-3", -3), ("0", 0), ("+4", 4), ("true", True), ("false", False),
        ("off", "off"), ("no", "no"), ("yes", "yes"), ("on", "on"), ("No", "No"), ("y", "y"), ("True", "True"),
        ("010", "010"), ("0x10", "0x10"), ("0b1", "0b1"), ("1_000", "1_000"), ("1:30", "1:30"), ("2001-01-01", "2001-01-01"),
        ("1e", "1e"), ("e3", "e3"), ("1.2.3", "1.2.3"), ("9" * 30, "9" * 30), ("'1e-3'", "1e-3"),
    ],
)  # fmt: skip
def test_yaml_reads_numbers_as_numbers_and_words_as_words(tmp_path, text, value):
    got = yaml_value(tmp_path, text)
    assert (got, type(got)) == (value, type(value))


def test_levels_get_labels_that_can_be_typed(tmp_path):
    levels = [[1, 4, 3], "within", 1e-3, True, False, [2]]
    study = load(write_study(tmp_path, factors={"f": {"at": "model.width", "levels": levels}}))
    assert list(study.factors["f"].levels) == ["1x4x3", "within", "0.001", "yes", "no", "2"]


def test_a_level_may_set_several_paths(tmp_path):
    levels = {"small": {"model.width": 2, "train.lr": 0.1}, "large": {"model.width": 8, "train.lr": 0.01}}
    trials = Design(load(write_study(tmp_path, factors={"size": {"levels": levels}}, seeds=1))).trials
    assert [(t.recipe.model.knobs["width"], t.recipe.train.lr) for t in trials] == [(2, 0.1), (8, 0.01)]


def test_the_official_pose_preset_is_expanded_and_may_be_overridden(tmp_path):
    train = load(write_study(tmp_path, recipe=recipe(train={"preset": "pose", "epochs": 7}))).recipe.train
    assert (train.epochs, train.batch, train.lr, train.optimizer, train.weight_decay) == (7, 128, 1e-3, "adam", 0)
    assert [round(210 * m) for m in train.milestones] == [170, 200]


UNKNOWN = [
    ({"questoin": "?"}, "questoin: unknown key; did you mean 'question'?"),
    ({"recipe": recipe(modle={})}, "recipe.modle: unknown key; did you mean 'model'?"),
    ({"recipe": recipe(train={"eopchs": 3})}, "recipe.train.eopchs: unknown key; did you mean 'epochs'?"),
    ({"recipe": recipe(train={"presset": "pose"})}, "recipe.train.presset: unknown key"),
    ({"factors": {"f": {"att": "model.depth", "levels": {"a": {}, "b": {}}}}}, "factors.f.att: unknown key; did you mean 'at'?"),
    ({"budget": {"cpu": 2}}, "budget.cpu: unknown key; did you mean 'cpus'?"),
    ({"scales": {"x": {"sedes": 2}}}, "scales.x.sedes: unknown key; did you mean 'seeds'?"),
    ({"scales": {"x": {"budget": {"cpu": 2}}}}, "scales.x.budget.cpu: unknown key; did you mean 'cpus'?"),
    ({"scales": {"x": {"recipe": {"train": {"eopchs": 1}}}}}, "scales.x.recipe.train.eopchs: unknown key; did you mean 'epochs'?"),
    ({"scales": {"x": {"recipe": {"modle": {"width": 1}}}}}, "scales.x.recipe.modle: unknown key; did you mean 'model'?"),
    ({"scales": {"x": {"factors": {"f": {"levles": [1, 2]}}}}}, "scales.x.factors.f.levels: is missing"),
    ({"scale": "x"}, "scale: unknown key"),
    ({"file": "x"}, "file: unknown key"),
]  # fmt: skip
WRONG = [
    ({"name": "../up"}, "name: "), ({"name": "a/b"}, "name: "), ({"name": ".."}, "name: "), ({"name": "A"}, "name: "),
    ({"name": ""}, "name: "), ({"name": "a" * 65}, "name: "), ({"name": "a\n"}, "name: "), ({"name": 3}, "name: "),
    ({"seeds": 0}, "seeds: "), ({"seeds": -1}, "seeds: "), ({"seeds": [1, 1]}, "seeds: "), ({"seeds": [-1]}, "seeds: "),
    ({"seeds": [True]}, "seeds.0: "), ({"seeds": "3"}, "seeds: "), ({"seeds": 10**9}, "seeds: at most 1000"),
    ({"seeds": []}, "seeds: "), ({"seeds": 2.5}, "seeds: "),
    ({"scales": {"x": {"seeds": 10**9}}}, "scales.x.seeds: at most 1000"),
    ({"recipe": 3}, "recipe: should be a mapping, not 3"), ({"recipe": {}}, "recipe.task: is missing"),
    ({"recipe": recipe(train=3)}, "recipe.train: should be a mapping, not 3"),
    ({"recipe": recipe(train={"epochs": 0})}, "recipe.train.epochs: "),
    ({"recipe": recipe(train={"epochs": True})}, "recipe.train.epochs: "),
    ({"recipe": recipe(train={"epochs": "3"})}, "recipe.train.epochs: "),
    ({"recipe": recipe(train={"lr": "1e-3"})}, "recipe.train.lr: "),
    ({"recipe": recipe(train={"lr": -1})}, "recipe.train.lr: "),
    ({"recipe": recipe(train={"lr": float("inf")})}, "recipe.train.lr: "),
    ({"recipe": recipe(train={"lr": float("nan")})}, "recipe.train.lr: "),
    ({"recipe": recipe(train={"optimizer": "adm"})}, "recipe.train.optimizer: should be 'adam', 'adamw' or 'sgd', not 'adm'"),
    ({"recipe": recipe(train={"momentum": 0.9})}, "recipe.train: momentum has no effect with optimizer 'adam'"),
    ({"recipe": recipe(train={"milestones": [0.5]})}, "recipe.train: milestones have no effect with schedule 'constant'"),
    ({"recipe": recipe(train={"schedule": "step", "milestones": [170]})}, "recipe.train: milestones are fractions"),
    ({"recipe": recipe(train={"preset": "pse"})}, "recipe.train.preset: no preset 'pse'; did you mean 'pose'?"),
    ({"recipe": recipe(train={"preset": ["pose"]})}, "recipe.train.preset: no preset ['pose']"),
    ({"recipe": recipe(model={"width": 2})}, "recipe.model.name: "),
    ({"recipe": recipe(model=["dots"])}, "recipe.model: "),
    ({"recipe": recipe(model="dotts")}, "arm depth=1: unknown model 'dotts'; did you mean 'dots'?"),
    ({"recipe": recipe(task="brightnes")}, "arm depth=1: unknown task 'brightnes'; did you mean 'brightness'?"),
    ({"recipe": recipe(dataset="noize")}, "arm depth=1: unknown dataset 'noize'; did you mean 'noise'?"),
    ({"recipe": recipe(model={"name": "dots", "widht": 2})}, "recipe: model.widht: the model 'dots' has no such knob; did you mean 'width'?"),
    ({"recipe": recipe(model={"name": "dots", "width": "wide"})}, "arm depth=1: model.width: "),
    ({"recipe": recipe(evaluation={"flp": True})}, "recipe: evaluation.flp: the protocol 'brightness' has no such knob; did you mean 'flip'?"),
    ({"recipe": recipe(dataset="figures")}, "recipe.dataset: 'figures' has no labels for the task 'brightness'; it serves pose"),
    ({"recipe": recipe(task="pose")}, "metrics: the task 'pose' has no 'closeness'; "),
    ({"metrics": ["closenes"]}, "metrics: the task 'brightness' has no 'closenes'; did you mean 'closeness'?"),
    ({"metrics": []}, "metrics: "), ({"metrics": "closeness"}, "metrics: "),
    ({"sections": ["anwser"]}, "unknown section 'anwser'; did you mean 'answer'?"),
    ({"factors": {}}, "factors: "), ({"factors": {"f": 3}}, "factors.f: should be a mapping"),
    ({"factors": {"f": {"at": "model.depth", "levels": [1]}}}, "factors.f.levels: a factor needs at least two levels"),
    ({"factors": {"f": {"at": "model.depth", "levels": [1, 1]}}}, "factors.f: two levels are the same"),
    ({"factors": {"f": {"levels": [1, 2]}}}, "factors.f: a list of levels needs 'at'"),
    ({"factors": {"f": {"at": "modle.depth", "levels": [1, 2]}}}, "factors.f: no 'modle' in a recipe; did you mean 'model'?"),
    ({"factors": {"f": {"at": "", "levels": [1, 2]}}}, "factors.f: no '' in a recipe"),
    ({"factors": {"f": {"at": "train.epoch", "levels": [1, 2]}}}, "factors.f: no train.epoch; did you mean 'epochs'?"),
    ({"factors": {"f": {"at": "model.dept", "levels": [1, 2]}}}, "factors.f: model.dept: the model 'dots' has no such knob; did you mean 'depth'?"),
    ({"factors": {"f": {"at": "model.depth", "levels": [1, 3]}}}, "arm f=3: model.depth: "),
    ({"factors": {"f": {"at": "model.depth.deep", "levels": [1, 2]}}}, "factors.f: model.depth.deep: model.depth is no mapping, nothing lies below it"),
    ({"factors": {"f": {"at": "train.epochs", "levels": [1, 0]}}}, "arm f=0: recipe.train.epochs: "),
    ({"factors": {"f": {"at": "dataset", "levels": ["noise", "figures"]}}}, "recipe.dataset: 'figures' has no labels for the task"),
    ({"factors": {"f": {"at": "model.depth", "levels": {"a": 1, "b": 1}}}}, "factors.f: levels 'a' and 'b' are the same trial"),
    ({"factors": {"f": {"levels": {"default": {}, "spelt": {"model.dropout": 0}}}}}, "factors.f: levels 'default' and 'spelt' are the same trial"),
    ({"factors": {"f": {"at": "model.depth", "levels": [1, 2]}, "g": {"at": "model.depth", "levels": [1, 2]}}}, "factors.f and factors.g both set model.depth"),
    ({"default_scale": "demo"}, "scales: no scale 'demo'; there is none to choose from"),
    ({"scales": {"demo": {}}, "default_scale": "dmo"}, "scales: no scale 'dmo'; did you mean 'demo'?"),
    ({"scales": {"demo": {"recipe": {"train": {"preset": "x"}}}}}, "recipe.train.preset: no preset 'x'"),
    ({"plugins": "small_parts"}, "plugins: "), ({"plugins": ["no_such_plugin"]}, "plugins: cannot import 'no_such_plugin'"),
    ({"plugins": ["json"]}, "plugins: 'json' holds no decorated part"),
    ({"budget": {"cpus": 0}}, "budget.cpus: "), ({"budget": {"gpus": -1}}, "budget.gpus: "),
    ({"budget": {"cpus": float("inf")}}, "budget.cpus: "), ({"budget": {"parallel": 0}}, "budget.parallel: "),
    ({"design": "all"}, "design: should be 'one_at_a_time' or 'full_factorial', not 'all'"),
    ({"looks": [1, 2]}, "looks: [1, 2] should be two or more rising numbers of seeds"), ({"looks": [4]}, "looks: [4] should be two or more"),
    ({"looks": [8, 6]}, "looks: [8, 6] should be two or more rising"), ({"looks": [4, 8]}, "looks: [4, 8] ends at 8 seeds and there are 2"),
    ({"looks": [2, 4], "seeds": 4, "test": "sign_flip"}, "looks: [2, 4] need test: t"),
    ({"looks": [2, 4], "seeds": 4, "population": "seeds+images"}, "looks: [2, 4] spend an error rate over seeds"),
    ({"pairing": "none", "test": "sign_flip"}, "test: sign flips are of paired seeds"),
    ({"margin": 0}, "margin: "), ({"margin": -1}, "margin: "), ({"margin": math.inf}, "margin: "), ({"test": "z"}, "test: should be 'sign_flip', 't' or 'e_value', not 'z'"),
    ({"compare": "effects"}, "compare: effects needs the design full_factorial"),
    ({"compare": "others"}, "compare: 'others' is none of control, effects and within FACTOR"),
    ({"compare": "within dept", "design": "full_factorial"}, "compare: no factor 'dept'; did you mean 'depth'?"),
    ({"compare": "within depth", "design": "full_factorial"}, "compare: within a factor needs a second one"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), UNKNOWN + WRONG, ids=lambda value: str(value)[:60])
def test_a_mistake_is_one_line_with_file_and_key(tmp_path, changes, message):
    text = json.dumps(small_study(**changes)).replace("Infinity", ".inf").replace("NaN", ".nan")
    file = tmp_path / "small.yaml"
    file.write_text(text)
    assert refusal(file).startswith(message)


def test_a_missing_key_is_named(tmp_path):
    for key in ("name", "question", "recipe", "factors", "metrics"):
        document = small_study()
        del document[key]
        (tmp_path / "s.yaml").write_text(json.dumps(document))
        assert refusal(tmp_path / "s.yaml") == f"{key}: is missing"


def test_an_unknown_scale_is_named(tmp_path):
    file = write_study(tmp_path, scales={"demo": {}, "paper": {}})
    assert refusal(file, scale="papre") == "scales: no scale 'papre'; did you mean 'paper'?"


def test_too_many_arms_are_refused_at_once(tmp_path):
    factors = {f"f{i}": {"at": "model.width", "levels": list(range(10))} for i in range(10)}
    message = refusal(write_study(tmp_path, factors=factors, design="full_factorial"))
    assert "a full factorial design of 10000000000 arms; at most 1000" in message


DOCUMENTS = [
    ("", "a study is a mapping"), ("# nothing\n", "a study is a mapping"), ("- a\n- b", "a study is a mapping"),
    ("word", "a study is a mapping"), ("name: a\nname: b", "line 2: duplicate key 'name'"),
    ("recipe:\n  model: {name: x, width: 1, width: 2}", "line 2: duplicate key 'width'"),
    ("name: [a", "line 1: "), ("name: 'a", "line 1: "), ("a: b: c", "line 1: mapping values are not allowed here"),
    ("\ta: b", "line 1: "), ("[a]: b", "line 1: a key must be a word"), ("{a: 1}: b", "line 1: a key must be a word"),
    ("a: &x [1]\nb: *x", "line 2: aliases are not allowed"), ("a: !!python/object:os.system x", "line 1: tags are not allowed"),
    ("a: !!set {x}", "line 1: tags are not allowed"), ("a: !!timestamp x", "line 1: tags are not allowed"),
    ("--- {}\n--- {}", "line 2: but found another document"), ("%YAML 9.9\n---\na: 1", "line 1: found incompatible"),
    ("a: " + "[" * 5000, "nested too deeply"), ("a: " + "{b: " * 5000, "nested too deeply"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), DOCUMENTS, ids=lambda text: str(text)[:30])
def test_a_file_that_is_no_study_is_one_line(tmp_path, text, message):
    (tmp_path / "s.yaml").write_text(text)
    assert refusal(tmp_path / "s.yaml").startswith(message)


def test_an_alias_bomb_costs_nothing(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    assert refusal(tmp_path / "bomb.yaml") == "line 2: aliases are not allowed"


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    assert refusal(tmp_path / "absent.yaml") == "No such file or directory"
    assert refusal(tmp_path) == "Is a directory"
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    assert refusal(tmp_path / "binary.yaml") == "is not UTF-8 text"
    (tmp_path / "null.yaml").write_bytes(b"name: \0")
    assert "unacceptable character" in refusal(tmp_path / "null.yaml")


def test_a_scale_overrides_recipe_factors_seeds_and_budget(tmp_path):
    scales = {
        "big": {
            "recipe": {"model": {"width": 8}, "train": {"epochs": 9}, "dataset": {"name": "noise", "val": 4}},
            "factors": {"depth": {"at": "model.depth", "levels": [2, 1]}},
            "seeds": 5, "budget": {"cpus": 2}, "note": "bigger",
        },
        "other": {},
    }  # fmt: skip
    file = write_study(tmp_path, scales=scales, default_scale="other", budget={"retries": 7})
    big, other = load(file, scale="big"), load(file)
    assert (big.scale, big.seeds, big.note, big.budget.cpus, big.budget.retries) == (
        "big",
        [0, 1, 2, 3, 4],
        "bigger",
        2,
        7,
    )
    assert big.recipe.model.knobs == {"width": 8}
    assert (big.recipe.train.epochs, big.recipe.train.batch) == (9, 8)
    assert list(big.factors["depth"].levels) == ["2", "1"]
    assert (other.scale, other.seeds, other.recipe.train.epochs) == ("other", [0, 1], 3)


def test_a_null_of_a_scale_takes_away_what_the_study_has(tmp_path):
    rule = {"test": "t", "pairing": "none", "population": "seeds+images", "margin": 1.0, "seeds": 8}
    file = write_study(tmp_path, **rule, scales={"plain": dict.fromkeys(("test", "pairing", "population", "margin"))})
    plain = load(file, scale="plain")
    assert (plain.testing, plain.pairing, plain.population, plain.margin) == ("sign_flip", "seeds", "seeds", None)


def test_a_scale_may_have_its_own_seeds_or_looks_and_its_own_rule(tmp_path):
    document = {key: value for key, value in small_study().items() if key != "seeds"}
    document |= {"looks": [4, 8], "margin": 1.0}
    document["scales"] = {
        "few": {"seeds": 3}, "more": {"looks": [8, 16, 24]},
        "other": {"test": "t", "pairing": "none", "seeds": 6, "margin": 2.0},
    }  # fmt: skip
    file = tmp_path / "small.yaml"
    file.write_text(json.dumps(document))
    plain, few, more, other = (load(file, scale=scale) for scale in (None, "few", "more", "other"))
    assert (plain.looks, len(plain.seeds), plain.testing) == ([4, 8], 8, "t")
    assert (few.looks, few.seeds, few.testing, few.margin) == (None, [0, 1, 2], "sign_flip", 1.0)
    assert (more.looks, len(more.seeds)) == ([8, 16, 24], 24)
    assert (other.looks, len(other.seeds), other.testing, other.pairing, other.margin) == (None, 6, "t", "none", 2.0)


def test_another_part_replaces_the_old_one_with_its_knobs():
    base = {"model": {"name": "hrnet", "width": 8}, "train": {"lr": 1}}
    assert merge(base, {"model": {"width": 4}}) == {"model": {"name": "hrnet", "width": 4}, "train": {"lr": 1}}
    assert merge(base, {"model": {"name": "hrnet", "blocks": 1}})["model"] == {"name": "hrnet", "width": 8, "blocks": 1}
    assert merge(base, {"model": {"name": "other"}})["model"] == {"name": "other"}
    assert base == {"model": {"name": "hrnet", "width": 8}, "train": {"lr": 1}}


# -- fuzz: whatever the file holds, only errors that a user can read leave `load` -----------------------------

WORDS = st.sampled_from(
    [
        "name",
        "question",
        "recipe",
        "factors",
        "design",
        "seeds",
        "metrics",
        "paper",
        "note",
        "budget",
        "sections",
        "scales",
        "default_scale",
        "at",
        "levels",
        "task",
        "dataset",
        "model",
        "train",
        "evaluation",
        "preset",
        "epochs",
        "lr",
        "milestones",
        "width",
        "depth",
        "cpus",
        "gpus",
        "small",
        "dots",
        "noise",
        "brightness",
        "pose",
        "hrnet",
        "model.depth",
        "train.lr",
        "model",
        "within",
        "final",
        "one_at_a_time",
        "closeness",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=4)
)


@st.composite
def damaged_studies(draw):
    """The small study with one place, at any depth, replaced, removed or added to."""
    document = json.loads(json.dumps(small_study(scales={"a": {"recipe": {"train": {"epochs": 2}}, "seeds": 1}})))
    del document["plugins"]
    place = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
            place = place[key]
            continue
        what = draw(st.sampled_from(["replace", "remove", "add"]))
        if what == "remove":
            del place[key]
        elif what == "add" and isinstance(place, dict):
            place[draw(WORDS | st.text(max_size=4))] = draw(VALUES)
        else:
            place[key] = draw(VALUES)
        return document


def only_readable_errors(file, text: str | bytes) -> None:
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        study = load(file)
        check_study(Design(study))
        trials = Design(study).trials
    except AblateError as error:
        said = str(error)
    else:
        assert isinstance(study, Study)
        assert all(len(trial.id) == 16 for trial in trials)
        return
    assert "\n" not in said
    assert said.startswith(str(file))


FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
FAST, SLOW = settings(FUZZ, max_examples=200), settings(FUZZ, max_examples=4000)
YAMLISH = st.text(st.sampled_from("abn:-[]{}#&*!|>'\"%@`,. \n\t0189eE_~?<=é\u2028"), max_size=80)


@FAST
@given(document=damaged_studies())
def test_fuzz_a_damaged_study(tmp_path, document):
    only_readable_errors(tmp_path / "fuzz.yaml", json.dumps(document))


@FAST
@given(text=YAMLISH | st.binary(max_size=60))
def test_fuzz_any_text(tmp_path, text):
    only_readable_errors(tmp_path / "fuzz.yaml", text)


@pytest.mark.slow
@SLOW
@given(document=damaged_studies())
def test_fuzz_many_damaged_studies(tmp_path, document):
    only_readable_errors(tmp_path / "fuzz.yaml", json.dumps(document))


@pytest.mark.slow
@SLOW
@given(text=YAMLISH | st.binary(max_size=60))
def test_fuzz_much_text(tmp_path, text):
    only_readable_errors(tmp_path / "fuzz.yaml", text)
