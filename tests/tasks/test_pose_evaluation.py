"""From heatmaps to scored people: worked out by hand, written in the plainest way, and on real photographs."""

import json
from math import exp

import cv2
import numpy as np
import pytest
import torch
from people_by_hand import COCO, INFO, sample
from torch import nn

from ablate import registry
from ablate.errors import DataError, PartError
from ablate.tasks import crop_affine, oks_nms, read_heatmaps

# --- reading heatmaps


def peaks(*places, size=(8, 10)):
    """One heatmap for each {(x, y): value}."""
    maps = torch.zeros(1, len(places), *size)
    for joint, values in enumerate(places):
        for (x, y), value in values.items():
            maps[0, joint, y, x] = value
    return maps


def test_maxima_move_a_quarter_towards_the_higher_neighbour():
    maps = peaks(
        {(4, 3): 0.9, (5, 3): 0.5, (3, 3): 0.2, (4, 2): 0.4},
        {(4, 3): 0.9},
        {(1, 3): 0.9, (2, 3): 0.5},
        {(8, 3): 0.7, (7, 3): 0.5},
        {(9, 3): 0.7, (8, 3): 0.5},
        {(4, 6): 0.3, (4, 5): 0.2, (4, 7): 0.1},
        {(4, 7): 0.3, (3, 7): 0.2},
        {},
    )
    points, confidence = read_heatmaps(maps, refine=True)
    expected = [[4.25, 2.75], [4, 3], [1, 3], [7.75, 3], [9, 3], [4, 5.75], [4, 7], [0, 0]]
    assert points[0].tolist() == expected
    assert confidence[0].tolist() == pytest.approx([0.9, 0.9, 0.9, 0.7, 0.7, 0.3, 0.3, 0])
    assert read_heatmaps(maps, refine=False)[0][0, 0].tolist() == [4, 3]
    assert read_heatmaps(maps - 1, refine=True)[0].eq(0).all()  # nothing positive
    for size in ((1, 1), (2, 2), (3, 3), (2, 9), (9, 2)):  # all border
        small = torch.zeros(1, 1, *size)
        small[..., -1, -1] = 1
        assert read_heatmaps(small, refine=True)[0].tolist() == [[[size[1] - 1, size[0] - 1]]]


class Given(nn.Module):
    """Gives the next of the heatmaps it was made with, whatever it sees."""

    def __init__(self, *heatmaps):
        super().__init__()
        self.heatmaps, self.seen = list(heatmaps), []

    def forward(self, images):
        self.seen.append(images)
        return self.heatmaps.pop(0)


def batch_of(build_task, info=INFO, **knobs):
    task = build_task(size=[32, 40], **knobs)
    return task, task.collate([task.encode(sample(box=(10, 20, 40, 32)), info, None)])


def test_the_flip_test_mirrors_swaps_shifts_and_averages(build_task, build_protocol):
    task, batch = batch_of(build_task)
    torch.manual_seed(0)
    upright, mirrored = torch.rand(1, 17, 8, 10), torch.rand(1, 17, 8, 10)
    expected = np.zeros((17, 8, 10))
    for joint in range(17):
        other = INFO.mirror[joint]
        for column in range(10):
            source = max(0, column - 1)  # one pixel to the right; the first column keeps its own
            expected[joint, :, column] = (upright[0, joint, :, column] + mirrored[0, other, :, 9 - source]) / 2
    model = Given(upright, mirrored)
    (prediction,) = task.predict(model, batch, build_protocol())
    points, confidence = read_heatmaps(torch.tensor(expected)[None], refine=True)
    # The box has the crop's shape, so the crop is 50 x 40 image pixels about (30, 36), five to a heatmap pixel.
    xy = torch.tensor([30, 36]) + (points[0].double() - torch.tensor([5, 4])) * 5
    found = np.array(prediction["keypoints"]).reshape(17, 3)
    assert found[:, :2] == pytest.approx(xy.numpy(), abs=1e-4)
    assert found[:, 2] == pytest.approx(confidence[0].numpy(), abs=1e-6)
    assert (model.seen[0].flip(3) == model.seen[1]).all()
    assert prediction["area"] == pytest.approx(50 * 40)
    assert (prediction["image_id"], prediction["annotation_id"], prediction["category_id"]) == (1, 2, 1)
    assert prediction["score"] == prediction["box_score"] == 0.5
    alone = Given(upright)
    (prediction,) = task.predict(alone, batch, build_protocol(flip=False, refine="none"))
    assert np.array(prediction["keypoints"])[2::3] == pytest.approx(upright.flatten(2).amax(2)[0].numpy())


def test_a_point_comes_back_to_where_it_was(build_task, build_protocol):
    task, batch = batch_of(build_task, sigma=1.0)
    affine = crop_affine(np.array([30, 36.0]), np.array([50, 40.0]), size=(32, 40), angle=0)
    maps = peaks(*[{(3, 5): 1.0}] * 17)
    (prediction,) = task.predict(Given(maps), batch, build_protocol(flip=False))
    inverse = cv2.invertAffineTransform(affine)
    assert prediction["keypoints"][:2] == pytest.approx(inverse @ (3 * 4, 5 * 4, 1))


# --- scores and duplicates


def instance(points, *, score=1.0, area=1000.0, image=1, confidence=0.5):
    keypoints = np.column_stack([points, np.broadcast_to(confidence, len(points))]).ravel().tolist()
    return {"image_id": image, "keypoints": keypoints, "score": score, "box_score": score, "area": area}


def test_a_score_is_the_boxs_times_the_mean_of_its_confident_joints(build_task, build_protocol):
    confidence = np.full(17, 0.1)
    confidence[:3] = 0.9, 0.3, 0.2  # 0.2 is not above the threshold
    people = [instance(np.zeros((17, 2)), score=0.5, confidence=confidence)]
    people.append(instance(np.zeros((17, 2)), image=2, score=0.5, confidence=0.1))
    finished = build_task().finish(people, build_protocol(), INFO)
    assert [person["score"] for person in finished] == pytest.approx([0.5 * 0.6, 0])
    assert people[0]["score"] == 0.5  # what was given stays as it was


def test_duplicates_worked_out_by_hand():
    sigmas = np.array([0.05, 0.1])
    # Similarity of two people d apart at both joints: mean of exp(-d^2 / (2 sigma)^2 / area / 2).
    first, far = np.array([[0.0, 0.0], [10.0, 0.0]]), np.array([[40.0, 0.0], [50.0, 0.0]])
    distance, area = 2.0, 900.0
    similarity = np.mean([exp(-(distance**2) / (2 * s) ** 2 / area / 2) for s in sigmas])
    people = [
        instance(first + np.array([0, distance]), score=0.6, area=800),
        instance(first, score=0.9, area=1000),
        instance(far, score=0.1),
    ]
    assert oks_nms(people, sigmas=sigmas, threshold=similarity - 1e-6) == [1, 2]
    assert oks_nms(people, sigmas=sigmas, threshold=similarity + 1e-6) == [1, 0, 2]


@pytest.mark.parametrize("seed", range(4))
def test_duplicates_as_by_two_loops(seed):
    rng = np.random.default_rng(seed)
    sigmas = np.array(COCO.sigmas)
    stems = rng.uniform(0, 100, (5, 17, 2))
    people = [
        instance(stems[i % 5] + rng.normal(0, 1.5, (17, 2)), score=rng.random(), area=rng.uniform(500, 2000))
        for i in range(20)
    ]
    kept = []
    for place in sorted(range(20), key=lambda i: -people[i]["score"]):
        points = np.array(people[place]["keypoints"]).reshape(17, 3)
        alike = []
        for other in kept:
            theirs = np.array(people[other]["keypoints"]).reshape(17, 3)
            area = (people[place]["area"] + people[other]["area"]) / 2
            squared = ((points - theirs)[:, :2] ** 2).sum(1)
            alike.append(np.mean([exp(-d / (8 * s**2 * area)) for d, s in zip(squared, sigmas, strict=True)]))
        if all(value <= 0.7 for value in alike):
            kept.append(place)
    assert 5 <= len(kept) < 20
    assert oks_nms(people, sigmas=sigmas, threshold=0.7) == kept


def test_duplicates_are_looked_for_within_an_image(build_task, build_protocol):
    same = np.ones((17, 2))
    people = [instance(same, image=1, score=0.5), instance(same, image=2), instance(same, image=1)]
    finished = build_task().finish(people, build_protocol(), INFO)
    assert [(person["image_id"], person["box_score"]) for person in finished] == [(1, 1.0), (2, 1.0)]


# --- boxes from a detector


def detections(few_images, entries, name="boxes.json"):
    (few_images.folder / name).write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return registry.build("protocol", "pose", {"boxes": "detections", "detections": name})


def box(image, score=0.5, category=1, bbox=(10, 10, 20, 30)):
    return {"image_id": image, "category_id": category, "bbox": list(bbox), "score": score}


def test_detected_people_are_samples(build_task, few_images):
    task = build_task(size=[32, 24])
    protocol = detections(few_images, [box(3, 0.9), box(3, 0.001), box(1, category=2), box(77)])
    people = task.samples_for_evaluation(few_images, protocol)
    assert len(people) == 2
    assert people.left_out == 1
    assert [people[i]["score"] for i in (0, 1)] == [0.9, 0.001]
    encoded = task.encode(people[0], few_images.info, None)
    assert encoded["labelled"].sum() == 0
    (prediction, _) = task.predict(
        Given(torch.rand(2, 17, 8, 6)),
        task.collate([task.encode(people[i], few_images.info, None) for i in (0, 1)]),
        registry.build("protocol", "pose", {"flip": False}),
    )
    assert prediction["annotation_id"] == -1
    assert prediction["box_score"] == 0.9
    assert task.samples_for_evaluation(few_images, registry.build("protocol", "pose", {})) is few_images


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ("{", "not a COCO results file"),
        ([{"image_id": 1}], "not a COCO results file"),
        ([box(1), box(1, bbox=(1, 2, 0, 4)), box(1, score=float("nan")), box("x")], "3 problems: person 1 has"),
        ([box(1, bbox=(1, 2, 3))], "a problem: person 0 has"),
        ([box(99)], "no person box on any image"),
    ],
)
def test_damaged_detections_are_named(build_task, few_images, entries, said):
    protocol = detections(few_images, entries)
    with pytest.raises(DataError) as caught:
        build_task().samples_for_evaluation(few_images, protocol)
    assert "boxes.json" in str(caught.value)
    assert said in str(caught.value)


def test_detections_need_a_file_in_a_folder(build_task, few_images, figures):
    protocol = registry.build("protocol", "pose", {"boxes": "detections", "detections": "none.json"})
    with pytest.raises(DataError, match=r"none\.json: No such file"):
        build_task().samples_for_evaluation(few_images, protocol)
    with pytest.raises(DataError, match="has no folder"):
        build_task().samples_for_evaluation(figures[2], protocol)


def test_knobs_that_contradict_are_refused(build_task, build_protocol):
    for knobs in ({"boxes": "detections"}, {"detections": "boxes.json"}):
        with pytest.raises(PartError, match="does not go with"):
            build_protocol(**knobs)
    for knobs in ({"size": [0, 10]}, {"sigma": 0}, {"padding": -1}):
        with pytest.raises(PartError, match="must be positive"):
            build_task(**knobs)


# --- real photographs


@pytest.mark.parametrize(
    ("name", "joints", "least"),
    [("pose_lspet", "coco17", 0.995), ("pose_lspet", "lsp14", 0.995), ("coco_mini", "coco17", 0.95)],
)
def test_the_truth_of_real_people_survives(ablate_data, build_task, build_protocol, truthful, name, joints, least):
    """Ground truth -> crop -> heatmaps -> maxima -> OKS-NMS -> AP by pycocotools."""
    data = registry.build("dataset", "coco_pose", {"set": name, "joints": joints})
    samples, task, protocol = data.open("val", ablate_data), build_task(size=[256, 192]), build_protocol()
    finished = task.finish(truthful("pose", task, samples, data.info, protocol), protocol, data.info)
    metric = registry.build("metric", "keypoint_ap", {})
    scores = metric.aggregate(metric.per_image(finished, samples.ground_truth(), data.info))
    assert scores["AP"] > least
    assert scores["AP50"] > 0.985
