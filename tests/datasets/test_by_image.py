"""Whole images with all their people: who is learned, and what is left out of it."""

import numpy as np
import pytest
from pycocotools import mask as runs
from pycocotools.coco import COCO

from ablate import registry
from ablate.errors import DataError, PartError


def opened(name, root=None, *, split="val", **knobs):
    data = registry.build("dataset", name, registry.check_knobs("dataset", name, knobs))
    return data.open(split, root)


def test_people_and_crowds_of_each_image(made):
    found = opened("coco_pose", made.root, set="made").by_image()
    assert list(found) == [7, 3, 5]  # as listed
    assert [len(found[image]["joints"]) for image in (7, 3, 5)] == [2, 2, 1]  # empty boxes have joints, too
    assert [len(found[image]["ignored"]) for image in (7, 3, 5)] == [0, 1, 1]
    assert found[3]["joints"].shape == (2, 17, 3)
    assert found[3]["joints"][0].ravel().tolist() == made.person(1, 3)["keypoints"]


def test_without_a_mask_the_box_is_ignored(made):
    (outline,) = opened("coco_pose", made.root, set="made").by_image()[5]["ignored"]
    mask = runs.decode(runs.merge(runs.frPyObjects(outline, 60, 80)))
    assert mask.sum() == mask[15:45, 20:40].sum() == 20 * 30


def test_an_image_that_nobody_is_annotated_on_is_not_among_them(made):
    content = made.document()
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 3]
    made.rewrite(content)
    samples = opened("coco_pose", made.root, set="made")
    assert list(samples.by_image()) == [7, 5]
    assert samples.image_ids() == [7, 3, 5]


def test_a_mask_that_is_none_is_refused_with_its_name(made):
    content = made.document()
    content["annotations"][4]["segmentation"] = [[1, 2, 3]]
    made.rewrite(content)
    samples = opened("coco_pose", made.root, set="made")
    with pytest.raises(DataError, match="annotation 5: its segmentation has a polygon"):
        samples.by_image()


def test_coco_mini_is_what_pycocotools_reads(ablate_data, capsys):
    samples = opened("coco_pose", ablate_data, set="coco_mini")
    official, found = COCO(samples.annotations), samples.by_image()
    ignored = 0
    for image_id in samples.image_ids():
        entries = official.imgToAnns[image_id]
        assert (image_id in found) == bool(entries)
        if not entries:
            continue
        image = official.imgs[image_id]
        labelled = [entry["keypoints"] for entry in entries if entry["num_keypoints"]]
        assert found[image_id]["joints"].reshape(-1, 51).tolist() == labelled
        wanted = np.zeros((image["height"], image["width"]), bool)
        for entry in entries:
            if entry["iscrowd"] or not entry["num_keypoints"]:
                wanted |= official.annToMask(entry).astype(bool)
        ours = np.zeros_like(wanted)
        for mask in found[image_id]["ignored"]:
            ours |= official.annToMask({"segmentation": mask, "image_id": image_id}).astype(bool)
        assert (ours == wanted).all()
        ignored += int(wanted.any())
    assert ignored > 10


def test_drawn_people_by_image_are_the_samples():
    samples = opened("figures", split="train", train=9)
    found = samples.by_image()
    people = [joints for of_image in found.values() for joints in of_image["joints"]]
    assert np.array_equal(people, [samples[index]["joints"] for index in range(9)])
    assert [len(found[image]["ignored"]) for image in samples.image_ids()] == [0, 0, 0, 0, 0, 0, 0, 1]


def test_whoever_is_drawn_beyond_the_last_sample_is_ignored_where_they_are_seen():
    few, more = (opened("figures", split="train", train=count) for count in (9, 10))
    mask = few.by_image()[8]["ignored"][0]
    seen = runs.decode(runs.frPyObjects(mask, 112, 112)).astype(bool)
    assert (seen == more[9]["mask"]).all()


def test_figures_with_several_people_in_each_picture():
    samples = opened("figures", val=7, people=3, size=[112, 160])
    assert [samples[index]["image_id"] for index in range(7)] == [1, 1, 1, 2, 2, 2, 3]
    assert samples.image_of == [1, 1, 1, 2, 2, 2, 3]
    assert [len(of["joints"]) for of in samples.by_image().values()] == [3, 3, 1]
    assert len(samples.by_image()[3]["ignored"]) == 2
    assert len(samples.instances(2)["boxes"]) == 3
    places = [samples[index]["joints"][:, 0].mean() for index in range(3)]
    assert places == sorted(places)
    assert samples.info.images == {"train": 167, "val": 3}
    with pytest.raises(PartError, match="people: at most 8"):
        opened("figures", people=9)
