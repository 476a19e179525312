"""Tags that tell people apart: what teaches them, and who people are by them (associative embedding).

Newell, Huang & Deng, NeurIPS 2017, as HRNet/HigherHRNet-Human-Pose-Estimation@aa238814 has it (lib/core/loss.py,
lib/core/group.py), with scipy's assignment. One difference: officially people are kept by the value of their first tag,
and of two with equal ones the second overwrites the first; here they stay two.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

# The body from the head outwards, limbs after what they hang on: the order in which joints join people.
ORDER = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_hip",
    "right_hip", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip


def order_of(joints: Sequence[str]) -> list[int]:
    """Places of joints in the official order; joints of other names follow in their own."""
    return sorted(range(len(joints)), key=lambda place: ORDER.index(joints[place]) if joints[place] in ORDER else 99)


def tag_losses(tags: Tensor, places: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """How near people's tags are to each other (push), and how far joints' are from their person's (pull).

    `tags` (B, K, h, w); `places` (B, P, K, 2), columns and rows of joints in them; `counted` (B, P, K) bool, which of
    them are there. A person's tag is the mean of the joints'. Both losses (B,) are means over an image's people: pull
    of a person's mean squared deviation, push of exp(-d^2) / 2 over pairs; 0 where there is nobody or no pair.
    """
    height, width = tags.shape[2:]
    joint = torch.arange(tags.shape[1], device=tags.device)
    index = ((joint * height + places[..., 1]) * width + places[..., 0]) * counted  # (B, P, K)
    own = tags.flatten(1).gather(1, index.flatten(1)).view(index.shape)
    weight = counted.float()
    joints = weight.sum(2)  # (B, P)
    there = (joints > 0).float()
    mean = (own * weight).sum(2) / joints.clamp(min=1)
    deviation = ((own - mean[..., None]).square() * weight).sum(2) / joints.clamp(min=1)
    pairs = there[:, :, None] * there[:, None] - torch.diag_embed(there)  # (B, P, P)
    near = torch.exp(-(mean[:, :, None] - mean[:, None]).square()) * pairs
    push = 0.5 * near.sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)
    return push, (deviation * there).sum(1) / there.sum(1).clamp(min=1)


def peaks(heatmaps: Tensor, tags: Tensor, *, kernel: int, most: int) -> np.ndarray:
    """Local maxima of each joint, highest first: (K, N, 3 + T), x and y in pixels, height, tags.

    `heatmaps` (K, h, w), `tags` (K, h, w, T); a maximum is the highest of `kernel` x `kernel` pixels around it, and the
    `most` highest are taken; where there are fewer, others follow with a height of 0.
    """
    width = heatmaps.shape[2]
    highest = F.max_pool2d(heatmaps[None], kernel, 1, kernel // 2)[0]
    flat = (heatmaps * (heatmaps == highest)).flatten(1)
    heights, index = flat.topk(min(most, flat.shape[1]), dim=1)  # (K, N)
    own = tags.flatten(1, 2).gather(1, index[..., None].expand(-1, -1, tags.shape[3]))
    points = torch.stack([index % width, index // width], dim=2)
    found: np.ndarray = torch.cat([points, heights[..., None], own], dim=2).double().cpu().numpy()
    return found


def grouped(found: np.ndarray, order: Sequence[int], *, threshold: float, distance: float, most: int) -> np.ndarray:
    """People (P, K, 3 + T) from peaks (K, N, 3 + T); zeros for joints that they lack.

    Joint by joint peaks above the threshold go to the people found so far, by the assignment of least rounded distance
    of tags, high peaks first. A peak begins a new person where nobody is left or the nearest is `distance` away. Only
    the first `most` people are given joints.
    """
    people: list[np.ndarray] = []
    for joint in order:
        own = found[joint][found[joint][:, 2] > threshold]
        for peak, place in zip(own, _assigned(own, people[:most], distance), strict=True):
            if place < 0:
                people.append(np.zeros((found.shape[0], found.shape[2])))
            people[place][joint] = peak
    return np.array(people).reshape(-1, found.shape[0], found.shape[2])


def _assigned(own: np.ndarray, people: list[np.ndarray], distance: float) -> list[int]:
    """For each peak (N, 3 + T) the place of its person; -1: it begins a new one."""
    places = [-1] * len(own)
    if not people:
        return places
    between = np.linalg.norm(own[:, None, 3:] - np.array([tag_of(person) for person in people]), axis=2)  # (N, P)
    for peak, person in zip(*linear_sum_assignment(np.round(between) * 100 - own[:, 2:3]), strict=True):
        if between[peak, person] < distance:
            places[peak] = int(person)
    return places


def tag_of(person: np.ndarray) -> np.ndarray:
    """The mean tag (T,) of the joints that a person (K, 3 + T) has."""
    tag: np.ndarray = person[person[:, 2] > 0, 3:].mean(axis=0)
    return tag


def adjusted(people: np.ndarray, heatmaps: Tensor) -> np.ndarray:
    """The people with joints half a pixel on, to the pixel's middle, and a quarter towards the higher neighbour."""
    who, joint = np.nonzero(people[..., 2] > 0)
    moved = people.copy()
    moved[who, joint, :2] = _within_pixels(heatmaps, joint, people[who, joint, :2])
    return moved


def completed(people: np.ndarray, heatmaps: Tensor, tags: Tensor) -> np.ndarray:
    """The people with the joints that they lacked: where the heatmap, less the rounded distance of tags, is highest.

    `heatmaps` (K, h, w), `tags` (K, h, w, T). A joint whose heatmap is not positive there stays away.
    """
    width, whole = heatmaps.shape[2], people.copy()
    for person in whole:
        lacking = np.flatnonzero(person[:, 2] == 0)
        if not len(lacking):
            continue
        maps, own = heatmaps[lacking], tags.new_tensor(tag_of(person))
        index = (maps - (tags[lacking] - own).norm(dim=3).round()).flatten(1).argmax(dim=1)  # (L,)
        heights = maps.flatten(1).gather(1, index[:, None])[:, 0].double().cpu().numpy()
        points = torch.stack([index % width, index // width], dim=1).double().cpu().numpy()
        seen = heights > 0
        person[lacking[seen], :2] = _within_pixels(heatmaps, lacking[seen], points[seen])
        person[lacking[seen], 2] = heights[seen]
    return whole


def _within_pixels(heatmaps: Tensor, joint: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (N, 2) of joints (N,) to a quarter pixel, towards the neighbour that is higher, else the one before."""
    height, width = heatmaps.shape[1:]
    of = torch.as_tensor(joint, device=heatmaps.device)
    x, y = torch.as_tensor(points, device=heatmaps.device).long().T
    left, right = (heatmaps[of, y, (x + step).clamp(0, width - 1)] for step in (-1, 1))
    above, below = (heatmaps[of, (y + step).clamp(0, height - 1), x] for step in (-1, 1))
    towards = torch.stack([right > left, below > above], dim=1).cpu().numpy()
    return points + 0.5 + np.where(towards, 0.25, -0.25)
