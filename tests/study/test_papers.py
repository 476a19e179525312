"""Presets and studies beside the recipes that their authors published, value by value."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from ablate.planning.open_study import opened
from ablate.study import TrainSpec, papers, presets, shipped

ROMAN = ["II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII"]
ROMAN += ["XV", "XVI", "XX", "XXI", "XXII", "XXIII", "XXIV"]
ROOT = Path(__file__).parents[2]
FACTS = json.loads((ROOT / "ablate/study/official_recipes.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("preset", "recipe", "departs"),
    [
        ("pose", "pose_hrnet_w32_256x192", {}),
        ("bottom_up_pose", "bottom_up_higher_hrnet_w32_512", {}),
        ("segmentation", "cityscapes_hrnetv2_w48", {"norm_momentum": (None, 0.01)}),  # the studies set it
        ("classification", "imagenet_hrnet_c", {}),
    ],
)
def test_presets_are_the_published_recipes(preset, recipe, departs):
    ours = TrainSpec.model_validate(presets.presets()[preset]["train"])
    theirs = {
        path.partition(".")[2]: value
        for path, value in papers.official_values(recipe).items()
        if path.startswith("train.")
    }
    assert len(theirs) > 8
    unlike = {
        field: (getattr(ours, field), value)
        for field, value in theirs.items()
        if not papers.same(getattr(ours, field), value)
    }
    assert unlike == departs


@pytest.fixture(scope="module")
def designs():
    return {
        papers.known_as(name, scale): opened(name, scale=scale, results=None)
        for name in shipped()
        for scale in papers.scales_of(name)
    }


def test_every_study_says_what_its_arms_stand_for(designs):
    quoting = {name for name, d in designs.items() if d.study.paper and d.control.recipe.task.name in FACTS["other"]}
    assert quoting <= set(FACTS["arms"]) <= set(designs)
    for name, design in designs.items():
        if name not in FACTS["arms"]:
            continue
        labels = {label for arm in design.arms for label in (arm.label, *arm.bare)}
        for kind in ("arms", "why", "unknown"):
            named = set(FACTS[kind].get(name, {})) - {papers.ANY}
            assert named <= labels, (name, kind, named - labels)
        assert set(FACTS["arms"][name].values()) <= set(FACTS["recipes"])


def test_every_value_is_the_published_one_or_says_why_not(designs):
    used, total = set(), 0
    for name, design in designs.items():
        for one in papers.protocols(design):
            for value in one.values:
                total += 1
                assert value.equal or value.why, (name, one.arm, value)
                used |= {(name, one.arm, value.path)} if not value.equal else set()
    assert total > 1500
    given = {
        (study, arm, path)
        for study, arms in FACTS["why"].items()
        if study != papers.ANY
        for arm, paths in arms.items()
        for path in paths
    }
    assert given <= used, "a reason for what is equal"


def test_every_recipe_has_a_source_and_no_value_of_none_of_our_paths(designs):
    recipe = designs["ocr"].control.recipe
    for name, fact in FACTS["recipes"].items():
        assert fact["source"], name
        for path in papers.official_values(name):
            part, _, knob = path.partition(".")
            assert part in ("task", "train", "evaluation", "weights"), path
            if part == "train":
                assert knob in TrainSpec.model_fields, path
    assert papers.value_at(recipe, "task.align_corners") is False


def test_arms_whose_recipe_is_not_known_say_so(designs):
    found = {one.arm: one.caution for one in papers.protocols(designs["pose_baselines"])}
    assert found["hourglass_8"] == found["cpn"] == "HRNet's recipe; the row's own is not known"
    assert found["hrnet_w32"] == found["simple_baseline_r50"] == ""


def test_every_published_table_is_named_with_its_study_or_the_reason(designs):
    """By the numbers that both papers print, as far as their tables are of images or costs."""
    page = (ROOT / "docs/protocols.md").read_text(encoding="utf-8")
    listed = page.partition("## Published tables")[2].partition("\n## ")[0]
    for number in range(1, 7):
        assert f"1902.09212, Table {number}" in listed, number
    for number in ROMAN:
        assert re.search(rf"1908.07919, (Table|Tables) ({number}\b|\w+ and {number}\b)", listed), number
    papered = {name for name, design in designs.items() if design.study.paper}
    assert {line.split("`")[1] for line in listed.splitlines() if "| `" in line} == papered
    row = next(line for line in listed.splitlines() if "`pascal_context`" in line)
    found = [value for one in papers.protocols(designs["pascal_context"]) for value in one.values]
    assert f"| {sum(papers.same(v.ours, v.official) for v in found)} of {len(found)} |" in row
    assert "recipe of its own not known: unetpp, pspnet" in row
    why = next(line for line in listed.splitlines() if "1902.09212, Table 3" in line)
    assert "six scales that no source states" in why


def test_a_plan_says_what_differs(called):
    status, out, err = called("plan", "width", "--scale", "paper")
    assert status == 0, err
    text = " ".join(out.split())
    assert "83 of 84 values are those of the published recipes (docs/protocols.md)" in text
    assert "of GPU memory (width=48)" in text
    assert "of states on disk (width=48)" in text
    assert "published recipes" not in called("plan", "width")[1]


def test_the_page_is_what_the_code_makes():
    spec = importlib.util.spec_from_file_location("protocols_page", ROOT / "docs/protocols.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert (ROOT / "docs/protocols.md").read_text(encoding="utf-8") == made.page(), "run: python docs/protocols.py"
