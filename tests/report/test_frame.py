"""Tables of the evidence: every column is described; the numbers are those of the results, of scipy and of pandas."""

import json
import subprocess
import sys

import cv2
import made_up
import numpy as np
import pandas
import pytest
from scipy import stats as scipy_stats
from small_studies import TESTS, write_study

from ablate import registry
from ablate.analysis import frame, gather
from ablate.datasets import IGNORED
from ablate.errors import StoreError, StudyError
from ablate.planning.plan import plan
from ablate.running.outcome import Outcome
from ablate.storage import Store
from ablate.study import Design, load

KINDS = {"text": "str", "int": "int64", "float": "float64", "bool": "bool"}


@pytest.mark.parametrize("case", made_up.CASES)
def test_every_column_is_described_and_of_its_type(tmp_path, case):
    evidence = made_up.CASES[case](tmp_path)
    for table, described in frame.COLUMNS.items():
        made = evidence.to_frame(table)
        for column in made.columns:
            found = described.get(column) or described[f"{column.partition('/')[0]}/NAME"]
            assert not len(made) or str(made[column].dtype) == KINDS[found.type], column
        fixed = [column for column in described if not column.endswith("/NAME")]
        assert [column for column in made.columns if column in described] == fixed


def test_scores_are_the_evidences(tmp_path):
    evidence = made_up.partial(tmp_path)
    scores = evidence.to_frame()
    assert len(scores) == evidence.planned_trials * len(evidence.study.metrics)
    assert not scores.duplicated(["arm", "seed", "metric"]).any()
    for row in evidence.rows:
        for metric, summary in row.summaries.items():
            own = scores[(scores.arm == row.label) & (scores.metric == metric)].score
            assert (own.count(), own.mean()) == (summary.n, pytest.approx(summary.mean, nan_ok=True))
    assert set(scores[scores.is_control].arm) == {"within"}
    status = scores.drop_duplicates("trial").status.value_counts()
    assert status.to_dict() == {"done": 7, "missing": 4, "failed": 1}
    assert scores[scores.status != "done"].score.isna().all()


def test_effects_are_those_of_the_scores(tmp_path):
    evidence = made_up.full(tmp_path)
    scores, effects = evidence.to_frame(), evidence.to_frame("effects").set_index(["metric", "arm"])
    wide = scores.pivot(index="seed", columns=["metric", "arm"], values="score")
    for arm in ("across", "final"):
        found, pairs = effects.loc["AP", arm], (wide["AP", arm], wide["AP", "within"])
        theirs = scipy_stats.ttest_rel(*pairs).confidence_interval(0.95)
        assert found.difference == pytest.approx((pairs[0] - pairs[1]).mean())
        assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
        assert (found.seeds, found.control, bool(found.primary)) == (8, "within", True)
    assert effects.loc["AP", "final"].verdict == "lower"
    assert effects.loc["AR", "final"].verdict == ""


def test_trials_curves_and_costs_are_the_results(tmp_path):
    evidence = made_up.partial(tmp_path)
    trials = evidence.to_frame("trials").set_index("trial")
    curves, costs = evidence.to_frame("curves"), evidence.to_frame("costs").set_index("trial")
    results = Store(tmp_path).read().results
    for trial in Design(evidence.study).trials:
        row, result = trials.loc[trial.id], results.get(trial.id)
        assert (row.seed, row["level/fusions"]) == (trial.seed, trial.arm["fusions"])
        if result is None:
            assert (row.status, np.isnan(row.seconds)) == ("missing", True)
            continue
        assert (row.status, row.reason, row.seconds) == (result.status, result.reason, result.seconds)
        assert row.torch == result.env["torch"]
        own = curves[curves.trial == trial.id]
        assert own.loss.tolist() == [epoch.loss for epoch in result.curve]
        assert own["score/AP"].dropna().tolist() == [epoch.scores["AP"] for epoch in result.curve if epoch.scores]
        if result.cost:
            assert costs.loc[trial.id].macs == result.cost.macs
            assert costs.loc[trial.id].gflops == pytest.approx(result.cost.macs / 2**30)
    assert len(costs) == sum(result.cost is not None for result in results.values())


def test_the_page_describes_every_column():
    page = (TESTS.parent / "docs" / "python.md").read_text()
    for table, described in frame.COLUMNS.items():
        assert f"## `{table}`" in page
        for task in registry.names("task"):
            for name, column in (described | frame.columns(table, task)).items():
                assert f"| `{name}` | {column.type} | {column.unit} | {column.meaning} |" in page, (table, name)


def test_an_unknown_table_is_one_line(tmp_path):
    with pytest.raises(StudyError, match="no table 'efects' of the evidence; did you mean 'effects'"):
        made_up.empty(tmp_path).to_frame("efects")


def test_objects_print_a_table_and_escape_what_others_wrote(tmp_path):
    evidence = made_up.single_seed(tmp_path)
    text, html = repr(evidence), evidence._repr_html_()
    assert made_up.NASTY in text
    assert "<b>AP</b>" not in html
    assert html.count("<tr>") == 1 + len(evidence.rows)
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["arm", "within", "across", "final"]
    many = made_up.study(seeds=20)
    outcome = Outcome(Design(many).trials, ran={trial.id: "done" for trial in Design(many).trials[:4]})
    assert str(outcome).splitlines()[0] == "60 trials to run: 4 done."
    assert str(outcome).endswith("and 30 more")
    assert "<p>and 30 more</p>" in outcome._repr_html_()
    assert "none ran" in str(Outcome([]))


def test_a_plan_prints(called, tmp_path):
    made = plan(Design(load(write_study(tmp_path))), Store(tmp_path / "results"))
    assert str(made).startswith("small: 4 of 4 trials to run")
    assert made._repr_html_().count("<tr>") == 3


def test_a_table_needs_no_torch_and_the_evidence_no_pandas(tmp_path):
    made_up.fill(Store(tmp_path), made_up.study(seeds=2))
    script = (
        "import sys, made_up\nfrom ablate import registry\nfrom ablate.analysis import gather\n"
        "from ablate.storage import Store\nfrom ablate.study import Design\nregistry.load_plugins(('toy_parts',))\n"
        f"evidence = gather(Design(made_up.study(seeds=2)), Store({str(tmp_path)!r}))\n"
        "print('pandas' in sys.modules, len(evidence.to_frame()), 'torch' in sys.modules)"
    )
    paths = {"PYTHONPATH": f"{TESTS.parent}:{TESTS}:{TESTS / 'report'}"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=paths)
    assert done.stdout.split() == ["False", "42", "False"]


# -- the images of real trials -----------------------------------------------------------------------------------

FIGURES = {"name": "figures", "train": 8, "val": 6}
NETWORK = {"name": "hrnet", "width": 2, "blocks": 1, "modules": [1, 1, 1]}


def trained(called, folder, task, metrics):
    """The evidence of a study of two arms, of which the first was trained, and what that one predicted."""
    recipe = {"task": task, "dataset": FIGURES, "model": NETWORK, "train": {"epochs": 1, "batch": 4}}
    factors = {"fusions": {"at": "model.fusions", "levels": ["across", "final"]}}
    file = write_study(folder, recipe=recipe, factors=factors, metrics=metrics, plugins=[], seeds=1)
    status, _, err = called("trial", file, "--seed", "0", "--predictions", folder / "found")
    assert status == 0, err
    return file, gather(Design(load(file)), Store("results"))


def test_an_images_ious_are_those_of_its_written_prediction(called, tmp_path):
    task = {"name": "segmentation", "size": [32, 32]}
    file, evidence = trained(called, tmp_path, task, ["mIoU", "pixel_accuracy"])
    images = evidence.to_frame("per_image").set_index("image")
    val = registry.build("dataset", "figures", {"train": 8, "val": 6}).open("val")
    assert images.index.tolist() == val.image_ids()
    assert set(images.arm) == {"across"}
    for image in val.image_ids():
        guessed = cv2.imread(str(next((tmp_path / "found").rglob(f"{val.name(image)}*.png"))), cv2.IMREAD_UNCHANGED)
        true = val.labels(image)
        for place, name in enumerate(val.info.classes):
            either = ((true == place) | (guessed == place)) & (true != IGNORED)
            expected = ((true == place) & (guessed == place)).sum() / either.sum() if either.any() else np.nan
            assert images.loc[image, f"IoU/{name}"] == pytest.approx(expected, nan_ok=True)
    assert called("report", file, "--format", "csv", "--format", "parquet")[0] == 0
    tables = tmp_path / "results" / "reports" / "small" / "tables"
    assert {path.name for path in tables.iterdir()} == {f"{n}.{k}" for n in frame.COLUMNS for k in ("csv", "parquet")}
    for read, kind in ((pandas.read_csv, "csv"), (pandas.read_parquet, "parquet")):
        again = read(tables / f"per_image.{kind}")
        empty = ["scale", "dataset"]  # nan in CSV
        again, there = again.set_index("image").drop(columns=empty), images.drop(columns=empty)
        pandas.testing.assert_frame_equal(again, there, check_dtype=False)
    assert not (tables.parent / "report.md").exists()


def test_an_images_people_are_those_of_its_annotations_and_of_its_written_prediction(called, tmp_path):
    _, evidence = trained(called, tmp_path, {"name": "pose", "size": [32, 32], "sigma": 1.0}, ["AP", "PCK"])
    images = evidence.to_frame("per_image").set_index("image")
    assert set(images.columns) == {*frame.columns("per_image", "pose")} - {"image"}
    val = registry.build("dataset", "figures", {"train": 8, "val": 6}).open("val")
    people = [a["image_id"] for a in val.ground_truth()["annotations"] if a["num_keypoints"]]
    written = [json.loads(path.read_text()) for path in (tmp_path / "found").rglob("*.json")]
    detected = [found["image_id"] for rows in written for found in rows]
    for image in val.image_ids():
        row = images.loc[image]
        assert row.people == people.count(image)
        assert row.matched + row.false_detections == detected.count(image)
        assert np.isnan(row.similarity) == (row.matched == 0)
    path = next((tmp_path / "results" / "trials").glob("*/per_image.npz"))
    assert "keypoint_ap/similarity" in np.load(path, allow_pickle=False)

    store, trial = Store("results"), Design(evidence.study).trials[0].id
    store.put(store.read().results[trial], {"keypoint_ap/image_ids": np.arange(3)})
    with pytest.raises(StoreError, match=f"trial {trial}: per_image.npz: not what the metric reads"):
        evidence.to_frame("per_image")
