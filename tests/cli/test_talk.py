"""A log that is lost ends no run: its reader went away, its disk is full, or there was none from the start."""

import csv
import json
import os
import subprocess

import pytest
from small_studies import COMMAND, write_study


def done(ablate) -> int:
    rows = json.loads(ablate("status", "small.yaml", "--json").stdout)
    assert {row["status"] for row in rows} == {"done"}
    return len(rows)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [["--local"], []], ids=["here", "ray"])
def test_a_reader_of_both_streams_goes_away(ablate, tmp_path, flags):
    write_study(tmp_path, seeds=1)
    process = subprocess.Popen(
        [*COMMAND, "run", "small.yaml", *flags], cwd=tmp_path, env=ablate.environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=300) == 0
    assert done(ablate) == 2
    assert (tmp_path / "results" / "reports" / "small" / "report.html").exists()


@pytest.mark.parametrize(
    "streams", ["2>&-", *(pytest.param(s, marks=pytest.mark.slow) for s in (">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full"))]
)
def test_a_run_without_a_log(ablate, tmp_path, streams):
    write_study(tmp_path, seeds=1)
    script = f'exec "$@" {streams}'
    command = ["bash", "-c", script, "bash", *COMMAND, "run", "small.yaml", "--local"]
    run = subprocess.run(
        command, cwd=tmp_path, env=ablate.environment, stdout=subprocess.PIPE, timeout=300, check=False
    )
    assert run.returncode == 0
    assert done(ablate) == 2


def test_a_mistake_has_its_status_without_a_log(ablate, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run(
        [*COMMAND, "plan", "no.yaml"], cwd=tmp_path, env=ablate.environment, stderr=writer, check=False
    )
    os.close(writer)
    assert run.returncode == 2


def test_a_text_is_no_formula_in_a_spreadsheet(called, tmp_path):
    levels = {"=HYPERLINK(1)": 1, "@SUM(1)": 2}
    study = write_study(tmp_path, factors={"depth": {"at": "model.depth", "levels": levels}}, seeds=1)
    for command in ("status", "plan"):
        rows = list(csv.DictReader(called(command, study, "--csv")[1].splitlines()))
        assert [row["arm"] for row in rows] == ["'=HYPERLINK(1)", "'@SUM(1)"]
    assert {row["arm"] for row in json.loads(called("status", study, "--json")[1])} == set(levels)
