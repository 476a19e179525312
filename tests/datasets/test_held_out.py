"""Images held out of a training split: which they are, that groups stay together, and that what is left is the rest."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from ablate import registry
from ablate.datasets import held_out
from ablate.errors import DataError
from ablate.study import Part
from ablate.tasks import build_protocol, build_task


class Split:
    """Twelve images in groups; samples are two people on each."""

    folder, skipped = None, {}

    def __init__(self, groups=None, block=None, count=12):
        self.info = SimpleNamespace(name="made up", block=block)
        self.groups, self.ids = groups, list(range(100, 100 + count))
        self.image_of = [image for image in self.ids for _ in range(2)]

    def __len__(self):
        return len(self.image_of)

    def __getitem__(self, index):
        return {"image_id": self.image_of[index], "person": index % 2}

    def image_ids(self):
        return list(self.ids)

    def name(self, image_id):
        return f"picture{image_id}"

    def group(self, image_id):
        return self.groups[image_id - 100] if self.groups else None

    def ground_truth(self):
        boxes = [{"image_id": image, "id": at} for at, image in enumerate(self.image_of)]
        return {"images": [{"id": image} for image in self.ids], "annotations": boxes, "categories": [{"id": 1}]}

    def digest(self):
        return "ab" * 8

    verify = digest


def test_both_parts_are_the_whole():
    whole = Split()
    trained, scored = held_out(whole, 0.25)
    assert len(scored.image_ids()) == 3
    assert sorted(trained.image_ids() + scored.image_ids()) == whole.ids
    assert [len(trained), len(scored)] == [18, 6]
    assert [scored[at]["image_id"] for at in range(6)] == scored.image_of
    assert {scored[at]["person"] for at in range(6)} == {0, 1}
    truth = scored.ground_truth()
    assert [entry["id"] for entry in truth["images"]] == scored.image_ids()
    assert [entry["image_id"] for entry in truth["annotations"]] == scored.image_of
    assert truth["categories"] == [{"id": 1}]
    assert len({trained.digest(), scored.verify(), whole.digest()}) == 3
    assert scored.digest() == scored.verify()


def test_fewer_are_among_more():
    small, large = (set(held_out(Split(), share)[1].image_ids()) for share in (0.2, 0.5))
    assert small < large
    assert (len(small), len(large)) == (2, 6)


@pytest.mark.parametrize("groups", [list("aaabbbcccddd"), list("abcdabcdabcd")])
def test_groups_stay_together(groups):
    trained, scored = held_out(Split(groups), 0.25)
    of = [{groups[image - 100] for image in part.image_ids()} for part in (trained, scored)]
    assert not of[0] & of[1]
    assert (len(of[1]), len(scored.image_ids())) == (1, 3)


def test_images_that_follow_each_other_stay_together():
    _, scored = held_out(Split(block=4), 0.3)
    assert len(scored.image_ids()) == 4
    assert np.ptp(scored.image_ids()) == 3


def test_what_cannot_be_parted_is_refused():
    with pytest.raises(DataError, match=r"made up: train\.held_out: 0\.5; its 1 groups"):
        held_out(Split(["a"] * 12), 0.5)


@pytest.mark.parametrize("names", ["ab", "ba", "xy", "yx", "pq", "qp"])
def test_a_large_group_waits_for_one_that_fits(names):
    trained, scored = held_out(Split([names[0]] * 90 + [names[1]] * 10, count=100), 0.2)
    assert (len(trained.image_ids()), len(scored.image_ids())) == (90, 10)


def test_groups_that_miss_the_share_by_far_are_refused():
    sizes = {"one": 1, "two": 60, "three": 60}
    groups = [name for name, size in sizes.items() for _ in range(size)]
    with pytest.raises(DataError, match=r"held_out: 0\.2; its 3 groups of images cannot be parted so"):
        held_out(Split(groups, count=121), 0.2)
    assert len(held_out(Split(groups, count=121), 0.5)[1].image_ids()) in (60, 61)


@pytest.mark.parametrize("task", ["pose", "segmentation", "detection", "classification", "bottom_up_pose"])
def test_every_task_trains_and_is_scored_on_parts_of_drawn_figures(task):
    whole = registry.build("dataset", "figures", {"train": 20, "val": 2}).open("train", None)
    trained, scored = pickle.loads(pickle.dumps(held_out(whole, 0.3)))
    made = build_task(Part(name=task))
    tested = made.samples_for_evaluation(scored, build_protocol(Part(name=task), {}))
    assert len(made.samples(trained)) > len(tested) > 0
    chosen = set(scored.image_ids())
    assert {image["id"] for image in made.ground_truth(scored)["images"]} <= chosen
    assert {tested[at]["image_id"] for at in range(len(tested))} <= chosen
    assert not set(made.samples(trained).image_of) & chosen
