"""`ablate predict`: what is drawn and written is what the network predicts."""

import json

import cv2
import numpy as np
import painted
import pytest
import reading_networks as readers

POSE = ["--task", "pose", "--set", "task.size=[96, 64]", "--set", "evaluation.flip=false"]


@pytest.fixture
def predict(called):
    def call(*words):
        status, out, err = called("predict", *words, "--json")
        assert status == 0, err
        return json.loads(out)

    return call


def test_a_sets_people_are_written_as_they_are_scored(predict, called, tmp_path):
    people = painted.people(tmp_path, images=4)
    net = readers.of_joints(tmp_path / "n.onnx", stride=2)
    found = predict(net, "--data", people, *POSE, "--to", "found")
    assert found["samples"] == 6
    assert sorted(path.name for path in (tmp_path / "found/drawn").iterdir()) == [
        f"val{n:03d}.png" for n in (1, 2, 3, 4)
    ]
    scores = []
    for words in ([net, *POSE], ["--predictions", "found", "--task", "pose"]):
        status, out, err = called("evaluate", *words, "--data", people, "--json")
        assert status == 0, err
        scores.append(json.loads(out)["scores"]["AP"])
    assert scores[0] == scores[1] > 0.8


def test_people_in_pictures_of_no_set_lie_in_boxes(predict, tmp_path):
    people = painted.people(tmp_path, images=3)
    net = readers.of_joints(tmp_path / "n.onnx", stride=2)
    boxes = [
        {"file_name": f"val{person['image_id']:03d}.png", "bbox": person["bbox"], "score": 0.5}
        for person in painted.truth(people)
    ]
    (tmp_path / "boxes.json").write_text(json.dumps([*boxes, {**boxes[0], "file_name": "other.png"}]))
    found = predict(net, people / "images" / "val", "--boxes", "boxes.json", *POSE, "--to", "found")
    assert (found["samples"], found["notes"]) == (5, [])
    listed = json.loads((tmp_path / "found/images.json").read_text())["images"]
    assert [image["name"] for image in listed] == ["val001", "val002", "val003"]
    written = json.loads((tmp_path / "found/keypoints_results.json").read_text())
    for one, person in zip(written, painted.truth(people), strict=True):
        near = np.array(one["keypoints"]).reshape(-1, 3)[:, :2] - np.reshape(person["keypoints"], (-1, 3))[:, :2]
        assert np.median(np.linalg.norm(near, axis=1)) < 4
    before = cv2.imread(str(people / "images/val/val001.png")).astype(int)
    after = cv2.imread(str(tmp_path / "found/drawn/val001.png")).astype(int)
    changed = np.argwhere((before != after).any(axis=2))
    box = boxes[0]["bbox"]
    assert len(changed) > 50
    assert changed[:, 0].max() < box[1] + box[3] + 5  # what is drawn is on the people


def test_classes_are_drawn_and_written_as_label_ids(predict, called, tmp_path):
    streets = painted.streets(tmp_path, images=2)
    net = readers.of_classes(tmp_path / "n.onnx")
    pictures = sorted(streets.glob("leftImg8bit/val/*/*.png"))
    predict(net, *pictures, "--task", "segmentation", "--to", "found")
    for picture in pictures:
        truth = cv2.imread(
            str(picture).replace("leftImg8bit/val", "gtFine/val").replace("_leftImg8bit", "_gtFine_labelIds"), -1
        )
        found = cv2.imread(str(tmp_path / "found/labels" / picture.name), -1)
        assert (found[8:] == truth[8:]).all()
        assert (tmp_path / "found/drawn" / picture.name).exists()
    words = ["--predictions", "found", "--task", "segmentation", "--data", streets, "--json"]
    status, out, err = called("evaluate", *words)
    assert status == 0, err
    assert json.loads(out)["scores"]["mIoU"] > 0.99
    named = ["--set", f"dataset.classes=[{', '.join(f'c{n}' for n in range(19))}]"]
    predict(net, pictures[0], "--task", "segmentation", "--to", "again", *named)
    assert cv2.imread(str(tmp_path / "again/labels" / pictures[0].name), -1).max() < 19


def test_what_cannot_be_predicted_for_is_one_line(called, tmp_path):
    people = painted.people(tmp_path, images=1)
    net = readers.of_joints(tmp_path / "n.onnx")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()

    def refused(*words):
        status, out, err = called("predict", net, *words)
        assert (status, out, err.count("\n")) == (2, "", 1), err
        return err

    picture = people / "images/val/val001.png"
    assert "name pictures, or a set" in refused("--task", "pose", "--to", "a")
    assert "--task says what" in refused(picture, "--to", "a")
    assert "--to full: is not empty" in refused(picture, *POSE, "--to", "full")
    assert "absent: no such file" in refused("absent", *POSE, "--to", "a")
    assert "holds no picture" in refused("full", *POSE, "--to", "a")
    (tmp_path / "boxes.json").write_text('[{"file_name": "none.png", "bbox": [0, 0, 5, 5]}]')
    assert "no box on any of the 1 pictures" in refused(picture, *POSE, "--to", "a", "--boxes", "boxes.json")
    (tmp_path / "boxes.json").write_text('[{"file_name": "val001.png", "bbox": [0, 0, 0, 5]}]')
    assert "no width and height" in refused(picture, *POSE, "--to", "a", "--boxes", "boxes.json")
    assert not (tmp_path / "a").exists()
