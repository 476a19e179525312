"""What to train on: drawn people for the contract, and networks that tell the truth about them."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ablate import registry
from ablate.datasets import IGNORED
from ablate.tasks import gaussians


@pytest.fixture(scope="session")
def figures():
    """A small drawn set: (info, training samples, evaluation samples)."""
    return drawn(train=8, val=20)


@pytest.fixture(scope="session")
def small_figures():
    """A drawn set of the smallest pictures, quickly learned."""
    return drawn(train=6, val=5, size=[48, 48])


def drawn(**knobs):
    data = registry.build("dataset", "figures", registry.check_knobs("dataset", "figures", knobs))
    return data.info, data.open("train", None), data.open("val", None)


@pytest.fixture
def build_task():
    """A task of the shelf by name, with its knobs' defaults filled in."""

    def build(name="pose", **knobs):
        return registry.build("task", name, registry.check_knobs("task", name, knobs))

    return build


@pytest.fixture
def build_protocol():
    """A task's evaluation protocol by the task's name."""

    def build(name="pose", **knobs):
        return registry.build("protocol", name, registry.check_knobs("protocol", name, knobs))

    return build


@dataclass
class FewImages:
    """Images without people, in a folder that may hold boxes."""

    info: object
    folder: Path | None
    skipped: dict = field(default_factory=dict)

    def image(self, image_id):
        return np.full((60, 80, 3), image_id, np.uint8)

    def image_ids(self):
        return [1, 2, 3]


@pytest.fixture
def few_images(figures, tmp_path):
    return FewImages(figures[0], tmp_path)


@pytest.fixture
def truthful():
    """Predictions of a network that gives each batch of a task its own targets, mirrored images included."""

    def predictions(name, task, samples, info, protocol):
        found = []
        if name == "bottom_up_pose" and not samples.people:
            samples = replace(samples, people=samples.opened.by_image())
        for start in range(0, len(samples), 64):
            chosen = range(start, min(start + 64, len(samples)))
            batch = task.collate([task.encode(samples[index], info, None) for index in chosen])
            found += task.predict(TRUTHFUL[name](task, batch), batch, protocol)
        return found

    return predictions


class TruthfulHeatmaps(nn.Module):
    """Called with a batch's crops, then with the mirrored ones: the heatmaps that a perfect network gives."""

    def __init__(self, task, batch):
        super().__init__()
        self.task, self.batch, self.upright = task, batch, True

    def forward(self, images):
        height, width = self.task.size[0] // 4, self.task.size[1] // 4
        centres = self.batch["joints"] / 4
        if not self.upright:
            order = self.batch["mirror"][0]
            mirrored = (self.task.size[1] - 1 - self.batch["joints"][..., 0]) / 4
            centres = torch.stack([mirrored, centres[..., 1]], dim=2)[:, order]
        self.upright = not self.upright
        return gaussians(centres, torch.ones(centres.shape[:2]), size=(height, width), sigma=self.task.sigma)[0]


class TruthfulTags(nn.Module):
    """Called with a batch's images, then with the mirrored ones: heatmaps, and tags that are each person's number."""

    def __init__(self, task, batch):
        super().__init__()
        self.task, self.batch, self.upright = task, batch, True

    def forward(self, images):
        coarse, fine = (self.maps([side // step for side in images.shape[2:]]) for step in (4, 2))
        outputs = [torch.cat(coarse, dim=1), fine[0]]
        if not self.upright:
            order = self.batch["mirror"][0]
            outputs = [torch.cat([maps[:, order] for maps in output.split(len(order), 1)], 1) for output in outputs]
            outputs = [output.flip(3) for output in outputs]
        self.upright = not self.upright
        return outputs

    def maps(self, size):
        """Heatmaps and tags (B, K, h, w); a pixel's tag is that of the person whose joint is nearest."""
        joints, labelled = self.batch["joints"], self.batch["labelled"].float()
        points = (joints * size[0] / self.batch["image"].shape[2]).floor()
        people = range(joints.shape[1])
        heat = [gaussians(points[:, p], labelled[:, p], size=size, sigma=self.task.sigma)[0] for p in people]
        y, x = torch.meshgrid(*map(torch.arange, size), indexing="ij")
        away = torch.stack([x, y], dim=2) - points[..., None, None, :]  # (B, P, K, h, w, 2)
        far = away.square().sum(5) + 1e6 * (1 - labelled[..., None, None])
        return torch.stack(heat).amax(0), 3.0 * far.argmin(1)


class TruthfulLogits(nn.Module):
    """The logits (B, C, H, W) that a sure network gives to a batch's images; nothing for pixels of no class."""

    def __init__(self, task, batch):
        super().__init__()
        classes = batch["class_weights"].shape[1]
        labelled = (batch["labels"] != IGNORED).long()
        places = nn.functional.one_hot(batch["labels"].long() * labelled, classes)  # (B, H, W, C)
        self.logits = 9.0 * (places * labelled[..., None]).movedim(3, 1)

    def forward(self, images):
        return self.logits


class TruthfulScores(nn.Module):
    """The logits (B, C) that a sure network gives to a batch's images."""

    def __init__(self, task, batch):
        super().__init__()
        self.logits = 9.0 * nn.functional.one_hot(batch["label"], 5)

    def forward(self, images):
        return self.logits


TRUTHFUL = {
    "pose": TruthfulHeatmaps,
    "bottom_up_pose": TruthfulTags,
    "segmentation": TruthfulLogits,
    "classification": TruthfulScores,
}
