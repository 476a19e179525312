"""Crops, losses and heads of segmentation: worked out by hand, by OpenCV, or written in the plainest way."""

import re

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ablate.datasets import IGNORED, Classes, Info
from ablate.errors import PartError
from ablate.tasks._class_scores import scaled_size
from ablate.tasks._pixel_loss import cross_entropy, hard_cross_entropy

INFO = Info("made", None, "none", "made", classes=("road", "car", "sky"), class_weights=(0.8, 1.0, 1.2))
SCALES = [0.5 + tenth / 10 for tenth in range(17)]


def sample(height=40, width=60):
    """A picture whose first two channels are row and column, and in `labels` the sum of the two."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return {"image": np.dstack([rows, columns, 255 - rows]), "labels": rows + columns, "image_id": 3}


def crops(task, count=400):
    made = sample()
    return [task.encode(made, INFO, np.random.default_rng([1, index])) for index in range(count)]


# --- the crop


def test_pictures_are_scaled_as_officially_and_padded(build_task):
    """A crop that is larger than every scaled picture shows the whole of it, at 17 sizes."""
    task, made, seen = build_task("segmentation", size=[100, 150], flip=-1.0), sample(), []
    for encoded in crops(task):
        height, width = (encoded["labels"] != IGNORED).any(1).sum(), (encoded["labels"] != IGNORED).any(0).sum()
        resized = cv2.resize(made["image"], (int(width), int(height)), interpolation=cv2.INTER_LINEAR)
        assert (encoded["image"][:, :height, :width].transpose(1, 2, 0) == resized).all()
        nearest = cv2.resize(made["labels"], (int(width), int(height)), interpolation=cv2.INTER_NEAREST)
        assert (encoded["labels"][:height, :width] == nearest).all()
        assert not encoded["image"][:, height:].any()
        assert not encoded["image"][:, :, width:].any()
        seen.append((int(height), int(width)))
    assert set(seen) == {(int(40 * (60 * s + 0.5 - (60 * s + 0.5) % 1) / 60 + 0.5), int(60 * s + 0.5)) for s in SCALES}
    assert min(seen.count(size) for size in set(seen)) > 400 / 17 / 3


def test_a_long_side_is_rounded_and_the_short_one_follows():
    assert scaled_size((1024, 2048), 0.5) == (512, 1024)
    assert scaled_size((1024, 2048), 1.3) == (1331, 2662)  # 2662.4 -> 2662
    assert scaled_size((360, 480), 2.1) == (756, 1008)
    assert scaled_size((5, 3), 0.5) == (3, 2)  # 2.5 -> 3, then 3 * 3 / 5 = 1.8 -> 2
    assert scaled_size((7, 7), 1) == (7, 7)
    assert scaled_size((1, 100), 0.1) == (1, 10)


def test_crops_lie_anywhere_and_labels_with_them(build_task):
    corners = []
    for encoded in crops(build_task("segmentation", size=[16, 20], scale=[1.0, 1.0], flip=-1.0)):
        top, left = encoded["image"][:2, 0, 0].tolist()
        assert (encoded["image"].transpose(1, 2, 0) == sample()["image"][top : top + 16, left : left + 20]).all()
        assert (encoded["labels"] == sample()["labels"][top : top + 16, left : left + 20]).all()
        corners.append((top, left))
    assert {top for top, _ in corners} == set(range(25))
    assert {left for _, left in corners} == set(range(41))


def test_half_of_the_crops_are_mirrored_with_their_labels(build_task):
    mirrored = []
    for encoded in crops(build_task("segmentation", size=[40, 60], scale=[1.0, 1.0])):
        turned = encoded["image"][1, 0, 0] > 0
        step = -1 if turned else 1
        assert (encoded["image"].transpose(1, 2, 0) == sample()["image"][:, ::step]).all()
        assert (encoded["labels"] == sample()["labels"][:, ::step]).all()
        mirrored.append(turned)
    assert np.mean(mirrored) == pytest.approx(0.5, abs=0.07)


def test_mirroring_swaps_left_and_right_classes(build_task):
    """By hand: scene 0, left arm 1, right arm 2; unlabelled pixels stay so."""
    info = Info("made", None, "none", "made", classes=Classes(("scene", "left", "right"), flip_pairs=((1, 2),)))
    labels = np.array([[0, 1, 1, 2], [2, IGNORED, 0, 1]], np.uint8)
    one = {"image": np.zeros((2, 4, 3), np.uint8), "labels": labels, "image_id": 1}
    task = build_task("segmentation", size=[2, 4], scale=[1.0, 1.0], flip=1.0)
    encoded = task.encode(one, info, np.random.default_rng(0))
    assert encoded["labels"].tolist() == [[1, 2, 2, 0], [2, 0, IGNORED, 1]]
    assert encoded["mirror"].tolist() == [0, 2, 1]
    assert "mirror" not in task.encode(one, INFO, np.random.default_rng(0))


def test_every_image_has_the_same_longer_side_at_scale_1(build_task):
    """520 pixels as of PASCAL-Context, whatever the image's size: 375 x 500 -> 390 x 520; a scale of 0.5: 195 x 260."""
    pixels = np.full((375, 500, 3), 200, np.uint8)
    one = {"image": pixels, "labels": np.ones((375, 500), np.uint8), "image_id": 1}
    for scale, sides in ((1.0, (390, 520)), (0.5, (195, 260))):
        task = build_task("segmentation", size=[600, 600], resize=520, scale=[scale, scale])
        labels = task.encode(one, INFO, np.random.default_rng(0))["labels"]
        assert tuple(int((labels == 1).any(axis=axis).sum()) for axis in (1, 0)) == sides
    task = build_task("segmentation", size=[473, 473], resize=[473, 473], scale=[1.0, 1.0])
    assert (task.encode(one, INFO, np.random.default_rng(0))["labels"] == 1).all()  # LIP: whatever its shape


def test_in_evaluation_the_picture_is_as_it_is(build_task):
    encoded = build_task("segmentation", size=[16, 16]).encode(sample(), INFO, None)
    assert (encoded["image"].transpose(1, 2, 0) == sample()["image"]).all()
    assert (encoded["labels"] == sample()["labels"]).all()
    assert encoded["image_id"] == 3


# --- the loss


@pytest.fixture
def batch():
    """Logits of stride 4 and labels of two pictures, some pixels without a class."""
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (2, 16, 24), dtype=torch.uint8)
    labels[:, :3] = IGNORED
    logits = torch.randn(2, 3, 4, 6, requires_grad=True)
    return logits, {"labels": labels, "class_weights": torch.tensor(INFO.class_weights).repeat(2, 1)}


@pytest.mark.parametrize("corners", [False, True])
def test_the_loss_is_weighted_cross_entropy_at_the_labels_size(build_task, batch, corners):
    logits, made = batch
    large = F.interpolate(logits, size=(16, 24), mode="bilinear", align_corners=corners)
    weights = torch.tensor(INFO.class_weights)
    expected = F.cross_entropy(large, made["labels"].long(), weight=weights, ignore_index=IGNORED)
    task = build_task("segmentation", align_corners=corners)
    assert task.loss(logits, made).item() == pytest.approx(expected.item(), rel=1e-6)


def test_published_weights_can_be_left_out(build_task):
    for use, expected in ((True, [0.8, 1.0, 1.2]), (False, [1.0, 1.0, 1.0])):
        encoded = build_task("segmentation", class_weights=use).encode(sample(), INFO, None)
        assert encoded["class_weights"].tolist() == pytest.approx(expected)
    unpublished = Info("made", None, "none", "made", classes=("road", "car"))
    assert build_task("segmentation").encode(sample(), unpublished, None)["class_weights"].tolist() == [1.0, 1.0]


def test_a_study_may_give_weights_of_its_own(build_task):
    task = build_task("segmentation", class_weights=[0.5, 0, 3])
    assert task.encode(sample(), INFO, None)["class_weights"].tolist() == [0.5, 0, 3]
    for wrong, told in (
        ([0.5, 3], "class_weights: 2 numbers for 3 classes"),
        ([1, 1, -1], "class_weights: numbers of 0 or more, not all 0; not [1.0, 1.0, -1.0]"),
        ([0, 0, 0], "class_weights: numbers of 0 or more, not all 0; not [0.0, 0.0, 0.0]"),
    ):
        with pytest.raises(PartError, match=re.escape(told)):
            build_task("segmentation", class_weights=wrong).head(INFO, [8], [4])


@pytest.mark.parametrize("ohem", [False, True])
def test_a_batch_without_labels_teaches_nothing(build_task, batch, ohem):
    logits, made = batch
    loss = build_task("segmentation", ohem=ohem).loss(logits, made | {"labels": torch.full((2, 16, 24), IGNORED)})
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize(("threshold", "min_kept"), [(0.9, 5), (0.3, 5), (0.3, 200), (0.01, 1), (0.5, 10**6)])
def test_hard_pixels_are_those_of_the_official_rule(threshold, min_kept):
    """Sort the probabilities of the labelled pixels' own classes; the place `min_kept` may raise the threshold."""
    torch.manual_seed(1)
    logits, labels = 2 * torch.randn(2, 3, 12, 12), torch.randint(0, 3, (2, 12, 12))
    labels[:, 0] = IGNORED
    weights = torch.tensor(INFO.class_weights)
    labelled = (labels != IGNORED).flatten()
    everywhere = torch.where(labels == IGNORED, 0, labels)
    own = logits.softmax(1).gather(1, everywhere[:, None]).flatten()[labelled].tolist()
    losses = F.cross_entropy(logits, labels, weight=weights, ignore_index=IGNORED, reduction="none")
    losses = losses.flatten()[labelled].tolist()
    limit = max(threshold, sorted(own)[min(min_kept, len(own) - 1)])
    expected = np.mean([loss for loss, probability in zip(losses, own, strict=True) if probability < limit])
    found = hard_cross_entropy(logits, labels, weights, threshold=threshold, min_kept=min_kept)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_the_task_mines_hard_pixels_of_the_main_logits_only(build_task, batch):
    logits, made = batch
    labels, weights = made["labels"].long(), torch.tensor(INFO.class_weights)
    large = F.interpolate(logits, size=(16, 24), mode="bilinear", align_corners=False)
    task = build_task("segmentation", ohem=True, ohem_threshold=0.2, ohem_min_kept=50)
    hard = hard_cross_entropy(large, labels, weights, threshold=0.2, min_kept=50)
    assert task.loss(logits, made).item() == pytest.approx(hard.item())
    both = hard + 0.4 * cross_entropy(large, labels, weights)
    assert task.loss([logits, logits], made).item() == pytest.approx(both.item())


# --- heads


@pytest.mark.parametrize("head", ["linear", "mixing", "ocr"])
def test_every_head_gives_logits_of_the_first_map(build_task, head):
    net = build_task("segmentation", head=head).head(INFO, (24, 48), (4, 8)).eval()
    outputs = net([torch.randn(2, 24, 8, 10), torch.randn(2, 48, 4, 5)])
    for logits in outputs if isinstance(outputs, list) else [outputs]:
        assert logits.shape == (2, 3, 8, 10)
    assert isinstance(outputs, list) == (head == "ocr")


def test_object_contexts_are_as_wide_as_asked(build_task):
    """Beside W48 they have 512 channels, of keys half; beside a narrow network they would be most of the cost."""
    head = build_task("segmentation", head="ocr", ocr_channels=80).head(INFO, (24,), (4,))
    assert head.conv3x3_ocr[0].out_channels == 80
    assert head.ocr_distri_head.object_context_block.f_down[0].out_channels == 40
    assert build_task("segmentation", head="ocr").head(INFO, (24,), (4,)).conv3x3_ocr[0].out_channels == 512
    with pytest.raises(PartError, match="ocr_channels: must be two or more, not 1"):
        build_task("segmentation", head="ocr", ocr_channels=1)


def test_intermediate_maps_are_supervised_in_training_only(build_task):
    task = build_task("segmentation", auxiliary_weight=0.5)
    net = task.head(INFO, (8, 16, 32), (4, 8, 16), intermediate=(0, 2))
    maps = [torch.randn(2, 8, 4, 6), torch.randn(2, 16, 2, 3), torch.randn(2, 32, 1, 2)]
    outputs = net(maps)
    assert [logits.shape[1:] for logits in outputs] == [(3, 1, 2), (3, 4, 6)]  # the last one predicts
    assert (net.eval()(maps) == outputs[1]).all()
    made = {"labels": torch.randint(0, 3, (2, 16, 24)), "class_weights": torch.ones(2, 3)}
    alone = [task.loss(logits, made).item() for logits in outputs]
    assert task.loss(outputs, made).item() == pytest.approx(0.5 * alone[0] + alone[1], rel=1e-5)


def test_object_contexts_are_learned(small_figures, build_task):
    """The OCR head on a convolution, trained on pictures of people: both its losses fall."""
    info, train, _ = small_figures
    torch.manual_seed(0)
    task = build_task("segmentation", head="ocr")
    body = nn.Sequential(nn.Conv2d(3, 32, 9, stride=4, padding=4), nn.BatchNorm2d(32), nn.ReLU())
    head = task.head(info, (32,), (4,))
    batch = task.collate([task.encode(task.samples(train)[index], info, None) for index in range(4)])
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=2e-3)
    losses = []
    for _ in range(25):
        outputs = head([body(task.prepare(batch))])
        loss = task.loss(outputs, batch)
        losses.append([task.loss(logits, batch).item() for logits in outputs])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(parameter.grad is not None for parameter in head.parameters())
    (auxiliary, main), (auxiliary_then, main_then) = losses[-1], losses[0]
    assert auxiliary < 0.6 * auxiliary_then
    assert main < 0.6 * main_then


# --- knobs


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"size": [0, 64]}, "size: must be positive, not 0"),
        ({"scale": [0.0, 2.0]}, "scale: must be positive, not 0.0"),
        ({"scale": [2.0, 0.5]}, "scale: the least comes first, not 2.0 before 0.5"),
        ({"scale_step": 0.0}, "scale_step: must be positive, not 0.0"),
        ({"ohem": True, "ohem_min_kept": 0}, "ohem_min_kept: must be positive, not 0"),
    ],
)
def test_impossible_knobs_are_named(build_task, knobs, message):
    with pytest.raises(PartError) as error:
        build_task("segmentation", **knobs)
    assert str(error.value) == message


def test_networks_see_crops_in_training_and_whole_images_in_evaluation(build_task):
    task = build_task("segmentation", size=[64, 96])
    sized = Info("made", None, "none", "made", size=(360, 480), images={"train": 7, "val": 5})
    assert task.input_size(sized, training=True) == (64, 96)
    assert task.input_size(sized, training=False) == (360, 480)
    assert task.input_size(INFO, training=False) == (64, 96)  # nobody said how large images are
    assert task.sample_counts(sized) == {"train": 7, "val": 5}
    assert task.evaluation_batch(12) == 1
