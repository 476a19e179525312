"""COCO files that are not what they seem: what cannot be meant is refused by name, what may be meant is a remark."""

import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from ablate import registry
from ablate.datasets import joint_sets
from ablate.errors import AblateError
from ablate.tasks._detected_people import DetectedPeople

NAMES = list(joint_sets()["coco17"].names)


def opened(made, split="val", **knobs):
    chosen = registry.check_knobs("dataset", "coco_pose", {"set": "made", **knobs})
    return registry.build("dataset", "coco_pose", chosen).open(split, made.root)


def changed(made, change, split="val"):
    content = made.document()
    change(content)
    made.rewrite(content, split=split)


def refusal(call) -> str:
    with pytest.raises(AblateError) as caught:
        call()
    return str(caught.value)


def every(**values):
    return lambda d: [annotation.update(values) for annotation in d["annotations"]]


def first(**values):
    return lambda d: d["annotations"][0].update(values)


def visible(value):
    return lambda d: d["annotations"][0]["keypoints"].__setitem__(5, value)  # of the left eye


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (visible(3), "annotation 1: the visibility of its left_eye is 3, not 0, 1 or 2"),
        (visible(-1), "annotation 1: the visibility of its left_eye is -1, not 0, 1 or 2"),
        (visible(0.3), "annotation 1: the visibility of its left_eye is 0.3, not 0, 1 or 2"),
        (visible("2"), "annotation 1: keypoints holds '2', not a finite number"),
        (visible(True), "annotation 1: keypoints holds True, not a finite number"),
        (visible(None), "annotation 1: keypoints holds None, not a finite number"),
        (visible(10**400), "not a finite number"),
        (first(id="1"), "annotation 1 has the id '1', no whole number"),
        (first(id=1.5), "annotation 1.5 has the id 1.5, no whole number"),
        (first(id=-1), "annotation -1: ids of annotations begin at 0"),
        (first(image_id="3"), "annotation 1 has the image_id '3', no whole number"),
        (first(image_id=True), "annotation 1 has the image_id True, no whole number"),
        (first(iscrowd="0"), "annotation 1 has iscrowd '0', not 0 or 1"),
        (first(iscrowd=2), "annotation 1 has iscrowd 2, not 0 or 1"),
        (first(category_id="1"), "annotation 1 has the category_id '1', no whole number"),
        (every(category_id="1"), "6 problems: annotation 1 has the category_id '1', no whole number"),
        (first(area="318"), "annotation 1: area holds '318', not a finite number"),
        (lambda d: d["images"][0].update(id="7"), "image '000000000007.jpg' has the id '7', no whole number"),
        (lambda d: d["images"][0].update(id=7.5), "image '000000000007.jpg' has the id 7.5, no whole number"),
        (
            lambda d: d["images"].append(d["images"][0] | {"id": 99, "file_name": "./000000000007.jpg"}),
            "./000000000007.jpg is listed twice, as image 7 and as image 99",
        ),
        (lambda d: d["categories"][0].update(id="1"), "category 'person' has the id '1', no whole number"),
        (lambda d: d["categories"].append({"id": 1, "name": "dog"}), "the category id 1 stands twice"),
        (lambda d: d["categories"][0].update(name="Person"), "found 0; did you mean 'Person'?"),
    ],
)
def test_what_cannot_be_meant_is_named_with_its_value(made, change, said):
    changed(made, change)
    text = refusal(lambda: opened(made))
    assert "person_keypoints_val.json" in text
    assert said in text


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([name.replace("_", " ").title() for name in NAMES], "joint 0 is 'Nose', in dataset.joints it is 'nose'"),
        ([name.replace("_", " ") for name in NAMES], "joint 1 is 'left eye', in dataset.joints it is 'left_eye'"),
        ([NAMES[0], NAMES[2], NAMES[1], *NAMES[3:]], "joint 1 is 'right_eye', in dataset.joints it is 'left_eye'"),
        (NAMES[:-1], "joint 16 is None, in dataset.joints it is 'right_ankle'; it has 16 joints, not 17"),
    ],
)
def test_the_first_joint_of_another_name_is_named(made, names, said):
    changed(made, lambda d: d["categories"][0].update(keypoints=names))
    assert refusal(lambda: opened(made)).endswith(said)


def test_ids_and_visibilities_as_whole_floats_mean_the_same(made):
    plain, samples = opened(made).ground_truth(), opened(made)

    def floats(d):
        for entry in d["annotations"]:
            entry |= {key: float(entry[key]) for key in ("id", "image_id", "category_id", "iscrowd")}
            entry["keypoints"] = list(map(float, entry["keypoints"]))
        for entry in (*d["images"], *d["categories"]):
            entry["id"] = float(entry["id"])

    changed(made, floats)
    again = opened(made)
    assert again.ground_truth() == plain
    assert again.ids.tolist() == samples.ids.tolist()
    assert json.dumps(again.image_ids()) == json.dumps(samples.image_ids())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["annotations"].clear(), "it has no annotation of people"),
        (every(category_id=2), "it has no annotation of people"),
        (every(area=0), "its annotations of people are: 5 empty box, 1 crowd"),
        (every(iscrowd=1), "6 crowd"),
        (every(bbox=[20.0, 15.0, 0.0, 0.0]), "5 empty box, 1 crowd"),
        (every(keypoints=[0] * 51), "4 no labelled joint, 1 crowd, 1 empty box"),
        (every(keypoints=[9, 9, 0] * 17), "4 without a labelled joint"),  # samples for the official loader
    ],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_anybody_is_a_problem_that_says_why(made, change, said, split):
    changed(made, lambda d: (d["categories"].append({"id": 2, "name": "dog"}), change(d)), split)
    samples = opened(made, split)
    (problem,) = samples.check()
    assert f"person_keypoints_{split}.json: no person to train on or to score" in problem
    assert said in problem
    assert problem in refusal(samples.verify)
    assert problem in samples.check(thorough=True)


def test_what_may_be_meant_is_a_remark_with_file_entry_and_value(made):
    def change(d):
        d["annotations"][0]["keypoints"][:6] = [0, 0, 2, 500, 20, 1]
        d["annotations"].append({"id": 90, "image_id": 7, "category_id": 44})

    sound = opened(made).remarks()
    changed(made, change)
    samples = opened(made)
    assert samples.check() == []
    lines = samples.remarks()
    assert all("person_keypoints_val.json: annotation" in line for line in lines)
    told = "\n".join(lines)
    assert "annotation 90 is of category 44, which is not listed" in told
    assert "annotation 1 on 000000000003.jpg: its nose is labelled at 0, 0" in told
    size = "area 0.0 and the box [20.0, 15.0, 20.0, 30.0]"
    assert f"annotation 6 on 000000000005.jpg has {size}: it is no sample, and counts as missed" in told
    assert len(lines) == len(sound) + 2


def test_joints_that_nobody_has_are_a_remark(made):
    changed(made, lambda d: [a["keypoints"].__setitem__(slice(0, 3), [0, 0, 0]) for a in d["annotations"]])
    assert opened(made).remarks()[-1].endswith("person_keypoints_val.json: no person has a labelled nose")


@pytest.mark.parametrize("orientation", range(2, 9))
def test_pictures_that_viewers_turn_are_told(made, orientation):
    exif = b"\xff\xe1\x00\x22Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00"
    exif += bytes([orientation]) + b"\x00\x00\x00\x00\x00\x00"
    content = made.image(7).read_bytes()
    made.image(7).write_bytes(content[:2] + exif + content[2:])
    samples = opened(made)
    assert samples.check() == []
    told = [line for line in samples.remarks() if "EXIF" in line]
    assert len(told) == 1
    assert f"000000000007.jpg: has EXIF orientation {orientation}" in told[0]
    as_stored = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert (samples.image(7) == as_stored).all()
    changed(made, lambda d: d["images"][0].update(height=80, width=60))  # annotated as a viewer shows it
    (problem,) = opened(made).check()
    assert f"annotated as 80 x 60; has EXIF orientation {orientation}" in problem


# -- categories of another number ------------------------------------------------------------------------------


def numbered(made, person, dog):
    def change(d):
        d["categories"] = [{"id": dog, "name": "dog"}, {"id": person, "name": "person", "keypoints": NAMES}]
        for annotation in d["annotations"]:
            annotation["category_id"] = person

    changed(made, change)
    boxes = [{"image_id": i, "category_id": person, "bbox": [20, 15, 20, 30], "score": 0.9} for i in (3, 7)]
    boxes += [{"image_id": i, "category_id": dog, "bbox": [0, 0, 9, 9], "score": 0.8} for i in (3, 7, 5)]
    (made.folder / "boxes.json").write_text(json.dumps(boxes))
    return opened(made)


@pytest.mark.parametrize(("person", "dog"), [(1, 2), (2, 1), (18, 1), (0, 1)])
def test_people_have_the_sets_own_number_in_boxes_and_predictions(made, tmp_path, person, dog):
    samples = numbered(made, person, dog)
    found = DetectedPeople.read(samples, "boxes.json")
    assert [found[i]["box"].tolist() for i in range(len(found))] == [[20, 15, 20, 30]] * 2
    task = registry.build("task", "pose", registry.check_knobs("task", "pose", {}))
    keypoints = [float(v) for v in range(51)]
    task.write_predictions([{"image_id": 3, "category_id": 1, "keypoints": keypoints, "score": 0.5}], samples, tmp_path)
    official = COCO(samples.annotations)  # pycocotools, on the files as they are
    written = official.loadRes(str(tmp_path / "keypoints_results.json"))
    assert written.getAnnIds(catIds=official.getCatIds(catNms=["person"])) == [1]


def test_boxes_of_other_categories_only_are_refused_by_their_numbers(made):
    samples = numbered(made, 2, 1)
    boxes = [{"image_id": 3, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.8}]
    (made.folder / "boxes.json").write_text(json.dumps(boxes))
    text = refusal(lambda: DetectedPeople.read(samples, "boxes.json"))
    assert "people are category 2, there are boxes of [1]" in text
    (made.folder / "boxes.json").write_text(json.dumps([boxes[0] | {"category_id": "2"}]))
    text = refusal(lambda: DetectedPeople.read(samples, "boxes.json"))
    assert "box 0 has the category_id '2', no whole number" in text


def test_nothing_is_odd_about_real_annotations(ablate_data):
    for split in ("train", "val"):
        samples = registry.build("dataset", "coco_pose", {"set": "coco_mini"}).open(split, ablate_data)
        assert samples.check() == samples.remarks() == []
