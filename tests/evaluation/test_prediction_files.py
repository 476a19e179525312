"""`ablate evaluate --predictions`: what any system wrote is scored as the field's own tools score it."""

import json

import cv2
import numpy as np
import painted
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ablate.beside import evaluations
from ablate.storage import Store


@pytest.fixture
def evaluate(called):
    """Evaluates and returns the document that --json prints, which is what the schema of the command says."""

    def call(place, task, folder, *more, status=0):
        found, out, err = called("evaluate", "--predictions", place, "--task", task, "--data", folder, *more, "--json")
        assert found == status, err
        return json.loads(out)

    return call


@pytest.fixture
def people(tmp_path):
    folder = painted.people(tmp_path)
    (tmp_path / "off.json").write_text(json.dumps(painted.results(folder, off=2.0)))
    return folder


def by_pycocotools(folder, results):
    truth = COCO(str(folder / "annotations" / "person_keypoints_val.json"))
    evaluation = COCOeval(truth, truth.loadRes(str(results)), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return dict(zip(("AP", "AP50", "AP75", "APM", "APL", "AR"), evaluation.stats, strict=False))


def test_people_are_scored_as_pycocotools_scores_the_file(evaluate, people, tmp_path):
    found = evaluate(tmp_path / "off.json", "pose", people, "--check", "official")
    theirs = by_pycocotools(people, tmp_path / "off.json")
    assert 0.2 < found["scores"]["AP"] < 0.95
    assert {name: found["scores"][name] for name in theirs if theirs[name] > -1} == pytest.approx(
        {name: value for name, value in theirs.items() if value > -1}
    )
    assert found["check"]
    assert all(row["equal"] for row in found["check"])
    low, high = found["intervals"]["AP"]
    assert low < found["scores"]["AP"] < high


def test_a_folder_that_holds_sets_needs_the_sets_name(called, evaluate, people, tmp_path):
    line = refused(called, "off.json", "pose", tmp_path)
    assert "folders in it laid out for" in line
    found = evaluate("off.json", "pose", tmp_path, "--set", "dataset.set=painted")
    assert found["dataset"]["set"] == "painted"


def test_an_evaluation_is_kept_under_the_id_of_its_content(evaluate, people, tmp_path):
    found = evaluate("off.json", "pose", people, "--results", "results")
    again = evaluate("off.json", "pose", people, "--label", "other")
    assert again["id"] == found["id"]
    kept, arrays = evaluations.get(Store("results").place, found["id"])
    assert json.loads(kept.model_dump_json())["scores"] == pytest.approx(
        {name: np.nan if value is None else value for name, value in found["scores"].items()}, nan_ok=True
    )
    assert list(arrays["images/names"]) == [f"val{n:03d}" for n in range(1, 7)]
    assert "images/groups" not in arrays
    content = (tmp_path / "results/evaluations" / found["id"] / "per_image.npz").read_bytes()
    (tmp_path / "results/evaluations" / found["id"] / "per_image.npz").write_bytes(content[:-1])
    with pytest.raises(Exception, match="damaged"):
        evaluations.get(Store("results").place, found["id"])


def test_images_are_redrawn_by_the_groups_that_the_set_declares(evaluate, people):
    found = evaluate("off.json", "pose", people, "--set", "dataset.group_field=clip")
    assert (found["images"], found["groups"]) == (6, 4)


def refused(called, place, task, folder, *more):
    status, out, err = called("evaluate", "--predictions", place, "--task", task, "--data", folder, *more)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    return err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entries: {"annotations": entries}, "wanted a list of predictions"),
        (lambda entries: [{**entries[0], "keypoints": [1.0] * 42}], "entry 0 has 42 keypoint numbers; 17 joints"),
        (lambda entries: [{**entries[0], "score": float("nan")}], "no finite number"),
        (lambda entries: [{k: v for k, v in entries[0].items() if k != "score"}], "entry 0 has no 'score'"),
        (lambda entries: [{**entries[0], "image_id": "7"}], "has the image_id '7', no whole number"),
        (lambda entries: [{**entries[0], "image_id": 700}], "no entry on the split's images, but on 700"),
        (lambda entries: [{**entries[0], "category_id": 3}], "no entry of category 1"),
        (lambda entries: [7], "entry 0 is a int"),
    ],
)
def test_results_that_cannot_be_meant_are_one_line(called, people, tmp_path, change, message):
    (tmp_path / "bad.json").write_text(json.dumps(change(painted.results(people))))
    line = refused(called, "bad.json", "pose", people)
    assert "bad.json" in line
    assert message in line


def test_what_does_not_fit_is_one_line(called, people, tmp_path):
    assert "no such file" in refused(called, "absent.json", "pose", people)
    assert "did you mean evaluation.flip?" in refused(called, "off.json", "pose", people, "--set", "task.flip=0")
    for word, said in (
        ("evaluatoin.flip=0", "wanted SECTION.KEY=VALUE; did you mean evaluation.flip?"),
        ("flip", "wanted SECTION.KEY=VALUE; did you mean evaluation.flip?"),
        ("evaluation.flip", "has no value; write evaluation.flip=VALUE"),
        ("evaluation.flp", "has no value; did you mean evaluation.flip?"),
        ("nothing=1", "wanted SECTION.KEY=VALUE; sections are task, dataset, evaluation, network"),
    ):
        assert f"--set {word}: {said}" in refused(called, "off.json", "pose", people, "--set", word)
    assert "evaluation.flop" in refused(called, "off.json", "pose", people, "--set", "evaluation.flop=false")
    assert "unknown task 'poses'" in refused(called, "off.json", "poses", people)
    (tmp_path / "empty").mkdir()
    assert "is no set for pose" in refused(called, "off.json", "pose", tmp_path / "empty")
    assert "wanted one COCO results file" in refused(called, "empty", "pose", people)


def test_predictions_elsewhere_are_passed_over_and_said(evaluate, people, tmp_path):
    more = [{**painted.results(people)[0], "image_id": 99}, {**painted.results(people)[0], "category_id": 2}]
    (tmp_path / "more.json").write_text(json.dumps(painted.results(people, off=2.0) + more))
    found, plain = evaluate("more.json", "pose", people), evaluate("off.json", "pose", people)
    assert found["scores"] == plain["scores"]
    assert found["notes"][:2] == [
        "1 predictions are of other categories than 1, the set's people: not scored",
        "1 predictions are on images that the split does not have (99): not scored",
    ]


def test_maps_are_scored_as_cityscapesscripts_scores_the_files(evaluate, tmp_path):
    streets = painted.streets(tmp_path)
    painted.maps(streets, tmp_path / "found", wrong=0.3)
    found = evaluate("found", "segmentation", streets, "--check", "official")
    assert 0.2 < found["scores"]["mIoU"] < 0.95
    assert {row["score"] for row in found["check"]} >= {"mIoU", "category_IoU", "IoU/road"}
    assert all(row["equal"] for row in found["check"])
    assert found["notes"] == []


def test_maps_of_train_ids_are_known_and_said(evaluate, tmp_path):
    streets = painted.streets(tmp_path)
    by_id = painted.maps(streets, tmp_path / "by_id", wrong=0.3)
    place = np.full(256, 255, np.uint8)
    place[[label.id for label in painted.CLASSES]] = np.arange(len(painted.CLASSES))
    for file in sorted(by_id.iterdir()):
        (tmp_path / "by_place").mkdir(exist_ok=True)
        pixels = place[cv2.imread(str(file), cv2.IMREAD_UNCHANGED)]
        cv2.imwrite(str(tmp_path / "by_place" / f"{file.stem}_leftImg8bit_pred.png"), pixels)
    found, plain = evaluate("by_place", "segmentation", streets), evaluate("by_id", "segmentation", streets)
    assert found["scores"] == plain["scores"]
    assert "places of classes" in found["notes"][0]


def test_maps_that_cannot_be_meant_are_one_line(called, tmp_path):
    streets = painted.streets(tmp_path)
    maps = painted.maps(streets, tmp_path / "maps")
    first, *_ = sorted(maps.iterdir())
    content = first.read_bytes()
    first.unlink()
    assert f"{first.stem} has no map of classes" in refused(called, "maps", "segmentation", streets)
    cv2.imwrite(str(first), np.zeros((5, 7), np.uint8))
    assert "has 5 x 7 pixels" in refused(called, "maps", "segmentation", streets)
    first.write_bytes(content)
    cv2.imwrite(str(first.with_name(f"{first.stem}_color.png")), np.zeros((5, 7), np.uint8))
    assert "are both of the image" in refused(called, "maps", "segmentation", streets)
    for file in maps.iterdir():
        file.unlink()
    assert "no PNG file has the name" in refused(called, "maps", "segmentation", streets)
    first.with_name("maps.txt").touch()
    assert "is no folder" in refused(called, first.with_name("maps.txt"), "segmentation", streets)


def test_maps_of_no_image_are_told(evaluate, tmp_path):
    streets = painted.streets(tmp_path)
    maps = painted.maps(streets, tmp_path / "maps", wrong=0.3)
    plain = evaluate("maps", "segmentation", streets)
    for name in ("town_train0_000001", "legend"):
        (maps / f"{name}.png").write_bytes(next(maps.iterdir()).read_bytes())
    (maps / "._legend.png").write_bytes(b"what macOS lays beside a file")
    found = evaluate("maps", "segmentation", streets)
    assert found["scores"] == plain["scores"]
    assert found["notes"] == ["2 PNG files are of no image of the split (legend, town_train0_000001): not scored"]


def test_a_known_set_of_another_size_is_told_by_check_and_by_evaluate(called, tmp_path):
    """A part of LIP, in the folders that LIP has."""
    for split in ("train", "val"):
        for name in ("a", "b"):
            pixels = np.random.default_rng([ord(name), len(split)]).integers(0, 20, (8, 8)).astype(np.uint8)
            painted._write(tmp_path / f"lip/TrainVal_images/{split}_images/{name}{split}.png", pixels)
            home = tmp_path / f"lip/TrainVal_parsing_annotations/{split}_segmentations"
            painted._write(home / f"{name}{split}.png", pixels)
    status, out, _ = called("data", "check", "lip", "--data", tmp_path)
    assert status == 1
    wrong = "val has 2 images, lip has 10,000; a set of your own needs its own folder name"
    assert wrong in out
    assert "train has 2 images, lip has 30,462" in out
    home = tmp_path / "lip/TrainVal_parsing_annotations/val_segmentations"
    assert wrong in refused(called, home, "segmentation", tmp_path / "lip")
    assert "folders in it laid out for segmentation: lip" in refused(called, home, "segmentation", tmp_path)


def test_a_difference_from_the_official_scores_is_shown(evaluate, people, tmp_path, monkeypatch):
    """Were our sigmas other ones, it would not go unseen; here the tool is handed others."""
    from ablate.evaluation import official

    monkeypatch.setattr(official, "STATS", ("nothing", "AP", "-", "--", "---", "AR"))  # AP50 as AP
    found = evaluate("off.json", "pose", people, "--check", "official", status=1)
    assert [row["equal"] for row in found["check"]] == [False, True]


def test_what_a_file_cannot_tell_is_said(evaluate, called, people, tmp_path):
    """Joints whose third number is COCO's visibility have no confidence, by which the cut errors leave joints out."""
    assert any("0, 1 or 2 for their confidence" in note for note in evaluate("off.json", "pose", people)["notes"])
    sure = [
        one | {"keypoints": [0.9 if place % 3 == 2 else value for place, value in enumerate(one["keypoints"])]}
        for one in painted.results(people)
    ]
    (tmp_path / "sure.json").write_text(json.dumps(sure))
    notes = evaluate("sure.json", "pose", people)["notes"]
    assert len(notes) == 1
    assert notes[0].endswith("to the nearest person who has none yet")
    shares = [one | {"keypoints": [0.5] * len(one["keypoints"])} for one in painted.results(people)]
    (tmp_path / "shares.json").write_text(json.dumps(shares))
    assert any(
        "between 0 and 1: COCO's are pixels" in note for note in evaluate("shares.json", "pose", people)["notes"]
    )
    out = called("evaluate", "--predictions", "sure.json", "--task", "pose", "--data", people)[1]
    assert "no NME, FR10, PCKh, PCKh01: the set names no length of a person" in out
    assert "\nRMSE (px) " in out


def test_a_file_of_a_part_of_the_images_and_repeated_predictions_are_told(evaluate, people, tmp_path):
    found = painted.results(people, off=2.0)
    several = {"none": [], "some": [one for one in found if one["image_id"] < 5], "joined": [*found, *found[:2]]}
    notes = {}
    for name, results in several.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(results))
        notes[name] = " ".join(evaluate(f"{name}.json", "pose", people)["notes"])
    assert "nothing is predicted on 6 of the 6 images with people" in notes["none"]
    assert "nothing is predicted on 2 of the 6 images with people" in notes["some"]
    assert "2 predictions repeat another one of the same image" in notes["joined"]
    whole = " ".join(evaluate("off.json", "pose", people)["notes"])
    assert "repeat" not in whole
    assert "nothing is predicted" not in whole
    boxes = [{"image_id": one["image_id"], "category_id": 1, "bbox": one["bbox"], "score": 0.5} for one in
             painted.truth(people) if one["image_id"] > 1]  # fmt: skip
    (tmp_path / "boxes.json").write_text(json.dumps([*boxes, boxes[0] | {"score": 0.4}]))
    (people / "annotations" / "instances_val.json").write_bytes(
        (people / "annotations" / "person_keypoints_val.json").read_bytes()
    )
    notes = evaluate("boxes.json", "detection", people, "--set", "dataset.classes=[person]")["notes"]
    assert notes[0] == "nothing is predicted on 1 of the 6 images with instances"
    assert notes[1].startswith("1 predictions repeat another one")
    corners = [one | {"bbox": [x, y, x + width, y + height]} for one in boxes for x, y, width, height in [one["bbox"]]]
    (tmp_path / "corners.json").write_text(json.dumps(corners))
    notes = evaluate("corners.json", "detection", people, "--set", "dataset.classes=[person]")["notes"]
    assert notes[0] == "2 boxes end far outside their image: COCO's are left, top, width, height"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentation": [[1, 1, 9, 1, 9, 9]]}, "1 of 9 predictions have a segmentation; wanted one of each, or none"),
        ({"segmentation": [[1, 1, 9, 9]], "all": True}, "a polygon of fewer than three points"),
        ({"bbox": [9, 9, -4, 4]}, "entry 0 has the bbox [9, 9, -4, 4], of a negative size"),
    ],
)
def test_instances_that_cannot_be_meant_are_one_line(called, people, tmp_path, change, message):
    (people / "annotations" / "instances_val.json").write_bytes(
        (people / "annotations" / "person_keypoints_val.json").read_bytes()
    )
    found = [{"image_id": one["image_id"], "category_id": 1, "bbox": one["bbox"], "score": 0.5} for one in
             painted.truth(people)]  # fmt: skip
    changed = found if change.pop("all", False) else found[:1]
    for one in changed:
        one |= change
    (tmp_path / "boxes.json").write_text(json.dumps(found))
    assert message in refused(called, "boxes.json", "detection", people, "--set", "dataset.classes=[person]")


def test_how_a_network_predicts_is_nothing_to_finished_predictions(called, people):
    words = ("--task", "pose", "--data", people, "--set", "evaluation.flip=false")
    status, out, err = called("evaluate", "--predictions", "off.json", *words)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert "evaluation.flip: is how a network predicts" in err
