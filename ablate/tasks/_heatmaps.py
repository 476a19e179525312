"""What tasks with heatmaps share: crops, targets, maxima, duplicates.

Crops and heatmaps follow leoxiaobin/deep-high-resolution-net.pytorch@6f69e4676ad8 (lib/utils/transforms.py,
lib/dataset/JointsDataset.py, lib/core/inference.py, lib/nms/nms.py).
"""

from collections.abc import Sequence
from math import cos, radians, sin
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from ablate.tasks._constants import constants


def grown_to_shape(extent: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Width and height (2,), the shorter side grown until they have the shape of `size` (height, width)."""
    width, height = extent
    shape = size[1] / size[0]
    return np.array([max(width, shape * height), max(height, width / shape)])


def crop_affine(
    centre: np.ndarray, extent: np.ndarray, *, size: tuple[int, int], angle: float, unbiased: bool = False
) -> np.ndarray:
    """The (2, 3) map from image pixels to the pixels of a crop of `size` (height, width).

    `centre` goes to (width / 2, height / 2), `extent[0]` pixels become the crop's width, and what stood at
    `angle` degrees (clockwise as one sees it) stands upright. `unbiased` counts the steps between pixels instead of
    the pixels: `extent` becomes (width - 1, height - 1), whose half is where `centre` goes (UDP, Huang et al. 2020).
    """
    sides, turn = np.array([size[1], size[0]]) - (1 if unbiased else 0), radians(angle)
    factor = sides / extent if unbiased else np.full(2, sides[0] / extent[0])
    linear = factor[:, None] * np.array([[cos(turn), sin(turn)], [-sin(turn), cos(turn)]])
    return np.column_stack([linear, sides / 2 - linear @ centre])


def gaussians(
    centres: Tensor,
    labelled: Tensor,
    *,
    size: Sequence[int],
    sigma: float,
    exact: bool = False,
    reach: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Target heatmaps (B, K, h, w) and weights (B, K) of points.

    `centres` (B, K, 2), x and y in heatmap pixels, are rounded; a Gaussian has peak 1 and is cut to a square
    of `reach` to each side, by default 3 sigma. A point whose square misses the map weighs 0. `labelled` (B, K) is
    0 or 1. With `exact` the Gaussian stands where the point is, and is not cut (DARK's encoding, Zhang et al., CVPR
    2020).
    """
    height, width = size
    reach = 3 * sigma if reach is None else reach
    centre = (centres.float() + 0.5).trunc()  # official: int(), which cuts towards zero
    limits = constants((float(width), float(height)), centres.device, centres.dtype)
    inside = ((centre - reach < limits) & (centre + reach + 1 >= 0)).all(2)  # (B, K)
    profiles = []
    for axis, length in enumerate((width, height)):
        middle = (centres.float() if exact else centre)[..., axis, None]
        distance = torch.arange(length, device=centres.device) - middle  # (B, K, length)
        profile = torch.exp(-(distance**2) / (2 * sigma**2))
        profiles.append(profile if exact else profile * (distance.abs() <= reach))
    weights = labelled * inside
    targets = profiles[1][..., :, None] * profiles[0][..., None, :]  # (B, K, h, w)
    return targets * (weights > 0.5)[..., None, None], weights


def read_heatmaps(heatmaps: Tensor, *, refine: bool) -> tuple[Tensor, Tensor]:
    """Points (B, K, 2), x and y in heatmap pixels, and heights (B, K) from float32 heatmaps (B, K, h, w).

    The maximum; with `refine` a quarter pixel towards the higher neighbour, away from the border (officially
    where 1 < x < w - 1 and 1 < y < h - 1, so nowhere in maps of less than 4 pixels). A map without a positive value
    gives (0, 0).
    """
    height, width = heatmaps.shape[2:]
    flat = heatmaps.flatten(2)  # (B, K, h w)
    confidence, index = flat.max(dim=2)
    index = index * (confidence > 0)
    x, y = index % width, index // width
    points = torch.stack([x, y], dim=2).float()
    if refine and min(height, width) > 3:
        inner = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
        index = index * inner + (width + 1) * ~inner  # any place that has four neighbours; its shift is not used
        for axis, step in enumerate((1, width)):
            after, before = (flat.gather(2, (index + s)[..., None])[..., 0] for s in (step, -step))
            points[..., axis] += 0.25 * torch.sign(after - before) * inner
    return points, confidence


def dark(heatmaps: Tensor, points: Tensor, *, sigma: float) -> Tensor:
    """Maxima (B, K, 2) of float32 heatmaps (B, K, h, w), moved to the peak of a Gaussian around them (DARK).

    The maps are smoothed by a Gaussian of 6 sigma - 1 pixels (11 and 17 at the published sizes), scaled back to their
    height, and expanded to second order in their logarithm. Points within two pixels of the border stay.
    Zhang et al., CVPR 2020; ilovepose/DarkPose, lib/core/inference.py.
    """
    height, width = heatmaps.shape[2:]
    if min(height, width) < 5:
        return points
    kernel = max(3, 2 * round(3 * sigma) - 1)
    weights = torch.from_numpy(cv2.getGaussianKernel(kernel, 0)).to(heatmaps).view(1, 1, -1)  # (1, 1, kernel)
    smooth = heatmaps.flatten(0, 1)[:, None]  # (B K, 1, h, w)
    smooth = conv2d(smooth, weights[..., None, :], padding=(0, kernel // 2))
    smooth = conv2d(smooth, weights[..., None], padding=(kernel // 2, 0)).view_as(heatmaps)
    scale = heatmaps.amax((2, 3), keepdim=True) / smooth.amax((2, 3), keepdim=True)
    logarithm = (smooth * scale).clamp(min=1e-10).log().flatten(2)  # (B, K, h w)
    x, y = points[..., 0].long(), points[..., 1].long()
    inner = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)
    index = torch.where(inner, y * width + x, 2 * width + 2)

    def at(across: int, down: int) -> Tensor:
        return logarithm.gather(2, (index + down * width + across)[..., None])[..., 0]

    slope_x, slope_y = 0.5 * (at(1, 0) - at(-1, 0)), 0.5 * (at(0, 1) - at(0, -1))
    bend_x, bend_y = (0.25 * (at(*far) - 2 * at(0, 0) + at(-far[0], -far[1])) for far in ((2, 0), (0, 2)))
    twist = 0.25 * (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1))
    determinant = bend_x * bend_y - twist**2
    moved = torch.stack([twist * slope_y - bend_y * slope_x, twist * slope_x - bend_x * slope_y], dim=2)
    return points + torch.where((inner & (determinant != 0))[..., None], moved / determinant[..., None], 0)


def oks_nms(people: list[dict[str, Any]], *, sigmas: np.ndarray, threshold: float) -> list[int]:
    """Greedy suppression within one image: which people stay, best score first.

    Two people's similarity is the object keypoint similarity over all joints with the mean of their areas.
    """
    points = np.array([person["keypoints"] for person in people]).reshape(len(people), -1, 3)[:, :, :2]
    areas = np.array([person["area"] for person in people])
    order = np.argsort([-person["score"] for person in people], kind="stable")
    kept: list[int] = []
    while len(order):
        best, others = order[0], order[1:]
        kept.append(int(best))
        squared = ((points[others] - points[best]) ** 2).sum(2)  # (N, K)
        area = (areas[others] + areas[best]) / 2 + np.spacing(1)
        similarity = np.exp(-squared / (2 * sigmas) ** 2 / area[:, None] / 2).mean(1)
        order = others[similarity <= threshold]
    return kept
