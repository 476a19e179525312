"""Bottom-up human pose estimation with HigherHRNet's recipe: all people of an image at once, told apart by tags.

Everything follows HRNet/HigherHRNet-Human-Pose-Estimation@aa238814 (lib/dataset, lib/core, tools/valid.py), the code of
arXiv 1908.10357, with the experiments' settings: heatmaps of all people at a quarter and at half of the input, tags at
a quarter; what lies outside the image, in crowds and on people without labelled joints is not learned. A map's pixel x
stands for the input pixel x * stride, joints are cut to whole pixels of the map, and what is mirrored is mirrored
within each map. Grouping is in `_tags.py`. One difference: the centre is moved by any number, not by whole pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.datasets import Info, PeopleByImage, PeopleOfImage, Samples, Split
from ablate.errors import PartError
from ablate.registry import protocol, task
from ablate.tasks import Batch, Forward, Outputs, constants, crop_affine, gaussians, normalised
from ablate.tasks._coco_results import ignored_pixels, read_people_results, write_people_results
from ablate.tasks._tags import adjusted, completed, grouped, order_of, peaks, tag_losses
from hrnet_core import HigherHead

cv2.setNumThreads(0)  # loader processes would fight over the cores
Found = dict[str, Any]  # a Prediction: COCO's result of a person
Scene = dict[str, Any]  # a sample: `image` (H, W, 3) uint8 RGB, `image_id`, and what `PeopleOfImage` has
Size = tuple[int, int]  # height and width
STEP = 64  # sides of images are multiples of it in evaluation, at the smallest scale
DIVISOR = 32  # and of this one in training


@protocol("bottom_up_pose")
@dataclass(frozen=True)
class BottomUpPoseProtocol:
    """How people are read from heatmaps and tags; by default the official test at a single scale.

    Raises:
        PartError: scales, a kernel or numbers that can be none.
    """

    flip: bool = True  # average with the heatmaps of the mirrored image, whose tags are tags, too
    scales: tuple[float, ...] = (1.0,)  # of the image; multi-scale test: 0.5, 1, 2; tags are those of scale 1
    enlarge: bool = True  # read people from maps of the image's size; false: of half of it
    kernel: int = 5  # pixels: a joint is the highest of so many in either direction
    most: int = 30  # people in an image, and joints of a kind
    threshold: float = 0.1  # of heatmaps: joints below it are none
    tag_distance: float = 1.0  # of tags: from here on two joints are not one person's
    adjust: bool = True  # joints a quarter pixel towards the higher neighbour
    complete: bool = True  # give people joints they lack, where the heatmap is highest for tags like theirs

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0 or (len(self.scales) > 1 and 1.0 not in self.scales):
            raise PartError(f"scales: positive numbers, 1 among them if they are several, not {list(self.scales)}")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise PartError(f"kernel: an odd number of pixels, not {self.kernel}")
        if self.most < 1:
            raise PartError(f"most: must be positive, not {self.most}")

    @property
    def passes(self) -> float:
        return (2.0 if self.flip else 1.0) * sum(scale**2 for scale in self.scales)


@task(
    "bottom_up_pose",
    meaning=1,
    metrics=("keypoint_ap", "pck", "joint_distance"),
    predicts="people",
    input="size",
    dataset="coco_pose",
    preset="bottom_up_pose",
)
@dataclass(frozen=True)
class BottomUpPose:
    """Bottom-up pose: an image in, heatmaps of all people at two resolutions and tags that tell them apart out.

    Raises:
        PartError: a size that networks cannot halve five times, scales or deviations that are not positive.
    """

    size: tuple[int, int] = (512, 512)  # height and width of what is trained on; the shorter one is the test's, pixels
    sigma: float = 2.0  # of the targets' Gaussians, pixels of either map
    scale: tuple[float, float] = (0.75, 1.5)  # augmentation: the crop's shorter side over the image's, least and most
    rotation: float = 30.0  # augmentation: the largest angle in degrees
    translation: float = 0.2  # augmentation: how far the crop moves at most, of its shorter side (40 of 200)
    flip: float = 0.5  # augmentation: how often the image is mirrored
    push: float = 0.001  # weight in the loss of how near people's tags are
    pull: float = 0.001  # weight in the loss of how far tags are from their person's

    def __post_init__(self) -> None:
        if min(self.size) <= 0 or any(side % DIVISOR for side in self.size):
            raise PartError(f"size: multiples of {DIVISOR}, not {list(self.size)}")
        for knob, value in (("sigma", self.sigma), ("scale", min(self.scale))):
            if value <= 0:
                raise PartError(f"{knob}: must be positive, not {value}")
        if self.scale[0] > self.scale[1]:
            raise PartError("scale: the smaller number comes first")

    def head(
        self, info: Info, channels: Sequence[int], strides: Sequence[int], *, intermediate: Sequence[int] = ()
    ) -> nn.Module:
        """Heatmaps and tags (B, 2K, h, w), then heatmaps (B, K, 2h, 2w).

        Raises:
            PartError: the network asks for supervision on the way.
        """
        if intermediate:
            raise PartError("bottom_up_pose has no supervision on the way, which this network asks for")
        return HigherHead(channels, joints=len(info.need_joints()))

    def input_size(self, info: Info, *, training: bool) -> Size:
        return self.size if training else evaluated_size(info.size or self.size, min(self.size))

    def sample_counts(self, info: Info) -> dict[Split, int] | None:
        return info.images

    def samples(self, opened: PeopleByImage) -> "Scenes":
        """Images that somebody is annotated on, a crowd or a person without joints alone among them, as officially."""
        people = opened.by_image()
        return Scenes(opened, tuple(people), people)

    def encode(self, sample: Scene, info: Info, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """An image cut out and resized: at random where `rng` is given, else whole.

        Returns `image` (3, H, W) uint8 RGB; as they were before it was `mirrored` (bool): `joints` (P, K, 2) in its
        pixels, `labelled` (P, K) bool, `counted` (H, W) bool, what the loss counts; and `mirror` (K,) each joint's
        counterpart, `order` (K,) of grouping, `image_id`. Without `rng` also `original` (3, H, W), the whole image.
        """
        image, names = sample["image"], info.need_joints()
        joints, mirror = sample["joints"].reshape(-1, len(names), 3), np.array(names.mirror)
        if rng is None:
            size, angle, mirrored = evaluated_size(image.shape[:2], min(self.size)), 0.0, False
            centre, extent = whole(image.shape[:2], size)
        else:
            size = self.size
            centre, extent, angle, mirrored = self._region(image.shape[:2], rng)
        affine = crop_affine(centre, extent, size=size, angle=angle)
        crop = cv2.warpAffine(image, affine, size[::-1], flags=cv2.INTER_LINEAR)
        learned = 255 - 255 * ignored_pixels(sample["ignored"], image.shape[:2])
        counted = cv2.warpAffine(learned, affine, size[::-1], flags=cv2.INTER_LINEAR) > 127
        if mirrored:
            crop, joints = crop[:, ::-1], joints[:, mirror]
        found = {
            "image": np.ascontiguousarray(crop.transpose(2, 0, 1)),
            "joints": (joints[..., :2] @ affine[:, :2].T + affine[:, 2]).astype(np.float32),
            "labelled": joints[..., 2] > 0,
            "counted": counted,
            "mirrored": mirrored,
            "mirror": mirror,
            "order": np.array(order_of(names)),
            "image_id": sample["image_id"],
        }
        return found | ({"original": image.transpose(2, 0, 1)} if rng is None else {})

    def collate(self, encoded: list[dict[str, Any]]) -> Batch:
        """Images without as many people as others get some without joints."""
        most = max(len(one["labelled"]) for one in encoded)
        people = {
            key: torch.stack([_filled(one[key], most) for one in encoded]) for key in ("joints", "labelled")
        }  # (B, P, ...)
        others = [key for key in encoded[0] if key not in people]
        return people | {key: torch.from_numpy(np.stack([one[key] for one in encoded])) for key in others}

    def prepare(self, batch: Batch) -> Tensor:
        return normalised(batch["image"])

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Mean squared errors of both heatmaps where they count, and what teaches the tags; means over images."""
        coarse, fine = (maps.float() for maps in outputs)
        heatmaps, tags = coarse.chunk(2, dim=1)
        push, pull = tag_losses(tags, *_places(batch, tags.shape[2:]))
        errors = self._error(heatmaps, batch) + self._error(fine, batch)
        return errors + self.push * push.mean() + self.pull * pull.mean()

    def _error(self, heatmaps: Tensor, batch: Batch) -> Tensor:
        size = heatmaps.shape[2:]
        places, counted = _places(batch, size)
        targets = torch.zeros_like(heatmaps)
        for place in range(places.shape[1]):  # at a point the nearest person counts
            of_person = gaussians(
                places[:, place], counted[:, place], size=size, sigma=self.sigma, reach=3 * self.sigma + 1
            )[0]
            targets = torch.maximum(targets, of_person)
        return ((heatmaps - targets).square() * _mask(batch, size)[:, None]).mean()

    def samples_for_evaluation(self, samples: PeopleByImage, protocol: BottomUpPoseProtocol) -> "Scenes":
        return Scenes(samples, tuple(samples.image_ids()), {})

    def evaluation_batch(self, batch: int) -> int:
        return 1  # images differ in size

    def ground_truth(self, samples: Samples) -> dict[str, Any]:
        return samples.ground_truth()

    @torch.no_grad()
    def predict(self, model: Forward, batch: Batch, protocol: BottomUpPoseProtocol) -> list[Found]:
        """COCO results; a person's score is the mean of their joints', those that were given later without one."""
        heatmaps, tags = self._read(model, batch, protocol)
        height, width = heatmaps.shape[2:]
        centre, extent = whole(batch["original"].shape[2:], (height, width))
        found: list[Found] = []
        for maps, own, image_id in zip(heatmaps, tags, batch["image_id"].tolist(), strict=True):
            people, scores = _people(maps, own, batch["order"][0].tolist(), protocol)
            people[..., :2] = centre + (people[..., :2] - (width / 2, height / 2)) * extent[0] / width
            found += [
                {"image_id": image_id, "annotation_id": -1, "category_id": 1}
                | {"keypoints": person[:, :3].ravel().tolist(), "score": float(score)}
                for person, score in zip(people, scores, strict=True)
            ]
        return found

    def _read(self, model: Forward, batch: Batch, protocol: BottomUpPoseProtocol) -> tuple[Tensor, Tensor]:
        """Heatmaps (B, K, H, W), averaged over all passes, and tags (B, K, H, W, T) of those at scale 1."""
        original, scales, mirror = batch["original"].shape[2:], protocol.scales, batch["mirror"][0]
        size = evaluated_size(original, min(self.size), least=min(scales))
        read_at = size if protocol.enlarge else (size[0] // 2, size[1] // 2)
        heatmaps: list[Tensor] = []
        tags: list[Tensor] = []
        for scale in scales:
            images = self._resized(batch, evaluated_size(original, min(self.size), scale=scale, least=min(scales)))
            for mirrored in (False, True) if protocol.flip else (False,):
                coarse, fine = (maps.float() for maps in model(images.flip(3) if mirrored else images))
                heat, tag = _enlarged(coarse, fine.shape[2:]).chunk(2, dim=1)
                both = [_enlarged(maps, read_at) for maps in ((heat + fine) / 2, tag)]
                heat, tag = (maps.flip(3)[:, mirror] for maps in both) if mirrored else both
                heatmaps.append(heat)
                tags += [tag] if scale == 1 or len(scales) == 1 else []
        return torch.stack(heatmaps).mean(0), torch.stack(tags, dim=4)

    def _resized(self, batch: Batch, size: Size) -> Tensor:
        """The whole images at a size, as the network wants them."""
        if tuple(batch["image"].shape[2:]) == size:
            return self.prepare(batch)
        original = batch["original"].shape[2:]
        affine = crop_affine(*whole(original, size), size=size, angle=0)
        images = batch["original"].permute(0, 2, 3, 1).cpu().numpy()
        resized = np.stack([cv2.warpAffine(image, affine, size[::-1], flags=cv2.INTER_LINEAR) for image in images])
        return normalised(torch.from_numpy(resized).to(batch["image"].device).permute(0, 3, 1, 2))

    def finish(self, predictions: list[Found], protocol: BottomUpPoseProtocol, info: Info) -> list[Found]:
        return predictions

    def write_predictions(self, predictions: list[Found], samples: Samples, folder: Path) -> None:
        """COCO's results format, as its evaluation server takes it; people have the set's own number."""
        write_people_results(predictions, samples, folder)

    def read_predictions(self, place: Path, samples: Samples) -> tuple[list[Found], list[str]]:
        """From COCO's results format, whoever wrote it."""
        return read_people_results(place, samples)

    def _region(self, original: Size, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float, bool]:
        """Centre and width and height of what is cut out, pixels, the angle in degrees, and whether to mirror."""
        height, width = original
        side = min(original) * rng.uniform(*self.scale)
        angle = rng.uniform(-self.rotation, self.rotation)
        centre = np.array([width, height]) / 2 + side * self.translation * rng.uniform(-1, 1, 2)
        return centre, _extent(self.size, side), angle, rng.random() < self.flip


@dataclass(frozen=True)
class Scenes:
    """The samples of an opened split: images, with their people where they are known."""

    opened: PeopleByImage
    ids: tuple[int, ...]
    people: Mapping[int, PeopleOfImage]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Scene:
        image_id = self.ids[index]
        nobody: PeopleOfImage = {"joints": np.zeros((0, len(self.opened.info.need_joints()), 3)), "ignored": []}
        own = self.people.get(image_id, nobody)
        return {"image": self.opened.image(image_id), "image_id": image_id, **own}

    @property
    def image_of(self) -> tuple[int, ...]:
        """The image of each sample."""
        return self.ids


def evaluated_size(original: Sequence[int], shorter: int, *, least: float = 1.0, scale: float = 1.0) -> Size:
    """Height and width that an image is evaluated at (get_multi_scale_size).

    At the smallest scale, `least`, both sides are multiples of 64: the shorter one about `least` x `shorter`, the
    longer one as long as the image's shape asks, and rounded up.
    """
    height, width = original
    small = int((least * shorter + STEP - 1) // STEP * STEP)
    large = int((small / min(original) * max(original) + STEP - 1) // STEP * STEP)
    short, long = (int(side * scale / least) for side in (small, large))
    return (long, short) if width < height else (short, long)


def whole(original: Sequence[int], size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Centre and width and height (2,) in pixels of the part of an image that fills `size`: its longer side is wider
    than the image where `size` was rounded up."""
    height, width = original
    return np.array([int(width / 2 + 0.5), int(height / 2 + 0.5)]), _extent(size, min(original))


def _extent(size: Size, side: float) -> np.ndarray:
    """Width and height (2,) of what fills `size` when `side` is its shorter one."""
    return np.array(size[::-1]) * side / min(size)


def _filled(people: np.ndarray, most: int) -> Tensor:
    filled = np.zeros((most, *people.shape[1:]), people.dtype)
    filled[: len(people)] = people
    return torch.from_numpy(filled)


def _places(batch: Batch, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Columns and rows (B, P, K, 2) of joints in maps of a size, and which are labelled and inside (B, P, K)."""
    steps = batch["image"].shape[3] / size[1], batch["image"].shape[2] / size[0]
    x, y = (batch["joints"] / constants(steps, batch["joints"].device, batch["joints"].dtype)).unbind(3)
    x = torch.where(batch["mirrored"][:, None, None], size[1] - 1 - x, x)
    places = torch.stack([x, y], dim=3).trunc().long()  # official: int(), which cuts towards zero
    inside = ((places >= 0) & (places < constants((size[1], size[0]), places.device, places.dtype))).all(3)
    return places, batch["labelled"] & inside


def _mask(batch: Batch, size: Sequence[int]) -> Tensor:
    """(B, h, w), 1 where the loss counts: every so many pixels of the input one."""
    down, across = (side // cells for side, cells in zip(batch["image"].shape[2:], size, strict=True))
    mask = batch["counted"][:, ::down, ::across].float()
    return torch.where(batch["mirrored"][:, None, None], mask.flip(2), mask)


def _enlarged(maps: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def _people(
    heatmaps: Tensor, tags: Tensor, order: Sequence[int], protocol: BottomUpPoseProtocol
) -> tuple[np.ndarray, np.ndarray]:
    """The people (P, K, 3 + T) of an image in pixels of its maps, and their scores (P,)."""
    found = peaks(heatmaps, tags, kernel=protocol.kernel, most=protocol.most)
    people = grouped(found, order, threshold=protocol.threshold, distance=protocol.tag_distance, most=protocol.most)
    scores = people[..., 2].mean(axis=1)
    if protocol.adjust:
        people = adjusted(people, heatmaps)
    if protocol.complete:
        people = completed(people, heatmaps, tags)
    return people, scores
