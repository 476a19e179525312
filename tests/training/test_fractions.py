"""Training on some of the images: nested, the same on every machine and for every seed, of people and of images."""

import pytest

from ablate import registry
from ablate.errors import DataError, PartError
from ablate.planning.durations import image_counts
from ablate.study import Recipe
from ablate.tasks import build_task
from ablate.training.batches import opened, trained_on

DRAWN = {"name": "figures", "train": 40, "val": 5, "size": [48, 48]}  # 32 images: every fourth has two people


def chosen(task: str, images: int | None) -> tuple[list[int], int]:
    """The images that are trained on, and the number of samples."""
    recipe = Recipe(task=task, dataset=DRAWN, model="hrnet", train={"images": images}).filled()
    split = registry.build("dataset", "figures", recipe.dataset.knobs).open("train", None)
    items = trained_on(recipe, build_task(recipe.task), split)
    return sorted({int(items[place]["image_id"]) for place in range(len(items))}), len(items)


@pytest.mark.parametrize("task", ["pose", "segmentation"])
def test_fewer_images_are_among_more(task):
    every, _ = chosen(task, None)
    assert len(every) == 32
    ten, samples = chosen(task, 10)
    twenty, _ = chosen(task, 20)
    assert (len(ten), len(twenty)) == (10, 20)
    assert set(ten) < set(twenty) < set(every)
    assert chosen(task, 32)[0] == every
    assert ten == chosen("pose", 10)[0]  # of any task the same ones
    assert samples == (10 if task == "segmentation" else sum(1 + (image % 4 == 0) for image in ten))
    assert ten != every[:10]


def test_the_order_is_written_down():
    """Another order would be other trials under the same ids."""
    assert chosen("pose", 3)[0] == [2, 12, 18]


def test_more_images_than_there_are_is_one_line():
    with pytest.raises(DataError, match=r"figures: train.images: 33; 32 have samples"):
        chosen("pose", 33)


def test_samples_that_do_not_say_their_images_are_refused(small_shelf):
    recipe = Recipe(task="brightness", dataset="noise", model="dots", train={"images": 3}).filled()
    split = registry.build("dataset", "noise", recipe.dataset.knobs).open("train", None)
    with pytest.raises(PartError, match=r"train.images: the samples of noise do not say which images they are of"):
        trained_on(recipe, build_task(recipe.task), split)


def held(images: int | None, share: float = 0.25) -> tuple[set[int], set[int], dict[str, str]]:
    """The images that are trained on, those that are scored, and the digests."""
    train = {"images": images, "held_out": share}
    recipe = Recipe(task="pose", dataset=DRAWN, model="hrnet", train=train).filled()
    splits, digests = opened(recipe, None, seed=0)
    items = trained_on(recipe, build_task(recipe.task), splits["train"])
    return {items[place]["image_id"] for place in range(len(items))}, set(splits["val"].image_ids()), digests


@pytest.mark.parametrize("images", [8, 16, 32])
def test_of_some_images_a_share_is_held_out(images):
    """No try learns from, or is scored on, an image that its arm is not to see, and all of them are there."""
    trained, scored, digests = held(images)
    assert len(scored) == images // 4
    assert not trained & scored
    assert sorted(trained | scored) == chosen("pose", images)[0]
    assert digests == held(None)[2]  # of the same files


def test_all_images_are_held_out_of_as_if_none_were_named():
    assert held(32) == held(None)
    trained, scored, _ = held(None)
    assert (len(trained), sorted(scored)) == (24, [2, 5, 12, 13, 25, 28, 30, 32])


def test_plans_count_the_samples_of_the_images():
    full, part = (Recipe(task="pose", dataset=DRAWN, model="hrnet", train=t).filled() for t in ({}, {"images": 16}))
    assert image_counts(full) == (40, 5)
    assert image_counts(part) == (20, 5)


@pytest.mark.parametrize("knobs", [{"name": "coco_pose", "set": "coco_mini"}, {"name": "cityscapes", "set": "camvid"}])
def test_real_sets_say_their_images(ablate_data, knobs):
    task = "pose" if knobs["name"] == "coco_pose" else "segmentation"
    recipe = Recipe(task=task, dataset=knobs, model="hrnet", train={"images": 7}).filled()
    split = registry.build("dataset", knobs["name"], recipe.dataset.knobs).open("train", ablate_data)
    items = trained_on(recipe, build_task(recipe.task), split)
    assert len({int(items[place]["image_id"]) for place in range(len(items))}) == 7
