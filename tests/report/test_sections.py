"""The contract of the section shelf: every section renders for every state of a study, in every format."""

import functools
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import made_up
import numpy as np
import pytest

from ablate import registry
from ablate.analysis import Marks, Pictured
from ablate.report import html, latex, markdown
from ablate.report.blocks import Figure, Table, Text
from ablate.study import Design

STATES = (
    "full",
    "empty",
    "all_failed",
    "single_seed",
    "factorial",
    "by_looks",
    "several_sets",
    "tuned_arms",
    "along_width",
)
SHOWS = {
    "datasets": "several_sets",
    "tuning": "tuned_arms",
    "rungs": "along_width",
    "pictures": "",
    "evaluations": "several_sets",
}  # which take more
SECTIONS = [name for name in registry.names("section") if not name.startswith("toy_")]


@functools.cache
def evidence_of(state):
    with tempfile.TemporaryDirectory() as place:
        return made_up.CASES[state](Path(place))


def render(blocks, form):
    from ablate.report.draw import Drawing

    def place(figure):
        assert Drawing(figure).svg() if form == "md" else Drawing(figure).pdf()
        return f"figures/{figure.name}"

    if form == "html":
        return html.render(blocks)
    return (markdown if form == "md" else latex).render(blocks, place)


@pytest.mark.parametrize("form", ["md", "html", "latex"])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("section", SECTIONS)
def test_renders(section, state, form):
    blocks = registry.build("section", section, {})(evidence_of(state))
    page = render(blocks, form)
    assert "nan" not in page.replace("loss is nan", "").lower().replace("provenance", "")
    for block in blocks:
        if isinstance(block, Table):
            assert all(len(row) == len(block.columns) for row in block.rows)
            assert block.caption
            assert sum(column.wide for column in block.columns) <= 1
        elif isinstance(block, Figure):
            assert block.caption
            assert all(len(series.low) == len(series.high) for panel in block.panels for series in panel.series)
    if state == SHOWS.get(section, "full"):
        assert any(isinstance(block, Table | Figure | Text) for block in blocks)


def answer(evidence):
    blocks = registry.build("section", "answer", {})(evidence)
    return " ".join(block.text for block in blocks if block.style == "answer")


def test_the_answer_follows_the_verdicts():
    text = answer(evidence_of("full"))
    assert text.startswith("AP is lower with final (−4.17")
    assert "than with within, the control." in text
    assert "No difference in AP from within, the control, is shown for across (" in text


def test_the_answer_says_what_few_seeds_cannot_show():
    text = answer(evidence_of("few_seeds"))
    assert "not testable with 3 seeds" in text
    assert "no outcome could give a p below 0.5" in text  # 2 comparisons * 2 / 2**3
    assert "at least 7 seeds" in text
    assert "is lower" not in text


def test_the_answer_when_there_is_none():
    assert answer(evidence_of("empty")) == "There is nothing to answer with: no trial has ended yet."
    assert "all 9 trials" in answer(evidence_of("all_failed"))


def test_a_difference_that_does_not_show_is_said_so(tmp_path):
    from ablate.analysis import gather
    from ablate.storage import Store

    chosen, store = made_up.study(levels=("within", "final")), Store(tmp_path)
    signs = {("final", seed): 0.02 * (-1) ** seed for seed in range(8)}
    made_up.fill(store, chosen, lambda trial: {"effect": signs.get((trial.arm["fusions"], trial.seed), 0)})
    text = answer(gather(Design(chosen), store, images=False))
    assert text.startswith("No difference in AP from within, the control, is shown for final")
    assert "would have been found four times in five" in text


def main_table(evidence):
    blocks = registry.build("section", "table", {})(evidence)
    return next(block for block in blocks if isinstance(block, Table))


def column(table, title):
    at = [column.title for column in table.columns].index(title)
    return [row[at] for row in table.rows]


def test_other_networks_stand_by_their_data_set_and_its_control():
    blocks = registry.build("section", "evaluations", {})(evidence_of("several_sets"))
    table = next(block for block in blocks if isinstance(block, Table))
    titles = ("Network", "Data set", "Evaluated unlike the control of its set")
    rows = set(zip(*([cell.text for cell in column(table, title)] for title in titles), strict=True))
    assert rows == {("A", "easy", "in nothing"), ("B", "easy", "evaluation.flip False"), ("B", "hard", "in nothing")}


def test_the_table_is_bold_only_where_a_difference_is_shown():
    shown = main_table(evidence_of("full"))
    assert [cell.strong for cell in column(shown, "Δ AP")] == [False, False, True]
    few = main_table(evidence_of("few_seeds"))
    assert not any(cell.strong for row in few.rows for cell in row)
    assert [cell.text for cell in column(few, "Verdict")] == ["–", "not testable", "not testable"]


def test_the_table_counts_seeds_and_prints_both_costs():
    table = main_table(evidence_of("partial"))
    assert [(cell.text, cell.minor) for cell in column(table, "n")] == [("3", "of 4"), ("2", "of 4"), ("1", "of 4")]
    cost = column(table, "GMACs")[0]
    assert (cost.text, cost.minor) == ("0.260", "(0.242)")  # 2.6e8 / 1e9 and / 2**30
    assert [cell.text for cell in column(table, "Paper AP")] == ["73.4", "71.9", "70.8"]


def test_the_caption_states_data_input_and_protocol():
    caption = main_table(evidence_of("full")).caption
    for fact in ("toy_figures", "version toy-1", "input 64×64", "12 epochs", "boxes ground_truth", "flip yes"):
        assert fact in caption


def effects(evidence):
    blocks = registry.build("section", "effects", {})(evidence)
    table = next(block for block in blocks if isinstance(block, Table))
    return next(block for block in blocks if isinstance(block, Figure)).caption, table


def test_each_comparison_names_what_it_is_from_where_they_differ():
    caption, table = effects(evidence_of("along_width"))
    assert caption.startswith("Differences from the control of the same width, × 100.")
    assert table.caption.startswith("Differences from the control of the same width, × 100")
    pairs = [
        (arm.text, reference.text) for arm, reference in zip(column(table, "Arm"), column(table, "From"), strict=True)
    ]
    assert pairs[:3] == [
        ("final", "within + width=8"),
        ("final + width=16", "width=16"),
        ("final + width=32", "width=32"),
    ]
    assert table.names == 3
    assert "From" in [column.title for column in effects(evidence_of("factorial"))[1].columns]
    caption, table = effects(evidence_of("full"))
    assert caption.startswith("Differences from within, the control, × 100.")
    assert "From" not in [column.title for column in table.columns]


def test_the_table_says_what_its_differences_are_from():
    assert "Δ: difference from the control with a 95%" in main_table(evidence_of("full")).notes[0]
    assert (
        "Δ: difference from the control of the same width with a 95%" in main_table(evidence_of("along_width")).notes[0]
    )
    assert "Δ: no arm is compared by itself; the effects of factors" in main_table(evidence_of("factorial")).notes[0]


def test_intervals_of_other_metrics_are_not_called_repeated(tmp_path):
    plain = "Of metrics other than AP: plain 95% t intervals, over all seeds."
    assert plain in effects(evidence_of("by_looks"))[0]
    assert "Of metrics other" not in effects(evidence_of("full"))[0]
    evidence = evidence_of("full")
    added = replace(evidence, standing=replace(evidence.standing, added=True))
    assert plain in effects(added)[0]
    one = replace(added, study=added.study.model_copy(update={"metrics": ["AP"]}))
    assert "Of metrics other" not in effects(one)[0]


def test_every_trial_is_listed_with_its_id():
    evidence = evidence_of("full")
    blocks = registry.build("section", "provenance", {})(evidence)
    shown = {cell.text for block in blocks if isinstance(block, Table) for row in block.rows for cell in row}
    assert {trial for row in evidence.rows for trial in row.ids.values()} <= shown


def test_the_cost_table_shows_the_papers_tool_and_attention_only_where_they_matter(tmp_path):
    from ablate.analysis import gather
    from ablate.storage import Cost, Store

    remarks = {}

    def minors(**more):
        folder = tmp_path / "-".join(["plain", *more])
        cost = Cost(parameters=5, used_parameters=5, macs=2**31, uncounted=["add"], activations=3_000_000, **more)
        chosen, store = made_up.study(), Store(folder)
        made_up.fill(store, chosen, lambda trial: {"cost": cost})
        evidence = gather(Design(chosen), store, images=False)
        results = next(block for block in registry.build("section", "table", {})(evidence) if isinstance(block, Table))
        remarks[tuple(more)] = " ".join(results.notes)
        blocks = registry.build("section", "cost", {})(evidence)
        table = next(block for block in blocks if isinstance(block, Table))
        assert [cell.text for cell in table.rows[0]][1] == "2"
        return [column.minor for column in table.columns if column.minor]

    assert minors() == ["MACs / 2³⁰", "10⁶", "MiB"]
    assert minors(transposed_excess=2**30)[:2] == ["MACs / 2³⁰", "papers' tool"]
    assert "10⁹ MACs" in minors(matmul_macs=10**9)
    assert "the papers' GFLOPs but for transposed convolutions" in remarks["transposed_excess",]
    assert "the papers' GFLOPs." in remarks[()]


def made(place, choose, **changes):
    chosen, store = made_up.study(**changes), made_up.Store(place)
    made_up.fill(store, chosen, choose)
    return made_up.gather(Design(chosen), store)


def test_an_arm_that_failed_whole_is_in_the_answer(tmp_path):
    failed = {"status": "failed", "reason": "no memory"}
    one = made(tmp_path / "one", lambda trial: failed if trial.arm["fusions"] == "final" else {})
    assert "Nothing can be said of final: no seed has a score there and in the control." in answer(one)
    assert "across" in answer(one)
    others = made(tmp_path / "others", lambda trial: {} if trial.arm["fusions"] == "within" else failed)
    alone = "Nothing can be said of across and final: no seed has a score there and in the control. No plan is stored "
    assert answer(others).startswith(alone)


def test_a_verdict_over_survivors_is_marked(tmp_path):
    gone = {"status": "diverged", "reason": "the loss was nan"}
    text = answer(made(tmp_path, lambda trial: gone if trial.arm["fusions"] == "across" and trial.seed < 2 else {}))
    assert "2 of 8 seeds of across diverged: what is said of it rests on the others." in text


def test_scores_that_still_rise_are_told_beside_the_gaps(tmp_path):
    """Made-up curves rise in equal steps from epoch to epoch, by more in a quarter than the arms are apart."""
    text = answer(made(tmp_path, lambda trial: {"scores": {"AP": 0.5 + 0.001 * (trial.arm["fusions"] == "final")}}))
    assert "Training had not converged. Change of AP in the last quarter of training, in points an epoch: " in text
    far = made(tmp_path / "far", lambda trial: {"scores": {"AP": 0.1 + 0.8 * (trial.arm["fusions"] == "final")}})
    assert "Training had not converged." in answer(far)  # arms far apart, and no seed differs from another
    silent = answer(made(tmp_path / "silent", lambda trial: {"curve": []}))
    assert "Whether scores still rise at the end is not known" in silent


def test_classes_at_chance_are_told_with_the_verdict_and_in_their_table(tmp_path):
    """The toy metric's far class always scores 1, and its near class more than the 30 of the commonest everywhere."""
    evidence = made(tmp_path, lambda trial: {}, levels=("within", "hopeless"))
    breakdown = replace(
        evidence.breakdowns[0], scores=evidence.breakdowns[0].scores | {"hopeless": (0.3, 0.01)}, lacking=2
    )
    evidence = replace(evidence, breakdowns=[breakdown])
    text = answer(evidence)
    assert (
        "At chance in toy score are 2 of 2 classes with hopeless (near and far); with within, the control, 1." in text
    )
    heading, table = registry.build("section", "parts", {})(evidence)
    assert heading.text == "Classes"
    near = f"{100 * evidence.breakdowns[0].scores['within'][0]:.1f}"
    shown = [["near", "75.0", near, "30.0"], ["far", "25.0", "1.0", "1.0"]]
    assert [[cell.text for cell in row] for row in table.rows] == shown
    assert [[cell.minor for cell in row[2:]] for row in table.rows] == [["", "at chance"], ["at chance", "at chance"]]
    assert "predicting near everywhere gives: 30.0 to it" in table.notes[0]
    assert "left out: none." in table.notes[1]
    assert "2 results do not hold" in table.notes[2]


def test_many_arms_stand_below_each_other_beside_few_classes():
    _, table = registry.build("section", "parts", {})(evidence_of("many_arms"))
    assert [column.title for column in table.columns] == ["Arm", "near", "far"]
    assert [row[0].text for row in table.rows][:2] == ["labelled, %", "within"]


def test_pictures_show_truth_beside_prediction(tmp_path):
    person = np.array([[10.0 + at, 20.0, at % 2] for at in range(4)])
    joints = ("left_shoulder", "left_elbow", "right_shoulder", "left_wrist")
    pixels, labels = np.full((8, 12, 3), 100, np.uint8), np.full((8, 12), 255, np.uint8)
    labels[:4] = 1
    boxed, people, classes = (
        Marks(boxes=(np.array([1, 2, 3, 4]),)),
        Marks(people=(person, person)),
        Marks(labels=labels),
    )
    shown = Pictured("within", 0, "worst", 7, 0.25, math.nan, pixels, people, boxed, joints)
    changed = replace(shown, arm="final", why="most changed", control=0.75, truth=classes, found=classes)
    blocks = registry.build("section", "pictures", {})(replace(evidence_of("few_seeds"), pictured=[shown, changed]))
    assert [type(block) for block in blocks] == [Text, Text, Figure, Figure]
    of_people, of_classes = blocks[2:]
    assert "worst is image 7 (AP 25.0)" in of_people.caption
    assert "most changed is image 7 (AP 25.0, control 75.0)" in of_classes.caption
    truth, prediction = of_people.panels
    assert [series.mark for series in truth.series] == ["line", "points"] * 2  # of four joints two are there, one limb
    assert truth.series[0].x == [11.0, 13.0]
    (box,) = prediction.series
    assert (box.x, box.y) == ([1, 4, 4, 1, 1], [2, 2, 6, 6, 2])
    painted = of_classes.panels[0].pixels
    assert (painted[4:] == 100).all()
    assert (painted[:4] != 100).any()
    for form in ("html", "md", "latex"):
        assert "pictures-1" in render(blocks, form)


def test_results_that_hold_nothing_of_classes_are_told(tmp_path):
    evidence = made(tmp_path, lambda trial: {})
    nothing = replace(evidence.breakdowns[0], names=(), share=(), trivial=(), scores={}, lacking=24)
    blocks = registry.build("section", "parts", {})(replace(evidence, breakdowns=[nothing]))
    assert "none of the 24 results holds the statistics" in blocks[-1].text
    assert "At chance" not in answer(replace(evidence, breakdowns=[nothing]))


def test_every_arm_is_defined_whole(tmp_path):
    levels = {"plain": {}, "other": {"model": {"name": "simple_baseline", "depth": 18}, "train.lr": 0.01}}
    evidence = made(tmp_path, lambda trial: {}, factors={"net": {"levels": levels}}, paper=None)
    table = next(b for b in registry.build("section", "arms", {})(evidence) if isinstance(b, Table))
    (_, control), (label, other) = [[cell.text for cell in row] for row in table.rows]
    assert (control, label) == ("the control", "other")
    assert "model: simple_baseline (depth 18, " in other
    assert "train.lr: 0.01" in other


def test_equal_results_promise_nothing(tmp_path):
    text = answer(made(tmp_path, lambda trial: {"scores": {"AP": 0.0}}))
    assert text.startswith("No difference in AP from within, the control, is shown for across")
    assert "four times in five" not in text


def test_fewer_seeds_can_be_enough_beside_a_comparison_that_is_shown(tmp_path):
    """With six seeds a second step of Holm can still be passed, so nothing is called not testable."""
    gone = {"status": "failed", "reason": "no memory"}
    evidence = made(tmp_path, lambda trial: gone if trial.arm["fusions"] == "across" and trial.seed > 5 else {})
    across = next(c for c in evidence.comparisons_in("AP") if c.arm == "across")
    assert (across.effect.n, across.smallest_p) == (6, 2 / 64)
    assert across.verdict == ("lower" if across.p_holm < 0.05 else "not shown")


def test_a_seed_that_diverged_cuts_no_mean_short(tmp_path):
    def choose(trial):
        if (trial.arm["fusions"], trial.seed) != ("final", 3):
            return {}
        curve = made_up.result(trial)[0].curve[:1]
        return {"status": "diverged", "reason": "the loss was nan in epoch 2", "curve": curve}

    figure = next(b for b in registry.build("section", "curves", {})(made(tmp_path, choose)) if isinstance(b, Figure))
    means = {line.name: line for line in figure.panels[0].series if line.name}
    assert [len(means[name].x) for name in ("within", "across", "final")] == [12, 12, 12]
