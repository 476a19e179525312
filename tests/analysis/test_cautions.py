"""What a table cannot show, from learning curves that are made up and slopes that are worked out by hand."""

import dataclasses
import math

import numpy as np
import pytest

from ablate.analysis import Comparison, Row, score_curve, stats
from ablate.analysis.cautions import cautions, mean_curve
from ablate.storage import Epoch
from ablate.study import Recipe

PARTS = {"task": {"name": "pose"}, "dataset": {"name": "figures"}, "model": {"name": "hrnet"}}
RECIPE = Recipe.model_validate(PARTS).settled(on_gpu=False)


def row(label: str, curves: dict[int, dict[int, float]], *, epochs: int = 20, published: str | None = None) -> Row:
    """An arm whose curves are given by seed and epoch; the score at the last epoch is the final one."""
    final = {seed: curve[epochs] for seed, curve in curves.items() if epochs in curve}
    stored = {
        seed: [
            Epoch(epoch=epoch, loss=1, lr=1, seconds=1, images_per_second=1, scores={"AP": score})
            for epoch, score in curve.items()
            if epoch < epochs
        ]
        for seed, curve in curves.items()
    }
    return Row(
        label=label, levels={}, is_control=label == "control", ids={}, scores={"AP": final}, curves=stored, cost=None,
        summaries={"AP": stats.summary(list(final.values()))}, published=published, start="scratch", epochs=epochs,
        differs={}, documents={}, dataset="", recipe=RECIPE,
    )  # fmt: skip


def comparison(control: Row, arm: Row) -> Comparison:
    seeds = [seed for seed in control.scores["AP"] if seed in arm.scores["AP"]]
    effect = stats.paired(*([one.scores["AP"][seed] for seed in seeds] for one in (control, arm)))
    nan = math.nan
    return Comparison(arm.label, control.label, "AP", effect, ("",), nan, nan, nan, nan, nan, None)


def found(*rows: Row, lost=None):
    return cautions(list(rows), [comparison(rows[0], other) for other in rows[1:]], "AP", lost=lost or {})


def test_the_final_score_ends_a_curve():
    arm = row("control", {0: {5: 0.1, 15: 0.2, 20: 0.3}})
    assert score_curve(arm, 0, "AP") == {5: 0.1, 15: 0.2, 20: 0.3}
    assert score_curve(arm, 1, "AP") == {}


def test_a_mean_is_over_the_seeds_that_finished_at_the_epochs_that_they_share():
    arm = row("control", {0: {5: 0.1, 15: 0.2, 20: 0.3}, 1: {15: 0.4, 20: 0.5}, 2: {5: 0.9}})
    assert mean_curve(arm, "AP") == pytest.approx({15: 0.3, 20: 0.4})


def test_a_slope_is_that_of_the_least_squares_line_through_the_last_quarter():
    scores = {5: 0.0, 15: 0.20, 16: 0.26, 18: 0.25, 20: 0.33}
    slopes = found(row("control", {0: scores})).slopes
    late = [(epoch, score) for epoch, score in scores.items() if epoch >= 15]
    assert slopes["control"] == pytest.approx(np.polyfit(*zip(*late, strict=True), deg=1)[0], rel=1e-12)
    assert found(row("control", {0: scores})).rises["control"] == pytest.approx(5 * slopes["control"])


@pytest.mark.parametrize("curve", [{20: 0.3}, {5: 0.1, 10: 0.2, 20: 0.3}, {}])
def test_fewer_than_two_scores_there_tell_nothing(curve):
    assert math.isnan(found(row("control", {0: curve})).slopes["control"])


def test_an_arm_that_was_on_the_other_side_in_the_second_half_is_told():
    control = row("control", {0: {5: 0.0, 10: 0.2, 15: 0.3, 20: 0.4}})
    late = row("late", {0: {5: 0.0, 10: 0.1, 15: 0.2, 20: 0.5}})
    early = row("early", {0: {5: 0.3, 10: 0.1, 15: 0.2, 20: 0.3}})  # crossed in the first half
    ahead = row("ahead", {0: {5: 0.0, 10: 0.3, 15: 0.2, 20: 0.3}})
    crossings = {crossing.arm: crossing for crossing in found(control, late, early, ahead).crossings}
    assert crossings.keys() == {"late", "ahead"}
    assert (crossings["late"].epoch, crossings["late"].ahead) == (15, False)
    assert (crossings["ahead"].epoch, crossings["ahead"].ahead) == (10, True)


def test_means_of_trainings_of_other_lengths_are_not_taken_for_changing_places():
    control = row("control", {0: {5: 0.0, 10: 0.2, 15: 0.3, 20: 0.6}})
    short = dataclasses.replace(row("short", {0: {5: 0.2, 10: 0.45}}), epochs=10)
    assert found(control, short).crossings == []


def test_a_published_order_that_ours_reverses_is_told():
    control = row("control", {0: {20: 0.4}, 1: {20: 0.5}}, published="73.4")
    same = row("same", {0: {20: 0.3}, 1: {20: 0.4}}, published="70.8")
    other = row("other", {0: {20: 0.5}, 1: {20: 0.6}}, published="71.9")
    unknown = row("unknown", {0: {20: 0.9}, 1: {20: 0.9}}, published="n/a")
    assert found(control, same, other, unknown).reversed == ["other"]


def paired(rows: list[Row], *pairs: tuple[Row, Row]):
    return cautions(rows, [comparison(control, arm) for arm, control in pairs], "AP", lost={})


def test_an_arm_is_held_against_the_control_of_its_own_level():
    """The wide arm crosses the narrow control, with which it is not compared, and the narrow one crosses nothing."""
    narrow = row("control", {0: {5: 0.1, 10: 0.3, 15: 0.5, 20: 0.4}}, published="70")
    wide = row("wide", {0: {5: 0.1, 10: 0.5, 15: 0.3, 20: 0.6}}, published="76")
    arm = row("arm + wide", {0: {5: 0.1, 10: 0.4, 15: 0.4, 20: 0.5}}, published="77")
    rows = [narrow, wide, arm]
    own = paired(rows, (arm, wide))
    assert [(one.arm, one.control, one.epoch, one.ahead) for one in own.crossings] == [("arm + wide", "wide", 15, True)]
    assert own.reversed == ["arm + wide"]
    assert {one.arm for one in paired(rows, (arm, narrow)).crossings} == {"arm + wide"}
    assert paired(rows, (arm, narrow)).reversed == []


def test_arms_that_are_not_compared_change_no_places():
    """Of a factorial the comparisons are of effects, which have no curves."""
    control = row("control", {0: {5: 0.0, 10: 0.2, 15: 0.3, 20: 0.4}}, published="70")
    late = row("late", {0: {5: 0.0, 10: 0.1, 15: 0.2, 20: 0.5}}, published="60")
    effect = dataclasses.replace(comparison(control, late), arm="late on average", control="plain on average")
    found = cautions([control, late], [effect], "AP", lost={})
    assert (found.crossings, found.reversed) == ([], [])


def test_lost_seeds_are_counted_among_those_that_ended():
    control, arm = row("control", {0: {20: 0.4}, 1: {20: 0.5}}), row("arm", {0: {20: 0.4}, 1: {5: 0.1}})
    assert found(control, arm, lost={"arm": 3}).lost == {"arm": (3, 4)}
