"""Drawn people: what the knobs do, what two people in a picture look like, and that drawing is quick."""

import time

import numpy as np
import pytest

from ablate import registry
from ablate.datasets._drawing import ACTIVITIES, PARTS
from ablate.errors import PartError


def figures(**knobs):
    return registry.build("dataset", "figures", registry.check_knobs("dataset", "figures", knobs))


def test_knobs_decide_counts_and_size():
    data = figures(train=7, val=3, size=[64, 80])
    assert (len(data.open("train", None)), len(data.open("val", None))) == (7, 3)
    assert data.open("val", None)[2]["image"].shape == (64, 80, 3)
    with pytest.raises(IndexError):
        data.open("val", None)[3]
    for knobs in ({"train": 0}, {"val": -1}, {"size": [20, 100]}):
        with pytest.raises(PartError, match="must be at least"):
            figures(**knobs)


def test_more_people_leave_the_first_as_they_were():
    few, many = (figures(train=count).open("train", None) for count in (4, 40))
    for index in range(4):
        assert (few[index]["image"] == many[index]["image"]).all()


def test_every_fourth_picture_shows_two_annotated_people():
    samples = figures(val=10).open("val", None)
    assert [samples[index]["image_id"] for index in range(10)] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8]
    one, other = samples[3], samples[4]
    assert (one["image"] == other["image"]).all()
    assert not (one["mask"] & other["mask"]).any()
    assert one["annotation_id"] != other["annotation_id"]


def test_masks_boxes_areas_and_joints_agree():
    samples = figures(train=100).open("train", None)
    seen = []
    for index in range(100):
        sample = samples[index]
        mask, (x, y, w, h) = sample["mask"], sample["box"].astype(int)
        assert mask.sum() == mask[y : y + h, x : x + w].sum() == sample["area"]
        visible = sample["joints"][sample["joints"][:, 2] == 2]
        columns, rows = np.rint(visible[:, :2]).astype(int).T
        assert mask[rows, columns].all()
        assert not sample["joints"][sample["joints"][:, 2] == 0].any()
        seen.append(sample["joints"][:, 2])
        assert 0 <= sample["activity"] < len(ACTIVITIES)
    shares = [(np.array(seen) == visibility).mean() for visibility in (0, 1, 2)]
    assert 0.01 < shares[0] < 0.15  # turned away or beyond the border
    assert 0.005 < shares[1] < 0.1  # behind something
    assert len({samples[index]["activity"] for index in range(100)}) == 5


def test_parts_lie_where_people_are_seen():
    samples = figures(train=20).open("train", None)
    people = [samples[index] for index in range(20)]
    shares = []
    for image_id in samples.image_ids():
        picture, parts = samples.labelled_image(image_id)
        assert (picture == samples.image(image_id)).all()
        masks = [person["mask"] for person in people if person["image_id"] == image_id]
        assert ((parts > 0) == np.any(masks, axis=0)).all()
        shares.append(np.bincount(parts.ravel(), minlength=5) / parts.size)
    assert samples.info.classes == PARTS
    assert samples.info.images == {"train": 16, "val": 160}
    least, most = [0.4, 0.005, 0.02, 0.02, 0.02], [0.95, 0.1, 0.2, 0.2, 0.25]
    assert (np.mean(shares, axis=0) > least).all()
    assert (np.mean(shares, axis=0) < most).all()


def test_parts_lie_between_their_joints():
    samples = figures(train=60).open("train", None)
    names = samples.info.joints
    ends = {
        "arms": ("left_elbow", "left_wrist"),
        "legs": ("right_hip", "right_knee"),
        "torso": ("left_hip", "right_shoulder"),
    }
    for part, (one, other) in ends.items():
        right = []
        for index in range(60):
            sample = samples[index]
            joints = sample["joints"][[names.index(one), names.index(other)]]
            if (joints[:, 2] == 2).all():
                x, y = np.rint(joints[:, :2].mean(axis=0)).astype(int)
                right.append(samples.labels(sample["image_id"])[y, x] == PARTS.index(part))
        assert len(right) > 20
        assert np.mean(right) > 0.6  # the rest is hidden by another part or by something else


def test_a_frontal_left_side_is_on_the_pictures_right():
    samples = figures(train=100).open("train", None)
    names = samples.info.joints
    left, right = names.index("left_hip"), names.index("right_hip")
    frontal = [samples[i]["joints"] for i in range(100) if samples[i]["joints"][0, 2]]
    assert len(frontal) > 80
    assert all(joints[left, 0] > joints[right, 0] for joints in frontal if joints[left, 2] and joints[right, 2])


def test_drawing_takes_a_few_milliseconds():
    samples = figures().open("train", None)
    samples[0]
    start = time.process_time()
    for index in range(50):
        samples[index]
    assert (time.process_time() - start) / 50 < 0.02  # seen: 0.0016; a bound for slow machines, not a benchmark


def test_the_class_of_a_picture_of_one_person_is_what_they_do():
    """Whoever reaches, and nobody else, has both elbows above the shoulders."""
    samples = figures(val=60).open("val", None)
    joints = {name: place for place, name in enumerate(samples.info.need_joints())}
    ids, reaching = samples.classified_ids(), list(ACTIVITIES).index("reaching")
    assert set(ids) == {i for i in samples.image_ids() if samples.image_of.count(i) == 1}
    for image_id in ids:
        (person,) = [samples[n] for n, of in enumerate(samples.image_of) if of == image_id]
        assert samples.image_class(image_id) == person["activity"]
        places = [(joints[f"{side}_elbow"], joints[f"{side}_shoulder"]) for side in ("left", "right")]
        if all(person["joints"][place, 2] for pair in places for place in pair):
            raised = all(person["joints"][elbow, 1] < person["joints"][shoulder, 1] for elbow, shoulder in places)
            assert raised == (samples.image_class(image_id) == reaching)
    assert {samples.image_class(image_id) for image_id in ids} == set(range(len(ACTIVITIES)))


@pytest.mark.parametrize("people", range(1, 12))
def test_pictures_with_a_class_are_counted_before_they_are_drawn(people):
    data = figures(train=people)
    assert data.info.classified["train"] == len(data.open("train", None).classified_ids())


def test_a_kept_picture_is_the_drawn_one_whoever_wrote_into_a_sample():
    samples = figures(train=5).open("train", None)
    for index in (3, 4, 3):  # two people of one picture
        sample, drawn = samples[index], figures(train=5).open("train", None)[index]
        for name in ("image", "mask", "joints", "box"):
            assert (sample[name] == drawn[name]).all()
            sample[name][:] = 0


def test_pictures_beyond_the_room_are_drawn_anew(monkeypatch):
    monkeypatch.setattr("ablate.datasets.figures.ROOM", 160_000)  # three pictures with one person take 188,160
    samples = figures(train=5).open("train", None)
    first = [samples[index]["image"] for index in range(5)]
    assert len(samples._kept) == 2
    assert all((samples[index]["image"] == image).all() for index, image in enumerate(first))
