"""Sets with joints of their own: a nine-joint animal set trains from a few lines of YAML, without a plug-in."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_studies import write_study

from ablate import registry
from ablate.datasets import SPLITS
from ablate.datasets._skeleton import mirrored
from ablate.errors import AblateError
from ablate.planning.open_study import opened
from ablate.study import Recipe

pytestmark = pytest.mark.usefixtures("small_shelf")
NINE = ("nose", "left_ear", "right_ear", "withers", "tail", "L_FrontPaw", "R_FrontPaw", "LeftHindPaw", "RightHindPaw")
PAIRS = [["left_ear", "right_ear"], ["L_FrontPaw", "R_FrontPaw"], ["LeftHindPaw", "RightHindPaw"]]
HEIGHT, WIDTH = 48, 64
CATEGORIES = [
    {"id": 4, "name": "dog", "keypoints": NINE, "skeleton": [[1, 4], [4, 5]]},
    {"id": 7, "name": "cat", "keypoints": NINE, "skeleton": [[1, 4], [4, 5]]},
    {"id": 9, "name": "bird", "keypoints": ["beak", "tail"]},
]


def animal(number: int, image: int, category: int) -> dict:
    count = 2 if category == 9 else 9
    xy = np.random.default_rng(number).uniform((12, 10), (50, 38), (count, 2)).round(1)
    keypoints = np.column_stack([xy, np.full(count, 2)]).ravel().tolist()
    plain = {"id": number, "image_id": image, "category_id": category, "iscrowd": 0, "area": 900.0}
    return plain | {"bbox": [10.0, 8.0, 44.0, 32.0], "keypoints": keypoints}


@pytest.fixture
def zoo(tmp_path) -> Path:
    """The data folder of `zoo`: dogs and cats of nine joints, and a bird of two; names and places are no one's."""
    for split in SPLITS:
        folder = tmp_path / "data" / "zoo" / "photographs" / split
        folder.mkdir(parents=True)
        names = [f"{split}/{number}.png" for number in range(1, 7)]
        for number, name in enumerate(names, start=1):
            pixels = np.random.default_rng([number, len(split)]).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
            cv2.imwrite(str(folder.parent / name), pixels)
        images = [{"id": i, "file_name": n, "height": HEIGHT, "width": WIDTH} for i, n in enumerate(names, start=1)]
        animals = [animal(number, number, category) for number, category in enumerate((4, 4, 7, 7, 4, 9), start=1)]
        document = {"images": images, "annotations": animals, "categories": CATEGORIES}
        (tmp_path / "data" / "zoo" / f"animals_{split}.json").write_text(json.dumps(document))
    return tmp_path / "data"


ZOO = {"name": "coco_pose", "set": "zoo", "annotations": "animals_{split}.json"}


def study(folder: Path, **dataset) -> Path:
    recipe = {
        "task": {"name": "pose", "size": [32, 32]},
        "dataset": ZOO | dataset,
        "model": {"name": "dots", "width": 4},
        "train": {"epochs": 1, "batch": 4, "lr": 0.01, "precision": "fp32"},
    }
    return write_study(folder, recipe=recipe, metrics=["AP", "PCK"], seeds=1)


def message(call) -> str:
    with pytest.raises(AblateError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_nine_joint_set_trains_is_scored_and_reported_with_the_joints_of_its_file(called, zoo, tmp_path):
    file = study(tmp_path, joints="file", category=["dog", "cat"])
    status, _, err = called("run", file, "--local", "--data", zoo)
    assert status == 0, err
    report = next((tmp_path / "results" / "reports").rglob("report.md")).read_text().replace("\\_", "_")
    assert "swaps left_ear and right_ear, L_FrontPaw and R_FrontPaw, LeftHindPaw and RightHindPaw" in report
    assert "a sigma of 0.067 for each of the 9 joints" in report
    assert ", ".join(NINE) in report
    # Afterwards neither needs the data, nor a file of other names.
    status, out, err = called("status", file, "--json")
    assert status == 0, err
    assert {trial["status"] for trial in json.loads(out)} == {"done"}


def test_predictions_have_the_numbers_of_their_own_categories(called, zoo, tmp_path):
    file = study(tmp_path, joints="file", category=["dog", 7])
    status, _, err = called(
        "trial", file, "--arm", "depth=1", "--seed", 0, "--data", zoo, "--predictions", tmp_path / "found"
    )
    assert status == 0, err
    written = json.loads((tmp_path / "found" / "keypoints_results.json").read_text())
    assert sorted((person["image_id"], person["category_id"]) for person in written) == [
        (1, 4), (2, 4), (3, 7), (4, 7), (5, 4),
    ]  # fmt: skip
    assert all(len(person["keypoints"]) == 27 for person in written)
    chosen = ("dataset.name=coco_pose", "dataset.annotations=animals_{split}.json", "dataset.joints=file")
    settings = [word for one in (*chosen, "dataset.category=[dog, cat]") for word in ("--set", one)]
    status, out, err = called(
        "evaluate", "--predictions", tmp_path / "found", "--task", "pose", "--data", zoo / "zoo", *settings
    )
    assert status == 0, err
    assert "AP50" in out


def test_a_deeplabcut_project_trains_as_it_lies(called, tmp_path):
    folder = tmp_path / "data" / "mouse" / "labeled-data" / "cage"
    folder.mkdir(parents=True)
    rows = ["scorer,me,me,me,me", "bodyparts,snout,snout,tail,tail", "coords,x,y,x,y"]
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        cv2.imwrite(str(folder / f"img{number}.png"), pixels)
        rows.append(f"labeled-data/cage/img{number}.png,{10 + number},20,40,30")
    (folder / "CollectedData_me.csv").write_text("\n".join(rows) + "\n")
    recipe = {
        "task": {"name": "pose", "size": [32, 32]},
        "dataset": {"name": "deeplabcut", "set": "mouse", "test_every": 4},
        "model": {"name": "dots", "width": 4},
        "train": {"epochs": 1, "batch": 4, "lr": 0.01, "precision": "fp32"},
    }
    file = write_study(tmp_path, recipe=recipe, metrics=["RMSE", "pixel_error_cut", "PCK"], seeds=1)
    status, _, err = called("run", file, "--local", "--data", tmp_path / "data")
    assert status == 0, err
    status, out, _ = called("status", file, "--json")
    assert [trial["status"] for trial in json.loads(out)] == ["done", "done"]
    report = next((tmp_path / "results" / "reports").rglob("report.md")).read_text().replace("\\_", "_")
    assert "RMSE and pixel_error_cut: less is better. × 100 like all scores: RMSE is in pixels" in report


def test_a_base_that_every_level_replaces_need_not_be_whole(tmp_path):
    levels = {name: {"dataset": {"name": "figures", "train": number}} for name, number in (("few", 4), ("more", 8))}
    recipe = {"task": {"name": "pose", "size": [32, 32]}, "dataset": {"name": "deeplabcut", "test_every": 1}}
    recipe |= {"model": {"name": "dots", "width": 4}, "train": {"epochs": 1, "batch": 4, "lr": 0.01}}
    file = write_study(tmp_path, recipe=recipe, factors={"data": {"levels": levels}}, metrics=["AP"], seeds=1)
    assert len(opened(file, scale=None, results=None).arms) == 2


def test_names_in_yaml_are_the_same_trials_as_names_from_the_file(zoo, tmp_path):
    read = opened(study(tmp_path, joints="file", category="cat"), scale=None, results=None, data=zoo)
    named = opened(study(tmp_path, joints=list(NINE), category="cat"), scale=None, results=None)
    assert [trial.id for trial in read.trials] == [trial.id for trial in named.trials]
    joints = registry.build("dataset", "coco_pose", named.control.recipe.dataset.knobs).info.need_joints()
    assert joints == NINE
    assert joints.mirror == (0, 2, 1, 3, 4, 6, 5, 8, 7)
    assert joints.sigmas == (0.067,) * 9
    assert joints.upper_body is None


def test_all_categories_of_one_skeleton_are_samples_and_the_others_are_passed_over(zoo, tmp_path):
    design = opened(study(tmp_path, joints=list(NINE), category="all"), scale=None, results=None)
    samples = registry.build("dataset", "coco_pose", design.control.recipe.dataset.knobs).open("val", zoo)
    assert len(samples) == 5
    assert samples.person_categories == (4, 7)
    assert {annotation["category_id"] for annotation in samples.ground_truth()["annotations"]} == {1}


def test_what_is_given_is_taken_and_nothing_is_assumed(zoo, tmp_path):
    given = {"flip_pairs": PAIRS[:1], "sigmas": [0.05] * 9, "upper_body": ["nose", "withers"]}
    design = opened(study(tmp_path, joints=list(NINE), category="dog", **given), scale=None, results=None)
    joints = registry.build("dataset", "coco_pose", design.control.recipe.dataset.knobs).info.need_joints()
    assert (joints.flip_pairs, joints.sigmas, joints.upper_body) == (((1, 2),), (0.05,) * 9, (0, 3))
    assert design.study.note == ""


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"joints": "file", "category": "dgo"}, "wanted one category named 'dgo', found 0; did you mean 'dog'?"),
        ({"joints": "file", "category": ["dog", "bird"]}, "dog and bird have different joints; name categories"),
        ({"joints": "file", "category": "all"}, "dog and bird have different joints"),
        ({"joints": "file"}, "wanted one category named 'person', found 0"),
        ({"joints": "file", "annotations": "beasts_{split}.json"}, "wanted one file beasts_train.json"),
        ({"joints": "file", "annotations": "../{split}.json"}, "would lead out of it"),
        ({"joints": ["a", "b", "a"]}, "joints: 'a' is named twice"),
        ({"joints": ["a", "b"], "flip_pairs": [["a", "c"]]}, "flip_pairs: no joint 'c'; choose from a, b"),
        ({"joints": ["a", "b"], "sigmas": [0.1]}, "sigmas: 2 positive numbers, one for each joint, not [0.1]"),
        ({"joints": ["a", "b"], "upper_body": ["A"]}, "upper_body: no joint 'A'"),
        ({"joints": "coco17", "sigmas": [0.1]}, "sigmas: coco17 has its own"),
        ({"joints": "coco18"}, "joints"),
    ],
)
def test_what_does_not_fit_is_one_line_with_the_file(zoo, tmp_path, knobs, said):
    file = study(tmp_path, **knobs)
    text = message(lambda: opened(file, scale=None, results=None, data=zoo))
    assert said in text
    assert text.startswith(str(tmp_path))  # the study's file or the annotations'


def test_without_data_and_results_joints_of_a_file_are_asked_for(zoo, tmp_path, monkeypatch):
    monkeypatch.delenv("ABLATE_DATA", raising=False)
    file = study(tmp_path, joints="file", category="dog")
    text = message(lambda: opened(file, scale=None, results=None))
    assert "recipe.dataset.joints: file: the set zoo needs a data folder" in text
    assert text.endswith("or name the joints")


def test_other_names_in_the_evaluation_file_are_refused(zoo, tmp_path):
    path = zoo / "zoo" / "animals_val.json"
    path.write_text(path.read_text().replace("withers", "back"))
    design = opened(study(tmp_path, joints="file", category="dog"), scale=None, results=None, data=zoo)
    data = registry.build("dataset", "coco_pose", design.control.recipe.dataset.knobs)
    assert "joint 3 is 'back', in dataset.joints it is 'withers'" in message(lambda: data.open("val", zoo))


def test_the_check_says_what_it_takes_the_joints_for(called, zoo):
    knobs = {**ZOO, "joints": "file", "category": "dog"}
    del knobs["name"], knobs["set"]
    status, out, _ = called("data", "check", "zoo", "--data", zoo, "--knobs", json.dumps(knobs), "--quick")
    assert status == 0
    assert f"joints: {', '.join(NINE)}" in out
    assert "train: 3 samples" in out


def test_trials_of_earlier_recipes_keep_their_documents():
    knobs = Recipe(task="pose", dataset="coco_pose", model="hrnet").filled().dataset.knobs
    assert knobs == {"set": "coco2017", "joints": "coco17", "version": None}


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["left_eye", "right_eye", "nose"], [("left_eye", "right_eye")]),
        (["eye_l", "eye_r"], [("eye_l", "eye_r")]),
        (["LeftEye", "RightEye", "LEar", "REar"], [("LeftEye", "RightEye"), ("LEar", "REar")]),
        (["Left Eye", "Right Eye"], [("Left Eye", "Right Eye")]),
        (["left_eye", "tail", "lower", "right"], []),
        (["leg", "reg"], []),
    ],
)
def test_sides_are_told_by_words_of_names(names, pairs):
    assert list(mirrored(names)) == pairs
