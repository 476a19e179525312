"""A network from a file, as a task's `predict` calls it: whatever pictures it wants and however its outputs lie.

Tasks prepare pictures in one way: (B, 3, H, W) float32, RGB, with ImageNet's mean and deviation taken out. What another
network sees is made of that, and what it puts out becomes maps (B, joints or classes, h, w) of any stride, scores
(B, classes) of images, or what a detector found in them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ablate.beside import Subject
from ablate.errors import DataError
from ablate.evaluation.reading import MEAN, STD, Reading
from ablate.tasks._simcc import NAMES, SPLIT

Size = tuple[int, int]  # height and width
Run = Callable[..., dict[str, Tensor]]  # pictures (B, C, H, W) as the network wants them, of detectors with their sizes
SEVERAL = ("bottom_up_pose",)  # tasks that read several maps of a network, in their order
FINDS = ("detection",)  # tasks whose networks say themselves what they found
CHANNELS = "--set network.channels=[...] says which of its channels stands for each"
LUMA = (0.299, 0.587, 0.114)  # grey of RGB, as OpenCV has it


@dataclass(frozen=True)
class Loaded:
    """A network, ready to run, and what its file tells of it."""

    subject: Subject
    run: Run
    reading: Reading
    task: str | None = None  # that its head is for; None: the file does not tell
    size: Size | None = None  # of the pictures that it takes; None: any
    channels: int = 3  # of the pictures that it takes
    outputs: int | None = None  # joints or classes; None: told by its outputs
    likely: int | None = None  # the same, as far as shapes tell
    names: tuple[str, ...] = ()  # of these, in the network's order, where the file tells
    knobs: dict[str, object] = field(default_factory=dict)  # of the task, that go with it
    notes: tuple[str, ...] = ()


@dataclass
class Adapted:
    """Calls the network with a task's pictures; `parts` names what the maps are of."""

    net: Loaded
    task: str
    parts: Sequence[str]
    scaled: bool = False  # whether any pictures were, to the size that the network takes

    def __call__(self, images: Tensor, *given: Tensor) -> Tensor | list[Tensor]:
        """images (B, 3, H, W) as tasks prepare them -> float32 maps (B, parts, h, w), of several maps all of them,
        scores (B, parts), or SimCC's logits of columns and rows. Of detection with the sizes (B, 2) of the images:
        what `Detector` gives.

        Raises:
            DataError: an output that is none, in one line.
        """
        reading, fixed = self.net.reading, self.net.size or self.net.reading.size
        pictures = images if reading.plain else converted(images, reading)
        if self.task in FINDS:
            return self._found(pictures, *given)
        if self.net.channels == 1:
            weights = pictures.new_tensor(LUMA if reading.colours == "rgb" else LUMA[::-1]).view(1, 3, 1, 1)
            pictures = (pictures * weights).sum(1, keepdim=True)
        if fixed and tuple(pictures.shape[2:]) != tuple(fixed):
            pictures = F.interpolate(pictures, size=tuple(fixed), mode="bilinear", align_corners=False)
            self.scaled = True
        if self.task in SEVERAL:
            return self._several(self.net.run(pictures))
        height, width = pictures.shape[2:]
        more = [-side % reading.multiple for side in (height, width)]
        if any(more):
            pictures = F.pad(pictures, (0, more[1], 0, more[0]), value=float(pictures.min()))
        outputs = self.net.run(pictures)
        if set(outputs) == set(NAMES):
            return self._axes([outputs[name] for name in NAMES], (images.shape[3], images.shape[2]))
        if not self.parts and len(outputs) == 1:  # a task of a plug-in: what it predicts has no names
            return next(iter(outputs.values())).float()
        maps = self._maps(outputs)
        if any(more) and maps.dim() == 4:
            maps = F.interpolate(maps, size=pictures.shape[2:], mode="bilinear", align_corners=False)
            maps = maps[..., :height, :width]
        return maps

    def _several(self, outputs: dict[str, Tensor]) -> list[Tensor]:
        """Heatmaps with tags, and heatmaps of twice the size."""
        maps, count = [value.float() for value in outputs.values()], len(self.parts)
        chosen, joints = self.net.reading.channels, maps[-1].shape[1]
        if chosen is not None and len(maps) == 2 and maps[0].shape[1] == 2 * joints:
            if len(chosen) != count or not 0 <= min(chosen) <= max(chosen) < joints:
                wanted = f"one of 0 to {joints - 1} for each of {', '.join(self.parts)}"
                raise DataError(f"network.channels: {wanted}, not {list(chosen)}")
            maps = [maps[0][:, [*chosen, *(joints + place for place in chosen)]], maps[1][:, list(chosen)]]
        shapes = [tuple(value.shape[1:]) for value in maps]
        if not (len(maps) == 2 and shapes[0][0] == 2 * count and shapes[1] == (count, *(2 * s for s in shapes[0][1:]))):
            wanted = f"({2 * count}, h, w) of heatmaps and tags, and heatmaps ({count}, 2h, 2w)"
            raise DataError(f"{self.net.subject.file}: wanted maps {wanted}; its outputs are {shapes}; {CHANNELS}")
        return maps

    def _axes(self, values: list[Tensor], sides: Size) -> list[Tensor]:
        """SimCC's logits of columns and of rows, (B, parts, bins) each; `sides` are width and height of the crop."""
        chosen = self.net.reading.channels
        found = [self._chosen(value, chosen) if chosen is not None else value for value in values]
        wanted = [(len(self.parts), SPLIT * side) for side in sides]
        if [tuple(value.shape[1:]) for value in found if value is not None] != wanted:
            shapes = ", ".join(str(tuple(value.shape)) for value in values)
            says = " and ".join(f"(B, {joints}, {bins})" for joints, bins in wanted)
            raise DataError(f"{self.net.subject.file}: SimCC has outputs {says} here; its outputs are {shapes}")
        return [value.float() for value in found if value is not None]

    def _found(self, pictures: Tensor, sizes: Tensor) -> list[Tensor]:
        """What was found of the set's classes, by their places; classes that no part stands for are left out."""
        for picture, (height, width) in zip(pictures, sizes.tolist(), strict=True):
            picture[:, height:], picture[:, :, width:] = 0, 0  # padding stays 0 in other means and ranges, too
        boxes, scores, labels, counts, *masks = self.net.run(pictures, sizes).values()
        if (chosen := self.net.reading.channels) is None:
            return [boxes, scores, labels, counts, *masks]
        count = self.net.outputs or 0
        if len(chosen) != len(self.parts) or not 0 <= min(chosen) <= max(chosen) < count:
            wanted = f"one of 0 to {count - 1} for each of {', '.join(self.parts)}"
            raise DataError(f"network.channels: {wanted}, not {list(chosen)}")
        place_of = labels.new_zeros(count + 1)
        place_of[[channel + 1 for channel in chosen]] = torch.arange(1, len(chosen) + 1, device=labels.device)
        places = place_of[labels]
        own = places > 0
        counts = torch.stack([of_image.sum() for of_image in own.split(counts.tolist())])
        return [boxes[own], scores[own], places[own], counts, *(shapes[own] for shapes in masks)]

    def _maps(self, outputs: dict[str, Tensor]) -> Tensor:
        """The output that has a map or a score for each part."""
        file, wanted = self.net.subject.file, self.net.reading.output
        if wanted is not None:
            if wanted not in outputs:
                raise DataError(f"network.output: {file} has no output {wanted!r}; it has {', '.join(outputs)}")
            outputs = {wanted: outputs[wanted]}
        fitting = self._as_scores if self.task == "classification" else self._as_maps
        found = {name: maps for name, value in outputs.items() if (maps := fitting(value)) is not None}
        if len(found) != 1:
            shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in outputs.items())
            if found:
                raise DataError(f"{file}: several outputs fit: {shapes}; --set network.output=NAME says which counts")
            raise DataError(f"{file}: {self._expected()}; its outputs are {shapes}")
        return next(iter(found.values())).float()

    def _expected(self) -> str:
        kind, count = "joint" if self.task == "pose" else "class", len(self.parts)
        of_images = self.task == "classification"
        many = f"wanted scores (B, {count})" if of_images else f"wanted maps (B, {count}, h, w)"
        other = "" if of_images else f", or (B, h, w, {count})"
        return f"{many}, one for each {kind} of the set ({', '.join(list(self.parts)[:3])} ...){other}; {CHANNELS}"

    def _as_maps(self, value: Tensor) -> Tensor | None:
        """An output as (B, parts, h, w); None where it cannot be."""
        count, chosen = len(self.parts), self.net.reading.channels
        if self.task == "segmentation" and not value.dtype.is_floating_point and chosen is None:
            return self._one_hot(value)
        if value.dim() != 4 or chosen is not None:
            return self._chosen(value, chosen) if chosen and value.dim() == 4 else None
        if value.shape[1] == count:
            return value
        if value.shape[3] == count:
            return value.permute(0, 3, 1, 2)
        if self.task == "segmentation" and count == 2 and 1 in (value.shape[1], value.shape[3]):
            return _two_classes(value if value.shape[1] == 1 else value.permute(0, 3, 1, 2))
        return None

    def _as_scores(self, value: Tensor) -> Tensor | None:
        """An output as (B, parts); None where it cannot be."""
        chosen = self.net.reading.channels
        value = value.flatten(1) if value.dim() == 4 and value.shape[2:] == (1, 1) else value
        if value.dim() == 2 and chosen is not None:
            return self._chosen(value, chosen)
        return value if value.dim() == 2 and value.shape[1] == len(self.parts) else None

    def _chosen(self, value: Tensor, chosen: Sequence[int]) -> Tensor | None:
        """The channels that the user named, one for each part."""
        if len(chosen) != len(self.parts) or min(chosen) < 0:
            raise DataError(f"network.channels: one channel for each of {', '.join(self.parts)}, not {list(chosen)}")
        if value.dim() == 4 and value.shape[1] <= max(chosen) < value.shape[3]:
            value = value.permute(0, 3, 1, 2)
        return value[:, list(chosen)] if max(chosen) < value.shape[1] else None

    def _one_hot(self, value: Tensor) -> Tensor | None:
        """Class numbers (B, h, w), with or without an axis of one, as scores of 0 and 1."""
        if value.dim() == 4 and 1 in (value.shape[1], value.shape[3]):
            value = value[:, 0] if value.shape[1] == 1 else value[..., 0]
        if value.dim() != 3:
            return None
        if int(value.max()) >= len(self.parts) or int(value.min()) < 0:
            raise DataError(
                f"{self.net.subject.file}: its output holds the class {int(value.max())}; the set has "
                f"{len(self.parts)} classes, 0 to {len(self.parts) - 1}"
            )
        return F.one_hot(value.long(), len(self.parts)).permute(0, 3, 1, 2).float()


def converted(images: Tensor, reading: Reading) -> Tensor:
    """Pictures as tasks prepare them, as the network wants them: colours, range, mean and deviation."""

    def column(values: Sequence[float]) -> Tensor:
        return images.new_tensor(np.broadcast_to(values, 3).tolist()).view(1, 3, 1, 1)

    pictures = (images * column(STD) + column(MEAN)) * reading.white
    pictures = (pictures - column(reading.mean)) / column(reading.std)
    return pictures.flip(1) if reading.colours == "bgr" else pictures


def _two_classes(value: Tensor) -> Tensor:
    """One map (B, 1, h, w), the second class's probability or its logit, as scores of both classes (B, 2, h, w)."""
    value = value.float()
    probabilities = bool(value.min() >= 0) and bool(value.max() <= 1)
    return torch.cat([0.5 - value, value - 0.5] if probabilities else [-value, value], dim=1)
