"""Studies with made-up results in a real store, in every state that a report meets."""

import math
from pathlib import Path

import numpy as np
from toy_parts import scores_for

from ablate.analysis import Evidence, gather
from ablate.beside import Evaluated, Subject, evaluations
from ablate.machine import fingerprint
from ablate.planning.open_study import tuned
from ablate.storage import Cost, Epoch, Result, Store
from ablate.study import Design, Study

IMAGES = 40
EFFECTS = {"within": 0.0, "across": -0.006, "final": -0.04}
NASTY = r"50 % of <b>AP</b> & $x_1^2$ #1 ~ {a} \ ± − Δ ≥ ½ é “q” | `c` *d* 中 [l](u) ünï"


def study(seeds=8, levels=("within", "across", "final"), **changes) -> Study:
    document = {
        "name": "fusion_count",
        "question": "Does repeated multi-resolution fusion help?",
        "recipe": {
            "task": "toy_task",
            "dataset": "toy_figures",
            "model": {"name": "toy_net", "width": 16},
            "train": {"epochs": 12, "batch": 32, "precision": "fp32"},
        },
        "factors": {"fusions": {"at": "model.fusions", "levels": list(levels)}},
        "seeds": seeds,
        "metrics": ["AP", "AP50", "AP75", "APM", "APL", "AR", "PCK"],
        "paper": "fusion_count",
        "scale": "laptop",
    }
    return Study.model_validate(document | changes)


def result(trial, *, status="done", effect=None, **changes) -> tuple[Result, dict]:
    """A made-up result: each seed has its own luck, most of it shared by all arms."""
    luck = np.random.default_rng(trial.seed)
    own = np.random.default_rng([trial.seed, *str(trial.arm).encode()])  # its id changes with what parts can do
    difficulty = np.random.default_rng(7).uniform(-0.15, 0.15, IMAGES)
    change = EFFECTS.get(next(iter(trial.arm.values())), -0.02) if effect is None else effect
    values = np.clip(0.25 + change + 0.008 * luck.standard_normal() + difficulty, 0, 1)
    values = np.clip(values + 0.003 * own.standard_normal() + 0.02 * own.standard_normal(IMAGES), 0, 1)
    value = float(values.mean())
    scores = scores_for(value) if status == "done" else {}
    curve = [
        Epoch(
            epoch=epoch,
            loss=0.02 * math.exp(-epoch / 5) * (1.1 + 0.1 * own.random()) + 0.001,
            lr=1e-3,
            seconds=60,
            images_per_second=50,
            scores={"AP": value * (1 - math.exp(-epoch / 3))} if epoch % 3 == 0 else {},
        )
        for epoch in range(1, 13)
    ]
    used = 290_000 + int(2e6 * abs(change))
    cost = Cost(
        parameters=310_000, used_parameters=min(used, 310_000), macs=int(2.6e8 * (1 + 8 * change)),
        uncounted=["upsample_nearest2d", "add"], images_per_second=90 + 5 * own.random(), peak_memory=700 * 2**20,
    )  # fmt: skip
    facts = {
        "revision": "0123456789abcdef0123456789abcdef01234567", "dirty": "no", "python": "3.11.9", "torch": "2.9.0",
        "processor": "Some CPU @ 2.70GHz", "cores": "2", "threads": "1", "device": "cpu",
    }  # fmt: skip
    made = Result(
        id=trial.id, recipe=trial.recipe, seed=trial.seed, data_version=trial.data_version,
        data_digest={"train": "0f" * 16, "val": "1e" * 16}, meanings=trial.meanings, plugins=trial.plugins,
        status=status,
        scores=scores, curve=curve, cost=cost, env=facts, seconds=700.0, finished="2026-01-02T03:04:05+00:00",
    ).model_copy(update=changes)  # fmt: skip
    arrays = {"toy_score/image_ids": np.arange(IMAGES), "toy_score/value": values} if status == "done" else {}
    return made, arrays


def fill(store: Store, chosen: Study, choose=lambda trial: {}) -> None:
    """Store a result for every trial; `choose` gives keywords of `result`, or None for no result."""
    for trial in Design(chosen).trials:
        keywords = choose(trial)
        if keywords is not None:
            store.put(*result(trial, **keywords))


def full(place: Path) -> Evidence:
    chosen, store = study(note="Made-up numbers."), Store(place)
    fill(store, chosen)
    return gather(Design(chosen), store)


def many_arms(place: Path) -> Evidence:
    chosen, store = (
        study(levels=("within", "across", "final", "every_second_module", "every_third_module")),
        Store(place),
    )
    fill(store, chosen)
    return gather(Design(chosen), store)


def few_seeds(place: Path) -> Evidence:
    chosen, store = study(seeds=3, scale="demo"), Store(place)
    fill(store, chosen)
    return gather(Design(chosen), store)


def empty(place: Path) -> Evidence:
    return gather(Design(study()), Store(place))


def all_failed(place: Path) -> Evidence:
    chosen, store = study(seeds=3), Store(place)
    fill(store, chosen, lambda trial: {"status": "diverged", "reason": f"loss is nan: {NASTY}", "cost": None})
    return gather(Design(chosen), store)


def single_seed(place: Path) -> Evidence:
    chosen, store = study(seeds=1, question=NASTY), Store(place)
    fill(store, chosen)
    return gather(Design(chosen), store)


def partial(place: Path) -> Evidence:
    """Some trials missing, one failed, one without a score, two revisions, a damaged file."""

    def choose(trial):
        arm = trial.arm["fusions"]
        if trial.seed == 2:
            return None
        if (arm, trial.seed) == ("final", 1):
            return {"status": "failed", "reason": "RuntimeError: out of memory", "cost": None, "curve": []}
        if (arm, trial.seed) == ("across", 0):
            return {"scores": {"AP": math.nan}, "env": {"revision": "f" * 40, "dirty": "no", "torch": "2.8.0"}}
        return {}

    chosen, store = study(seeds=4), Store(place)
    fill(store, chosen, choose)
    damaged = store.folder(Design(chosen).trials[-1].id) / "result.json"
    damaged.write_text("{")
    return gather(Design(chosen), store)


def factorial(place: Path) -> Evidence:
    """Main effects and an interaction instead of arms against the control, by a t test with a margin."""
    factors = {
        "fusions": {"at": "model.fusions", "levels": ["within", "final"]},
        "width": {"at": "model.width", "levels": [8, 16]},
    }
    chosen, store = study(factors=factors, design="full_factorial", test="t", margin=1.0), Store(place)
    fill(store, chosen)
    return gather(Design(chosen), store)


def by_looks(place: Path) -> Evidence:
    """The first of two looks, at which one arm is decided."""
    chosen, store = study(seeds=12, looks=[6, 12]), Store(place)
    fill(store, chosen, lambda trial: {} if trial.seed < 6 else None)
    return gather(Design(chosen), store)


def several_sets(place: Path) -> Evidence:
    """Two data sets, of which the arms differ on one only, by a t test; a network beside them on each, one on both
    evaluated without flips, as the arms on the harder set."""
    hard = {"dataset": {"name": "toy_figures", "images": 20}, "evaluation.flip": False}
    chosen, store = study(test="t", datasets={"easy": {}, "hard": hard}), Store(place)
    for label, dataset, flip in (("A", "easy", True), ("B", "easy", False), ("B", "hard", False)):
        recipe = Design(chosen).on(dataset)[0].recipe
        subject = Subject(kind="checkpoint", file="net.pth", sha256="ab" * 32)
        evaluation, scores = recipe.evaluation | {"flip": flip}, {"AP": 0.5}
        name = fingerprint([label, dataset], digits=16)
        one = Evaluated(id=name, label=label, subject=subject, task=recipe.task, dataset=recipe.dataset,
                        evaluation=evaluation, data_digest="1e" * 16, scores=scores, images=IMAGES)  # fmt: skip
        evaluations.put(store.place, one, {})
    fill(store, chosen, lambda trial: {"effect": -0.05} if trial.arm["dataset"] == "hard" else {})
    return gather(Design(chosen), store)


def tuned_arms(place: Path) -> Evidence:
    """Three tries of each arm, one of which diverged, and then the trials with what they chose."""
    asked, store = Design(study(tune={"train.lr": [0.0001, 0.001, 0.01]})), Store(place)
    for trial in asked.tries.trials:
        lost = trial.arm == {"fusions": "final", "try": "lr 0.01"}
        store.put(*result(trial, **({"status": "diverged", "reason": "loss is nan"} if lost else {})))
    design = tuned(asked, place)
    for trial in design.trials:
        store.put(*result(trial))
    return gather(design, store)


def along_width(place: Path) -> Evidence:
    """The same comparison at three widths, of which the smallest does not show it."""
    factors = {
        "fusions": {"at": "model.fusions", "levels": ["within", "final"]},
        "width": {"at": "model.width", "levels": [8, 16, 32]},
    }
    chosen = study(factors=factors, design="full_factorial", compare="within width", test="t")
    store = Store(place)
    fill(store, chosen, lambda trial: {"effect": -0.0001} if trial.arm["width"] == "8" else {})
    return gather(Design(chosen), store)


CASES = {
    case.__name__: case
    for case in (
        full,
        many_arms,
        few_seeds,
        empty,
        all_failed,
        single_seed,
        partial,
        factorial,
        by_looks,
        several_sets,
        tuned_arms,
        along_width,
    )
}
