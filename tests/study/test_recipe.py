"""The key of a trial: equal for what decides the same numbers, different for everything else."""

# ruff: noqa: E501  (tables of one case a line)

import json
import os
import random
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from small_studies import small_study, write_study

from ablate import registry
from ablate.machine import origin
from ablate.storage import Result, Store, whose
from ablate.study import Design, Part, Recipe, TrainSpec, Trial, load, trial_keys
from ablate.study.recipe import key

pytestmark = pytest.mark.usefixtures("small_shelf")


def ids(tmp_path, **changes) -> list[str]:
    return [trial.id for trial in Design(load(write_study(tmp_path, **changes))).trials]


def recipe(**changes) -> dict:
    return small_study()["recipe"] | changes


SAME = [
    {"name": "another", "question": "?", "note": "n"},
    {"factors": {"d": {"at": "model.depth", "levels": {"one": 1, "two": 2}}}},
    {"factors": {"d": {"levels": {"one": {}, "two": {"model.depth": 2}}}}},
    {"budget": {"cpus": 2, "workers": 1, "retries": 0, "parallel": 1, "evaluate_every": 1}},
    {"scales": {"s": {}}, "default_scale": "s"},
    {"metrics": ["near"]},
    {"design": "full_factorial"},
    {"sections": ["answer"]},
    {"seeds": [0, 1]},
    {"recipe": dict(reversed(recipe().items()))},
    {"recipe": recipe(model={"width": 4, "name": "dots", "dropout": 0, "depth": 1, "fault": "", "at": 1, "marker": ""})},
    {"recipe": recipe(task={"name": "brightness", "size": [8, 8], "jitter": 0.5}, dataset={"name": "noise", "train": 20})},
    {"recipe": recipe(evaluation={"flip": False})},
    {"recipe": recipe(evaluation={"flip": "no"})},
    {"recipe": recipe(train={**recipe()["train"], "optimizer": "adam", "weight_decay": 0, "memory_format": "channels_last"})},
    {"recipe": recipe(train={**recipe()["train"], "ema": 0, "warmup": "none", "frozen": [], "norm_momentum": None, "score_over": 1})},
]  # fmt: skip


@pytest.mark.parametrize("changes", SAME, ids=lambda changes: str(changes)[:60])
def test_what_decides_nothing_is_not_in_the_key(tmp_path, changes):
    assert ids(tmp_path, **changes) == ids(tmp_path)


OTHER = [
    {"recipe": recipe(model={"name": "dots", "width": 6})},
    {"recipe": recipe(model={"name": "dots", "width": 4, "dropout": 0.1})},
    {"recipe": recipe(task={"name": "brightness", "jitter": 0.4})},
    {"recipe": recipe(dataset={"name": "noise", "train": 21})},
    {"recipe": recipe(dataset={"name": "noise", "version": "2"})},
    {"recipe": recipe(dataset={"name": "noise", "version": None})},
    {"recipe": recipe(evaluation={"flip": True})},
    *(
        {"recipe": recipe(train={**recipe()["train"], **change})}
        for change in (
            {"epochs": 4}, {"batch": 7}, {"lr": 0.011}, {"weight_decay": 0.1}, {"optimizer": "adamw"}, {"init": "normal"},
            {"optimizer": "sgd", "momentum": 0.9}, {"schedule": "poly"}, {"schedule": "poly", "power": 1.0},
            {"schedule": "cosine"}, {"schedule": "step", "milestones": [0.5]}, {"precision": "bf16"},
            {"schedule": "step", "milestones": [0.5], "gamma": 0.2}, {"memory_format": "contiguous"},
            {"optimizer": "sgd", "momentum": 0.9, "nesterov": True}, {"weight_decay": 0.1, "weight_decay_on": "weights"},
            {"schedule": "cosine", "lr_floor": 1e-4}, {"warmup": "linear", "warmup_steps": 5}, {"warmup": "constant", "warmup_steps": 5},
            {"warmup": "linear", "warmup_epochs": 1}, {"warmup": "linear", "warmup_steps": 5, "warmup_ratio": 0.1},
            {"head_lr": 2}, {"layer_decay": 0.5}, {"clip_norm": 1}, {"frozen": ["first"]}, {"frozen": "backbone"},
            {"frozen_norms": True}, {"norm_momentum": 0.1}, {"ema": 0.9}, {"score_over": 2}, {"images": 5}, {"init_seed": 0}, {"held_out": 0.2},
        )
    ),
    {"seeds": [2, 3]},
]  # fmt: skip


def test_what_decides_a_number_is_in_the_key(tmp_path):
    studies = [ids(tmp_path), *(ids(tmp_path, **changes) for changes in OTHER)]
    everything = [trial_id for study in studies for trial_id in study]
    assert len(set(everything)) == len(everything) == 4 * (len(OTHER) + 1)


def test_every_field_of_the_training_is_tried_above():
    tried = {field for changes in OTHER if "recipe" in changes for field in changes["recipe"]["train"]}
    assert tried == set(TrainSpec.model_fields)


def test_the_key_is_the_same_in_every_process(tmp_path):
    file = write_study(tmp_path)
    script = "import sys; from ablate.study import load; from ablate.study import Design\n"
    script += f"print([t.id for t in Design(load({str(file)!r})).trials])"
    for hash_seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        run = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
        )
        assert run.stdout.strip() == str([t.id for t in Design(load(file)).trials])


def trial(**changes) -> Trial:
    settled = Recipe.model_validate(recipe()).settled(on_gpu=False)
    return Trial(
        **{"arm": {}, "seed": 0, "recipe": settled, "data_version": "1", "meanings": settled.meanings()} | changes
    )


def test_arm_is_not_in_the_key_but_seed_version_and_meanings_are():
    assert trial(arm={"a": "b"}).id == trial().id
    raised = trial().meanings | {"model": 2}
    others = [trial(), trial(seed=1), trial(data_version="2"), trial(data_version=None), trial(meanings=raised)]
    assert len({t.id for t in others}) == 5


def test_meanings_are_those_of_all_parts_that_have_a_say():
    assert trial().meanings == {"task": 1, "dataset": 1, "model": 1, "metric closeness": 1, "corridor": 1}


def test_automatic_precision_is_settled_before_the_key(tmp_path):
    automatic = recipe(train={"epochs": 3})
    here = "bf16" if origin.has_bf16() else "fp32"
    spelt = recipe(train={"epochs": 3, "precision": here, "memory_format": "channels_last"})
    assert ids(tmp_path, recipe=automatic) == ids(tmp_path, recipe=spelt)
    train = Design(load(write_study(tmp_path, recipe=automatic))).trials[0].recipe.train
    assert (train.precision, train.memory_format) == (here, "channels_last")
    on_gpu = Design(load(write_study(tmp_path, recipe=automatic, budget={"gpus": 1}))).trials[0].recipe.train
    assert on_gpu.precision == "bf16"


def test_a_trial_survives_json():
    again = Trial.model_validate_json(trial(arm={"a": "b"}).model_dump_json())
    assert again == trial(arm={"a": "b"})
    assert again.id == trial().id


def test_ten_thousand_recipes_have_ten_thousand_keys():
    rng = random.Random(0)
    base, seen = trial(), {}
    while len(seen) < 10_000:
        change = {
            "epochs": rng.randint(1, 300), "lr": rng.choice([1e-3, 1e-4, 0.1, 0.01]), "batch": rng.randint(1, 99),
        }  # fmt: skip
        knobs = base.recipe.model.knobs | {"width": rng.randint(1, 40), "depth": rng.choice([1, 2])}
        model, train = Part(name="dots", knobs=knobs), base.recipe.train.model_copy(update=change)
        made = base.recipe.model_copy(update={"model": model, "train": train})
        text = json.dumps([made.model_dump(mode="json"), seed := rng.randint(0, 9)], sort_keys=True)
        seen[text] = key(made, seed, "1", base.meanings)
    assert len(set(seen.values())) == 10_000


# -- the code grows: what becomes of stored results ------------------------------------------------------------

PARTS = '''
    from types import SimpleNamespace

    from ablate.datasets import Info
    from ablate.registry import dataset, metric, model, protocol, task


    @model("growing", meaning={meaning})
    def growing(*, width: int = 8{model_knob}):
        """A network."""


    @task("growing_task", meaning=1, metrics={metrics})
    def growing_task(*, size: tuple[int, int] = (8, 8){task_knob}):
        """A task."""


    @protocol("growing_task")
    def growing_protocol(*, flip: bool = True{protocol_knob}):
        """Its test."""


    @dataset("growing_data", meaning=1, tasks=("growing_task",))
    def growing_data(*, images: int = 4{data_knob}):
        """Data."""
        return SimpleNamespace(info=Info("toy", "1", licence="none", source="none"))


    @metric("growing_score", meaning=1, scores=("score",))
    def growing_score():
        """A score."""


    @metric("other_score", meaning={other}, scores=("other",), of_class="other/")
    def other_score():
        """Another."""
'''


@pytest.fixture
def code(tmp_path, monkeypatch):
    """Writes a version of a plugin's code and loads it, as a new process would."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(registry, "_builders", dict(registry._builders))

    def write(**values) -> None:
        knobs = dict.fromkeys(("model_knob", "task_knob", "protocol_knob", "data_knob"), "") | {
            "meaning": 1,
            "other": 1,
        }
        knobs["metrics"] = ("growing_score",)
        (tmp_path / "growing.py").write_text(textwrap.dedent(PARTS).format(**knobs | values))
        sys.modules.pop("growing", None)
        registry.load_plugins(("growing",))

    return write


def growing_trials(tmp_path, metrics=("score",)) -> list[Trial]:
    changes = {
        "plugins": ["growing"],
        "recipe": {"task": "growing_task", "dataset": "growing_data", "model": "growing"},
    }
    factors = {"width": {"at": "model.width", "levels": [8, 4]}}
    return Design(load(write_study(tmp_path, metrics=list(metrics), factors=factors, **changes))).trials


def store_all(store: Store, trials: list[Trial]) -> None:
    for t in trials:
        fields = {
            "id": t.id,
            "recipe": t.recipe,
            "seed": t.seed,
            "data_version": t.data_version,
            "meanings": t.meanings,
        }
        store.put(Result(**fields, status="done", scores={"score": 0.5}), {"growing_score/value": np.ones(2)})


@pytest.fixture
def as_shipped(monkeypatch):
    """Parts count as this repository's own: their meaning is in identities, their content is not."""
    monkeypatch.setattr(registry, "module_of", lambda kind, name: None)


@pytest.mark.parametrize("place", ["model_knob", "task_knob", "protocol_knob", "data_knob"])
def test_a_new_knob_with_the_old_behaviour_orphans_nothing(tmp_path, code, as_shipped, place):
    code()
    store = Store(tmp_path / "results")
    before = growing_trials(tmp_path)
    store_all(store, before)
    code(**{place: ", added: float = 0.5"})
    after = growing_trials(tmp_path)
    assert {t.id for t in after}.isdisjoint(t.id for t in before)
    shelf = store.read()
    assert store.missing(after, shelf=shelf) == []
    assert shelf.damaged == []
    assert [store.statistics(shelf.results[t.id].id)["growing_score/value"].tolist() for t in after] == [[1, 1]] * 4


def test_a_raised_meaning_orphans(tmp_path, code, as_shipped):
    code()
    store = Store(tmp_path / "results")
    store_all(store, growing_trials(tmp_path))
    code(meaning=2)
    after = growing_trials(tmp_path)
    assert store.missing(after) == after


BOTH = ("growing_score", "other_score")


def test_a_new_metric_of_a_task_orphans_only_trials_that_ask_for_it(tmp_path, code, as_shipped):
    code()
    store = Store(tmp_path / "results")
    before = growing_trials(tmp_path)
    store_all(store, before)
    code(metrics=BOTH)
    assert [t.id for t in growing_trials(tmp_path)] == [t.id for t in before]
    assert store.missing(growing_trials(tmp_path)) == []
    for asked in (("score", "other"), ("other",), ("other/leg",)):
        trials = growing_trials(tmp_path, metrics=asked)
        assert store.missing(trials) == trials


def test_results_answer_whoever_asks_for_some_of_their_metrics(tmp_path, code, as_shipped):
    """What a task measures is measured always; results of older versions name all metrics of their task."""
    code(metrics=BOTH)
    store = Store(tmp_path / "results")
    trials = growing_trials(tmp_path, metrics=("score",))
    all_named = [Trial.model_validate(t.model_dump() | {"meanings": t.recipe.meanings()}) for t in trials]
    assert {t.id for t in all_named}.isdisjoint(t.id for t in trials)
    store_all(store, all_named)
    for asked in (("score",), ("other",), ("other", "score")):
        assert store.missing(growing_trials(tmp_path, metrics=asked)) == []
    assert len(store.read().results) == 4
    assert store.find(trials[0].id[:9]).id == all_named[0].id


def test_a_metric_that_changed_its_meaning_orphans_only_trials_that_ask_for_it(tmp_path, code, as_shipped):
    code(metrics=BOTH)
    store = Store(tmp_path / "results")
    store_all(store, growing_trials(tmp_path, metrics=("score", "other")))
    code(metrics=BOTH, other=2)
    assert store.missing(growing_trials(tmp_path)) == []
    assert len(store.missing(growing_trials(tmp_path, metrics=("other",)))) == 4


def test_a_result_says_the_meaning_of_every_metric_that_it_has(tmp_path):
    asked = trial(meanings=trial().recipe.meanings([]))
    assert "metric closeness" not in asked.meanings
    assert whose(asked)["meanings"] == trial().meanings


def test_a_result_with_very_many_metrics_is_found_by_all_of_them():
    """Published meanings are somebody else's word: every choice of forty would be 2^40 ids."""
    many = trial(meanings=trial().meanings | {f"metric {number}": 1 for number in range(40)})
    assert list(trial_keys(many.recipe, 0, "1", many.meanings, {})) == [many.id]


def test_what_is_at_a_later_default_is_not_written():
    """So documents and ids of before are those of today."""
    document = trial().recipe.model_dump(mode="json")
    assert set(document) == {"task", "dataset", "model", "train", "evaluation"}
    assert set(document["train"]) == {
        "epochs", "batch", "optimizer", "lr", "momentum", "weight_decay", "schedule", "milestones", "gamma", "power",
        "init", "precision", "memory_format",
    }  # fmt: skip
    assert {"plugins", "kept_weights"}.isdisjoint(Result(**whose(trial(recipe=shipped())), status="done").model_dump())


def shipped() -> Recipe:
    return Recipe.model_validate({"task": "pose", "dataset": "figures", "model": "hrnet"}).settled(on_gpu=False)


def test_results_of_parts_that_are_gone_are_not_damaged(tmp_path, code, monkeypatch):
    """Another study's results, made with a plugin that this study does not name."""
    code()
    store = Store(tmp_path / "results")
    store_all(store, growing_trials(tmp_path))
    monkeypatch.setattr(registry, "_plugins", {})
    registry.describe.cache_clear()
    shelf = store.read()
    assert (shelf.results, shelf.damaged) == ({}, [])
