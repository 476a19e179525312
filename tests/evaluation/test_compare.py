"""`ablate compare`: differences are paired by image, and say what they are about."""

import json
import re

import numpy as np
import painted
import pytest
import reading_networks as readers

from ablate.analysis import redrawn
from ablate.errors import StoreError


@pytest.fixture
def people(tmp_path):
    folder = painted.people(tmp_path, images=8)
    for name, off in (("near", 1.0), ("far", 4.0)):
        (tmp_path / f"{name}.json").write_text(json.dumps(painted.results(folder, off=off)))
    return folder


@pytest.fixture
def compare(called, people):
    def call(*words, folder=people):
        status, out, err = called("compare", *words, "--task", "pose", "--data", folder, "--json")
        assert status == 0, err
        return json.loads(out)

    return call


def of(found, score):
    return next(row for row in found["differences"] if row["score"] == score)


def test_the_worse_of_two_files_is_told(compare):
    found = compare("near.json", "far.json")
    row = of(found, "AP")
    assert row["difference"] == pytest.approx(row["scores"][1] - row["scores"][0])
    assert row["low"] <= row["difference"] <= row["high"] < 0
    assert "far scores lower than near on images like these: AP" in found["answer"][0]
    assert "does not compare methods" in found["meaning"]
    assert {row["score"] for row in found["differences"]} >= {"AP", "PCK", "PCK/nose", "PCK/left_ankle"}
    gaps = [abs(one["scores"][1] - one["scores"][0]) for one in found["most apart"]["far"]]
    assert gaps == sorted(gaps, reverse=True)
    assert all(gap > 0 for gap in gaps)


def test_a_file_against_itself_has_no_difference(compare):
    found = compare("near.json", "near.json", "--label", "one", "--label", "two")
    assert all(row["difference"] in (0, None) and row["high"] in (0, None) for row in found["differences"])
    assert found["most apart"]["two"] == []
    assert found["answer"] == ["two and one have the same AP on every draw of these images."]


def test_settings_of_one_alone(compare, tmp_path):
    readers.of_joints(tmp_path / "n.onnx", stride=4)
    words = ("--set", "task.size=[96, 64]", "--set", "evaluation.flip=false")
    found = compare("n.onnx", "n.onnx", *words, "--set-of", "2", "evaluation.refine=none")
    assert [one["label"] for one in found["networks"]] == ["n (1)", "n (2)"]
    assert "evaluation.refine=none" in found["networks"][1]["what"]
    assert "evaluation.flip" not in found["networks"][1]["what"]
    assert of(found, "PCK")["difference"] != 0


@pytest.mark.slow
def test_a_network_against_the_file_that_it_wrote_has_no_difference(called, compare, people, tmp_path):
    """Everybody's box is around the other, so that whose a prediction is depends on who says it."""
    file = people / "annotations" / "person_keypoints_val.json"
    truth = json.loads(file.read_text())
    of_image = {one["image_id"]: [] for one in truth["annotations"]}
    for one in truth["annotations"]:
        of_image[one["image_id"]].append(one)
    for pair in of_image.values():
        boxes = [one["bbox"] for one in pair]
        for one, box in zip(pair, boxes[::-1], strict=True):
            one["bbox"] = box
    file.write_text(json.dumps(truth))
    readers.of_joints(tmp_path / "n.onnx", stride=2)
    words = ("--task", "pose", "--data", people, "--set", "task.size=[96, 64]", "--set", "evaluation.flip=false")
    assert called("predict", "n.onnx", *words, "--to", "found")[0] == 0
    kept = json.loads(called("evaluate", "n.onnx", *words, "--results", "results", "--json")[1])
    assert kept["scores"]["PCK"] < 0.5
    found = compare("n.onnx", "found/keypoints_results.json", *words[4:])
    assert of(found, "PCK")["scores"] == pytest.approx([1, 1], abs=0.05)
    assert {row["difference"] for row in found["differences"]} == {0, None}
    assert "as for files of predictions" in found["networks"][0]["what"]
    stored = compare(kept["id"], "found/keypoints_results.json", *words[4:])
    assert "not of one rule" in stored["networks"][0]["what"]


@pytest.mark.slow
def test_three_kinds_of_things_by_groups_with_a_page(called, people, tmp_path):
    readers.of_joints(tmp_path / "n.onnx", stride=2)
    asked = ["--task", "pose", "--data", people, "--set", "dataset.group_field=clip"]
    status, out, err = called("evaluate", "--predictions", "far.json", *asked, "--results", "results", "--json")
    assert status == 0, err
    kept = json.loads(out)["id"]
    more = ["--set", "task.size=[96, 64]", "--set", "evaluation.flip=false", "--page", "page.html"]
    status, out, err = called("compare", "near.json", kept[:8], "n.onnx", *asked, *more)
    assert status == 0, err
    assert "pose on painted, 8 images, 5 groups" in out
    page = (tmp_path / "page.html").read_text()
    assert "<h1>near, far and n: pose on painted</h1>" in page
    assert "does not compare methods" in page
    assert page.count('<figure class="drawing">') == 2
    assert "<script" not in page


def test_what_cannot_be_compared_is_one_line(called, people, tmp_path):
    other = painted.people(tmp_path / "more", images=3, seed=5)
    (tmp_path / "three.json").write_text(json.dumps(painted.results(other)))
    words = ["evaluate", "--predictions", "three.json", "--task", "pose", "--data", other, "--results", "results"]
    kept = json.loads(called(*words, "--json")[1])["id"]
    asked = ["--task", "pose", "--data", people]

    def refused(*arguments):
        status, out, err = called("compare", *arguments, *asked)
        assert (status, out, err.count("\n")) == (2, "", 1), err
        return err

    assert "not of one content of the set" in refused("near.json", kept)
    assert "no trial with an id that begins 'abcdef'" in refused("near.json", "abcdef")
    assert "two or more" in refused("near.json")
    assert "far.json is no network" in refused("near.json", "far.json", "--set-of", "2", "evaluation.flip=false")
    assert "--label: 3 for 2" in refused("near.json", "far.json", "--label", "a", "--label", "b", "--label", "c")
    assert "--label: one is empty" in refused("near.json", "far.json", "--label", "")
    assert "a number from 1 to 2" in refused("near.json", "far.json", "--set-of", "3", "evaluation.flip=false")


def images(label, *, gap=0.0, groups=None, count=12, seed=0):
    """Test images of a metric whose score is the share of joints found."""
    rng = np.random.default_rng(seed)
    distance = rng.uniform(0, 0.4, 5 * count) + gap
    arrays = {
        "pck/image_ids": np.arange(count), "pck/image": np.repeat(np.arange(count), 5), "pck/distance": distance,
        "pck/joint": np.tile(np.arange(5), count), "pck/annotation_id": np.repeat(np.arange(count), 5),
    }  # fmt: skip
    if groups is not None:
        arrays["images/groups"] = np.array(groups)
    return redrawn.TestImagesOf.of(label, arrays, ["a", "b", "c", "d", "e"])


def test_intervals_of_groups_are_those_of_drawing_groups():
    """Worked out by hand: a group of equal images is drawn or not, so the spread is that of two draws of two groups."""
    one = images("one", groups=["x"] * 6 + ["y"] * 6)
    draws = list(one.draws(200))
    assert all(len(set(counts[:6])) == len(set(counts[6:])) == 1 for counts in draws)
    assert {(int(c[0]), int(c[6])) for c in draws} == {(2, 0), (1, 1), (0, 2)}
    assert one.drawn == 2
    alone = [one.scores(counts)["PCK"] for counts in (np.r_[np.ones(6), np.zeros(6)], np.r_[np.zeros(6), np.ones(6)])]
    low, high = redrawn.interval(one.redrawn(400)["PCK"])
    assert (low, high) == pytest.approx((min(alone), max(alone)))


def test_one_image_or_one_group_tells_nothing_of_others():
    for few in ({"count": 1}, {"groups": ["x"] * 12}):
        first, second = images("first", **few), images("second", gap=0.1, **few)
        (row,) = [row for row in redrawn.differences(first, second, resamples=20) if row.score == "PCK"]
        assert row.diff < 0
        assert np.isnan([row.low, row.high, *redrawn.intervals(first.redrawn(20))["PCK"]]).all()
        assert not row.told_apart


def test_scores_of_a_joint_are_those_of_its_rows_alone():
    one = images("one")
    arrays = one.statistics["pck"]
    own = arrays["distance"][arrays["joint"] == 2]
    assert one.scores(joints=True)["PCK/c"] == pytest.approx((own <= 0.2).mean())


def test_paired_differences_are_narrower_than_unpaired_ones():
    first, second = images("first"), images("second", gap=0.02)
    (row,) = [row for row in redrawn.differences(first, second) if row.score == "PCK"]
    ends = [redrawn.interval(one.redrawn()["PCK"]) for one in (first, second)]
    assert row.high - row.low < 0.7 * np.hypot(*(high - low for low, high in ends))


def test_different_images_are_not_compared():
    with pytest.raises(StoreError, match="scored on different images"):
        redrawn.differences(images("first"), images("second", count=11))


def test_a_terminal_shows_each_pair_in_80_columns(called, people, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("a_network_with_a_long_name_256x192", "another_network_with_a_long_name"):
        (tmp_path / f"{name}.json").write_text((tmp_path / "far.json").read_text())
    words = ("near.json", "a_network_with_a_long_name_256x192.json", "another_network_with_a_long_name.json")
    page = tmp_path / "page.html"
    status, out, err = called("compare", *words, "--task", "pose", "--data", people, "--page", page)
    assert status == 0, err
    assert "RMSE, RMSE_cut, pixel_error and pixel_error_cut: less is better, in pixels." in page.read_text()
    by_eye = [line.split()[3] for line in out.splitlines() if line.startswith(" RMSE (px) ")]  # of the second
    row = re.search(r"RMSE \(px\)</td>(.*?)</tr>", page.read_text(), re.S)
    assert f"{float(by_eye[0]):.2f}" in row[1]
    assert "NME" not in page.read_text()
    rows = [re.findall(r">([^<>]*/[^<>]*)</text>", drawn) for drawn in page.read_text().split("<figure")[1:]]
    assert rows
    assert all(name.startswith("PCK/") for names in rows for name in names)
    tables = [line for line in out.splitlines() if line.startswith(" ")]
    assert max(map(len, tables)) <= 80
    assert out.count("against near (first):") == 2
    assert sum(line.split()[:3] == ["score", "first", "second"] for line in tables) == 4  # scores, and those of joints
    assert sum(line.startswith(" RMSE (px) ") for line in tables) == 2
    assert not any(line.startswith(" NME ") for line in tables)
    assert "no NME, FR10, PCKh, PCKh01: the set names no length of a person" in out
