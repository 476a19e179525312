"""Results published by earlier versions, kept as they were: each is still found as its trial's, wherever it lies.

`tests/published/` holds the rows and study files of revision 6b22815. Later code may print other ids and ask more of a
recipe; what was trained must not be trained again.
"""

import json
import shutil
from pathlib import Path

import pytest
from small_studies import TESTS

from ablate.machine import fingerprint
from ablate.planning.match import FILE
from ablate.storage import Store

PUBLISHED = TESTS / "published"
STUDIES = sorted(path.parent.name for path in PUBLISHED.glob("*/results"))


def trials_of(called, study: str, results: object) -> list[dict]:
    status, out, err = called(
        "status", PUBLISHED / "studies" / f"{study}.yaml", "--scale", "laptop", "--results", results, "--json"
    )
    assert status == 0, err
    return json.loads(out)


@pytest.mark.parametrize("study", STUDIES)
def test_every_published_trial_is_found_as_done(called, tmp_path, study):
    assert called("import", PUBLISHED / study)[0] == 0
    trials = trials_of(called, study, "results")
    found = Store(tmp_path / "results").read().results
    assert {trial["status"] for trial in trials} == {"done"}
    assert len(trials) == len(found) == len(list((PUBLISHED / study / "results" / "trials").iterdir()))


REPORTS = sorted(path.parent for path in (TESTS.parent / "reports").glob("*/report.md"))


@pytest.mark.parametrize("report", REPORTS, ids=lambda path: path.name)
def test_what_is_published_today_is_taken_in_whole_and_found_as_done(called, tmp_path, report):
    """Tries of tuned arms, too, whose splits have digests of their own."""
    assert called("import", report)[0] == 0
    own = report / "study.yaml"
    study = own if own.is_file() else TESTS.parent / "studies" / f"{report.name}.yaml"
    status, out, err = called("status", study, "--scale", "laptop", "--json")
    assert status == 0, err
    trials = json.loads(out)
    assert {trial["status"] for trial in trials} == {"done"}
    assert len(trials) == len(list((report / "results" / "trials").iterdir()))


def test_they_are_found_in_an_object_store_too(called, s3):
    study = STUDIES[0]
    folder, bucket = PUBLISHED / study / "results", Store(s3)
    for path in folder.rglob("*.*"):
        bucket.place.write(str(path.relative_to(folder)), path.read_bytes())
    assert {trial["status"] for trial in trials_of(called, study, s3)} == {"done"}


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*/results")), ids=lambda path: path.parent.name)
def test_the_rows_are_whole(path: Path):
    assert not Store(path).read().damaged


def test_what_its_makers_solved_is_solved_again(called, tmp_path):
    """A matched level is what this code finds, whatever a published file says, and is kept once it is found."""
    study = "segmentation_baselines"
    shutil.copytree(PUBLISHED / study, tmp_path / study)
    right = (tmp_path / study / "results" / FILE).read_text()
    document = json.loads(right)
    for solution in document["solved"].values():
        solution["value"] = 2 if isinstance(solution["value"], int) else 2.0
    document["checksum"] = fingerprint(document["solved"])
    (tmp_path / study / "results" / FILE).write_text(json.dumps(document))
    assert called("import", tmp_path / study)[0] == 0
    assert not (tmp_path / "results" / FILE).exists()
    assert {trial["status"] for trial in trials_of(called, study, "results")} == {"done"}
    assert (tmp_path / "results" / FILE).read_text() == right
