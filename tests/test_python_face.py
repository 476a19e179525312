"""The Python face: what the commands call, from a script, a notebook or a test; importing it costs nothing."""

import subprocess
import sys
import threading

import pytest
from small_studies import small_study, write_study

import ablate
from ablate.errors import StudyError

pytestmark = pytest.mark.usefixtures("small_shelf")
LIGHT = (
    "import sys, ablate; print(sorted({'torch', 'ray', 'mlflow', 'pandas', 'numpy'} & set(sys.modules)), dir(ablate))"
)


def test_importing_it_loads_nothing_heavy():
    said = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True).stdout
    assert said.startswith("[] ")
    assert all(name in said for name in ablate.__all__)


def test_from_a_study_file_to_its_evidence(tmp_path, capfd):
    study = ablate.load_study(write_study(tmp_path, seeds=2))
    place = tmp_path / "results"
    assert len(ablate.plan(study, results=place).missing) == 4
    outcome = ablate.run(study, results=place, local=True)
    assert set(outcome.ran.values()) == {"done"}
    assert capfd.readouterr() == ("", "")
    assert len(ablate.results(place).results) == 4
    evidence = ablate.evidence(study, results=place)
    assert [row.label for row in evidence.rows] == ["depth=1", "depth=2"]
    assert evidence.to_frame().groupby(["arm", "metric"]).score.count().tolist() == [2, 2, 2, 2]
    assert [comparison.arm for comparison in evidence.comparisons_in("closeness")] == ["depth=2"]
    assert ablate.run(study, results=place, local=True).ran == {}


def test_a_matched_study_needs_no_step_of_its_own(tmp_path):
    document = small_study()["recipe"] | {"model": {"name": "dots", "width": 40}}
    wish = {"gmacs": "control", "by": "model.width", "within": 20}
    factors = {"depth": {"at": "model.depth", "levels": [1, 2], "match": wish}}
    study = ablate.load_study(write_study(tmp_path, recipe=document, factors=factors, seeds=1))
    labels = [arm.label for arm in ablate.plan(study, results=tmp_path / "results").arms]
    assert labels == ["depth=1", "depth=2", "depth=2 matched"]
    ablate.run(study, results=tmp_path / "results", local=True, only=["depth=2 matched"])
    rows = ablate.evidence(study, results=tmp_path / "results", images=False).rows
    assert [len(row.scores["closeness"]) for row in rows] == [1, 0, 1]


def test_it_runs_in_a_thread_that_gets_no_signals(tmp_path):
    study, ran = ablate.load_study(write_study(tmp_path, seeds=1)), []
    thread = threading.Thread(target=lambda: ran.append(ablate.run(study, results=tmp_path / "results", local=True)))
    thread.start()
    thread.join()
    assert set(ran[0].ran.values()) == {"done"}


def test_a_mistake_is_one_line_and_trains_nothing(tmp_path):
    study = ablate.load_study(write_study(tmp_path))
    with pytest.raises(StudyError, match="no level '3'; choose from 1, 2"):
        ablate.run(study, results=tmp_path / "results", local=True, only=["depth=3"])
    assert not (tmp_path / "results" / "trials").exists()
