"""Study files by name: shipped ones, paths that win, and what a file offers before it is read as a study."""

from pathlib import Path

import pytest
from small_studies import write_study

from ablate.errors import StudyError
from ablate.study import load, outline, shipped

STUDIES = Path(__file__).parents[2] / "studies"


def test_every_study_of_the_checkout_has_a_name():
    assert shipped() == {path.stem: path for path in sorted(STUDIES.glob("*.yaml"))}
    assert load("fusion_count", scale="paper") == load(STUDIES / "fusion_count.yaml", scale="paper")


@pytest.mark.parametrize("name", sorted(shipped()))
def test_an_outline_names_what_the_study_has(name):
    found = outline(name)
    assert found.scales == list(load(name).scales)
    for scale in found.scales:
        study, levels = load(name, scale=scale), outline(name, scale).levels
        assert list(levels) == list(study.factors)
        for factor, labels in levels.items():
            plain = [label.removesuffix(" matched") for label in labels]
            assert list(dict.fromkeys(plain)) == list(study.factors[factor].levels)
            assert any(label.endswith(" matched") for label in labels) == bool(study.factors[factor].match)


def test_matched_levels_stand_behind_the_written_ones(tmp_path):
    levels = {"a": {"model.depth": 1}, "b": {"model.depth": 2}}

    def labels(**match):
        factors = {"depth": {"levels": levels, "match": {"by": "model.width"} | match}}
        return outline(write_study(tmp_path, factors=factors)).levels["depth"]

    assert labels(gmacs="control") == ["a", "b", "b matched"]
    assert labels(gmacs="control", raw=False) == ["a", "b matched"]
    assert labels(gmacs=0.1) == ["a matched", "b", "b matched"]


def test_an_outline_needs_neither_plugins_nor_a_whole_study(tmp_path):
    file = tmp_path / "half.yaml"
    file.write_text("plugins: [absent]\nfactors: {f: {at: model.x, levels: [1, 2]}}\nscales: {big: }\nrecipe: {mod")
    with pytest.raises(StudyError, match="line 4"):
        outline(file)
    file.write_text("plugins: [absent]\nfactors: {f: {at: model.x, levels: [1, 2]}}\nscales: {big: }\n")
    assert outline(file).levels == {"f": ["1", "2"]}
    assert outline(file, "big").scales == ["big"]


def test_a_path_wins_over_a_shipped_name(tmp_path, monkeypatch, small_shelf):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fusion_count").mkdir()  # a folder is no study
    assert load("fusion_count").name == "fusion_count"
    write_study(tmp_path).rename(tmp_path / "width")
    assert load("width").name == "small"
    assert load("width").file == "width"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fusion_cuont", "fusion_cuont: no such file and no shipped study; did you mean 'fusion_count'?"),
        ("fusion_cuont.yaml", "fusion_cuont.yaml: No such file"),
        ("studies/width", "studies/width: No such file"),
    ],
)
def test_what_is_neither_is_one_line(tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError) as caught:
        load(name)
    assert said in str(caught.value)
