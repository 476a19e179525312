"""SimCC: coordinates as two classifications, over the columns and over the rows of the crop (Li et al., ECCV 2022).

Head, soft labels and loss follow leeyegy/SimCC@f816ff6ee353 (SA-SimCC: Gaussian labels), with two bins a pixel; the
labels' deviation is the square root of an eighth of the side, which gives the 4.9 and 5.66 of mmpose at 192 x 256 and
its 6 and 6.93 at 288 x 384.
"""

from collections.abc import Sequence
from math import pi, sqrt

import torch
from torch import Tensor, nn

from ablate.tasks._constants import constants

SPLIT = 2  # bins a pixel
NAMES = ("simcc_x", "simcc_y")  # of both outputs in files, as mmdeploy writes them


class SimCCHead(nn.Module):
    """The first map (B, C, h, w) -> [(B, K, 2W), (B, K, 2H)]: logits over the bins of both axes of the crop.

    Its layers have a weight for each cell of the map, so it reads crops of one size.
    """

    output_names = NAMES

    def __init__(self, channels: int, *, joints: int, cells: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__()
        self.only_size = size
        self.final_layer = nn.Conv2d(channels, joints, 1)
        self.mlp_head_x = nn.Linear(cells[0] * cells[1], SPLIT * size[1])
        self.mlp_head_y = nn.Linear(cells[0] * cells[1], SPLIT * size[0])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        flat = self.final_layer(maps[0]).flatten(2)  # (B, K, h w)
        return [self.mlp_head_x(flat), self.mlp_head_y(flat)]


def simcc_loss(outputs: Sequence[Tensor], joints: Tensor, labelled: Tensor) -> Tensor:
    """Kullback-Leibler divergence from Gaussian labels, the mean over bins, people and joints, of both axes added.

    `joints` (B, K, 2) are pixels of the crop, `labelled` (B, K) 0 or 1; joints outside the crop weigh 0.
    """
    sides = outputs[0].shape[2] / SPLIT, outputs[1].shape[2] / SPLIT  # width and height
    inside = ((joints >= 0) & (joints < constants(sides, joints.device, joints.dtype))).all(2) * labelled  # (B, K)
    total = joints.new_zeros(())
    for axis, logits in enumerate(outputs):
        sigma = sqrt(sides[axis] / 8)
        bins = torch.arange(logits.shape[2], device=joints.device)
        centre = SPLIT * joints[..., axis, None]  # (B, K, 1)
        labels = torch.exp(-((bins - centre) ** 2) / (2 * sigma**2)) / (sigma * sqrt(2 * pi))  # (B, K, bins)
        found = torch.log_softmax(logits.float(), dim=2)
        divergence = (torch.xlogy(labels, labels) - labels * found).mean(2)  # (B, K)
        total = total + (divergence * inside).mean()
    return total


def read_simcc(outputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Points (B, K, 2) in pixels of the crop and confidences (B, K), from probabilities over the bins of both axes.

    The confidence is the smaller of the two highest probabilities.
    """
    heights, places = zip(*(probabilities.max(dim=2) for probabilities in outputs), strict=True)
    return torch.stack(places, dim=2).float() / SPLIT, torch.minimum(*heights)
