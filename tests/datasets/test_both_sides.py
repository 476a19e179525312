"""The same pictures, near-duplicates and groups on both sides of a split are found, and strangers are not."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from ablate import registry
from ablate.datasets import SPLITS
from ablate.datasets._both_sides import both_sides
from ablate.errors import DataError, PartError


def opened(name, root, **knobs):
    data = registry.build("dataset", name, registry.check_knobs("dataset", name, knobs))
    return [data.open(split, root) for split in SPLITS]


def people(made, **knobs):
    return opened("coco_pose", made.root, set="made", **knobs)


def maps(plain, **knobs):
    return opened("label_folder", plain.root, set="plain", classes=["sky", "ground", "thing"], **knobs)


def photograph(seed: int) -> np.ndarray:
    """Smooth, as photographs are at a distance: (60, 80, 3)."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(small, (80, 60), interpolation=cv2.INTER_CUBIC)


def test_strangers_are_not_found(made, plain):
    for pair in (people(made), maps(plain)):
        found = both_sides(*pair)
        assert (found.same, found.near) == ([], [])


def test_equal_pictures_are_found_whatever_their_files_are(plain):
    cv2.imwrite(str(plain.image(1, split="train").with_suffix(".png")), photograph(1))
    plain.image(1, split="train").unlink()
    Image.fromarray(cv2.cvtColor(photograph(1), cv2.COLOR_BGR2RGB)).save(plain.image(0), "png", compress_level=1)
    found = both_sides(*maps(plain))
    (line,) = found.same
    assert line.endswith("plain: the evaluation image val0 is the training image train1, pixel by pixel")
    assert found.near == []
    assert both_sides(*maps(plain), pictures=False).same == []


CHANGES = {
    "saved again": lambda p: cv2.imdecode(cv2.imencode(".jpg", p, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], 1),
    "smaller": lambda p: cv2.resize(p, (40, 30), interpolation=cv2.INTER_AREA),
    "brighter": lambda p: np.clip(p * 1.1 + 5, 0, 255).astype(np.uint8),
    "mirrored": lambda p: p[:, ::-1].copy(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_near_duplicates_are_found(plain, change):
    plain.write(plain.image(1, split="train"), photograph(1))
    copy = CHANGES[change](photograph(1))
    plain.write(plain.image(0), copy)
    plain.write(plain.map(0), np.ones(copy.shape[:2], np.uint8))
    found = both_sides(*maps(plain))
    assert found.same == []
    (line,) = found.near
    assert "the evaluation image val0 is a near-duplicate of the training image train1" in line


def test_plain_pictures_tell_nothing_of_each_other(plain):
    for place, value in ((0, 10), (1, 200)):
        plain.write(plain.image(place), np.full((60, 80, 3), value, np.uint8))
    plain.write(plain.image(0, split="train"), np.full((60, 80, 3), 100, np.uint8))
    found = both_sides(*maps(plain))
    assert (found.same, found.near) == ([], [])


def test_groups_of_people_are_a_field_of_their_images(made):
    for split, videos in (("train", (4, 4, 9)), ("val", (5, 9, 9))):
        content = made.document()
        for image, video in zip(content["images"], videos, strict=True):
            image["video_id"] = video
        made.rewrite(content, split=split)
    train, val = people(made, group_field="video_id")
    assert [train.group(image_id) for image_id in train.image_ids()] == ["4", "4", "9"]
    (line,) = both_sides(train, val, pictures=False).same
    assert "the group '9' is trained on and evaluated on: 000000000005 and 000000000005" in line
    assert people(made)[0].group(7) is None
    assert both_sides(*people(made)).same == []
    with pytest.raises(DataError, match="image 7 has no 'vidoe_id', its group; did you mean 'video_id'"):
        people(made, group_field="vidoe_id")


def test_groups_of_maps_are_a_part_of_their_names(plain, streets):
    train, val = maps(plain, group=r"\d+$")
    assert [val.group(image_id) for image_id in val.image_ids()] == ["0", "1"]
    assert len(both_sides(train, val, pictures=False).same) == 2
    assert both_sides(*maps(plain, group=r"^([a-z]+)\d"), pictures=False).same == []
    cities = opened("cityscapes", streets.root, set="streets", group="^[^_]+")
    assert [cities[0].group(image_id) for image_id in cities[0].image_ids()] == ["train0", "train1", "train2"]
    with pytest.raises(DataError, match="'x' matches nothing in the name 'train0'"):
        maps(plain, group="x")
    with pytest.raises(PartError, match="is no regular expression"):
        maps(plain, group="(")


def test_the_command_says_what_is_on_both_sides(called, made, tmp_path):
    content = made.image(7, split="train").read_bytes()
    made.image(3).write_bytes(content)
    for split in SPLITS:
        document = made.document()
        for image in document["images"]:
            image["video_id"] = f"{split}{image['id']}" if image["id"] != 5 else "both"
        made.rewrite(document, split=split)
    check = ("data", "check", "made", "--data", made.root, "--knobs", json.dumps({"group_field": "video_id"}))
    status, out, err = called(*check)
    assert (status, err) == (1, "")
    assert "the evaluation image 000000000003 is the training image 000000000007, pixel by pixel" in out
    assert "the group 'both' is trained on and evaluated on" in out
    assert "remark: " in out  # annotation 6 has no area
    status, out, _ = called(*check, "--quick")
    assert status == 1
    assert "pixel by pixel" not in out


def test_no_photograph_of_the_real_sets_is_on_both_sides(ablate_data):
    for name, knobs in (("coco_pose", {"set": "coco_mini"}), ("cityscapes", {"set": "camvid"})):
        found = both_sides(*opened(name, ablate_data, **knobs))
        assert (found.same, found.near) == ([], [])
