"""Evidence against scipy, hand-worked values and the papers' printed numbers."""

import math
import subprocess
import sys
from dataclasses import replace

import made_up
import numpy as np
import pytest
from scipy import stats as scipy_stats

from ablate.analysis import gather
from ablate.errors import StoreError, StudyError
from ablate.storage import Store
from ablate.study import Design, published


def evidence_of(tmp_path, scores, **changes):
    """Evidence from chosen AP scores: arm -> one score per seed, None for a trial that diverged."""
    chosen = made_up.study(seeds=len(scores["within"]), levels=list(scores), **changes)
    store = Store(tmp_path)

    def choose(trial):
        score = scores[trial.arm["fusions"]][trial.seed]
        return {"status": "diverged", "reason": "loss"} if score is None else {"scores": {"AP": score, "AP50": 0.5}}

    made_up.fill(store, chosen, choose)
    return gather(Design(chosen), store, images=False)


def test_rows_hold_every_seed_and_its_mean(tmp_path):
    evidence = evidence_of(tmp_path, {"within": [0.5, 0.6, 0.7], "final": [0.3, 0.4, 0.8]})
    control, final = evidence.rows
    assert control.is_control
    assert (control.label, final.label) == ("within", "final")
    assert control.scores["AP"] == {0: 0.5, 1: 0.6, 2: 0.7}
    assert control.summaries["AP"].mean == pytest.approx(0.6)
    assert control.summaries["AP"].sd == pytest.approx(0.1)
    assert set(control.ids) == {0, 1, 2}
    assert len({*control.ids.values(), *final.ids.values()}) == 6


def test_effects_equal_scipy(tmp_path):
    control, level = [0.50, 0.61, 0.70, 0.66, 0.58], [0.47, 0.60, 0.64, 0.67, 0.50]
    effect = evidence_of(tmp_path, {"within": control, "final": level}).comparisons[0].effect
    theirs = scipy_stats.ttest_rel(level, control).confidence_interval(0.95)
    assert (effect.low, effect.high) == pytest.approx((theirs.low, theirs.high))
    assert effect.correlation == pytest.approx(scipy_stats.pearsonr(control, level).statistic)


def test_verdicts_follow_holm_over_the_planned_comparisons(tmp_path):
    # Eight differences of one sign: p = 2/256, times 2 for the smaller of two. Then mixed signs: nothing.
    rng = np.random.default_rng(0)
    control = list(0.5 + 0.01 * rng.standard_normal(8))
    lower = [score - 0.04 - 0.001 * seed for seed, score in enumerate(control)]
    same = [score + 0.01 * (-1) ** seed for seed, score in enumerate(control)]
    evidence = evidence_of(tmp_path, {"within": control, "across": same, "final": lower})
    across, final = evidence.comparisons_in("AP")
    assert final.p_holm == pytest.approx(2 * 2 / 256)
    assert final.verdict == "lower"
    assert across.verdict == "not shown"
    assert across.detectable > 0
    assert all(math.isnan(c.p_holm) and c.verdict is None for c in evidence.comparisons_in("AP50"))


def test_three_seeds_are_not_testable(tmp_path):
    evidence = evidence_of(tmp_path, {"within": [0.5, 0.6, 0.7], "across": [0.1, 0.2, 0.3], "final": [0.1] * 3})
    assert [c.verdict for c in evidence.comparisons_in("AP")] == ["not testable"] * 2
    assert evidence.rule.seeds_needed == 7  # 2 * 2 / 2**7 = .031, 2 * 2 / 2**6 = .063
    assert evidence.comparisons[0].smallest_p == pytest.approx(2 * 2 / 8)


def test_failures_are_counted_and_never_averaged(tmp_path):
    evidence = evidence_of(tmp_path, {"within": [0.5, 0.6, 0.7], "final": [0.3, None, math.nan]})
    final = evidence.rows[1]
    assert final.scores["AP"] == {0: 0.3}
    assert final.summaries["AP"].mean == pytest.approx(0.3)
    assert final.summaries["AP"].n == 1
    assert len(final.ids) == 3
    assert evidence.comparisons[0].effect.n == 1
    assert [(f.arm, f.seed, f.status) for f in evidence.failures] == [
        ("final", 1, "diverged"),
        ("final", 2, "no score"),
    ]


def test_missing_trials_and_damaged_files_are_named(tmp_path):
    evidence = made_up.partial(tmp_path)
    assert ("within", 2) in evidence.missing
    assert ("final", 3) in evidence.missing
    assert len(evidence.missing) == 4
    assert len(evidence.damaged) == 1
    assert str(tmp_path) not in evidence.damaged[0]
    assert list(evidence.mixed) == ["revisions", "torch versions"]
    assert evidence.provenance["torch"] == {"2.9.0": 7, "2.8.0": 1}
    whole = made_up.full(tmp_path / "other")
    assert not whole.mixed
    first, *_ = whole.results
    other = whole.results[first].model_copy(update={"env": whole.results[first].env | {"device": "NVIDIA H100"}})
    mixed = replace(whole, results=whole.results | {first: other}).mixed
    assert mixed == {"devices": ["cpu", "NVIDIA H100"]}


def test_image_interval_is_that_of_a_mean_of_differences(tmp_path):
    chosen, store = made_up.study(levels=("within", "final")), Store(tmp_path)
    made_up.fill(store, chosen)
    comparison = gather(Design(chosen), store).comparisons[0]
    trials = {(trial.arm["fusions"], trial.seed): trial.id for trial in Design(chosen).trials}
    values = {key: store.statistics(trial)["toy_score/value"] for key, trial in trials.items()}
    per_image = np.mean([values["final", s] - values["within", s] for s in chosen.seeds], axis=0)  # (images,)
    error = per_image.std() / math.sqrt(made_up.IMAGES)
    assert (comparison.image_low + comparison.image_high) / 2 == pytest.approx(per_image.mean(), abs=error / 3)
    assert comparison.image_high - comparison.image_low == pytest.approx(2 * 1.96 * error, rel=0.2)


def test_image_intervals_repeat_and_can_be_left_out(tmp_path):
    chosen, store = made_up.study(seeds=3), Store(tmp_path)
    made_up.fill(store, chosen)
    # By their texts: nan is not nan, and from Python 3.13 on equal fields are asked one by one.
    assert repr(gather(Design(chosen), store).comparisons) == repr(gather(Design(chosen), store).comparisons)
    quick = gather(Design(chosen), store, images=False)
    assert quick.images == 0
    assert all(math.isnan(comparison.image_low) for comparison in quick.comparisons)


def test_trials_scored_on_other_images_are_refused(tmp_path):
    chosen, store = made_up.study(seeds=1), Store(tmp_path)
    made_up.fill(store, chosen)
    made, arrays = made_up.result(Design(chosen).trials[-1])
    store.put(made, arrays | {"toy_score/image_ids": np.arange(1, made_up.IMAGES + 1)})
    with pytest.raises(StoreError, match="other test images"):
        gather(Design(chosen), store)


def test_results_from_different_files_are_refused(tmp_path):
    chosen, store = made_up.study(seeds=2), Store(tmp_path)
    made_up.fill(store, chosen, lambda trial: {"data_digest": {"val": str(trial.seed)}})
    with pytest.raises(StoreError, match="different files as val split"):
        gather(Design(chosen), store)


def test_a_table_has_one_evaluation_protocol(tmp_path):
    tasks = {"fusions": {"at": "task", "levels": {"one": {"name": "toy_task"}, "other": {"name": "toy_other_task"}}}}
    with pytest.raises(StudyError, match="arm other is evaluated with"):
        gather(Design(made_up.study(factors=tasks, paper=None)), Store(tmp_path))


def test_the_protocol_itself_can_be_the_factor(tmp_path):
    flips = {"flip": {"at": "evaluation.flip", "levels": [True, False]}}
    evidence = gather(Design(made_up.study(factors=flips, paper=None)), Store(tmp_path))
    assert [row.label for row in evidence.rows] == ["flip=yes", "flip=no"]
    assert evidence.varied == ("evaluation.flip",)


def test_a_factorial_is_compared_as_it_declares(tmp_path):
    factors = {
        "fusions": {"at": "model.fusions", "levels": ["within", "final"]},
        "width": {"at": "model.width", "levels": [8, 16]},
    }
    chosen, store = made_up.study(seeds=2, factors=factors, design="full_factorial"), Store(tmp_path)
    made_up.fill(store, chosen)
    evidence = gather(Design(chosen), store, images=False)
    assert [row.label for row in evidence.rows] == ["within + width=8", "width=16", "final", "final + width=16"]
    assert [(c.arm, c.control) for c in evidence.comparisons_in("AP")] == [
        ("final on average", "within on average"),
        ("width=16 on average", "width=8 on average"),
        ("final × width=16", "the sum of both effects"),
    ]
    final, width, both = (c.effect.diff for c in evidence.comparisons_in("AP"))
    base, wide, last, last_wide = (row.summaries["AP"].mean for row in evidence.rows)
    assert final == pytest.approx((last + last_wide - base - wide) / 2)
    assert width == pytest.approx((wide + last_wide - base - last) / 2)
    assert both == pytest.approx(last_wide - last - (wide - base))
    inside = made_up.study(seeds=2, factors=factors, design="full_factorial", compare="within width")
    found = gather(Design(inside), store, images=False).comparisons_in("AP")
    assert [(c.arm, c.control) for c in found] == [("final", "within + width=8"), ("final + width=16", "width=16")]
    assert found[1].effect.diff == pytest.approx(last_wide - wide)
    alone = made_up.study(seeds=2, factors=factors, design="full_factorial", compare="control")
    found = gather(Design(alone), store, images=False).comparisons_in("AP")
    assert [c.arm for c in found] == ["width=16", "final", "final + width=16"]
    assert evidence.planned == 3
    assert [row.published for row in evidence.rows] == ["73.4", None, "70.8", None]


def test_published_numbers_are_those_of_the_papers(tmp_path):
    assert published("fusion_count").levels == {"within": "73.4", "across": "71.9", "final": "70.8"}
    assert published("representation_resolution").levels["1/32"] == "<10"
    assert [row.published for row in made_up.empty(tmp_path).rows] == ["73.4", "71.9", "70.8"]
    with pytest.raises(StudyError, match="did you mean 'fusion_count'"):
        published("fusion_counts")


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("ablate.analysis", ("torch", "ray", "mlflow", "matplotlib")),
        ("ablate.report", ("torch", "ray", "mlflow", "matplotlib")),
        ("ablate.report.draw", ("torch", "ray", "mlflow")),
    ],
)
def test_reading_results_needs_neither_torch_nor_ray(module, unwanted):
    build_sections = (
        "from ablate import registry; [registry.build('section', n, {}) for n in registry.names('section')]"
    )
    code = f"import sys, {module}; {build_sections}; print([m for m in {unwanted!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_published_numbers_stand_beside_the_first_data_set_alone(tmp_path):
    sets = {"easy": {}, "hard": {"dataset": {"name": "toy_figures", "images": 20}}}
    found = gather(Design(made_up.study(seeds=2, datasets=sets)), Store(tmp_path), images=False)
    numbers = published("fusion_count").levels
    assert {row.label: row.published for row in found.rows} == {
        f"{level} on {name}": numbers[level] if name == "easy" else None
        for name in sets
        for level in ("within", "across", "final")
    }
