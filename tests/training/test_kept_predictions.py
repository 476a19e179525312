"""What a trial predicted, kept where the budget asks for it, and never part of what the trial is."""

import json

import numpy as np
import pytest
from small_studies import write_study
from trained import finish, site, trials

from ablate.errors import DamagedError
from ablate.storage import PREDICTIONS, Store, packed, packed_rows, unpacked_rows
from ablate.study import Design, load

pytestmark = pytest.mark.usefixtures("small_shelf")


def test_a_budget_keeps_what_a_trial_predicts_and_the_result_is_the_same(tmp_path):
    trial = trials(tmp_path)[0]
    _, plain, _ = finish(trial, site(tmp_path, "plain"))
    _, kept, _ = finish(trial, site(tmp_path, "kept", keep_predictions=True))
    assert kept.scores == plain.scores
    without, store = Store(tmp_path / "plain"), Store(tmp_path / "kept")
    assert without.predictions(trial.id) is None
    rows, statistics = store.predictions(trial.id), store.statistics(trial.id)
    assert {row["image_id"] for row in rows} == set(statistics["closeness/image_ids"].tolist())
    assert all(isinstance(row["value"], float) for row in rows)
    assert store.get(trial.id) == kept


def test_the_key_is_a_budgets_and_in_no_id(tmp_path):
    plain = [trial.id for trial in Design(load(write_study(tmp_path))).trials]
    assert plain == [t.id for t in Design(load(write_study(tmp_path, budget={"keep_predictions": True}))).trials]


def test_predictions_are_compressed_and_damage_is_told(tmp_path):
    rows = [{"image_id": 3, "labels": np.zeros((200, 300), np.uint8)}, {"image_id": 4, "keypoints": [1.0, 2.0]}]
    content = packed_rows(rows, compressed=True)
    assert len(content) < 3000 < len(packed_rows(rows))
    first, second = unpacked_rows(content, at="here")
    assert np.array_equal(first["labels"], rows[0]["labels"])
    assert second == rows[1]
    store = Store(tmp_path / "results")
    numbers = np.frombuffer(json.dumps([1, 2]).encode(), np.uint8)
    for damaged in (
        content[:-40],
        b"",
        b"no file",
        packed_rows([])[:-1],
        packed({"rows": numbers}),
        packed({"other": numbers}),
    ):
        store.place.write(store.name("ab", PREDICTIONS), damaged)
        with pytest.raises(DamagedError, match=r"ab/predictions\.npz: damaged"):
            store.predictions("ab")
    with pytest.raises(DamagedError, match="more than 0 MiB"):
        unpacked_rows(content, at="here", most=1000)
