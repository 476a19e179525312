"""Crops, augmentation, targets and loss: worked out by hand, written in the plainest way, or from OpenCV."""

from math import exp

import cv2
import numpy as np
import pytest
import torch
from people_by_hand import COCO, INFO, sample

from ablate.errors import PartError
from ablate.tasks import crop_affine, gaussians, grown_to_shape

# --- the crop


def test_a_crop_worked_out_by_hand():
    # A 30 x 40 box has the shape of a 48 x 64 crop; padded it is 37.5 x 50, so a pixel becomes 48 / 37.5 = 1.28.
    centre, extent = np.array([25.0, 40.0]), 1.25 * grown_to_shape(np.array([30.0, 40.0]), (64, 48))
    assert extent.tolist() == [37.5, 50]
    affine = crop_affine(centre, extent, size=(64, 48), angle=0)
    for point, expected in (((25, 40), (24, 32)), ((10, 20), (4.8, 6.4)), ((40, 60), (43.2, 57.6))):
        assert affine @ (*point, 1) == pytest.approx(expected)
    assert grown_to_shape(np.array([10.0, 40.0]), (64, 48)).tolist() == [30, 40]
    assert grown_to_shape(np.array([30.0, 10.0]), (64, 48)).tolist() == [30, 40]


def test_what_leans_by_the_angle_stands_upright():
    affine = crop_affine(np.array([50.0, 50.0]), np.array([40.0, 40.0]), size=(40, 40), angle=90)
    assert affine @ (60, 50, 1) == pytest.approx([20, 10])  # ten pixels to the right become ten pixels up


@pytest.mark.parametrize("seed", range(5))
def test_crops_are_those_of_three_points(seed):
    """The official way: the centre, half a width above it, and a third point at a right angle, by OpenCV."""
    rng = np.random.default_rng(seed)
    (height, width), angle = rng.integers(32, 300, 2), rng.uniform(-90, 90)
    centre, extent = rng.uniform(0, 200, 2), rng.uniform(20, 300) * np.array([1, height / width])
    turn = np.radians(angle)
    above = extent[0] / 2 * np.array([np.sin(turn), -np.cos(turn)])
    corner = np.array([[0, 1], [-1, 0]]) @ above  # above, turned by a quarter
    there = np.array([width, height]) / 2
    half = width / 2
    target = np.array([there, there - np.array([0, half]), there - half])
    source = np.array([centre, centre + above, centre + above + corner])
    official = cv2.getAffineTransform(np.float32(source), np.float32(target))
    ours = crop_affine(centre, extent, size=(height, width), angle=angle)
    points = rng.uniform(0, 200, (20, 2))
    assert points @ ours[:, :2].T + ours[:, 2] == pytest.approx(points @ official[:, :2].T + official[:, 2], abs=1e-2)


def test_a_crop_of_the_same_size_is_a_copy(build_task):
    made = sample(box=(20, 30, 48, 64))
    encoded = build_task(size=[64, 48], padding=1.0).encode(made, INFO, None)
    assert (encoded["image"] == made["image"][30:94, 20:68].transpose(2, 0, 1)).all()
    assert encoded["joints"] == pytest.approx(made["joints"][:, :2] - (20, 30), abs=1e-4)


def test_a_mirrored_crop_is_the_crop_of_the_mirrored_picture(build_task):
    made = sample()
    last = made["image"].shape[1] - 1
    x, y, w, h = made["box"]
    mirrored = made | {
        "image": np.ascontiguousarray(made["image"][:, ::-1]),
        "box": np.array([last - x - w, y, w, h]),
        "joints": np.column_stack([last - made["joints"][:, 0], made["joints"][:, 1:]])[list(INFO.mirror)],
    }
    for seed in range(8):
        always, never = (build_task(size=[64, 48], flip=flip, half_body_min_joints=3) for flip in (1.0, -1.0))
        first = always.encode(made, INFO, np.random.default_rng(seed))
        second = never.encode(mirrored, INFO, np.random.default_rng(seed))
        assert first["joints"] == pytest.approx(second["joints"], abs=1e-3)
        assert (first["labelled"] == second["labelled"]).all()
        difference = np.abs(first["image"].astype(int) - second["image"].astype(int))
        assert difference.max() <= 3  # bilinear weights are rounded
        assert difference.mean() < 0.3


def test_visibility_is_labelled_or_not(build_task):
    made = sample(labelled=10)
    made["joints"][:4, 2] = 1
    assert build_task().encode(made, INFO, None)["labelled"].tolist() == [1.0] * 10 + [0.0] * 7


def test_images_are_normalised_as_imagenets(build_task):
    batch = {"image": torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)}
    expected = [(0 - 0.485) / 0.229, (1 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    assert build_task().prepare(batch).flatten().tolist() == pytest.approx(expected, rel=1e-5)


# --- augmentation


def augmented(build_task, draws=1500, **knobs):
    """Crops of one person by many generators, all augmentation off but what is asked for."""
    off = {"scale": 0.0, "rotation": 0.0, "half_body": 0.0, "flip": -1.0}
    task = build_task(size=[32, 24], **off | knobs)
    made = sample()
    return task.encode(made, INFO, None), [task.encode(made, INFO, np.random.default_rng([7, i])) for i in range(draws)]


def test_scales_are_normal_and_clipped_at_one_deviation(build_task):
    plain, crops = augmented(build_task, scale=0.35)
    scales = np.array([crop["extent"][0] / plain["extent"][0] for crop in crops])
    assert scales.min() == pytest.approx(0.65)
    assert scales.max() == pytest.approx(1.35)
    for end in (0.65, 1.35):
        assert np.isclose(scales, end).mean() == pytest.approx(0.1587, abs=0.04)  # P(N > 1)
    assert scales.mean() == pytest.approx(1, abs=0.03)


def test_of_faces_scales_and_angles_are_drawn_evenly(build_task):
    """The official face code: random.uniform over 0.75 to 1.25 and over -30 to 30 degrees, the latter at 0.6."""
    plain, crops = augmented(build_task, scale=0.25, rotation=30.0, drawn="uniform", rotation_probability=1.0)
    scales = np.array([crop["extent"][0] / plain["extent"][0] for crop in crops])
    shoulders = [crop["joints"][6] - crop["joints"][5] for crop in (plain, *crops)]
    first, *angles = (float(np.degrees(np.arctan2(*line[::-1]))) for line in shoulders)
    turned = (np.array(angles) - first + 180) % 360 - 180
    for found, least, most in ((scales, 0.75, 1.25), (turned, -30, 30)):
        assert least - 0.1 <= found.min() <= found.max() <= most + 0.1
        counts, _ = np.histogram(found, 4, (least, most))
        assert counts / len(found) == pytest.approx([0.25] * 4, abs=0.04)


def test_the_heads_of_faces_mix_the_channels_first(build_task):
    """The official HRNetV2 of faces with 270 channels and 98 landmarks: two convolutions and a normalisation."""
    head = build_task(head="mixing").head(INFO, (270,), (4,))
    layers = [tuple(value.shape) for name, value in head.state_dict().items() if value.dim() == 4]
    assert layers == [(270, 270, 1, 1), (17, 270, 1, 1)]
    assert head([torch.zeros(1, 270, 6, 4)]).shape == (1, 17, 6, 4)
    with pytest.raises(PartError, match="head: mixing has no supervision on the way"):
        build_task(head="mixing").head(INFO, (8, 8), (4, 4), intermediate=(1,))


def test_rotations_are_normal_and_clipped_at_two_deviations(build_task):
    plain, crops = augmented(build_task, rotation=45.0)

    def angle(crop):
        x, y = crop["joints"][1] - crop["joints"][0]
        return np.degrees(np.arctan2(y, x))

    angles = np.array([(angle(plain) - angle(crop) + 180) % 360 - 180 for crop in crops])
    turned = angles[np.abs(angles) > 1e-3]
    assert len(turned) / len(angles) == pytest.approx(0.6, abs=0.05)
    assert np.abs(turned).max() == pytest.approx(90, abs=1e-2)
    assert (np.abs(turned) > 89.99).mean() == pytest.approx(0.0455, abs=0.025)  # P(|N| > 2)
    assert turned.std() == pytest.approx(45 * 0.96, abs=4)


def test_half_of_the_crops_are_mirrored(build_task):
    plain, crops = augmented(build_task, flip=0.5)
    mirrored = [not np.allclose(crop["joints"], plain["joints"], atol=1e-3) for crop in crops]
    assert np.mean(mirrored) == pytest.approx(0.5, abs=0.05)


def test_half_bodies_prefer_the_upper_by_a_normal_draw(build_task):
    """The official code asks `randn() < 0.5`, so that the upper body comes with probability 0.69."""
    made = sample()
    upper = np.isin(np.arange(17), COCO.upper_body)
    expected = {}
    for name, chosen in (("upper", upper), ("lower", ~upper)):
        points = made["joints"][chosen, :2]
        extent = 1.5 * grown_to_shape(points.max(0) - points.min(0), (32, 24))
        expected[name] = (*points.mean(0), *extent)
    _, crops = augmented(build_task, half_body=1.0)
    found = [
        next(name for name, region in expected.items() if np.allclose((*crop["centre"], *crop["extent"]), region))
        for crop in crops
    ]
    assert found.count("upper") / len(found) == pytest.approx(0.6915, abs=0.04)
    _, crops = augmented(build_task, half_body=0.3)
    whole = [np.allclose(crop["extent"], 1.25 * np.array([30, 40])) for crop in crops]
    assert np.mean(whole) == pytest.approx(0.7, abs=0.04)


def test_few_joints_are_never_halved(build_task):
    task = build_task(size=[32, 24], scale=0.0, rotation=0.0, half_body=1.0)
    for labelled, halved in ((8, False), (9, True)):
        made = sample(labelled=labelled)
        extents = [task.encode(made, INFO, np.random.default_rng(i))["extent"] for i in range(20)]
        assert any(not np.allclose(extent, 1.25 * np.array([30, 40])) for extent in extents) == halved


# --- targets and loss


def plain_target(x, y, *, height, width, sigma):
    """One official target, pixel by pixel; None where its square misses the map."""
    centre_x, centre_y, reach = int(x + 0.5), int(y + 0.5), 3 * sigma
    outside = centre_x - reach >= width or centre_y - reach >= height
    if outside or centre_x + reach + 1 < 0 or centre_y + reach + 1 < 0:
        return None
    target = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            dx, dy = column - centre_x, row - centre_y
            if max(abs(dx), abs(dy)) <= reach:
                target[row, column] = exp(-(dx**2 + dy**2) / (2 * sigma**2))
    return target


@pytest.mark.parametrize("sigma", [1, 2, 3])
def test_targets_are_the_official_ones(sigma):
    rng = np.random.default_rng(sigma)
    centres = rng.uniform(-25, 45, (40, 2))
    centres[:4] = [(3.5, 2.49), (-0.6, 5), (-3 * sigma - 1, 5), (-3 * sigma - 2, 5)]
    targets, weights = gaussians(torch.tensor(centres)[None], torch.ones(1, 40), size=(20, 16), sigma=sigma)
    for (x, y), target, weight in zip(centres, targets[0], weights[0], strict=True):
        expected = plain_target(x, y, height=20, width=16, sigma=sigma)
        assert weight == (expected is not None)
        assert target.numpy() == pytest.approx(np.zeros((20, 16)) if expected is None else expected, abs=1e-6)


def test_a_target_worked_out_by_hand():
    targets, weights = gaussians(torch.tensor([[[10.4, 7.5]]]), torch.ones(1, 1), size=(32, 24), sigma=2)
    target = targets[0, 0]
    assert target[8, 10] == 1
    assert target[8, 11] == pytest.approx(exp(-1 / 8))
    assert target[10, 13] == pytest.approx(exp(-13 / 8))
    assert target[14, 10] > 0  # three sigma away
    assert target[15, 10] == 0
    assert weights.tolist() == [[1]]
    unlabelled, weights = gaussians(torch.tensor([[[10.4, 7.5]]]), torch.zeros(1, 1), size=(32, 24), sigma=2)
    assert not unlabelled.any()
    assert not weights.any()


@pytest.mark.parametrize("stride", [4, 8, 16, 32])
def test_the_loss_is_the_official_sum_over_joints(build_task, stride):
    torch.manual_seed(0)
    task = build_task(size=[64, 96])
    batch = {
        "joints": torch.rand(3, 5, 2) * torch.tensor([96, 64]),
        "labelled": torch.tensor([[1.0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [1, 1, 1, 1, 1]]),
    }
    height, width = 64 // stride, 96 // stride
    outputs = torch.rand(3, 5, height, width)
    expected = 0.0
    for joint in range(5):
        errors = []
        for person in range(3):
            x, y = (batch["joints"][person, joint] / stride).tolist()
            target = plain_target(x, y, height=height, width=width, sigma=2)
            weight = 0 if target is None else batch["labelled"][person, joint].item()
            target = np.zeros((height, width)) if target is None else target
            errors.append((weight * (outputs[person, joint].numpy() - target)) ** 2)
        expected += 0.5 * np.mean(errors) / 5
    assert task.loss(outputs, batch).item() == pytest.approx(expected, rel=1e-5)
