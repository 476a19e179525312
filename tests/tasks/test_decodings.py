"""DARK, UDP and SimCC: each equals what its authors' code computes, and finds joints where plain maxima cannot."""

import json
from math import cos, radians, sin

import cv2
import numpy as np
import pytest
import torch
from people_by_hand import INFO, sample
from small_studies import write_study
from torch import nn

from ablate.errors import PartError
from ablate.study import Part, Recipe
from ablate.tasks import crop_affine, dark, gaussians, read_heatmaps
from ablate.tasks._simcc import read_simcc, simcc_loss

DARK = {"targets": "exact"}
UDP = {"targets": "exact", "transform": "unbiased"}


def dark_pixel_by_pixel(heatmap, x, y, kernel):
    """One joint by the steps of DarkPose's lib/core/inference.py: blurred in a border of zeros, log, Taylor."""
    border, height, width = (kernel - 1) // 2, *heatmap.shape
    padded = np.zeros((height + 2 * border, width + 2 * border))
    padded[border:-border, border:-border] = heatmap
    smooth = cv2.GaussianBlur(padded, (kernel, kernel), 0)[border:-border, border:-border]
    h = np.log(np.maximum(smooth * heatmap.max() / smooth.max(), 1e-10))
    if not (1 < x < width - 2 and 1 < y < height - 2):
        return np.array([x, y], float)
    dx, dy = 0.5 * (h[y, x + 1] - h[y, x - 1]), 0.5 * (h[y + 1, x] - h[y - 1, x])
    dxx, dyy = (
        0.25 * (h[y, x + 2] - 2 * h[y, x] + h[y, x - 2]),
        0.25 * (h[y + 2, x] - 2 * h[y, x] + h[y - 2, x]),
    )
    dxy = 0.25 * (h[y + 1, x + 1] - h[y - 1, x + 1] - h[y + 1, x - 1] + h[y - 1, x - 1])
    hessian = np.array([[dxx, dxy], [dxy, dyy]])
    return np.array([x, y]) - np.linalg.inv(hessian) @ np.array([dx, dy])


@pytest.mark.parametrize(("sigma", "kernel", "size"), [(2.0, 11, (64, 48)), (3.0, 17, (96, 72))])
def test_dark_is_what_its_code_computes(sigma, kernel, size):
    rng = np.random.default_rng(0)
    centres = torch.tensor(rng.uniform((0, 0), (size[1] - 1, size[0] - 1), (1, 40, 2)), dtype=torch.float32)
    heatmaps, _ = gaussians(centres, torch.ones(1, 40), size=size, sigma=sigma)
    heatmaps = heatmaps + 0.05 * torch.from_numpy(rng.random(heatmaps.shape)).float()
    points, _ = read_heatmaps(heatmaps, refine=False)
    found = dark(heatmaps, points, sigma=sigma)[0].numpy()
    for joint, (x, y) in enumerate(points[0].int().tolist()):
        expected = dark_pixel_by_pixel(heatmaps[0, joint].numpy().astype(float), x, y, kernel)
        assert found[joint] == pytest.approx(expected, abs=2e-3)


def test_dark_finds_the_centre_of_a_gaussian_between_pixels():
    rng = np.random.default_rng(1)
    centres = torch.tensor(rng.uniform(12, 36, (1, 200, 2)), dtype=torch.float32)
    heatmaps, _ = gaussians(centres, torch.ones(1, 200), size=(64, 48), sigma=2.0, exact=True)
    plain, quarter = (read_heatmaps(heatmaps, refine=refine)[0] for refine in (False, True))
    errors = [
        float((points - centres).norm(dim=2).mean()) for points in (plain, quarter, dark(heatmaps, plain, sigma=2.0))
    ]
    assert errors[0] > 0.3 > errors[1] > 0.1
    assert errors[2] < 0.01


def test_an_exact_target_is_a_whole_gaussian_where_the_joint_is():
    target, weights = gaussians(torch.tensor([[[10.4, 7.5]]]), torch.ones(1, 1), size=(32, 24), sigma=2.0, exact=True)
    y, x = np.mgrid[:32, :24]
    assert target[0, 0].numpy() == pytest.approx(np.exp(-((x - 10.4) ** 2 + (y - 7.5) ** 2) / 8), abs=1e-6)
    assert weights.tolist() == [[1]]


@pytest.mark.parametrize("angle", [0.0, 33.0])
def test_the_unbiased_crop_is_that_of_udp(angle):
    """The matrix as mmpose's get_udp_warp_matrix writes it, whose angle turns the other way."""
    centre, extent, size = np.array([31.0, 47.0]), np.array([60.0, 80.0]), (256, 192)
    turn, (w, h) = radians(-angle), (size[1], size[0])
    scale_x, scale_y = (w - 1) / extent[0], (h - 1) / extent[1]
    expected = [
        [
            cos(turn) * scale_x,
            -sin(turn) * scale_x,
            scale_x * (-centre[0] * cos(turn) + centre[1] * sin(turn) + 0.5 * extent[0]),
        ],
        [
            sin(turn) * scale_y,
            cos(turn) * scale_y,
            scale_y * (-centre[0] * sin(turn) - centre[1] * cos(turn) + 0.5 * extent[1]),
        ],
    ]
    found = crop_affine(centre, extent, size=size, angle=angle, unbiased=True)
    assert found == pytest.approx(np.array(expected))


class Truthful(nn.Module):
    """Called with a batch's crops, then with the mirrored ones: the task's own targets."""

    def __init__(self, task, batch):
        super().__init__()
        self.task, self.batch, self.upright = task, batch, True

    def forward(self, images):
        task, joints = self.task, self.batch["joints"]
        if not self.upright:
            joints = torch.stack([task.size[1] - 1 - joints[..., 0], joints[..., 1]], 2)[:, self.batch["mirror"][0]]
        self.upright = not self.upright
        if task.head_ == "simcc":
            bins = [torch.arange(2 * side) for side in task.size[::-1]]
            return [-((of - 2 * joints[..., axis, None]) ** 2) / 8.0 for axis, of in enumerate(bins)]
        cells = np.array(task.size) // 4
        stride = (np.array(task.size) - 1) / (cells - 1) if task.transform else np.array([4, 4])
        centres = joints / joints.new_tensor(stride[::-1].copy())
        return gaussians(centres, torch.ones(centres.shape[:2]), size=cells.tolist(), sigma=task.sigma, exact=True)[0]


def error(build_task, build_protocol, *, flip, refine="quarter", shift=True, **knobs):
    """The mean distance in crop pixels between the joints and what a truthful network's outputs are read as."""
    task = build_task(size=[256, 192], **knobs)
    people = [sample(seed=seed) for seed in range(6)]
    batch = task.collate([task.encode(person, INFO) for person in people])
    protocol = build_protocol(flip=flip, refine=refine, shift=shift)
    found = task.predict(Truthful(task, batch), batch, protocol)
    points = np.array([one["keypoints"] for one in found]).reshape(6, 17, 3)[:, :, :2]
    truth = np.array([person["joints"][:, :2] for person in people])
    scale = 192 / float(batch["extent"][0][0])
    return float(np.linalg.norm(points - truth, axis=2).mean() * scale)


def test_udp_is_unbiased_also_when_it_looks_at_the_mirrored_crop(build_task, build_protocol):
    biased = error(build_task, build_protocol, flip=True, refine="dark", **DARK)
    plain = error(build_task, build_protocol, flip=False, refine="dark", **DARK)
    udp = error(build_task, build_protocol, flip=True, refine="dark", **UDP)
    assert udp < 0.05
    assert plain < 0.05
    assert biased > 0.4  # the mirrored map is off by 3/4 of a pixel of a map, and shifted by one: an eighth remains
    assert error(build_task, build_protocol, flip=True, refine="quarter", **UDP) > 10 * udp


def test_the_official_decoding_is_what_it_was(build_task, build_protocol):
    assert error(build_task, build_protocol, flip=False) == error(
        build_task, build_protocol, flip=False, transform=None
    )
    assert error(build_task, build_protocol, flip=False) > 0.3


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("transform", [None, "unbiased"])
def test_simcc_reads_half_pixels(build_task, build_protocol, flip, transform):
    found = error(build_task, build_protocol, flip=flip, head="simcc", transform=transform)
    assert found < (0.8 if flip else 0.3)  # bins are half a pixel; two mirrored bins meet between


def simcc_loss_joint_by_joint(output_x, output_y, joints, weight, size):
    """KLDiscretLoss of SimCC's lib/core/loss.py on Gaussian labels."""
    criterion, total = nn.KLDivLoss(reduction="none"), 0.0
    for joint in range(output_x.shape[1]):
        for output, axis in ((output_x, 0), (output_y, 1)):
            side = size[1 - axis]
            sigma, bins = np.sqrt(side / 8), np.arange(2 * side)
            labels = [
                np.exp(-((bins - 2 * mu) ** 2) / (2 * sigma**2)) / (sigma * np.sqrt(2 * np.pi))
                for mu in joints[:, joint, axis].tolist()
            ]
            scores = torch.log_softmax(output[:, joint], dim=1)
            per_person = criterion(scores, torch.tensor(np.array(labels), dtype=torch.float32)).mean(dim=1)
            total = total + (per_person * weight[:, joint]).mean()
    return float(total / output_x.shape[1])


def test_the_loss_of_simcc_is_what_its_code_computes():
    generator = torch.Generator().manual_seed(0)
    size, joints = (32, 24), torch.rand(3, 5, 2, generator=generator) * torch.tensor([24.0, 32.0])
    outputs = [torch.randn(3, 5, 2 * side, generator=generator) for side in (24, 32)]
    weight = torch.tensor([[1.0, 0, 1, 1, 1]] * 3)
    expected = simcc_loss_joint_by_joint(*outputs, joints, weight, size)
    assert float(simcc_loss(outputs, joints, weight)) == pytest.approx(expected, rel=1e-5)
    outside = joints.clone()
    outside[:, 0, 0] = -3
    weight[:, 0] = 0
    assert float(simcc_loss(outputs, outside, torch.ones(3, 5) * weight[0])) == pytest.approx(
        simcc_loss_joint_by_joint(*outputs, joints, weight, size), rel=1e-5
    )


def test_the_published_deviations_of_simcc():
    assert [round(float(np.sqrt(side / 8)), 2) for side in (192, 256, 288, 384)] == [4.9, 5.66, 6.0, 6.93]


def test_confidence_of_simcc_is_the_smaller_of_the_two():
    columns, rows = torch.zeros(1, 1, 8), torch.zeros(1, 1, 6)
    columns[0, 0, 5], rows[0, 0, 2] = 0.9, 0.4
    points, confidence = read_simcc([columns, rows])
    assert points.tolist() == [[[2.5, 1.0]]]
    assert confidence.tolist() == [[pytest.approx(0.4)]]


def test_knobs_of_heatmaps_do_not_go_with_simcc(build_task):
    with pytest.raises(PartError, match=r"targets: is about heatmaps, which head: simcc has none of"):
        build_task(head="simcc", targets="exact")
    with pytest.raises(PartError, match=r"head: simcc has no supervision on the way"):
        build_task(head="simcc").head(INFO, [8, 8], [4, 4], intermediate=[1])


def test_trials_of_earlier_recipes_keep_their_documents():
    knobs = Part(name="pose").filled("task").knobs
    assert not {"transform", "targets", "head"} & knobs.keys()
    assert Recipe(task="pose", dataset="figures", model="hrnet").filled().evaluation["refine"] == "quarter"


def test_each_is_a_level_of_a_study_that_trains(called, tmp_path):
    levels = {
        "official": {},
        "dark": {"evaluation.refine": "dark", "task.targets": "exact"},
        "udp": {"evaluation.refine": "dark", "task.targets": "exact", "task.transform": "unbiased"},
        "simcc": {"task.head": "simcc"},
    }
    recipe = {
        "task": {"name": "pose", "size": [32, 32]},
        "dataset": {"name": "figures", "train": 8, "val": 5, "size": [48, 48]},
        "model": {"name": "dots", "width": 4},
        "train": {"epochs": 1, "batch": 4, "lr": 0.01, "precision": "fp32"},
    }
    file = write_study(
        tmp_path, recipe=recipe, factors={"decoding": {"levels": levels}}, metrics=["AP", "RMSE"], seeds=1
    )
    status, _, err = called("run", file, "--local")
    assert status == 0, err
    status, out, _ = called("status", file, "--json")
    assert [trial["status"] for trial in json.loads(out)] == ["done"] * 4
