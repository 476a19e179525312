"""ablate data: what is known, what is wrong with a folder, and making one."""

import json

import cv2
from camvid_archive import archive_files, pixels, zipped


def test_known_sets_are_listed(ablate):
    rows = {row["set"]: row for row in json.loads(ablate("data", "--json").stdout)}
    assert {"coco2017", "pose_lspet", "coco_mini", "cityscapes", "camvid"} <= set(rows)
    assert all(row[key] for row in rows.values() for key in ("title", "part", "source", "licence", "get"))
    text = ablate("data").stdout
    assert all(f"\n{name}\n" in text for name in ("figures", *rows) if name != "figures")


def test_a_set_is_made_and_checked(ablate, tmp_path):
    archive = zipped(tmp_path / "segnet.zip", archive_files())
    (tmp_path / "data").mkdir()
    made = ablate("data", "make", "camvid", "--archive", archive, "--data", tmp_path / "data")
    assert made.returncode == 0, made.stderr
    assert "3 train, 1 val, 2 test" in made.stdout
    knobs = ("--knobs", '{"train": "train+val", "test": "test"}')
    other = ablate("data", "check", "camvid", *knobs, "--data", tmp_path / "data")
    assert other.returncode == 1  # a few frames are not the set that is declared
    assert "train: 4 samples, digest" in other.stdout
    assert "the content of val is" in other.stdout
    (tmp_path / "data/seg_camvid").rename(tmp_path / "data/streets")
    streets = ("data", "check", "streets", "--part", "cityscapes", "--data", tmp_path / "data")
    twice = ablate(*streets)  # the archive's first frames are one picture
    assert twice.returncode == 1
    assert "cam0016E5_000000_007959 is the training image cam0001TP_000000_006690, pixel by pixel" in twice.stdout
    cv2.imwrite(str(next((tmp_path / "data/streets/leftImg8bit/val").rglob("*.jpg"))), pixels(9))
    sound = ablate(*streets)
    assert sound.returncode == 0, sound.stdout + sound.stderr
    assert "train: 3 samples, digest" in sound.stdout
    (tmp_path / "data/streets").rename(tmp_path / "data/seg_camvid")
    file = next((tmp_path / "data/seg_camvid/gtFine/test").rglob("*.png"))
    file.write_bytes(b"")
    damaged = ablate("data", "check", "camvid", *knobs, "--quick", "--data", tmp_path / "data")
    assert damaged.returncode == 1
    assert f"{file}: is empty" in damaged.stdout


def test_mistakes_are_one_line(ablate, tmp_path):
    for arguments, said in (
        (("make", "camvit", "--archive", tmp_path), "data make camvit: did you mean 'camvid'?"),
        (("check", "camvid", "--knobs", "[1]"), "--knobs: wanted an object"),
        (("check", "camvid", "--knobs", "{"), "--knobs: "),
        (("check", "mine", "--part", "label_folders"), "did you mean 'label_folder'?"),
    ):
        ran = ablate("data", *arguments)
        assert (ran.returncode, len(ran.stderr.splitlines())) == (2, 1), ran.stderr
        assert said in ran.stderr


def test_a_folder_of_boxes_is_told_what_reads_it(ablate, tmp_path):
    """Whatever read a folder that nobody said the part of is named, with what else there is."""
    annotations = tmp_path / "fruit/annotations"
    annotations.mkdir(parents=True)
    boxes = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "apple"}]}
    for split in ("train", "val"):
        (annotations / f"instances_{split}.json").write_text(json.dumps(boxes))
    said = ablate("data", "check", "fruit", "--data", tmp_path).stderr
    assert "no category has keypoints: boxes and masks are read by coco_instances" in said
    assert "it was read by coco_pose, --part names another: cityscapes, coco_instances, deeplabcut" in said
    assert "it was read by" not in ablate("data", "check", "fruit", "--part", "coco_pose", "--data", tmp_path).stderr
    assert "coco_instances" in ablate("data").stdout.rpartition("PART is one of")[2]
