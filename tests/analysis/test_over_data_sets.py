"""Verdicts on several data sets and over all: the numbers are scipy's, and the family is one."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from small_studies import write_study

from ablate.analysis import gather, stats
from ablate.report import blocks
from ablate.report.blocks import Table, Text
from ablate.storage import Result, Store, whose
from ablate.study import Design, load

pytestmark = pytest.mark.usefixtures("small_shelf")

SETS = {"one": {}, "two": {"dataset.train": 40}, "three": {"dataset.train": 60}}
GAPS = {"one": 0.02, "two": 0.01, "three": -0.002}


def evidence(tmp_path, *, gaps=GAPS, seeds=8, **changes):
    """Scores with these gaps; statistics of eight test images."""
    design = Design(load(write_study(tmp_path, datasets=SETS, seeds=seeds, **changes)))
    store = Store(tmp_path / "results")
    for trial in design.trials:
        name, deep = trial.arm["dataset"], trial.arm["depth"] == "2"
        hard = np.random.default_rng([*name.encode()]).uniform(0.2, 0.4, 8)
        luck = np.random.default_rng([trial.seed, *name.encode(), deep]).normal(0, 0.004, 8)
        error = hard - gaps[name] * deep + luck
        arrays = {"closeness/image_ids": np.arange(1, 9), "closeness/error": error}
        scores = {"closeness": 1 - float(error.mean()), "near": 0.5}
        store.put(Result(**whose(trial), status="done", scores=scores), arrays)
    return gather(design, store)


def differences(found) -> dict[str, np.ndarray]:
    scores = {row.label: np.array(list(row.scores["closeness"].values())) for row in found.rows}
    return {name: scores[f"depth=2 on {name}"] - scores[f"depth=1 on {name}"] for name in SETS}


@pytest.mark.parametrize("test", ["t", "sign_flip"])
def test_over_all_is_a_test_of_the_seeds_means_over_sets(tmp_path, test):
    found = evidence(tmp_path, test=test)
    *apart, whole = found.comparisons_in("closeness")
    own = differences(found)
    for comparison, name in zip(apart, SETS, strict=True):
        assert comparison.datasets == (name,)
        assert comparison.effect.diff == pytest.approx(own[name].mean())
    mean = np.mean(list(own.values()), axis=0)
    theirs = scipy_stats.ttest_1samp(mean, 0)
    ends = theirs.confidence_interval(0.95)
    assert whole.datasets == tuple(SETS)
    assert (whole.effect.diff, whole.effect.low, whole.effect.high) == pytest.approx((mean.mean(), ends.low, ends.high))
    flips = scipy_stats.permutation_test((mean,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert whole.effect.p == pytest.approx(theirs.pvalue if test == "t" else flips.pvalue)


def test_all_are_one_family(tmp_path):
    found = evidence(tmp_path)
    raw = [one.effect.p for one in found.comparisons_in("closeness")]
    assert found.planned == found.rule.comparisons == len(raw) == 4
    assert [one.p_holm for one in found.comparisons_in("closeness")] == pytest.approx(stats.holm(raw).tolist())
    assert stats.smallest_p(8, 4) == found.rule.floor(8) == 4 / 2**7


def test_images_of_independent_sets_go_into_the_mean_in_quadrature(tmp_path):
    *apart, whole = evidence(tmp_path).comparisons_in("closeness")
    low = whole.effect.diff - math.hypot(*(one.effect.diff - one.image_low for one in apart)) / 3
    high = whole.effect.diff + math.hypot(*(one.image_high - one.effect.diff for one in apart)) / 3
    assert (whole.image_low, whole.image_high) == pytest.approx((low, high))


def test_the_report_has_a_table_of_verdicts(tmp_path):
    found = evidence(tmp_path, test="t")
    made = blocks(found)
    table = next(block for block in made if isinstance(block, Table) and "over all" in block.caption)
    assert [column.title for column in table.columns] == ["depth", "one", "two", "three", "all", "Higher on"]
    assert [cell.strong for cell in table.rows[0]] == [False, True, True, False, True, False]
    assert table.rows[0][-1].text == "2"
    results = [block.caption for block in made if isinstance(block, Table) and "cores and cost" in block.caption]
    assert [caption.partition(":")[0] for caption in results] == ["On one", "On two", "On three"]
    answer = " ".join(block.text for block in made if isinstance(block, Text) and block.style == "answer")
    assert answer.startswith("closeness is higher with depth=2 over all data sets (")
    assert "Of other data sets it says nothing." in answer
    effects = found.to_frame("effects")
    assert effects[effects.primary].dataset.tolist() == ["one", "two", "three", "all"]


@pytest.mark.parametrize("spreads", [(1, 1, 1), (0.5, 1, 3)])
def test_the_rate_of_false_verdicts_holds_over_the_family(capsys, spreads):
    """Three sets, two arms against a control on each: any of the eight verdicts where nothing differs, and how often a
    gap of one point is found over all and on the second set, whose arms have a standard deviation of one."""
    rng, count, rates = np.random.default_rng(0), 2000, {}
    for gap in (0.0, 1.0):
        scores = rng.standard_normal((count, 3, 3, 8)) * np.array(spreads)[None, :, None, None]  # study, set, arm, seed
        apart = scores[:, :, 1:] + gap - scores[:, :, :1]
        family = np.concatenate([apart.reshape(count, 6, 8), apart.mean(axis=1)], axis=1)
        shown = np.array([stats.holm(p) for p in scipy_stats.ttest_1samp(family, 0, axis=-1).pvalue]) < 0.05
        rates[gap] = shown.any(axis=1).mean(), shown[:, 6].mean(), shown[:, 2].mean()
    (any_false, *_), (_, whole, second) = rates.values()
    with capsys.disabled():
        print(f"\nspreads {spreads}: any false {any_false:.3f}; found over all {whole:.3f}, on the second {second:.3f}")
    assert any_false < 0.05 + 2 * math.sqrt(0.05 * 0.95 / count)
