"""Matched compute: levels brought to equal cost, with costs worked out by hand, kept so that reading needs no torch."""

import json
import os
import subprocess
import sys

import pytest
from small_studies import TESTS, small_study, write_study

from ablate.cli import main
from ablate.errors import PartError, StudyError
from ablate.network import cost
from ablate.planning.match import FILE, publish, solve
from ablate.storage import Store
from ablate.study import Design, load

# One 3x3 convolution of an 8x8 picture to w channels and a linear layer: 1729 w. A second one: 576 w^2 more.
# w is even, so depth 2 costs 5,762 at w = 2, 16,132 at 4, 50,696 at 8, 74,890 at 10, 103,692 at 12.
WISH = {"gmacs": "control", "by": "model.width"}
DEEP = {"model.depth": 2}


pytestmark = pytest.mark.usefixtures("small_shelf")


def study_file(folder, *, width=44, levels=(1, 2), match=WISH, **changes):
    recipe = small_study()["recipe"] | {"model": {"name": "dots", "width": width}}
    factor = {"levels": levels, "match": match} | ({"at": "model.depth"} if isinstance(levels, tuple) else {})
    changes = {"recipe": recipe, "factors": {"depth": factor}, "plugins": ["small_parts", "match_parts"]} | changes
    return write_study(folder, **changes)


def levels_of(study) -> dict:
    return study.factors["depth"].levels


def test_a_level_gets_a_matched_one_behind_it(tmp_path):
    study = solve(load(study_file(tmp_path)))
    assert list(levels_of(study).items()) == [
        ("1", {"model.depth": 1}),
        ("2", {"model.depth": 2}),
        ("2 matched", {"model.depth": 2, "model.width": 10}),
    ]
    assert study.note == (
        "Levels of depth are matched within 1.6 % to the control's 7.608e-05 GMACs: "
        "2 with model.width 10 (7.489e-05 GMACs, −1.6 %)."
    )
    macs = {trial.arm["depth"]: cost.price(trial.recipe).macs for trial in Design(study).trials}
    assert macs == {"1": 76_076, "2": 1_191_212, "2 matched": 74_890}
    assert [arm.label for arm in Design(study).contrasts] == ["depth=2", "depth=2 matched"]


def test_a_study_without_a_wish_stays_as_it_is(tmp_path):
    study = load(write_study(tmp_path))
    assert solve(study, tmp_path / "results") == study
    assert not (tmp_path / "results").exists()


def test_what_is_written_can_be_left_out(tmp_path):
    study = solve(load(study_file(tmp_path, match=WISH | {"raw": False}, note="Costly as written.")))
    assert list(levels_of(study)) == ["1", "2 matched"]
    assert study.note.startswith("Costly as written. Levels of depth are matched ")


def test_each_level_may_have_a_knob_of_its_own(tmp_path):
    # 16 m channels, rounded, cost 1729 each: 44 of them from m = 2.72 on
    levels = {"plain": {}, "deep": DEEP, "other": {"model": {"name": "scaled"}}}
    by = {"deep": "model.width", "other": "model.multiplier"}
    study = solve(load(study_file(tmp_path, levels=levels, match={"gmacs": "control", "by": by})))
    assert list(levels_of(study)) == ["plain", "deep", "deep matched", "other", "other matched"]
    assert levels_of(study)["other matched"] == {"model": {"name": "scaled"}, "model.multiplier": 2.72}
    assert "other with model.multiplier 2.72 (7.608e-05 GMACs, +0.0 %)" in study.note
    matched = next(trial for trial in Design(study).trials if trial.arm["depth"] == "other matched")
    assert cost.price(matched.recipe).macs == 76_076


def test_a_level_that_sets_the_knob_itself_is_matched_too(tmp_path):
    levels = {"plain": {}, "deep": {"model.width": 6, "model.depth": 2}}
    study = solve(load(study_file(tmp_path, levels=levels)))
    assert levels_of(study)["deep"] == {"model.width": 6, "model.depth": 2}
    assert levels_of(study)["deep matched"] == {"model.depth": 2, "model.width": 10}


def test_what_costs_the_same_already_stands_alone(tmp_path):
    # dropout costs nothing; depth 2 with 10 channels is as near as it gets
    levels = {"plain": {}, "dropout": {"model.dropout": 0.5}, "deep": {"model.width": 10, "model.depth": 2}}
    for raw in (True, False):
        study = solve(load(study_file(tmp_path, levels=levels, match=WISH | {"raw": raw})))
        assert levels_of(study) == levels
        assert "dropout as it is (7.608e-05 GMACs, +0.0 %); deep as it is (7.489e-05 GMACs, −1.6 %)" in study.note


def test_the_control_at_another_width_has_no_match_but_the_control(tmp_path):
    levels = {"plain": {}, "wider": {"model.width": 41}, "deep": DEEP}
    study = solve(load(study_file(tmp_path, levels=levels)))
    assert list(levels_of(study)) == ["plain", "wider", "deep", "deep matched"]
    assert "wider" not in study.note


def test_with_a_number_the_control_is_brought_there_too(tmp_path):
    study = solve(load(study_file(tmp_path, width=4, match={"gmacs": 74_890e-9, "by": "model.width"})))
    assert list(levels_of(study).items()) == [
        ("1 matched", {"model.depth": 1, "model.width": 44}),
        ("2", {"model.depth": 2}),
        ("2 matched", {"model.depth": 2, "model.width": 10}),
    ]
    assert study.factors["depth"].control == "1 matched"
    assert "matched within 1.6 % to 7.489e-05 GMACs: 1 with model.width 44" in study.note


def test_the_same_compute_can_be_spent_in_two_ways(tmp_path):
    levels = {"narrow": {}, "wide": {}, "deep": DEEP}
    wish = {"gmacs": 74_890e-9, "by": "model.width", "raw": False, "within": 2}
    with pytest.raises(StudyError, match="levels 'narrow matched' and 'wide matched' are the same trial"):
        Design(solve(load(study_file(tmp_path, width=4, levels=levels, match=wish))))
    del levels["wide"]
    study = solve(load(study_file(tmp_path, width=4, levels=levels, match=wish)))
    assert list(levels_of(study)) == ["narrow matched", "deep matched"]


def test_hrnet_gets_the_width_whose_neighbours_are_further_off(tmp_path):
    document = small_study(
        plugins=[], metrics=["AP"],
        recipe={
            "task": {"name": "pose", "size": [64, 64]}, "dataset": "figures",
            "model": {"name": "hrnet", "width": 32, "blocks": 1, "modules": [1, 1, 1], "stage1_blocks": 1},
        },
        factors={"fusions": {"at": "model.fusions", "levels": ["within", "final"], "match": WISH}},
    )  # fmt: skip
    (tmp_path / "s.yaml").write_text(json.dumps(document))
    study = solve(load(tmp_path / "s.yaml"))
    control, _, matched = Design(study).trials[:3]
    width = matched.recipe.model.knobs["width"]
    assert matched.arm == {"fusions": "final matched"}
    assert width > 32  # without fusions it is cheaper
    aim = cost.price(control.recipe).macs

    def gap(width: int) -> float:
        part = matched.recipe.model
        recipe = matched.recipe.model_copy(
            update={"model": part.model_copy(update={"knobs": part.knobs | {"width": width}})}
        )
        return abs(cost.price(recipe).macs - aim) / aim

    assert gap(width) < min(gap(width - 1), gap(width + 1), 0.05)


# -- mistakes -----------------------------------------------------------------------------------------------------

PLAIN = {"plain": {}, "deep": DEEP}
MISTAKES = [
    ({"match": {"gmacs": "contrl", "by": "model.width"}},
     "factors.depth.match.gmacs: should be 'control' or a number above 0, not 'contrl'"),
    ({"match": WISH | {"gmacs": 0}}, "factors.depth.match.gmacs: should be 'control' or a number above 0, not 0"),
    ({"match": WISH | {"gmacs": True}}, "factors.depth.match.gmacs: should be 'control' or a number above 0"),
    ({"match": {"gmac": "control", "by": "model.width"}}, "factors.depth.match.gmacs: is missing"),
    ({"match": WISH | {"witin": 3}}, "factors.depth.match.witin: unknown key; did you mean 'within'?"),
    ({"match": WISH | {"within": 0}}, "factors.depth.match.within: should be greater than 0, not 0"),
    ({"match": WISH | {"raw": "no"}}, "factors.depth.match.raw: should be a valid boolean, not 'no'"),
    ({"match": {"gmacs": "control", "by": "train.lr"}},
     "factors.depth.match.by: should be a knob of the model or the task, such as model.width, not 'train.lr'"),
    ({"match": {"gmacs": "control", "by": {"2": "width"}}},
     "factors.depth.match.by: 2: should be a knob of the model or the task, such as model.width"),
    ({"levels": PLAIN, "match": {"gmacs": "control", "by": {"dep": "model.width"}}},
     "factors.depth: match.by: no level 'dep' to match; did you mean 'deep'?"),
    ({"levels": PLAIN, "match": {"gmacs": "control", "by": {"plain": "model.width", "deep": "model.width"}}},
     "factors.depth: match.by: no level 'plain' to match; choose from deep"),
    ({"levels": PLAIN, "match": {"gmacs": 1, "by": {"deep": "model.width"}}},
     "factors.depth: match.by: no knob for level 'plain'"),
    ({"levels": PLAIN | {"deep matched": {"model.width": 2}}},
     "factors.depth: level 'deep matched' has the name of a level that the match makes"),
    ({"design": "full_factorial"}, "match needs the design one_at_a_time"),
    ({"match": {"gmacs": "control", "by": "model.widht"}},
     "factors.depth.match: model.widht: the model 'dots' has no such knob; did you mean 'width'?"),
    ({"match": {"gmacs": "control", "by": "model.fault"}},
     "factors.depth.match: level '2': model.fault is '', no number to solve for"),
    ({"levels": {"plain": {}, "other": {"model": "scaled"}}, "match": {"gmacs": "control", "by": "model.shape"}},
     "factors.depth.match: level 'other': model.shape is [3, 3], no number to solve for"),
    # the knob is too coarse, the network cannot be so small, the knob costs nothing
    ({"width": 4}, "factors.depth.match: level '2': model.width cannot bring it to 6.916e-06 GMACs within 5 %; "
     "the nearest value, 2, costs 5.762e-06 GMACs, −16.7 %"),
    ({"match": {"gmacs": 1e-6, "by": "model.width", "within": 50}, "levels": {"deep": DEEP, "plain": {}}},
     "factors.depth.match: level 'deep': model.width cannot bring it to 1e-06 GMACs within 50 %; "
     "the nearest value, 2, costs 5.762e-06 GMACs, +476.2 %"),
    ({"match": {"gmacs": "control", "by": "model.dropout"}},
     "factors.depth.match: level '2': model.dropout cannot bring it to 7.608e-05 GMACs within 5 %; "
     "the nearest value, 0, costs 0.001191 GMACs, +1465.8 %"),
    ({"levels": {"plain": {}, "odd": {"model.width": 7, "model.depth": 2}}},
     "recipe.model: arm depth=odd: width: 7 is odd"),
    # not free to be solved for
    ({"factors": {"depth": {"at": "model.depth", "levels": [1, 2], "match": WISH},
                  "other": {"at": "model.width", "levels": [41, 8]}}},
     "factors.depth.match: model.width is set by factors.other too"),
    ({"levels": {"plain": {}, "deep": DEEP | {"weights.file": "a.pth", "weights.sha256": "36af842e"}}},
     "factors.depth.match: level 'deep' starts from a.pth, which fits one model.width only"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=lambda value: str(value)[:70])
def test_a_mistake_is_one_line_with_file_factor_and_level(tmp_path, changes, message):
    file = study_file(tmp_path, **changes)
    with pytest.raises((StudyError, PartError)) as caught:
        solve(load(file))
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wider_tolerance_is_the_studys_choice(tmp_path):
    study = solve(load(study_file(tmp_path, width=4, match=WISH | {"within": 20})))
    assert levels_of(study)["2 matched"]["model.width"] == 2
    assert "matched within 17 %" in study.note


def test_a_wish_that_is_not_solved_is_no_design(tmp_path):
    with pytest.raises(StudyError, match=r"factors\.depth\.match: not solved"):
        Design(load(study_file(tmp_path)))


# -- what was solved is kept --------------------------------------------------------------------------------------


def kept(folder) -> dict:
    return json.loads((folder / FILE).read_text())["solved"]


def test_what_was_solved_is_kept_and_trusted(tmp_path):
    file, results = study_file(tmp_path), tmp_path / "results"
    first = solve(load(file), results)
    (entry,) = kept(results).values()
    assert entry == {"value": 10, "macs": 74_890, "aim": 76_076}
    written = (results / FILE).stat().st_mtime_ns
    assert solve(load(file), results) == first
    assert (results / FILE).stat().st_mtime_ns == written


def test_only_what_decides_the_networks_makes_a_new_question(tmp_path):
    results = tmp_path / "results"
    recipe = small_study()["recipe"] | {"model": {"name": "dots", "width": 44}}
    solve(load(study_file(tmp_path)), results)
    longer = recipe | {"train": recipe["train"] | {"epochs": 9}}
    solve(load(study_file(tmp_path, recipe=longer, seeds=5, match=WISH | {"within": 9, "raw": False})), results)
    assert len(kept(results)) == 1
    larger = recipe | {"task": {"name": "brightness", "size": [16, 16]}}
    solve(load(study_file(tmp_path, recipe=larger)), results)
    assert len(kept(results)) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "[]",
        lambda text: text[:-9],
        lambda text: text.replace('"value": 10', '"value": 12'),
        lambda text: text.replace("checksum", "chekcsum"),
        lambda text: "\udce9",
    ],
)
def test_what_is_damaged_is_solved_again(tmp_path, damage):
    file, results = study_file(tmp_path), tmp_path / "results"
    first = solve(load(file), results)
    whole = (results / FILE).read_text()
    (results / FILE).write_bytes(damage(whole).encode("utf-8", "surrogateescape"))
    assert solve(load(file), results) == first
    assert (results / FILE).read_text() == whole


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path):
    file = study_file(tmp_path)
    (tmp_path / "file").touch()
    assert solve(load(file), tmp_path / "file" / "results") == solve(load(file))


def test_only_a_studys_own_solutions_are_published(tmp_path):
    results, public = tmp_path / "results", tmp_path / "public"
    solve(load(study_file(tmp_path, width=60)), results)
    study = load(study_file(tmp_path))
    solve(study, results)
    publish(study, results, public)
    assert kept(public).items() < kept(results).items()
    assert len(kept(public)) == 1


def test_a_command_that_only_reads_keeps_what_it_solved_where_there_are_results(tmp_path):
    study, results = load(study_file(tmp_path)), tmp_path / "results"
    solve(study, results, keep=False)
    assert not results.exists()
    Store(results).create()
    solve(study, results, keep=False)
    assert len(kept(results)) == 1


TORCHLESS = """
import sys
from ablate.cli import main
sys.argv = ["ablate", *{argv!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
assert "torch" not in sys.modules
"""


def without_torch(folder, *argv: object) -> str:
    """The output of a command in a process of its own that must not load torch."""
    script = TORCHLESS.format(argv=[str(word) for word in argv])
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=os.environ | {"PYTHONPATH": str(TESTS)}, timeout=60,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_reading_results_needs_no_torch(tmp_path):
    recipe = {
        "task": {"name": "pose", "size": [32, 32], "sigma": 1.0}, "dataset": {"name": "figures", "train": 4, "val": 4},
        "model": {"name": "hrnet", "width": 32, "blocks": 1, "modules": [1, 1, 1], "stage1_blocks": 1},
    }  # fmt: skip
    factors = {"fusions": {"at": "model.fusions", "levels": ["within", "final"], "match": WISH}}
    file = write_study(tmp_path, recipe=recipe, factors=factors, metrics=["AP"], plugins=[])
    solve(load(file), tmp_path / "results")
    rows = json.loads(without_torch(tmp_path, "status", file, "--json"))
    assert [row["arm"] for row in rows] == ["within", "final", "final matched"] * 2
    Store(tmp_path / "results").create()
    without_torch(tmp_path, "report", file, "--to", tmp_path / "report", "--publish", "--format", "md")
    assert kept(tmp_path / "report" / "results") == kept(tmp_path / "results")
    without_torch(tmp_path, "status", file, "--results", tmp_path / "report" / "results")


def test_the_whole_way_from_plan_to_published_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in [name for name in os.environ if name.startswith(("ABLATE_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    file = study_file(tmp_path, seeds=2, paper=None)

    def run(*argv: object) -> str:
        monkeypatch.setattr(sys, "argv", ["ablate", *map(str, argv)])
        main()
        return capsys.readouterr().out

    planned = run("plan", file)
    assert "2 matched" in planned
    assert "matched within 1.6 % to the control's" in planned
    assert "2 seeds and 2 comparisons are not testable" in planned  # raw and matched both count
    assert [row["arm"] for row in json.loads(run("cost", file, "--json"))] == ["depth=1", "depth=2", "depth=2 matched"]

    run("run", file, "--local", "--to", "report")
    report = (tmp_path / "report" / "report.md").read_text()
    rows = [line.split("|")[1].strip() for line in report.splitlines() if line.startswith("| ")]
    results = [row for row in rows if row.startswith("depth=")][:3]
    assert [row.split(" (")[0] for row in results] == ["depth=1", "depth=2", "depth=2 matched"]
    assert "matched within 1.6 % to the control's" in report

    run("report", file, "--to", "report", "--publish")
    assert run("import", "report", "--results", "mine") == "6 results taken in, 0 refused\n"
    run("plan", file, "--results", "mine")  # what others solved is solved again
    assert kept(tmp_path / "mine") == kept(tmp_path / "results")
    assert all(row["status"] == "done" for row in json.loads(run("status", file, "--json", "--results", "mine")))
