"""Evaluation: what is predicted, and what is said of what cannot be."""

import math

import pytest
import small_parts
import small_studies
from small_studies import write_study

from ablate.analysis import gather
from ablate.errors import DataError
from ablate.report import blocks
from ablate.report.blocks import Table
from ablate.storage import Store
from ablate.study import Design, load
from ablate.training.run_trial import run_trial
from ablate.training.site import Site


@pytest.mark.usefixtures("small_shelf")
def test_samples_outside_the_split_are_counted_in_result_and_report(tmp_path, monkeypatch):
    study = load(write_study(tmp_path, seeds=1, factors={"depth": {"at": "model.depth", "levels": [1, 2]}}))
    whole, part = Design(study).trials
    results = [list(run_trial(whole, Site(results=tmp_path)))[-1]]
    monkeypatch.setattr(small_parts.Pictures, "left_out", 3, raising=False)  # as the people of a detector have it
    results.append(list(run_trial(part, Site(results=tmp_path)))[-1])
    fact = "samples on images outside the split, not evaluated"
    assert [result.env.get(fact) for result in results] == [None, "3"]
    tables = [block for block in blocks(gather(Design(study), Store(tmp_path))) if isinstance(block, Table)]
    cells = [[cell.text for cell in row] for table in tables for row in table.rows]
    assert [fact, "3"] in cells


@pytest.mark.usefixtures("small_shelf")
def test_a_trial_without_a_score_that_is_a_number_is_failed(tmp_path, monkeypatch):
    trial = Design(load(write_study(tmp_path, seeds=1))).trials[0]
    nothing = dict.fromkeys(("closeness", "near"), math.nan)
    monkeypatch.setattr(small_parts.Closeness, "aggregate", lambda *_: nothing)
    *_, result = run_trial(trial, Site(results=tmp_path))
    assert result.status == "failed"
    assert result.reason == "nothing could be scored: closeness, near are no numbers on this evaluation split"
    assert result.scores == {}


@pytest.mark.usefixtures("small_shelf")
@pytest.mark.parametrize("raises", [False, True], ids=["the task takes it", "the task raises"])
def test_a_network_that_overflows_in_evaluation_alone_has_diverged(tmp_path, monkeypatch, raises):
    """Most tasks would give it a score: labels are the places of the highest maps, whatever these are."""

    def forward(self, images):
        return [trained(self, images)[0] * (1 if self.training or images.is_meta else math.inf)]

    def predict(self, network, batch, protocol):
        network(self.prepare(batch))
        if raises:
            raise ValueError("matrix contains invalid entries")
        return [{"image_id": int(i), "value": 0.5} for i in batch["image_id"]]

    trained = small_parts.Dots.forward
    monkeypatch.setattr(small_parts.Dots, "forward", forward)
    monkeypatch.setattr(small_parts.Brightness, "predict", predict)
    *_, result = run_trial(Design(load(write_study(tmp_path, seeds=1))).trials[0], Site(results=tmp_path))
    assert result.status == "diverged"
    assert result.reason == "outputs of the network are not finite in evaluation"
    assert not result.traceback


@pytest.mark.usefixtures("small_shelf")
def test_a_trial_that_learned_from_nothing_is_failed(tmp_path, monkeypatch):
    trial = Design(load(write_study(tmp_path, seeds=1))).trials[0]
    monkeypatch.setattr(small_parts.Brightness, "loss", lambda self, outputs, batch: 0 * outputs.float().sum())
    *_, result = run_trial(trial, Site(results=tmp_path))
    assert result.status == "failed"
    assert result.reason == "the loss was 0 in every step of epoch 1: nothing that was trained on has a label"
    assert result.curve == []


@pytest.mark.usefixtures("small_shelf")
def test_a_split_that_a_task_has_no_sample_of_is_refused_before_training(tmp_path):
    for split in ("train", "val"):
        recipe = {"dataset": {"name": "noise", split: 0}}
        study = load(write_study(tmp_path, seeds=1, recipe=small_studies.small_study()["recipe"] | recipe))
        with pytest.raises(DataError, match=f"noise: {split} has no sample for brightness"):
            list(run_trial(Design(study).trials[0], Site(results=tmp_path / split)))
