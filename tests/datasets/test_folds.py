"""Cross-validated folders: every image is evaluated once, groups stay whole, and each seed has its part."""

import numpy as np
import pytest

from ablate import registry
from ablate.datasets import Folded
from ablate.errors import DataError, PartError


def build(**knobs):
    plain = {"set": "plain", "classes": ["sky", "ground", "thing"], "images": "images/train"}
    chosen = registry.check_knobs("dataset", "label_folder", plain | {"labels": "labels/train/{name}.png"} | knobs)
    return registry.build("dataset", "label_folder", chosen)


@pytest.fixture
def many(plain):
    """Sections 0 to 10 of one volume, so that 10 follows 9 and not 1."""
    for file in [*plain.image(0, split="train").parent.iterdir(), *plain.map(0, split="train").parent.iterdir()]:
        file.unlink()
    for number in range(11):
        rng = np.random.default_rng(number)
        plain.write(plain.root / f"plain/images/train/{number}.png", rng.integers(0, 256, (60, 80, 3), np.uint8))
        plain.write(plain.root / f"plain/labels/train/{number}.png", rng.integers(0, 3, (60, 80)).astype(np.uint8))
    return plain


def names(samples):
    return [samples.name(image) for image in samples.image_ids()]


def test_each_seed_evaluates_a_part_of_neighbours_and_trains_on_the_rest(many):
    data, tested, numbers = build(folds=3), [], []
    assert isinstance(data, Folded)
    for seed in range(3):
        train, val = (data.of_seed(seed).open(split, many.root) for split in ("train", "val"))
        assert not set(names(train)) & set(names(val))
        assert sorted(names(train) + names(val), key=int) == [str(number) for number in range(11)]
        assert [one["image_id"] for one in (val[i] for i in range(len(val)))] == val.image_ids()
        assert (val[0]["labels"] == val.labels(val.image_ids()[0])).all()
        tested += names(val)
        numbers += val.image_ids()
    assert tested == [str(number) for number in range(11)]
    assert numbers == list(range(1, 12))
    assert names(data.of_seed(4).open("val", many.root)) == names(data.of_seed(1).open("val", many.root))
    assert names(data.open("val", many.root)) == names(data.of_seed(0).open("val", many.root))
    assert names(build(folds=3, fold=2).of_seed(0).open("val", many.root)) == ["7", "8", "9", "10"]


def test_all_parts_have_the_digest_of_the_whole(many):
    found = {
        build(folds=3).of_seed(seed).open(split, many.root).verify() for seed in (0, 1) for split in ("train", "val")
    }
    assert len(found) == 1
    many.write(many.root / "plain/labels/train/10.png", np.zeros((60, 80), np.uint8))
    assert build(folds=3).open("val", many.root).verify() not in found


def test_a_group_is_never_in_two_parts(many):
    data = build(folds=2, group="^(.)")  # 1 and 10 are of one patient
    parts = [names(data.of_seed(seed).open("val", many.root)) for seed in (0, 1)]
    assert sorted(parts[0] + parts[1], key=int) == [str(number) for number in range(11)]
    assert {"1", "10"} <= set(parts[0])
    for seed in (0, 1):
        opened = data.of_seed(seed).open("val", many.root)
        assert opened.image_ids() == list(range(opened.first, opened.first + len(opened)))


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"folds": 0}, "fold: parts are 0 to 0"),
        ({"folds": 3, "fold": 3}, "fold: parts are 0 to 2, not 3 of 3"),
        ({"folds": 3, "images": "images/{split}"}, "leave out {split}"),
        ({"folds": 3, "names": "{split}.txt"}, "leave out {split}"),
        ({}, "images: training and evaluation would use the same files"),
    ],
)
def test_parts_that_cannot_be_are_refused(knobs, told):
    with pytest.raises(PartError, match=told.replace("{", r"\{").replace("}", r"\}")):
        build(**knobs)


def test_more_parts_than_images_are_refused(many):
    with pytest.raises(DataError, match=r"dataset\.folds: 12 parts of 11 images or groups"):
        build(folds=12).open("val", many.root)
