"""Bottom-up pose: what is learned, worked out by hand, and what comes of the truth on the way through a network."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from people_by_hand import COCO, INFO
from pycocotools import mask as runs

from ablate import registry
from ablate.errors import PartError
from ablate.tasks import gaussians
from ablate.tasks.bottom_up_pose import evaluated_size, whole

NAME = "bottom_up_pose"
SIZE = 64


def scene(*people, height=SIZE, width=SIZE, ignored=()):
    """An image whose people have these joints labelled, {place: (x, y)}; ignored are boxes x0 y0 x1 y1."""
    rng = np.random.default_rng(0)
    joints = np.zeros((len(people), 17, 3))
    for person, known in zip(joints, people, strict=True):
        for place, point in known.items():
            person[place] = [*point, 2]
    masks = np.zeros((len(ignored), height, width), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, ignored, strict=True):
        mask[top:bottom, left:right] = 1
    found = [runs.encode(np.asfortranarray(mask)) for mask in masks]
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return {"image": image, "image_id": 1, "joints": joints, "ignored": found}


def outputs(count=1, size=SIZE, heat=0.0, tags=0.0):
    coarse = torch.cat([torch.full((count, 17, size // 4, size // 4), value) for value in (heat, tags)], dim=1)
    return [coarse, torch.full((count, 17, size // 2, size // 2), heat)]


def learned(build_task, *scenes, **knobs):
    task = build_task(NAME, size=[SIZE, SIZE], **knobs)
    return task, task.collate([task.encode(one, INFO) for one in scenes])


# -- the loss -------------------------------------------------------------------------------------------------------


def test_heatmaps_at_both_scales_are_the_published_gaussians(build_task):
    task, batch = learned(build_task, scene({0: (22.9, 41.2)}))
    coarse, fine = outputs()
    (wanted, _), (finer, _) = (
        gaussians(torch.tensor([[[x, y]]]), torch.ones(1, 1), size=(side, side), sigma=2.0, reach=7)
        for x, y, side in ((5.0, 10.0, 16), (11.0, 20.0, 32))  # cut to whole pixels of the map
    )
    assert wanted[0, 0, 10, 5] == finer[0, 0, 20, 11] == 1
    assert finer[0, 0, 20, 18] == pytest.approx(np.exp(-49 / 8))  # 3 sigma and one pixel more
    assert finer[0, 0, 20, 19] == 0
    expected = wanted.square().sum() / (17 * 16**2) + finer.square().sum() / (17 * 32**2)
    assert task.loss([coarse, fine], batch).item() == pytest.approx(expected.item(), rel=1e-5)
    coarse[0, 0], fine[0, 0] = wanted[0, 0], finer[0, 0]
    assert task.loss([coarse, fine], batch).item() == 0


def test_where_people_overlap_the_nearer_one_counts(build_task):
    task, batch = learned(build_task, scene({0: (20, 40)}, {0: (24, 40)}), push=0.0, pull=0.0)
    alone = [learned(build_task, scene({0: (x, 40)}))[1] for x in (20, 24)]
    maps = []
    for one in alone:
        centre = (one["joints"][:, 0, :1] / 2).floor()
        maps.append(gaussians(centre, torch.ones(1, 1), size=(32, 32), sigma=2.0, reach=7)[0])
    coarse, fine = outputs()
    fine[0, 0] = torch.maximum(*maps)[0, 0]
    coarse_alone = task._error(coarse[:, :17], batch)
    assert task.loss([coarse, fine], batch).item() == pytest.approx(coarse_alone.item())


def test_tags_are_learned_at_the_coarse_scale_with_their_weights(build_task):
    people = {0: (10, 10), 5: (12, 30)}, {0: (50, 10)}
    task, batch = learned(build_task, scene(*people))
    maps = outputs()
    before = task.loss(maps, batch)
    maps[0][0, 17, 2, 2], maps[0][0, 22, 7, 3], maps[0][0, 17, 2, 12] = 1.0, 2.0, 3.0
    after = task.loss(maps, batch)
    pull = (0.25 + 0.0) / 2
    push = 0.5 * (np.exp(-(1.5**2)) - 1.0)  # before, both tags were 0
    assert (after - before).item() == pytest.approx(0.001 * (pull + push), abs=1e-7)


def test_missing_joints_and_joints_outside_are_nobodys(build_task):
    inside = scene({0: (10, 10)})
    beyond = scene({0: (10, 10), 3: (70, 10), 4: (10, -9)}, {0: (300, 10)})
    maps = [torch.randn_like(one) for one in outputs()]
    found = [task.loss(maps, batch).item() for task, batch in (learned(build_task, one) for one in (inside, beyond))]
    assert found[0] == found[1]


def test_zero_people_are_learned_as_background(build_task):
    task, batch = learned(build_task, scene())
    assert batch["joints"].shape == (1, 0, 17, 2)
    assert task.loss(outputs(heat=0.5), batch).item() == pytest.approx(0.25 + 0.25)
    assert task.loss(outputs(tags=3.0), batch).item() == 0


def test_crowds_are_not_learned(build_task):
    task, batch = learned(build_task, scene(ignored=[(0, 0, 32, 64), (16, 0, 48, 32)]))
    maps = outputs(heat=1.0)
    assert task.loss(maps, batch).item() == pytest.approx(2 * (1 - 0.5 - 0.125))
    maps[0][:, :, :, :8], maps[1][:, :, :, :16] = 9.0, 9.0
    assert task.loss(maps, batch).item() == pytest.approx(2 * (1 - 0.5 - 0.125))


def test_what_lies_outside_the_image_is_not_learned(build_task):
    """An image of 64 x 96 is evaluated at 64 x 128: a quarter of the input shows nothing."""
    _, batch = learned(build_task, scene(height=64, width=96))
    assert batch["image"].shape == (1, 3, 64, 128)
    assert batch["counted"].float().mean().item() == pytest.approx(0.75, abs=0.01)


def test_the_loss_of_a_batch_is_the_mean_of_its_images(build_task):
    scenes = scene({0: (10, 10)}, {2: (40, 50)}), scene(), scene({5: (20, 20)})
    task, batch = learned(build_task, *scenes)
    maps = [torch.randn(3, *one.shape[1:]) for one in outputs()]
    together = task.loss(maps, batch)
    apart = [
        task.loss([one[place : place + 1] for one in maps], task.collate([task.encode(own, INFO)]))
        for place, own in enumerate(scenes)
    ]
    torch.testing.assert_close(together, torch.stack(apart).mean())


def test_a_mirrored_image_has_its_targets_mirrored_within_the_map(build_task):
    """Officially maps are mirrored, not the input's coordinates: column x / 4 becomes 15 - x / 4."""
    task = build_task(NAME, size=[SIZE, SIZE], flip=1.0, rotation=0.0, scale=[1.0, 1.0], translation=0.0)
    one = task.encode(scene({5: (21, 10)}, ignored=[(0, 0, 16, 64)]), INFO, np.random.default_rng(0))
    batch = task.collate([one])
    assert one["mirrored"]
    coarse, fine = outputs()
    right = COCO.names.index("right_shoulder")
    for maps, side, x, y in ((coarse, 16, 9, 2), (fine, 32, 20, 5)):  # 15 - 5.25 and 31 - 10.5, cut
        maps[:, right] = gaussians(torch.tensor([[[x, y]]]), torch.ones(1, 1), size=(side, side), sigma=2.0, reach=7)[
            0
        ][:, 0]
    assert task.loss([coarse, fine], batch).item() == 0
    coarse[:, :, :, 12:] = 5.0  # the crowd is on the right now
    assert task.loss([coarse, fine], batch).item() == 0
    assert np.array_equal(one["image"][:, :, ::-1], task.encode(scene(), INFO)["image"])


# -- what is seen ---------------------------------------------------------------------------------------------------


def test_augmentation_moves_joints_with_the_image(build_task):
    """A bright spot is found where its joint is said to be."""
    task = build_task(NAME, size=[128, 128])
    sample = scene({0: (50, 40)}, height=80, width=100)
    sample["image"][:] = 0
    sample["image"][38:43, 48:53] = 255
    seen = 0
    for seed in range(20):
        one = task.encode(sample, INFO, np.random.default_rng(seed))
        image = one["image"][0].astype(float)
        assert one["image"].shape == (3, 128, 128)
        x, y = one["joints"][0, 0]
        x = 127 - x if one["mirrored"] else x
        if image.sum() < 255 * 9:
            continue
        rows, columns = np.indices(image.shape)
        centre = (columns * image).sum() / image.sum(), (rows * image).sum() / image.sum()
        np.testing.assert_allclose(centre, (x, y), atol=1.5)
        seen += 1
    assert seen > 10


@pytest.mark.parametrize(
    ("image", "least", "scale", "size"),
    [
        ((480, 640), 1.0, 1.0, (512, 704)),
        ((640, 427), 1.0, 1.0, (768, 512)),
        ((500, 500), 1.0, 1.0, (512, 512)),
        ((480, 640), 0.5, 0.5, (256, 384)),
        ((480, 640), 0.5, 1.0, (512, 768)),
        ((480, 640), 0.5, 2.0, (1024, 1536)),
    ],
)
def test_images_are_evaluated_at_the_official_sizes(image, least, scale, size):
    assert evaluated_size(image, 512, least=least, scale=scale) == size
    _, (width, height) = whole(image, size)
    assert min(width, height) == min(image)
    assert width / height == pytest.approx(size[1] / size[0])


@pytest.mark.parametrize(
    ("kind", "knobs", "said"),
    [
        ("task", {"size": [100, 128]}, "size: multiples of 32"),
        ("task", {"sigma": 0.0}, "sigma: must be positive"),
        ("task", {"scale": [1.5, 0.75]}, "scale: the smaller number comes first"),
        ("protocol", {"scales": [0.5, 2.0]}, "scales: positive numbers, 1 among them"),
        ("protocol", {"scales": []}, "scales: positive numbers"),
        ("protocol", {"kernel": 4}, "kernel: an odd number"),
        ("protocol", {"most": 0}, "most: must be positive"),
    ],
)
def test_knobs_that_can_be_none_are_refused(kind, knobs, said):
    with pytest.raises(PartError, match=said):
        registry.build(kind, NAME, registry.check_knobs(kind, NAME, knobs))


def test_networks_with_supervision_on_the_way_are_refused(build_task):
    with pytest.raises(PartError, match="supervision on the way"):
        build_task(NAME).head(INFO, [8], [4], intermediate=[1])


# -- people ---------------------------------------------------------------------------------------------------------


def truth_scores(task, samples, truthful, protocol):
    found = truthful(NAME, task, task.samples_for_evaluation(samples, protocol), samples.info, protocol)
    metric = registry.build("metric", "keypoint_ap", {})
    return metric.aggregate(metric.per_image(found, task.ground_truth(samples), samples.info)), found


@pytest.mark.parametrize("knobs", [{}, {"flip": False}, {"enlarge": False}, {"adjust": False}])
def test_three_people_a_picture_come_back_from_their_targets(build_task, build_protocol, truthful, knobs):
    data = registry.build("dataset", "figures", registry.check_knobs("dataset", "figures", FIGURES))
    scores, found = truth_scores(
        build_task(NAME, size=[256, 256]), data.open("val", None), truthful, build_protocol(NAME, **knobs)
    )
    assert scores["AP"] > 0.9
    assert len(found) == 12


FIGURES = {"val": 12, "people": 3, "size": [112, 160]}


def test_the_multi_scale_test_reads_people_where_they_are(build_task, build_protocol):
    """Each pass sees the image at its scale; its maps are enlarged to those of scale 1."""
    task, protocol = build_task(NAME, size=[128, 128]), build_protocol(NAME, scales=[0.5, 1.0, 2.0])
    sample = scene({0: (50, 40)}, height=120, width=150)
    batch, sizes = task.collate([task.encode(sample, INFO)]), []

    def network(images):
        height, width = images.shape[2:]
        sizes.append((height, width))
        factor = height / 120
        mirrored = len(sizes) % 2 == 0
        coarse, fine = torch.zeros(1, 34, height // 4, width // 4), torch.zeros(1, 17, height // 2, width // 2)
        x = width / 2 + (50 - 75) * factor  # the image lies in the middle of a wider input
        x = width - 1 - x if mirrored else x
        for maps, step in ((coarse, 4), (fine, 2)):
            points = torch.tensor([[[x / step, 40 * factor / step]]])
            maps[:, :1] = gaussians(points, torch.ones(1, 1), size=maps.shape[2:], sigma=2.0 * factor, exact=True)[0]
        return [coarse, fine]

    (person,) = task.predict(network, batch, protocol)
    assert sizes == [(64, 128), (64, 128), (128, 256), (128, 256), (256, 512), (256, 512)]
    assert person["image_id"] == 1
    np.testing.assert_allclose(person["keypoints"][:2], [50, 40], atol=1.5)


def test_nobody_is_found_in_empty_maps(build_task, build_protocol):
    task = build_task(NAME, size=[SIZE, SIZE])
    batch = task.collate([task.encode(scene(), INFO)])
    assert task.predict(lambda images: outputs(), batch, build_protocol(NAME)) == []


def test_truth_as_prediction_scores_one_on_coco_mini(ablate_data, build_task, build_protocol):
    data = registry.build("dataset", "coco_pose", {"set": "coco_mini"})
    samples, task = data.open("val", ablate_data), build_task(NAME)
    truth = task.ground_truth(samples)
    found = [
        {"image_id": a["image_id"], "annotation_id": -1, "category_id": 1, "keypoints": a["keypoints"], "score": 1.0}
        for a in truth["annotations"]
        if a["num_keypoints"] and not a["iscrowd"]
    ]
    metric = registry.build("metric", "keypoint_ap", {})
    scores = metric.aggregate(metric.per_image(task.finish(found, build_protocol(NAME), data.info), truth, data.info))
    assert scores["AP"] == pytest.approx(1.0)
    assert len(task.samples(data.open("train", ablate_data))) == task.sample_counts(data.info)["train"]
    assert len(task.samples_for_evaluation(samples, build_protocol(NAME))) == task.sample_counts(data.info)["val"]


@pytest.mark.slow
def test_encoded_truth_scores_highly_on_coco_mini(ablate_data, build_task, build_protocol, truthful):
    """What is lost are people of a few pixels, whose joints share cells of the maps."""
    samples = registry.build("dataset", "coco_pose", {"set": "coco_mini"}).open("val", ablate_data)
    one_by_one, found = build_protocol(NAME, flip=False), []
    task = build_task(NAME)
    scenes = replace(task.samples_for_evaluation(samples, one_by_one), people=samples.by_image())
    for image_id in [image_id for image_id, people in scenes.people.items() if len(people["joints"])]:
        found += truthful(NAME, task, replace(scenes, ids=(image_id,)), samples.info, one_by_one)
    metric = registry.build("metric", "keypoint_ap", {})
    scores = metric.aggregate(metric.per_image(found, task.ground_truth(samples), samples.info))
    assert scores["AP"] > 0.9
    assert scores["AP50"] > 0.95
