"""How whole images are tested and predictions are written: the official loops in plain form, and cityscapesscripts."""

from dataclasses import dataclass
from math import ceil
from types import SimpleNamespace

import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as oracle
import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ablate import registry
from ablate.datasets import IGNORED, Info
from ablate.errors import PartError
from ablate.tasks._class_scores import class_scores, starts

LABEL_IDS = (7, 11, 21)
INFO = Info(
    "made", None, "none", "made",
    classes=("road", "building", "vegetation"), categories=("flat", "construction", "nature"), label_ids=LABEL_IDS,
)  # fmt: skip


@pytest.fixture
def network():
    """Logits of stride 4, different for a mirrored image and for another crop."""
    torch.manual_seed(0)
    return nn.Conv2d(3, 3, 7, stride=4, padding=3).eval()


def official(network, image, *, scales, crop, stride, flip, corners=False):
    """Scores (C, H, W) of an image (3, H, W), as the official code has it: everything at the pixels' resolution."""

    def infer(part):
        def run(pixels):
            return F.interpolate(network(pixels[None]), size=pixels.shape[1:], mode="bilinear", align_corners=corners)[
                0
            ]

        logits = run(part)
        if flip:
            logits = 0.5 * (logits + run(part.flip(2)).flip(2))
        return logits.exp()

    height, width = image.shape[1:]
    total = torch.zeros(3, height, width)
    for scale in scales:
        longest = int(max(height, width) * scale + 0.5)
        new_h = longest if height > width else int(height * longest / width + 0.5)
        new_w = longest if height <= width else int(width * longest / height + 0.5)
        pixels = cv2.resize(image.permute(1, 2, 0).numpy(), (new_w, new_h), interpolation=cv2.INTER_LINEAR)
        scaled = torch.from_numpy(pixels).permute(2, 0, 1)
        if scale <= 1 and crop == (height, width):
            scores = infer(scaled)
        else:
            scores, count = torch.zeros(3, new_h, new_w), torch.zeros(new_h, new_w)
            for row in range(ceil((new_h - crop[0]) / stride[0]) + 1 if new_h > crop[0] else 1):
                for column in range(ceil((new_w - crop[1]) / stride[1]) + 1 if new_w > crop[1] else 1):
                    bottom = min(row * stride[0] + crop[0], new_h)
                    right = min(column * stride[1] + crop[1], new_w)
                    top, left = max(bottom - crop[0], 0), max(right - crop[1], 0)
                    scores[:, top:bottom, left:right] += infer(scaled[:, top:bottom, left:right])
                    count[top:bottom, left:right] += 1
            scores = scores / count
        total += F.interpolate(scores[None], size=(height, width), mode="bilinear", align_corners=corners)[0]
    return total


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"flip": True},
        {"scales": [0.5, 0.75, 1.0, 1.25, 1.5, 1.75], "flip": True},
        {"window": [16, 24]},
        {"window": [16, 24], "stride": [10, 16], "scales": [0.5, 1.5], "flip": True},
        {"window": [64, 20], "stride": [64, 13]},
    ],
)
@pytest.mark.parametrize("corners", [False, True])
@torch.no_grad()
def test_scores_are_those_of_the_official_loops(network, build_protocol, knobs, corners):
    height, width = 37, 50
    image = torch.randn(3, height, width)
    crop = tuple(knobs.get("window", (height, width)))
    stride = tuple(knobs.get("stride", crop))
    expected = official(
        network, image, scales=knobs.get("scales", [1.0]), crop=crop, stride=stride, flip=knobs.get("flip", False),
        corners=corners,
    )  # fmt: skip
    found = class_scores(network, image[None], build_protocol("segmentation", **knobs), align_corners=corners)[0]
    assert found.shape == (3, height, width)
    if not knobs.keys() & {"scales", "window"}:
        found = found.exp()  # one look at the image: the logits do, whose exponential could overflow
    torch.testing.assert_close(found.float(), expected, rtol=2e-4, atol=1e-5)


def padded(network, image, *, scales, longer, crop, stride, flip):
    """Scores (C, H, W) as base_dataset.py tests sets whose images have no common size: windows filled with black."""
    height, width = image.shape[1:]
    black = -torch.tensor([0.485, 0.456, 0.406]) / torch.tensor([0.229, 0.224, 0.225])

    def filled(part):
        whole = black[:, None, None].repeat(1, max(part.shape[1], crop[0]), max(part.shape[2], crop[1]))
        whole[:, : part.shape[1], : part.shape[2]] = part
        return whole

    def infer(pixels):
        def run(pixels):
            logits = network(pixels[None])
            return F.interpolate(logits, size=pixels.shape[1:], mode="bilinear", align_corners=False)[0]

        return ((run(pixels) + run(pixels.flip(2)).flip(2)) * 0.5 if flip else run(pixels)).exp()

    total = torch.zeros(3, height, width)
    for scale in scales:
        long = int(longer * scale + 0.5)
        new_h = long if height > width else int(height * long / width + 0.5)
        new_w = long if height <= width else int(width * long / height + 0.5)
        pixels = cv2.resize(image.permute(1, 2, 0).numpy(), (new_w, new_h), interpolation=cv2.INTER_LINEAR)
        whole = filled(torch.from_numpy(pixels).permute(2, 0, 1))
        scores, count = torch.zeros(3, *whole.shape[1:]), torch.zeros(whole.shape[1:])
        for row in range(ceil((whole.shape[1] - crop[0]) / stride[0]) + 1):
            for column in range(ceil((whole.shape[2] - crop[1]) / stride[1]) + 1):
                top, left = row * stride[0], column * stride[1]
                part = whole[:, top : top + crop[0], left : left + crop[1]]
                found = infer(filled(part))[:, : part.shape[1], : part.shape[2]]
                scores[:, top : top + crop[0], left : left + crop[1]] += found
                count[top : top + crop[0], left : left + crop[1]] += 1
        scores = (scores / count)[:, :new_h, :new_w]
        total += F.interpolate(scores[None], size=(height, width), mode="bilinear", align_corners=False)[0]
    return total


@pytest.mark.parametrize("shape", [(37, 50), (50, 37), (20, 60)])
@pytest.mark.parametrize("flip", [False, True])
@torch.no_grad()
def test_scores_of_images_without_a_common_size_are_the_official_ones(network, build_protocol, shape, flip):
    """PASCAL-Context: the longer side is 52 at scale 1, windows of 48 are 32 apart and filled with black."""
    image, scales = torch.randn(3, *shape), [0.5, 1.0, 1.75]
    rules = build_protocol("segmentation", scales=scales, window=[48, 48], stride=[32, 32], pad=True, flip=flip)
    expected = padded(network, image, scales=scales, longer=52, crop=(48, 48), stride=(32, 32), flip=flip)
    found = class_scores(network, image[None], rules, align_corners=False, longer=52)[0]
    torch.testing.assert_close(found.float(), expected, rtol=2e-4, atol=1e-5)


@torch.no_grad()
def test_a_mirrored_image_has_left_parts_where_right_ones_were(build_task, build_protocol):
    """By hand: left and right arm are classes 1 and 2, and the network sees neither: it says 1 left, 2 right."""

    def network(images):
        left = torch.zeros(1, 3, *images.shape[2:])
        left[:, 1, :, :4], left[:, 2, :, 4:] = 2.0, 2.0
        left[:, 0, 0] = 5.0  # but for the first row, which is scene
        return left

    task, flipped = build_task("segmentation"), build_protocol("segmentation", flip=True)
    image = torch.zeros(1, 3, 2, 8, dtype=torch.uint8)
    batch = {"image": image, "image_id": torch.tensor([1]), "labels": torch.zeros(1, 2, 8)}
    named = task.predict(network, batch | {"mirror": torch.tensor([[0, 2, 1]])}, flipped)[0]["labels"]
    unnamed = task.predict(network, batch, flipped)[0]["labels"]
    assert named.tolist() == [[0] * 8, [1, 1, 1, 1, 2, 2, 2, 2]]  # both looks agree
    assert unnamed[1].tolist() == [1] * 8  # both halves get 1 from one look and 2 from the other: a tie


@torch.no_grad()
def test_images_of_a_given_height_and_width_are_scored_at_their_own_size(network, build_task, build_protocol):
    """LIP: every image becomes a square, and the scores, exponentials of the logits, go back to the image's size."""
    task, info = build_task("segmentation", size=[24, 24], resize=[24, 24]), INFO
    rng = np.random.default_rng(0)
    image, labels = rng.integers(0, 256, (30, 17, 3), np.uint8), np.zeros((30, 17), np.uint8)
    encoded = task.encode({"image": image, "labels": labels, "image_id": 3}, info)
    assert (encoded["image"].transpose(1, 2, 0) == cv2.resize(image, (24, 24))).all()
    found = task.predict(network, task.collate([encoded]), build_protocol("segmentation"))[0]["labels"]
    pixels = task.prepare(task.collate([encoded]))
    scores = F.interpolate(network(pixels), size=(24, 24), mode="bilinear", align_corners=False).exp()
    expected = F.interpolate(scores, size=(30, 17), mode="bilinear", align_corners=False).argmax(1)[0]
    assert (found == expected.numpy()).all()


def test_windows_cover_a_length_and_end_with_it():
    assert starts(10, 4, 4) == [0, 4, 6]
    assert starts(10, 4, 2) == [0, 2, 4, 6]
    assert starts(8, 4, 4) == [0, 4]
    assert starts(4, 4, 3) == [0]
    assert starts(3, 4, 4) == [0]


def test_predictions_are_the_likeliest_classes(network, build_task, build_protocol):
    task = build_task("segmentation")
    batch = {"image": torch.randint(0, 256, (2, 3, 20, 28), dtype=torch.uint8), "image_id": torch.tensor([4, 9])}
    found = task.predict(network, batch, build_protocol("segmentation"))
    logits = F.interpolate(network(task.prepare(batch)), size=(20, 28), mode="bilinear", align_corners=False)
    assert [prediction["image_id"] for prediction in found] == [4, 9]
    for prediction, expected in zip(found, logits.argmax(1), strict=True):
        assert prediction["labels"].dtype == np.uint8
        assert (prediction["labels"] == expected.numpy()).all()


def test_the_main_logits_predict_where_there_are_others(network, build_task, build_protocol):
    batch = {"image": torch.randint(0, 256, (1, 3, 20, 28), dtype=torch.uint8), "image_id": torch.tensor([4])}
    task, protocol = build_task("segmentation", head="ocr"), build_protocol("segmentation", flip=True)
    alone = task.predict(network, batch, protocol)
    beside = task.predict(lambda images: [-network(images), network(images)], batch, protocol)
    assert (alone[0]["labels"] == beside[0]["labels"]).all()


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"scales": []}, "scales: positive numbers, not []"),
        ({"scales": [1.0, 0.0]}, "scales: positive numbers, not [1.0, 0.0]"),
        ({"window": [0, 8]}, "window: must be positive, not [0, 8]"),
        ({"window": [8, 8], "stride": [8, 9]}, "stride: [8, 9] leaves gaps between windows of [8, 8]"),
        ({"stride": [8, 8]}, "stride: there is no window that it could be of"),
        ({"pad": True}, "pad: there is no window that could be filled"),
    ],
)
def test_impossible_protocols_are_named(build_protocol, knobs, message):
    with pytest.raises(PartError) as error:
        build_protocol("segmentation", **knobs)
    assert str(error.value) == message


@dataclass(frozen=True)
class Streets:
    """Two images of different sizes with names as Cityscapes has them, and the label ids in their files."""

    info: Info
    ids: dict

    def image_ids(self):
        return [1, 2]

    def name(self, image_id):
        return f"ulm_00000{image_id}_000019"

    def labels(self, image_id):
        classes = np.full(256, IGNORED, np.uint8)
        classes[list(LABEL_IDS)] = range(3)
        return classes[self.ids[image_id]]


@pytest.fixture
def streets():
    rng = np.random.default_rng(0)
    sizes = {1: (20, 28), 2: (24, 24)}
    return Streets(INFO, {i: rng.choice([0, *LABEL_IDS], size).astype(np.uint8) for i, size in sizes.items()})


def test_written_predictions_are_what_cityscapesscripts_takes(build_task, streets, tmp_path, monkeypatch):
    """Its own search finds the files, and its scores of them are those of our metric."""
    task, rng = build_task("segmentation"), np.random.default_rng(1)
    predictions = [{"image_id": i, "labels": rng.integers(0, 3, m.shape, np.uint8)} for i, m in streets.ids.items()]
    (tmp_path / "found").mkdir()
    task.write_predictions(predictions, streets, tmp_path / "found")
    truths = [str(tmp_path / f"{streets.name(image)}_gtFine_labelIds.png") for image in streets.ids]
    for file, pixels in zip(truths, streets.ids.values(), strict=True):
        cv2.imwrite(file, pixels)
    search = SimpleNamespace(predictionPath=str(tmp_path / "found"), predictionWalk=None)
    found = [oracle.getPrediction(search, file) for file in truths]
    for option, value in {"evalInstLevelScore": False, "JSONOutput": False, "quiet": True}.items():
        monkeypatch.setattr(oracle.args, option, value)
    theirs = oracle.evaluateImgLists(found, truths, oracle.args)
    metric = registry.build("metric", "mean_iou", {})
    ours = metric.aggregate(metric.per_image(predictions, task.ground_truth(streets), INFO))
    assert ours["mIoU"] == pytest.approx(theirs["averageScoreClasses"], abs=1e-12)
    assert ours["category_IoU"] == pytest.approx(theirs["averageScoreCategories"], abs=1e-12)


def test_classes_are_their_own_ids_where_none_are_declared(build_task, streets, tmp_path):
    plain = Streets(Info("made", None, "none", "made", classes=("a", "b", "c")), streets.ids)
    labels = np.array([[0, 1, 2]], np.uint8)
    build_task("segmentation").write_predictions([{"image_id": 1, "labels": labels}], plain, tmp_path)
    assert (cv2.imread(str(tmp_path / "ulm_000001_000019.png"), cv2.IMREAD_UNCHANGED) == labels).all()
