"""Verdicts by every rule that a study may declare, from chosen scores."""

import math

import made_up
import numpy as np
import pytest
import scipy.stats

from ablate import registry
from ablate.analysis import gather, sequential, stats
from ablate.report.blocks import Figure
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
    chosen, store = made_up.study(levels=("within", "final"), pairing="none"), Store(tmp_path)

    def choose(trial):
        arm, luck = trial.arm["fusions"], np.random.default_rng([trial.seed, trial.arm["fusions"] == "final"])
        if arm == "final" and trial.seed >= 5:
            return {"status": "diverged"}
        return {"scores": {"AP": 0.5 - 0.04 * (arm == "final") + SPREAD * luck.standard_normal(), "AP50": 0.5}}

    made_up.fill(store, chosen, choose)
    found = gather(Design(chosen), store, images=False)
    final = by_arm(found)["final"]
    scores = [list(row.scores["AP"].values()) for row in found.rows]
    assert [len(own) for own in scores] == [8, 5]
    assert final.p_holm == pytest.approx(scipy.stats.ttest_ind(*scores, equal_var=False).pvalue)
    assert final.verdict == "lower"


@pytest.mark.parametrize("test", ["sign_flip", "t", "e_value"])
def test_nothing_is_decided_before_all_planned_seeds_have_ended(tmp_path, test):
    """Who reads a study as it grows and stops when it pleases finds more than the rate allows; e-values allow it."""
    found = evidence(tmp_path / "part", {"within": 0, "final": -0.06}, seeds=20, trained={"final": 19}, test=test)
    (final,) = found.comparisons_in("AP")
    assert (final.verdict, final.effect.n) == ("lower" if test == "e_value" else "undecided", 19)
    if test != "e_value":
        assert "not decided yet for final (" in answer(found)
        assert "; that takes all 20 seeds." in answer(found)
        assert math.isnan(final.p_holm)
    (final,) = evidence(tmp_path / "all", {"within": 0, "final": -0.06}, seeds=20, test=test).comparisons_in("AP")
    assert final.verdict == "lower"


@pytest.mark.parametrize("test", ["sign_flip", "t"])
def test_what_has_not_ended_counts_among_the_comparisons_from_the_start(tmp_path, test):
    """An early p of another arm, however small, must not show what all of its seeds will not."""
    gaps, short = {"within": 0, "across": -0.06, "final": -0.01}, {"across": 10, "within": 12, "final": 12}
    part = by_arm(evidence(tmp_path / "part", gaps, seeds=12, trained=short, test=test))
    alone = stats.holm([part["final"].effect.p, math.nan])[0]
    assert part["final"].p_holm == pytest.approx(2 * part["final"].effect.p) == pytest.approx(alone)
    assert (part["across"].verdict, part["across"].until) == ("undecided", 12)
    whole = by_arm(evidence(tmp_path / "whole", gaps, seeds=12, test=test))
    assert whole["final"].p_holm <= part["final"].p_holm


def test_nothing_of_a_verdict_stands_beside_undecided(tmp_path):
    gaps = {"within": 0, "across": 0, "final": 0}
    found = by_arm(evidence(tmp_path, gaps, seeds=12, trained={"across": 11, "final": 0}, test="t", margin=5.0))
    assert {one.verdict for one in found.values()} == {"undecided"}
    assert math.isnan(found["across"].p_equivalent)
    assert math.isnan(found["across"].narrow[0])
    assert math.isnan(found["across"].p_holm)


def test_an_e_value_says_which_seeds_it_waits_for(tmp_path):
    chosen, store = made_up.study(levels=("within", "final"), seeds=12, test="e_value"), Store(tmp_path)
    lost = set()
    made_up.fill(store, chosen, lambda trial: None if (trial.arm["fusions"], trial.seed) in lost else {})
    assert "takes seeds in their order" not in answer(gather(Design(chosen), store, images=False))
    for place, seed in (("later", 3), ("first", 0)):
        lost, store = {("final", seed), ("within", 11)}, Store(tmp_path / place)
        made_up.fill(store, chosen, lambda trial, lost=lost: None if (trial.arm["fusions"], trial.seed) in lost else {})
        text = answer(gather(Design(chosen), store, images=False))
        assert f"takes seeds in their order, and waits for seed {seed} of final to end." in text
        assert "no seed has a score" not in text
        assert "No plan is stored" in text


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


def test_the_last_look_decides_by_holm_over_its_p(tmp_path):
    gaps = {"within": 0, "across": 0.0, "final": -0.009}
    found = evidence(tmp_path, gaps, looks=LOOKS, sd=0.02)
    scores = {row.label: np.array(list(row.scores["AP"].values())) for row in found.rows}
    assert [c.look for c in found.comparisons_in("AP")] == [32, 32]
    p = {
        arm: sequential.look_p(
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


def put(store, chosen, score):
    """A result for each trial to which `score` gives a number."""
    for trial in Design(chosen).trials:
        if (found := score(trial)) is not None:
            store.put(*made_up.result(trial, scores={"AP": found, "AP50": 0.5}))


def test_a_share_that_comes_free_later_shows_nothing_that_later_seeds_deny(tmp_path):
    """At 8 seeds `final` crosses the whole level but not its share; when `across` leaves it its own, it is at 0."""
    noise = np.random.default_rng(0).standard_normal((2, 2, 8))
    noise = (noise - noise.mean(axis=2, keepdims=True)) / noise.std(axis=2, ddof=1, keepdims=True)
    means = {"across": (-0.8, -2.0), "final": (1.27, -0.75)}

    def score(trial):
        arm, (half, place) = trial.arm["fusions"], divmod(trial.seed, 8)
        if arm == "within":
            return 0.5
        return 0.5 + 0.01 * (means[arm][half] + noise[list(means).index(arm)][half][place])

    chosen, store = made_up.study(looks=[8, 16], seeds=16), Store(tmp_path)
    put(store, chosen, score)
    found = by_arm(gather(Design(chosen), store, images=False))
    assert (found["across"].verdict, found["across"].look) == ("lower", 16)
    assert (found["final"].verdict, found["final"].look) == ("not shown", 16)
    assert found["final"].p_holm > 0.05


def test_what_a_look_has_shown_stays_though_its_arms_are_trained_for_others(tmp_path):
    """In a factorial all arms go on as long as one effect is open; the seeds to come go the other way."""
    factors = {
        "fusions": {"at": "model.fusions", "levels": ["within", "final"]},
        "width": {"at": "model.width", "levels": [8, 16]},
    }
    shape = {"factors": factors, "design": "full_factorial", "looks": [6, 12], "seeds": 12, "paper": None}

    def score(trial):
        final, wide = trial.arm["fusions"] == "final", trial.arm["width"] == "16"
        luck = np.random.default_rng([trial.seed, final, wide]).standard_normal()
        return 0.5 + (-0.03 if trial.seed < 6 else 0.045) * final + 0.004 * wide + 0.006 * luck

    chosen, store = made_up.study(**shape), Store(tmp_path)
    put(store, chosen, score)
    effects = {c.arm: c for c in gather(Design(chosen), store, images=False).comparisons_in("AP")}
    fusions = effects["final on average"]
    assert (fusions.verdict, fusions.look, fusions.effect.n) == ("lower", 6, 6)
    assert fusions.effect.high < 0
    assert {c.look for c in effects.values()} == {6, 12}


@pytest.mark.parametrize("seed", range(12))
def test_every_difference_that_is_shown_has_an_interval_on_its_side_of_0(tmp_path, seed):
    gaps = {"within": 0.0, "across": 0.006, "final": -0.006}
    chosen, store = made_up.study(looks=LOOKS, seeds=32), Store(tmp_path)
    rng = np.random.default_rng(seed)
    luck = {arm: 0.01 * rng.standard_normal(32) for arm in gaps}
    put(store, chosen, lambda trial: 0.5 + gaps[trial.arm["fusions"]] + luck[trial.arm["fusions"]][trial.seed])
    for one in gather(Design(chosen), store, images=False).comparisons_in("AP"):
        low, high = one.effect.low, one.effect.high
        assert one.verdict == ("higher" if low > 0 else "lower" if high < 0 else "not shown") or one.p_holm >= 0.05
        assert one.shown == (one.p_holm < 0.05)


def test_what_other_arms_show_is_said_where_the_control_was_lost(tmp_path):
    """Compared within a width, only the first width's control has no score."""
    factors = {
        "fusions": {"at": "model.fusions", "levels": ["within", "final"]},
        "width": {"at": "model.width", "levels": [8, 16]},
    }
    shape = {"factors": factors, "design": "full_factorial", "compare": "within width", "test": "t", "paper": None}
    chosen, store = made_up.study(**shape), Store(tmp_path)

    def choose(trial):
        if (trial.arm["fusions"], trial.arm["width"]) == ("within", "8"):
            return {"status": "diverged"}
        luck = np.random.default_rng([trial.seed, int(trial.arm["width"])]).standard_normal()
        return {"scores": {"AP": 0.5 + 0.01 * luck - (trial.arm["fusions"] == "final") * (0.05 + 0.02 * luck)}}

    made_up.fill(store, chosen, choose)
    found = gather(Design(chosen), store, images=False)
    assert "AP is lower with final + width=16 (" in answer(found)
    assert "Nothing can be said of " in answer(found)
    (caption,) = [b.caption for b in registry.build("section", "effects", {})(found) if isinstance(b, Figure)]
    assert caption.startswith("Differences from the control of the same width, × 100. Thick: 95% t interval over")


def test_an_e_values_verdict_is_not_taken_back(tmp_path):
    chosen = made_up.study(levels=("within", "final"), test="e_value", seeds=20)
    store, luck = Store(tmp_path), np.random.default_rng(0).standard_normal(20)
    change = np.where(np.arange(20) < 8, 0.02, -0.02) + 0.004 * luck
    put(store, chosen, lambda trial: 0.5 + (trial.arm["fusions"] == "final") * change[trial.seed])
    found = gather(Design(chosen), store, images=False)
    (final,) = found.comparisons_in("AP")
    assert (final.verdict, final.effect.n) == ("higher", 20)
    assert final.effect.diff < 0 < final.effect.low
    assert "The mean difference of final lies outside its interval: later seeds are unlike" in answer(found)


def test_two_seeds_of_a_t_test_are_called_too_few(tmp_path):
    found = evidence(tmp_path, {"within": 0, "final": -0.3}, seeds=2, test="t")
    assert by_arm(found)["final"].verdict == "lower"
    assert "A t test of 2 seeds is not calibrated; 5 seeds are the fewest." in answer(found)


def test_numbers_of_seeds_are_said_to_leave_the_images_open(tmp_path):
    chosen = made_up.study(levels=("within", "across"), population="seeds+images")
    made_up.fill(Store(tmp_path), chosen)
    text = answer(gather(Design(chosen), Store(tmp_path)))
    assert "One point (0.01) would take" in text
    assert "no number of seeds narrows what the choice of images leaves open." in text


def test_before_the_first_look_there_is_no_interval(tmp_path):
    final = by_arm(evidence(tmp_path, {"within": 0, "final": -0.05}, looks=LOOKS, trained={"within": 5, "final": 5}))
    assert (final["final"].verdict, final["final"].effect.n) == ("undecided", 5)
    assert math.isnan(final["final"].effect.low)


def test_a_last_look_at_one_pair_can_show_nothing(tmp_path):
    chosen, store = made_up.study(levels=("within", "final"), looks=[6, 12], seeds=12), Store(tmp_path)
    made_up.fill(store, chosen, lambda t: {} if t.seed == 0 or t.arm["fusions"] == "within" else {"status": "diverged"})
    (final,) = gather(Design(chosen), store, images=False).comparisons_in("AP")
    assert (final.verdict, final.effect.n) == ("not testable", 1)


def test_with_looks_the_interval_of_a_margin_is_a_repeated_one(tmp_path):
    """It lies within the margin where the two tests of one comparison show that, at every look."""
    shown = 0
    for seed in range(8):
        chosen, store = made_up.study(levels=("within", "final"), looks=[8, 16], seeds=16, margin=1.0), Store(tmp_path)
        rng = np.random.default_rng(seed)
        put(store, chosen, lambda trial, rng=rng: 0.5 + 0.009 * rng.standard_normal())
        (final,) = gather(Design(chosen), store, images=False).comparisons_in("AP")
        within = final.narrow[0] > -0.01 and final.narrow[1] < 0.01
        assert within == (final.p_equivalent < 0.05)
        shown += within
    assert 0 < shown < 8


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


@pytest.mark.parametrize("bare", [("across", "final"), ("final",)])
def test_a_verdict_is_not_about_new_images_where_draws_give_no_interval(tmp_path, bare):
    """Of one test image all draws are alike; without a score of its own an arm has none on any draw."""
    chosen, store = made_up.study(population="seeds+images"), Store(tmp_path)
    for trial in Design(chosen).trials:
        result, arrays = made_up.result(trial)
        if len(bare) == 2:
            arrays = {name: array[:1] for name, array in arrays.items()}
        elif trial.arm["fusions"] == "final":
            arrays["toy_score/value"] = np.full_like(arrays["toy_score/value"], math.nan)
        store.put(result, arrays)
    found = gather(Design(chosen), store)
    said = {one.arm: math.isnan(one.image_low) for one in found.comparisons_in("AP")}
    assert {arm for arm, unknown in said.items() if unknown} == set(bare)
    if len(bare) == 2:
        assert "This is about new seeds on these test images alone: draws of them give no interval." in answer(found)
    else:
        assert "new seeds and new test images; for final on these images alone, as draws of them" in answer(found)


def test_no_difference_beyond_a_margin_counts_the_end_of_the_images_that_is_further_off(tmp_path):
    """Test images that leave more open above the difference than below it must not show that it is small."""
    chosen, store = (
        made_up.study(levels=("within", "final"), population="seeds+images", test="t", margin=2.0),
        Store(tmp_path),
    )
    gain = 0.009 + 0.04 * (np.arange(made_up.IMAGES) % 10 == 0)
    for trial in Design(chosen).trials:
        own = np.random.default_rng([trial.seed, trial.arm["fusions"] == "final"])
        values = 0.5 + 0.001 * own.standard_normal() + gain * (trial.arm["fusions"] == "final")
        arrays = {"toy_score/image_ids": np.arange(made_up.IMAGES), "toy_score/value": values * np.ones(made_up.IMAGES)}
        store.put(made_up.result(trial, scores={"AP": float(arrays["toy_score/value"].mean())})[0], arrays)
    (final,) = gather(Design(chosen), store).comparisons_in("AP")
    assert final.image_high - final.effect.diff > final.effect.diff - final.image_low
    assert final.effect.error * 1.96 >= final.image_high - final.effect.diff
    assert (final.narrow[1] < 0.02) == (final.p_equivalent < 0.05)
    assert final.narrow[1] > final.effect.diff + 1.645 / 1.96 * (final.image_high - final.effect.diff)


def test_data_sets_with_the_same_test_images_are_not_independent(tmp_path):
    """What the images leave open of a mean over sets is as wide as on one set, where they have the same images."""
    widths = {}
    for alike in (True, False):
        sets = {"short": {}, "long": {"train.epochs": 24}}
        chosen, store = (
            made_up.study(datasets=sets, levels=("within", "final"), population="seeds+images"),
            Store(tmp_path / str(alike)),
        )
        for trial in Design(chosen).trials:
            digest = "1e" if alike or trial.arm["dataset"] == "short" else "2f"
            made, arrays = made_up.result(trial, effect=-0.04 * (trial.arm["fusions"] == "final"))
            store.put(made.model_copy(update={"data_digest": {"train": "0f" * 16, "val": digest * 16}}), arrays)
        found = gather(Design(chosen), store)
        own = {len(one.datasets): one.image_high - one.image_low for one in found.comparisons_in("AP")}
        widths[alike] = own[2] / own[1]
        assert found.images == made_up.IMAGES * (1 if alike else 2)
    assert widths[True] == pytest.approx(1, abs=0.15)
    assert widths[False] == pytest.approx(math.sqrt(0.5), abs=0.1)


@pytest.mark.parametrize("bare", ["across", "final"])
def test_images_are_drawn_in_groups_also_where_one_trial_does_not_tell_them(tmp_path, bare):
    chosen, found = made_up.study(population="seeds+images"), {}
    for place in ("all", "but one"):
        store = Store(tmp_path / place)
        for trial in Design(chosen).trials:
            result, arrays = made_up.result(trial)
            if place == "all" or (trial.arm["fusions"], trial.seed) != (bare, 0):
                arrays["images/groups"] = (np.arange(made_up.IMAGES) // 4).astype(str)
            store.put(result, arrays)
        evidence = gather(Design(chosen), store)
        assert "drawn as 10 groups" in answer(evidence)
        found[place] = [(one.image_low, one.image_high) for one in evidence.comparisons_in("AP")]
    assert found["all"] == found["but one"]


def test_between_looks_the_images_are_those_of_the_look(tmp_path):
    chosen, store, first = made_up.study(seeds=12, looks=[6, 12]), Store(tmp_path / "more"), Store(tmp_path / "look")
    made_up.fill(store, chosen, lambda trial: {} if trial.seed < 11 else None)
    made_up.fill(first, chosen, lambda trial: {} if trial.seed < 6 else None)
    more, look = (gather(Design(chosen), where).comparisons_in("AP") for where in (store, first))
    assert [(one.effect.n, one.image_low, one.image_high) for one in more] == [
        (one.effect.n, one.image_low, one.image_high) for one in look
    ]


def test_the_answer_says_whom_it_is_about(tmp_path):
    found = evidence(tmp_path, {"within": 0, "final": -0.05})
    assert "This is about new seeds on these test images." in answer(found)
