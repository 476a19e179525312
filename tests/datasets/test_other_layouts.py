"""MPII, faces and DeepLabCut projects as their own code lays them out."""

import json

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from ablate import registry
from ablate.errors import DataError, PartError
from ablate.evaluation.asked import asked
from ablate.metrics import build_metric

PARTS = ("snout", "left_ear", "right_ear")


def build(name, **knobs):
    return registry.build("dataset", name, registry.check_knobs("dataset", name, knobs))


def predicted(samples, *, off=0.0):
    """Each person's own joints, moved right by `off` pixels."""
    return [
        {
            "image_id": sample["image_id"], "annotation_id": sample["annotation_id"], "category_id": 1, "score": 1.0,
            "keypoints": (sample["joints"] + [off, 0, 0]).ravel().tolist(),
        }
        for sample in (samples[place] for place in range(len(samples)))
    ]  # fmt: skip


def scores(samples, predictions):
    metric = build_metric("joint_distance")
    return metric.aggregate(metric.per_image(predictions, samples.ground_truth(), samples.info))


def test_mpii_boxes_lead_to_the_official_crop(mpii):
    samples = build("mpii", set="poses").open("val", mpii.parent)
    # officially: centre (41, 28 + 15 * .2) - 1, side 1.25 * .2 * 200 = 50; the task's padding is the 1.25
    assert samples[0]["box"].tolist() == pytest.approx([20, 10, 40, 40])
    entry = json.loads((mpii / "annot" / "valid.json").read_text())[0]
    assert samples[0]["joints"][0, :2].tolist() == pytest.approx([value - 1 for value in entry["joints"][0]])


def test_pckh_is_measured_in_head_sizes(mpii):
    samples = build("mpii", set="poses").open("val", mpii.parent)
    assert scores(samples, predicted(samples, off=2.9))["PCKh"] == 1  # half of 0.6 times the diagonal of 6 x 8 is 3
    found = scores(samples, predicted(samples, off=3.1))
    assert found["PCKh"] == 0
    assert found["NME"] == pytest.approx(3.1 / 6)
    assert scores(samples, predicted(samples, off=0.5))["PCKh01"] == 1


def test_pelvis_and_thorax_are_trained_on_and_not_scored(mpii):
    file = mpii / "annot" / "valid.json"
    file.write_text(json.dumps([entry | {"joints_vis": [1] * 16} for entry in json.loads(file.read_text())]))
    samples = build("mpii", set="poses").open("val", mpii.parent)
    assert (samples[0]["joints"][:, 2] == 2).all()
    assert [annotation["num_keypoints"] for annotation in samples.ground_truth()["annotations"]] == [14] * 3


def test_mpii_predictions_are_the_file_that_its_server_takes(mpii, tmp_path):
    samples = build("mpii", set="poses").open("val", mpii.parent)
    found = predicted(samples)
    registry.build("task", "pose", registry.check_knobs("task", "pose", {})).write_predictions(
        list(reversed(found)), samples, tmp_path
    )
    preds = loadmat(tmp_path / "pred.mat")["preds"]
    entries = json.loads((mpii / "annot" / "valid.json").read_text())
    assert preds.shape == (3, 16, 2)
    labelled = np.array(entries[0]["joints_vis"]) > 0
    assert preds[:, labelled] == pytest.approx(np.array([entry["joints"] for entry in entries])[:, labelled])


def test_of_mpiis_unlabelled_split_predictions_are_written_and_nothing_is_scored(mpii, tmp_path):
    people = [{"image": f"valid{n}.jpg", "center": [41.0, 28.0], "scale": 0.2} for n in (2, 0, 1)]
    (mpii / "annot" / "test.json").write_text(json.dumps(people))
    chosen = {"dataset": {"name": "mpii", "set": "poses", "test": "test"}}
    opened = asked("pose", mpii.parent, chosen, scored=False)
    assert len(opened.samples) == 3
    found = [
        {"image_id": one["image_id"], "annotation_id": one["annotation_id"], "score": 1.0, "category_id": 1,
         "keypoints": [float(one["annotation_id"]), 2.0, 1.0] * 16}
        for one in (opened.samples[place] for place in (2, 0, 1))
    ]  # fmt: skip
    opened.task.write_predictions(found, opened.samples, tmp_path)
    preds = loadmat(tmp_path / "pred.mat")["preds"]
    assert preds[:, 0].tolist() == [[2, 3], [3, 3], [4, 3]]  # in the order of test.json, counted from 1
    with pytest.raises(DataError, match=r"test.json: no person to train on or to score; .* 3 without a labelled joint"):
        asked("pose", mpii.parent, chosen)


def test_head_boxes_of_other_people_are_refused(mpii):
    savemat(mpii / "annot" / "gt_valid.mat", {"headboxes_src": np.zeros((2, 2, 7))})
    with pytest.raises(DataError, match=r"gt_valid.mat: 7 head boxes, valid.json has 3 people"):
        build("mpii", set="poses").open("val", mpii.parent)
    (mpii / "annot" / "gt_valid.mat").write_bytes(b"MATLAB")
    with pytest.raises(DataError, match=r"gt_valid.mat: no headboxes_src can be read"):
        build("mpii", set="poses").open("val", mpii.parent)
    (mpii / "annot" / "gt_valid.mat").unlink()
    with pytest.raises(DataError, match=r"gt_valid.mat: No such file"):
        build("mpii", set="poses").open("val", mpii.parent)


def official_nme(predictions, targets):
    """compute_nme of the official code for 29 landmarks, written down again."""
    return [
        np.linalg.norm(p - t, axis=1).sum() / (np.linalg.norm(t[8] - t[9]) * 29)
        for p, t in zip(predictions, targets, strict=True)
    ]


def test_nme_is_the_official_one(faces):
    samples = build("face_landmarks", set="faces", joints="cofw29", train="train.csv", test="val.csv").open(
        "val", faces.parent
    )
    targets = [samples[place]["joints"][:, :2] for place in range(3)]
    rng = np.random.default_rng(0)
    moved = [points + rng.normal(0, 3, points.shape) for points in targets]
    found = predicted(samples)
    for prediction, points in zip(found, moved, strict=True):
        prediction["keypoints"] = np.column_stack([points, np.ones(29)]).ravel().tolist()
    nme = official_nme(moved, targets)
    assert scores(samples, found)["NME"] == pytest.approx(np.mean(nme))
    assert scores(samples, found)["FR10"] == pytest.approx(np.mean(np.array(nme) > 0.1))
    assert samples[0]["box"].tolist() == [20, 10, 40, 40]


def test_errors_on_aflw_are_measured_in_box_sizes(faces):
    rows = [["image_name", "scale", "box_size", "center_w", "center_h", *(f"p{n}" for n in range(38))]]
    points = np.random.default_rng(5).uniform((25, 15), (55, 45), (19, 2)).round(1)
    rows.append(["val/val_0.png", 0.2, 50, 40, 30, *points.ravel()])
    (faces / "val.csv").write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    data = build("face_landmarks", set="faces", joints="aflw19", train="train.csv", test="val.csv")
    samples = data.open("val", faces.parent)
    assert samples[0]["box"].tolist() == [20, 10, 40, 40]
    assert scores(samples, predicted(samples, off=2))["NME"] == pytest.approx(2 / 50)
    mirror = data.info.need_joints().mirror
    assert [mirror[place] for place in (0, 2, 6, 12, 13, 15, 18)] == [5, 3, 11, 14, 13, 17, 18]
    with pytest.raises(
        DataError, match=r"train.csv: line 2 has 62 values; wanted .* the size of a box, .* landmarks: 43"
    ):
        data.open("train", faces.parent)


def test_a_row_of_other_landmarks_is_named(faces):
    with pytest.raises(DataError, match=r"train.csv: line 2 has 62 values; wanted .* 98 landmarks: 200"):
        build("face_landmarks", set="faces", train="train.csv", test="val.csv").open("train", faces.parent)


def test_a_deeplabcut_project_is_read_with_the_parts_that_it_names(project):
    data = build("deeplabcut", set="project")
    assert data.joints_of_file(project.parent) == PARTS
    samples = build("deeplabcut", set="project", joints=PARTS, test=["bea"]).open("train", project.parent)
    assert len(samples) == 5
    assert samples[0]["joints"].tolist() == [[10, 20, 2], [30, 40.5, 2], [0, 0, 0]]
    assert samples[0]["box"].tolist() == [0, 0, 80, 60]  # one animal: the whole frame
    assert samples.group(1) == "ann"
    assert samples.info.need_joints().mirror == (0, 2, 1)


def test_without_folders_one_frame_of_so_many_is_evaluated_on(project):
    data = build("deeplabcut", set="project", joints=PARTS, test_every=5)
    train, val = (data.open(split, project.parent) for split in ("train", "val"))
    names = [{image.name for image in split.images.values()} for split in (train, val)]
    assert names[1] == {f"labeled-data/{video}/img004.png" for video in ("ann", "bea")}
    assert len(names[0]) == 8
    assert not names[0] & names[1]


def test_several_animals_are_a_sample_each(project):
    folder = project / "labeled-data" / "ann"
    head = ["scorer,,," + ",".join(["me"] * 8), "individuals,,,a,a,a,a,b,b,b,b", "bodyparts,,," + "p,p,q,q," * 2]
    head[2] = "bodyparts,,,p,p,q,q,p,p,q,q"
    text = "\n".join([*head, "coords,,," + ",".join("xy" * 4), "labeled-data,ann,img000.png,10,10,20,30,40,40,,"])
    (folder / "CollectedData_me.csv").write_text(text + "\n")
    samples = build("deeplabcut", set="project", joints=["p", "q"], test=["bea"]).open("train", project.parent)
    assert len(samples) == 2
    assert samples[0]["box"].tolist() == [-10, -10, 50, 60]
    assert samples[1]["joints"].tolist() == [[40, 40, 2], [0, 0, 0]]


def test_what_does_not_fit_a_project_is_one_line(project):
    with pytest.raises(DataError, match=r"dataset.test: no 'cee'; choose from ann, bea"):
        build("deeplabcut", set="project", joints=PARTS, test=["cee"]).open("train", project.parent)
    with pytest.raises(DataError, match=r"it has no bodypart 'tail'"):
        build("deeplabcut", set="project", joints=["snout", "tail"], test=["bea"]).open("train", project.parent)
    with pytest.raises(PartError, match=r"test_every: 2 or more, not 1"):
        build("deeplabcut", set="project", test_every=1)
    (project / "labeled-data" / "ann" / "img000.png").unlink()
    with pytest.raises(DataError, match=r"img000.png: No such file"):
        build("deeplabcut", set="project", joints=PARTS, test=["bea"]).open("train", project.parent)
