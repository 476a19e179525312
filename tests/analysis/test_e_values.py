"""E-values: the formula by integration, error rates under continuous looking, and plans that may grow."""

import math

import numpy as np
import pytest
from scipy import integrate
from scipy import stats as scipy_stats
from small_studies import write_study

from ablate.analysis import Rule, gather, sequential, stats
from ablate.errors import StudyError
from ablate.storage import Result, Store, kept_plans, whose
from ablate.study import Design, load

ALPHA, MOST, STUDIES = 0.05, 64, 10_000


def by_integration(t: float, n: int) -> float:
    """The likelihood of t over all effects, normal with variance 1, to that of no effect."""

    def weighed(effect):
        return scipy_stats.nct.pdf(t, n - 1, effect * math.sqrt(n)) * scipy_stats.norm.pdf(effect)

    return integrate.quad(weighed, -8, 8, limit=400)[0] / scipy_stats.t.pdf(t, n - 1)


@pytest.mark.parametrize("n", [3, 5, 8, 20])
def test_it_is_the_likelihood_ratio_of_t(n):
    d = np.random.default_rng(n).normal(0.8, 1, n)
    for upto in range(3, n + 1):
        t = scipy_stats.ttest_1samp(d[:upto], 0).statistic
        assert sequential.e_values(d)[upto - 1] == pytest.approx(by_integration(t, upto), rel=1e-5)


def test_p_is_one_over_the_largest_so_far():
    d = np.concatenate([np.random.default_rng(0).normal(1.5, 1, 10), np.zeros(20)])
    found = sequential.e_values(d)
    assert found[0] == 1
    assert found[-1] < found.max() / 3
    effect = stats.contrast([np.zeros(30), d], [-1, 1], test="e_value")
    assert effect.p == 1 / found.max()
    assert effect.p < ALPHA
    assert math.isnan(stats.contrast([[0.0], [1.0]], [-1, 1], test="e_value").p)
    assert stats.contrast([np.zeros(9), np.ones(9)], [-1, 1], test="e_value").p == 1  # equal differences tell nothing


def test_what_is_ruled_out_stays_so():
    d = np.concatenate([np.random.default_rng(0).normal(1.5, 1, 10), np.zeros(20)])
    found = [stats.contrast([np.zeros(n), d[:n]], [-1, 1], test="e_value") for n in (4, 10, 30)]
    assert math.isnan(found[0].low)
    assert 0 < found[1].low <= found[2].low < found[2].high <= found[1].high
    assert stats.verdict(found[2], found[2].p, smallest=0) == "higher"
    t, error = sequential.anytime_bound(10, ALPHA), d[:10].std(ddof=1) / math.sqrt(10)
    assert found[1].high <= d[:10].mean() + t * error + 1e-12


def test_bound_and_floor_are_its_inverses():
    for n in (5, 8, 30):
        t = sequential.anytime_bound(n, ALPHA)
        d = np.random.default_rng(1).standard_normal(n)
        d = (d - d.mean()) / d.std(ddof=1) + t / math.sqrt(n)
        assert sequential.e_values(d)[-1] == pytest.approx(1 / ALPHA)
        d = 1 + 1e-4 * (d - d.mean())
        assert 1 / sequential.e_values(d)[-1] == pytest.approx(sequential.anytime_floor(n), rel=1e-3)
    assert sequential.anytime_bound(4, ALPHA) == math.inf
    assert [Rule(k, test="e_value").seeds_needed for k in (1, 2, 6, 20)] == [5, 6, 6, 7]


def test_rates_under_continuous_looking(capsys):
    """After every seed up to 64: false alarms, coverage of all intervals together, and the price in power."""
    d = math.sqrt(2) * np.random.default_rng(0).standard_normal((STUDIES, MOST))
    n = np.arange(2, MOST + 1)
    false = (np.fmax.accumulate(sequential.e_values(d), axis=1) >= 1 / ALPHA)[:, [7, 15, 31, 63]].mean(axis=0)
    counts = np.arange(1, MOST + 1)
    means = d.cumsum(axis=1) / counts
    spreads = np.sqrt(np.maximum((d**2).cumsum(axis=1) / counts - means**2, 0) * counts / np.maximum(counts - 1, 1))
    bounds = np.array([sequential.anytime_bound(int(one), ALPHA) for one in n])
    covered = (np.abs(means[:, 1:]) <= bounds * spreads[:, 1:] / np.sqrt(n)).all(axis=1).mean()
    shown = {gap: np.fmax.accumulate(sequential.e_values(d + gap), axis=1) >= 1 / ALPHA for gap in (1.0, 1.5)}
    power = {gap: found[:, [7, 15, 31]].mean(axis=0).round(3).tolist() for gap, found in shown.items()}
    fixed = {
        gap: [
            float((scipy_stats.ttest_1samp(d[:, :count] + gap, 0, axis=1).pvalue < ALPHA).mean())
            for count in (8, 16, 32)
        ]
        for gap in shown
    }
    with capsys.disabled():
        print(f"\nfalse alarms by 8, 16, 32, 64 seeds: {false.round(4)}; all intervals cover in {covered:.4f}")
        print(f"power with 8, 16, 32 seeds: {power}; of a planned t test: {fixed}")
    assert false[-1] <= ALPHA
    assert covered == pytest.approx(1 - false[-1])
    promised = Rule(1, test="e_value").detectable(math.sqrt(2), 16)
    found = sequential.e_values(d[:, :16] + promised) >= 1 / ALPHA
    assert found[:, -1].mean() == pytest.approx(0.8, abs=0.012)
    assert found.any(axis=1).mean() > 0.8


def design(tmp_path, seeds, **changes):
    return Design(load(write_study(tmp_path, **{"seeds": seeds, "test": "e_value"} | changes)))


def trained(store, made, gap=0.02):
    for trial in made.trials:
        luck = np.random.default_rng([trial.seed, int(trial.arm["depth"])]).normal(0, 0.01)
        scores = {"closeness": 0.5 + luck + gap * (trial.arm["depth"] == "2"), "near": 0.5}
        store.put(Result(**whose(trial), status="done", scores=scores), {})


def results(made) -> dict:
    return {trial.id: Result(**whose(trial), status="done", scores={"near": 0.5}) for trial in made.trials}


def deciding(store, made) -> tuple[int, ...]:
    return kept_plans.standing(made, kept_plans.read(store, "small")[0], store.read().results).seeds


@pytest.mark.usefixtures("small_shelf")
def test_seeds_may_be_added_at_any_time(tmp_path):
    store = Store(tmp_path / "results")
    kept_plans.keep(store, design(tmp_path, 5), {})
    trained(store, design(tmp_path, 5))
    more = design(tmp_path, 12)
    assert deciding(store, more) == tuple(range(12))
    assert deciding(store, design(tmp_path, 12, test="t")) == tuple(range(5, 12))
    assert deciding(store, design(tmp_path, 12, metrics=["near"])) == tuple(range(5, 12))
    assert deciding(store, design(tmp_path, [7, 0, 1, 2, 3, 4])) == (7,)
    trained(store, more)
    kept_plans.keep(store, more, results(design(tmp_path, 5)))
    found = gather(more, store, images=False)
    (one,) = found.comparisons_in("closeness")
    rows = {row.label: np.array(list(row.scores["closeness"].values())) for row in found.rows}
    assert one.effect.n == 12
    assert one.p_holm == pytest.approx(1 / np.nanmax(sequential.e_values(rows["depth=2"] - rows["depth=1"])))
    assert one.pooled is None
    assert any("All seeds decide" in line for line in found.standing.sentences)


@pytest.mark.usefixtures("small_shelf")
def test_all_seeds_give_an_estimate_where_only_new_ones_decide(tmp_path):
    store, made = Store(tmp_path / "results"), design(tmp_path, 12)
    kept_plans.keep(store, design(tmp_path, 5, test="sign_flip"), {})
    kept_plans.keep(store, made, results(design(tmp_path, 5)))
    trained(store, made)
    found = gather(made, store, images=False)
    (one,) = found.comparisons_in("closeness")
    rows = {row.label: np.array(list(row.scores["closeness"].values())) for row in found.rows}
    assert (one.effect.n, one.pooled.n) == (7, 12)
    assert one.pooled.diff == pytest.approx(np.mean(rows["depth=2"] - rows["depth=1"]))


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_its_mean_is_one_where_nothing_differs(n):
    """Integrated over t, for draws of so heavy a tail would not tell: differences are made with each t."""
    base = np.random.default_rng(n).standard_normal(n)
    base = (base - base.mean()) / base.std(ddof=1)

    def weighed(angle):  # t = tan(angle) reaches all of it
        t = math.tan(angle)
        value = sequential.e_values(base + t / math.sqrt(n))[-1]
        return value * scipy_stats.t.pdf(t, n - 1) / math.cos(angle) ** 2

    assert 2 * integrate.quad(weighed, 0, math.pi / 2 - 1e-6, limit=400)[0] == pytest.approx(1, abs=1e-3)


@pytest.mark.usefixtures("small_shelf")
def test_seeds_count_in_their_order(tmp_path):
    """What ended behind a seed that has not is left out until that has."""
    store, made = Store(tmp_path / "results"), design(tmp_path, 8)
    trained(store, made)
    lost = made.arms[1].trials[5]
    store.place.remove(store.name(lost.id, "result.json"))
    (one,) = gather(made, store, images=False).comparisons_in("closeness")
    assert one.effect.n == 5


@pytest.mark.usefixtures("small_shelf")
@pytest.mark.parametrize(
    "changes", [{"looks": [4, 8]}, {"margin": 1.0}, {"population": "seeds+images"}, {"pairing": "none"}]
)
def test_it_goes_alone(tmp_path, changes):
    with pytest.raises(StudyError, match=r"e.value"):
        design(tmp_path, 8, **changes)
