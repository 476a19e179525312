"""Whether small scales foretell large ones, from results made by hand."""

import json

import numpy as np
import pytest
from small_studies import write_study

from ablate.storage import Result, Store, whose
from ablate.study import Design, load

pytestmark = pytest.mark.usefixtures("small_shelf")

SCALES = {
    "demo": {"recipe": {"train": {"epochs": 1}}},
    "laptop": {"recipe": {"train": {"epochs": 2}}},
    "paper": {"recipe": {"train": {"epochs": 4}}},
}
GAPS = {  # of the arms in points, by scale
    "depth=2": {"demo": 5, "laptop": 6, "paper": 7},
    "width=8": {"demo": -5, "laptop": 0, "paper": 5},
}


@pytest.fixture
def study(tmp_path):
    factors = {"depth": {"at": "model.depth", "levels": [1, 2]}, "width": {"at": "model.width", "levels": [4, 8]}}
    return write_study(tmp_path, factors=factors, scales=SCALES, seeds=8, test="t")


def trained(study, folder, *scales):
    for scale in scales:
        design = Design(load(study, scale=scale))
        for trial in design.trials:
            label = design.arm(trial).label
            luck = np.random.default_rng([trial.seed, len(label), len(scale)]).normal(0, 0.004)
            score = 0.5 + GAPS.get(label, {}).get(scale, 0) / 100 + luck
            store = Store(folder / "results")
            store.put(Result(**whose(trial), status="done", scores={"closeness": score, "near": 0.5}), {})


def test_shown_signs_are_counted_over_all_pairs_of_scales(called, study, tmp_path):
    trained(study, tmp_path, *SCALES)
    status, out, err = called("foretell", study, "--json")
    assert status == 0, err
    rows = {row["comparison"]: row for row in json.loads(out)}
    assert [rows["depth=2"][key] for key in ("held", "known", "not known")] == [3, 3, 0]
    assert [rows["width=8"][key] for key in ("held", "known", "not known")] == [0, 1, 2]
    assert [rows["width=8"][scale].split()[1] for scale in SCALES] == ["lower", "not", "higher"]
    assert "in 4 cases both scales show a difference, in 3 of them with the same sign; in 2 more at least one" in err


def test_it_abstains_where_nothing_can_be_known(called, study, tmp_path):
    status, out, err = called("foretell", study, "--json")
    assert (status, json.loads(out)) == (0, [])
    assert "no comparison shows a difference on two scales; scales with results: none" in err
    trained(study, tmp_path, "laptop")
    status, out, err = called("foretell", study, "--json")
    assert [row["known"] for row in json.loads(out)] == [0, 0]
    assert "scales with results: laptop" in err


def test_a_scale_with_trials_of_another_foretells_nothing(called, study, tmp_path):
    document = json.loads(study.read_text())
    document["scales"] = {"demo": SCALES["demo"], "more": SCALES["demo"] | {"seeds": 12}}
    study.write_text(json.dumps(document))
    trained(study, tmp_path, "demo", "more")
    status, out, err = called("foretell", study, "--json")
    assert status == 0, err
    assert "more has the trials of a scale before, which cannot foretell themselves: left out" in err
    assert {(row["held"], row["known"]) for row in json.loads(out)} == {(0, 0)}


def test_one_scale_is_none_to_compare(called, tmp_path):
    status, _, err = called("foretell", write_study(tmp_path))
    assert status == 2
    assert "foretell compares scales, and needs two or more; the study has none" in err


def test_comparisons_with_other_controls_are_others(called, tmp_path):
    """On one scale 8 channels are above 4, on the other below 6: signs of two questions."""
    factors = {
        name: {"width": {"at": "model.width", "levels": [first, 8]}} for name, first in (("demo", 4), ("big", 6))
    }
    file = write_study(
        tmp_path,
        factors=factors["demo"],
        seeds=8,
        test="t",
        scales={name: {"factors": own} for name, own in factors.items()},
    )
    store = Store(tmp_path / "results")
    for scale in factors:
        for trial in Design(load(file, scale=scale)).trials:
            luck = np.random.default_rng([trial.seed, int(trial.arm["width"])]).normal(0, 0.004)
            score = {"4": 0.5, "6": 0.6, "8": 0.55}[trial.arm["width"]] + luck
            store.put(Result(**whose(trial), status="done", scores={"closeness": score, "near": 0.5}), {})
    status, out, err = called("foretell", file, "--json")
    assert status == 0, err
    rows = {row["comparison"]: row for row in json.loads(out)}
    assert rows.keys() == {"width=8 against width=4", "width=8 against width=6"}
    assert [rows["width=8 against width=4"]["demo"].split()[1], rows["width=8 against width=6"]["big"].split()[1]] == [
        "higher",
        "lower",
    ]
    assert [row["known"] for row in rows.values()] == [0, 0]
