"""Verdicts by every rule that a study may declare, from chosen scores."""

import math

import made_up
import numpy as np
import pytest
import scipy.stats

from ablate import registry
from ablate.analysis import gather, sequential, stats
from ablate.storage import Store
from ablate.study import Design

LOOKS = [8, 16, 24, 32]
SPREAD = 0.01


def evidence(place, gaps, *, seeds=None, trained=None, sd=SPREAD, **changes):
    """Arms with these true gaps to the control; `trained` is how many seeds of an arm have a result."""
    chosen = made_up.study(seeds=seeds or (changes.get("looks") or [8])[-1], levels=list(gaps), **changes)
    store = Store(place)

    def choose(trial):
        arm = trial.arm["fusions"]
        if trained is not None and trial.seed >= trained.get(arm, len(chosen.seeds)):
            return None
        luck = np.random.default_rng([trial.seed, list(gaps).index(arm)]).standard_normal()
        return {"scores": {"AP": 0.5 + gaps[arm] + sd * luck, "AP50": 0.5}}

    made_up.fill(store, chosen, choose)
    return gather(Design(chosen), store, images=False)


def answer(found):
    return " ".join(b.text for b in registry.build("section", "answer", {})(found) if b.style == "answer")


def by_arm(found):
    return {comparison.arm: comparison for comparison in found.comparisons_in("AP")}


def test_welchs_test_takes_the_seeds_that_each_arm_has(tmp_path):
    found = evidence(tmp_path, {"within": 0, "final": -0.04}, pairing="none", trained={"final": 5})
    final = by_arm(found)["final"]
    scores = [list(row.scores["AP"].values()) for row in found.rows]
    assert [len(own) for own in scores] == [8, 5]
    assert final.p_holm == pytest.approx(scipy.stats.ttest_ind(*scores, equal_var=False).pvalue)
    assert final.verdict == "lower"


def test_five_seeds_show_what_sign_flips_of_them_cannot(tmp_path):
    gaps = {"within": 0, "across": 0, "final": -0.06}
    assert by_arm(evidence(tmp_path / "flips", gaps, seeds=5))["final"].verdict == "not testable"
    assert by_arm(evidence(tmp_path / "t", gaps, seeds=5, test="t"))["final"].verdict == "lower"


def test_looks_end_what_is_decided_and_say_who_goes_on(tmp_path):
    gaps = {"within": 0, "across": -0.009, "final": -0.05}
    found = evidence(tmp_path, gaps, looks=LOOKS, trained=dict.fromkeys(gaps, 8))
    final, across = by_arm(found)["final"], by_arm(found)["across"]
    assert (final.verdict, final.look, final.until) == ("lower", 8, 8)
    assert (across.verdict, across.look, across.until) == ("undecided", 8, 16)
    assert {arm for arm, _ in found.missing} == {"within", "across"}
    assert {seed for _, seed in found.missing} == set(range(8, 16))
    level = sequential.levels(0.05, tuple(LOOKS))[0]
    scores = {row.label: np.array(list(row.scores["AP"].values())) for row in found.rows}
    theirs = scipy.stats.ttest_rel(scores["final"], scores["within"]).confidence_interval(1 - level)
    assert (final.effect.low, final.effect.high) == pytest.approx((theirs.low, theirs.high))
    text = answer(found)
    assert "Stopped early, by the planned looks: final at 8 of 32 seeds." in text
    assert "is not decided yet for across" in text
    assert "the next look is at 16 seeds" in text


def test_between_looks_nothing_changes(tmp_path):
    gaps = {"within": 0, "final": -0.013}
    at_look = evidence(tmp_path / "8", gaps, looks=LOOKS, trained=dict.fromkeys(gaps, 8))
    later = evidence(tmp_path / "15", gaps, looks=LOOKS, trained=dict.fromkeys(gaps, 15))
    assert repr(by_arm(later)["final"]) == repr(by_arm(at_look)["final"])  # nan is nan
    before = by_arm(evidence(tmp_path / "7", gaps, looks=LOOKS, trained=dict.fromkeys(gaps, 7)))["final"]
    assert (before.verdict, before.look, before.until) == ("undecided", 0, 8)


def test_the_last_look_decides_by_holm_over_sequential_p(tmp_path):
    gaps = {"within": 0, "across": 0.0, "final": -0.012}
    found = evidence(tmp_path, gaps, looks=LOOKS, sd=0.02)
    scores = {row.label: np.array(list(row.scores["AP"].values())) for row in found.rows}
    p = {
        arm: sequential.sequential_p(
            [scipy.stats.ttest_rel(scores[arm][:n], scores["within"][:n]).pvalue for n in LOOKS], tuple(LOOKS)
        )[-1]
        for arm in ("across", "final")
    }
    small, large = sorted(p, key=p.__getitem__)
    assert by_arm(found)[small].p_holm == pytest.approx(2 * p[small])
    assert by_arm(found)[large].p_holm == pytest.approx(max(2 * p[small], p[large]))
    assert not found.missing
    flips = stats.paired(scores["within"], scores["final"]).p
    assert by_arm(found)["final"].flips == pytest.approx(flips)
    assert all(c.until == 32 or c.futile or c.shown for c in found.comparisons_in("AP"))


def test_no_difference_beyond_a_margin_is_shown(tmp_path):
    gaps = {"within": 0, "across": 0.0, "final": -0.03}
    found = evidence(tmp_path, gaps, seeds=12, test="t", margin=2.0)
    across, final = by_arm(found)["across"], by_arm(found)["final"]
    assert across.verdict == "no difference beyond the margin"
    assert final.verdict == "lower"
    effect = across.effect
    larger = max(scipy.stats.t.cdf((sign * effect.diff - 0.02) / effect.error, 11) for sign in (-1, 1))
    assert across.p_equivalent == pytest.approx(2 * larger)
    assert -0.02 < across.narrow[0] < across.narrow[1] < 0.02
    assert "AP differs from within, the control, by less than the margin of 2 points with across (" in answer(found)


def test_a_small_difference_is_shown_and_called_small(tmp_path):
    found = evidence(tmp_path, {"within": 0, "final": -0.01}, seeds=32, test="t", margin=2.0, sd=0.003)
    assert by_arm(found)["final"].verdict == "lower, by less than the margin"
    assert "than with within, the control, by less than the margin of 2 points." in answer(found)


def test_an_interval_for_new_images_too_is_the_wider_one(tmp_path):
    chosen, store = made_up.study(levels=("within", "final"), population="seeds+images"), Store(tmp_path)
    made_up.fill(store, chosen)
    joint = gather(Design(chosen), store).comparisons_in("AP")[0]
    seeds = gather(Design(made_up.study(levels=("within", "final"))), store).comparisons_in("AP")[0]
    effect = seeds.effect
    low = effect.diff - math.hypot(effect.diff - effect.low, effect.diff - seeds.image_low)
    high = effect.diff + math.hypot(effect.high - effect.diff, seeds.image_high - effect.diff)
    assert (joint.effect.low, joint.effect.high) == pytest.approx((low, high))
    assert joint.p_holm >= seeds.p_holm
    assert "new seeds and new test images" in answer(gather(Design(chosen), store))


def test_the_answer_says_whom_it_is_about(tmp_path):
    found = evidence(tmp_path, {"within": 0, "final": -0.05})
    assert "This is about new seeds on these test images." in answer(found)
