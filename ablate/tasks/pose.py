"""Top-down human pose estimation with the official recipe, quirks included.

Everything follows leoxiaobin/deep-high-resolution-net.pytorch@6f69e4676ad8 (lib/dataset, lib/core), the code
of arXiv 1902.09212: a crop around each person, one heatmap per joint, the maximum with a quarter-pixel shift.
Intermediate maps, of backbones that have them, are supervised with the same targets, and their losses are added.
Heatmap pixel x stands for crop pixel x * stride: no half-pixel offset, in encoding and decoding alike. One
difference: a mirrored crop is warped from the unmirrored image in one step, which saves a copy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from ablate.datasets import Info, PeopleSamples, Person, Samples, Split
from ablate.errors import PartError
from ablate.registry import protocol, task
from ablate.tasks import (
    Batch,
    Outputs,
    constants,
    crop_affine,
    dark,
    gaussians,
    grown_to_shape,
    normalised,
    oks_nms,
    read_heatmaps,
)
from ablate.tasks._coco_results import read_people_results, write_people_results
from ablate.tasks._detected_people import DetectedPeople
from ablate.tasks._simcc import SimCCHead, read_simcc, simcc_loss
from hrnet_core import HeatmapHead, SegmentationHead

cv2.setNumThreads(0)  # one crop is too small to share out, and loader processes would fight over the cores
HALF_BODY_PADDING = 1.5
Found = dict[str, Any]  # a Prediction: COCO's result, with the box's score, the annotation and the crop's area
Region = tuple[np.ndarray, np.ndarray]  # centre (2,) and padded width and height (2,), pixels of the image


@protocol("pose")
@dataclass(frozen=True)
class PoseProtocol:
    """How poses are read from heatmaps and scored; by default the official test, on ground-truth boxes.

    Raises:
        PartError: `boxes` and `detections` contradict each other.
    """

    boxes: Literal["ground_truth", "detections"] = "ground_truth"  # where people are looked for
    detections: str | None = None  # boxes from a detector: a COCO results json under the set's folder
    flip: bool = True  # average with the heatmaps of the mirrored crop
    shift: bool = True  # move the mirrored crop's heatmaps right by one pixel first, but for transform: unbiased
    refine: Literal["quarter", "none", "dark"] = "quarter"  # a quarter pixel towards the higher neighbour, or DARK
    keypoint_threshold: float = 0.2  # joints above it count in a person's score
    oks_nms: float = 0.9  # of two people more alike than this in an image the lower-scored goes

    def __post_init__(self) -> None:
        if (self.boxes == "detections") != (self.detections is not None):
            raise PartError(f"detections: {self.detections!r} does not go with boxes: {self.boxes}")

    @property
    def passes(self) -> float:
        return 2.0 if self.flip else 1.0


@task(
    "pose",
    meaning=1,
    metrics=("keypoint_ap", "pck", "joint_distance"),
    predicts="people",
    input="size",
    dataset="coco_pose",
    preset="pose",
    later=("transform", "targets", "head", "channels", "drawn"),
)
@dataclass(frozen=True)
class Pose:
    """Top-down pose: a person's crop in, one heatmap per joint out.

    Raises:
        PartError: a size, sigma or padding that is not positive, a negative number of joints.
    """

    size: tuple[int, int] = (256, 192)  # height and width of the crop, pixels
    sigma: float = 2.0  # of the target's Gaussian, heatmap pixels (code and PAMI: 2; CVPR: 1)
    padding: float = 1.25  # the crop's side over the box's, once the box has the crop's shape
    scale: float = 0.35  # augmentation: sd of the crop's relative size, clipped at one sd; 0: off
    rotation: float = 45.0  # augmentation: sd of the angle in degrees, clipped at two sd; 0: off
    rotation_probability: float = 0.6  # augmentation: how often the crop is rotated
    flip: float = 0.5  # augmentation: how often the crop is mirrored
    half_body: float = 0.3  # augmentation: how often the crop shows only the upper or the lower body
    half_body_min_joints: int = 8  # augmentation: half-body crops only of people with more labelled joints
    ohkm: int = 0  # how many of a person's joints count in the loss, the hardest ones (CPN: 8); 0: all
    transform: Literal["unbiased"] | None = None  # UDP: crops and heatmaps by steps between pixels; none: by pixels
    targets: Literal["exact"] | None = None  # DARK: Gaussians where the joints are; none: rounded to pixels, and cut
    head_: Literal["simcc", "mixing"] | None = None  # classes of columns and rows; or HRNetV2's mixing; none: heatmaps
    channels: Literal["bgr"] | None = None  # in this order under RGB's mean and deviation (SimpleBaseline); none: RGB
    drawn: Literal["uniform"] | None = None  # augmentation: sizes and angles evenly, as of faces; none: by Gaussians

    def __post_init__(self) -> None:
        for knob, value in (("size", min(self.size)), ("sigma", self.sigma), ("padding", self.padding)):
            if value <= 0:
                raise PartError(f"{knob}: must be positive, not {value}")
        if self.ohkm < 0:
            raise PartError(f"ohkm: a number of joints, or 0 for all, not {self.ohkm}")
        if self.head_ == "simcc" and (self.ohkm or self.targets):
            knob = "ohkm" if self.ohkm else "targets"
            raise PartError(f"{knob}: is about heatmaps, which head: {self.head_} has none of")

    def head(
        self, info: Info, channels: Sequence[int], strides: Sequence[int], *, intermediate: Sequence[int] = ()
    ) -> nn.Module:
        """Heatmaps (B, K, h, w), or in training a list of them, the first being those that predict.

        Raises:
            PartError: the loss shall be mined for more joints than there are.
        """
        joints = len(info.need_joints())
        if self.ohkm > joints:
            raise PartError(f"ohkm: {self.ohkm} are more than the {joints} joints of {info.name}")
        if self.head_ and intermediate:
            raise PartError(f"head: {self.head_} has no supervision on the way, which this network asks for")
        if self.head_ == "mixing":
            return SegmentationHead(channels, classes=joints)
        if self.head_ == "simcc":
            cells = (-(-self.size[0] // strides[0]), -(-self.size[1] // strides[0]))
            return SimCCHead(channels[0], joints=joints, cells=cells, size=self.size)
        return HeatmapHead(channels, joints=joints, intermediate=intermediate)

    def input_size(self, info: Info, *, training: bool) -> tuple[int, int]:
        return self.size

    def sample_counts(self, info: Info) -> dict[Split, int] | None:
        return info.sizes

    def samples(self, opened: PeopleSamples) -> PeopleSamples:
        return opened

    def encode(self, sample: Person, info: Info, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """A person's crop.

        Returns `image` (3, H, W) uint8 RGB; `joints` (K, 2) in crop pixels; `labelled` (K,) 0 or 1; `mirror`
        (K,) each joint's counterpart; `centre` and `extent` (2,) of the crop in the image; ids and score.
        """
        joints, mirror = sample["joints"], np.array(info.need_joints().mirror)
        (centre, extent), angle, mirrored = self._region(sample["box"]), 0.0, False
        if rng is not None:
            (centre, extent), angle, mirrored = self._augmented((centre, extent), joints, info, rng)
        affine = crop_affine(centre, extent, size=self.size, angle=angle, unbiased=self._unbiased)
        if mirrored:  # about the crop's centre: the same crop as of the mirrored image
            affine = affine @ np.array([[-1, 0, 2 * centre[0]], [0, 1, 0], [0, 0, 1]])
            joints = joints[mirror]
        crop = cv2.warpAffine(sample["image"], affine, self.size[::-1], flags=cv2.INTER_LINEAR)
        return {
            "image": np.ascontiguousarray(crop.transpose(2, 0, 1)),  # (3, H, W)
            "joints": (joints[:, :2] @ affine[:, :2].T + affine[:, 2]).astype(np.float32),  # (K, 2)
            "labelled": np.minimum(joints[:, 2], 1).astype(np.float32),  # (K,)
            "mirror": mirror,
            "centre": centre,
            "extent": extent,
            "image_id": sample["image_id"],
            "annotation_id": sample["annotation_id"],
            "score": sample["score"],
            "category": sample.get("category_id", -1),  # -1: the set has one
        }

    def collate(self, encoded: list[dict[str, Any]]) -> Batch:
        batch: Batch = default_collate(encoded)
        return batch

    def prepare(self, batch: Batch) -> Tensor:
        images = batch["image"]  # (B, 3, H, W) RGB
        return normalised(images.flip(1) if self.channels == "bgr" else images)

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Mean over joints of half the mean squared error over batch and pixels; unlabelled ones weigh 0.

        With `ohkm` the mean is over each person's hardest joints (JointsOHKMMSELoss). Losses of a list are added; its
        first heatmaps alone are mined, as in CPN (Chen et al. 2018, sec. 3.2).
        """
        if self.head_ == "simcc":
            return simcc_loss(list(outputs), batch["joints"], batch["labelled"])
        main, *intermediate = outputs if isinstance(outputs, list) else [outputs]
        squares = self._squares(main, batch)
        if self.ohkm:
            squares = squares.mean((2, 3)).topk(self.ohkm, dim=1).values  # (B, ohkm)
        return 0.5 * sum((self._squares(heatmaps, batch).mean() for heatmaps in intermediate), squares.mean())

    def _squares(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Squared differences (B, K, h, w) from the targets at the heatmaps' own size; 0 for unlabelled joints."""
        heatmaps = outputs.float()  # (B, K, h, w)
        less = 1 if self._unbiased else 0
        stride = [(crop - less) / (cells - less) for crop, cells in zip(self.size, heatmaps.shape[2:], strict=True)]
        centres = batch["joints"] / constants((stride[1], stride[0]), batch["joints"].device, batch["joints"].dtype)
        size, exact = heatmaps.shape[2:], self.targets == "exact"
        targets, weights = gaussians(centres, batch["labelled"], size=size, sigma=self.sigma, exact=exact)
        return ((heatmaps - targets) * weights[:, :, None, None]).square()

    def samples_for_evaluation(
        self, samples: PeopleSamples, protocol: PoseProtocol
    ) -> "PeopleSamples | DetectedPeople":
        return DetectedPeople.read(samples, protocol.detections) if protocol.detections else samples

    def evaluation_batch(self, batch: int) -> int:
        return batch

    def ground_truth(self, samples: Samples) -> dict[str, Any]:
        return samples.ground_truth()

    @torch.no_grad()
    def predict(self, model: Callable[[Tensor], Any], batch: Batch, protocol: PoseProtocol) -> list[Found]:
        """One COCO result per crop; `score` is the box's until `finish`, `area` that of the padded crop."""
        read = self._read_classes if self.head_ == "simcc" else self._read_heatmaps
        xy, confidence, cells = read(model, batch, protocol)
        centre, extent = (batch[name].double().cpu()[:, None] for name in ("centre", "extent"))  # (B, 1, 2)
        step = extent / (cells - 1) if self._unbiased else extent[..., :1] / cells[0]
        middle = (cells - 1) / 2 if self._unbiased else cells / 2
        xy = centre + (xy.double().cpu() - middle) * step
        keypoints = torch.cat([xy, confidence.double().cpu()[..., None]], dim=2)  # (B, K, 3)
        fields = {
            "image_id": batch["image_id"],
            "annotation_id": batch["annotation_id"],
            "keypoints": keypoints.flatten(1),
            "score": batch["score"],
            "box_score": batch["score"],
            "area": extent.prod(2).flatten(),
            "category": batch["category"],
        }
        rows = zip(*(values.tolist() for values in fields.values()), strict=True)
        return [dict(zip(fields, row, strict=True)) | {"category_id": 1} for row in rows]

    def _read_heatmaps(
        self, model: Callable[[Tensor], Any], batch: Batch, protocol: PoseProtocol
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Points (B, K, 2) in pixels of the heatmaps, confidences (B, K), and width and height of the maps (2,)."""
        images = self.prepare(batch)
        heatmaps = model(images).float()  # (B, K, h, w)
        if protocol.flip:
            mirrored = model(images.flip(3)).float().flip(3)[:, batch["mirror"][0]]
            if protocol.shift and not self._unbiased:
                mirrored[..., 1:] = mirrored[..., :-1].clone()  # the first column stays, as officially
            heatmaps = (heatmaps + mirrored) * 0.5
        xy, confidence = read_heatmaps(heatmaps, refine=protocol.refine == "quarter")
        if protocol.refine == "dark":
            xy = dark(heatmaps, xy, sigma=self.sigma)
        return xy, confidence, torch.tensor(heatmaps.shape[:1:-1], dtype=torch.float64)

    def _read_classes(
        self, model: Callable[[Tensor], Any], batch: Batch, protocol: PoseProtocol
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Likewise in pixels of the crop, from classes of its columns and rows."""
        images = self.prepare(batch)
        columns, rows = (logits.float().softmax(2) for logits in model(images))
        if protocol.flip:
            others = [logits.float().softmax(2)[:, batch["mirror"][0]] for logits in model(images.flip(3))]
            columns, rows = (columns + others[0].flip(2)) * 0.5, (rows + others[1]) * 0.5
        xy, confidence = read_simcc([columns, rows])
        return xy, confidence, torch.tensor(self.size[::-1], dtype=torch.float64)

    def finish(self, predictions: list[Found], protocol: PoseProtocol, info: Info) -> list[Found]:
        """Score = the box's x the mean of its joints' above the threshold; then OKS-NMS within each image."""
        of_image: dict[int, list[Found]] = {}
        for prediction in predictions:
            confidence = np.array(prediction["keypoints"][2::3])
            counted = confidence[confidence > protocol.keypoint_threshold]
            score = prediction["box_score"] * (counted.mean() if len(counted) else 0.0)
            of_image.setdefault(prediction["image_id"], []).append({**prediction, "score": float(score)})
        sigmas = np.array(info.need_joints().sigmas)
        return [
            people[kept]
            for people in of_image.values()
            for kept in oks_nms(people, sigmas=sigmas, threshold=protocol.oks_nms)
        ]

    def write_predictions(self, predictions: list[Found], samples: Samples, folder: Path) -> None:
        """COCO's results format, as its evaluation server takes it; people have the set's own numbers."""
        write_people_results(predictions, samples, folder)

    def read_predictions(self, place: Path, samples: Samples) -> tuple[list[Found], list[str]]:
        """From COCO's results format, whoever wrote it; nothing is suppressed or scored anew."""
        return read_people_results(place, samples)

    @property
    def _unbiased(self) -> bool:
        return self.transform == "unbiased"

    def _region(self, box: np.ndarray) -> Region:
        x, y, width, height = box
        extent = grown_to_shape(np.array([width, height]), self.size)
        return np.array([x + width / 2, y + height / 2]), self.padding * extent

    def _augmented(
        self, region: Region, joints: np.ndarray, info: Info, rng: np.random.Generator
    ) -> tuple[Region, float, bool]:
        """Another region, an angle in degrees, and whether to mirror; drawn in the official order."""
        centre, extent = self._half_body(joints, info.need_joints().upper_body, rng) or region
        extent = extent * (1 + self.scale * self._draw(rng, most=1))
        angle = 0.0
        if rng.random() <= self.rotation_probability:
            angle = self.rotation * self._draw(rng, most=2)
        return (centre, extent), angle, rng.random() <= self.flip

    def _draw(self, rng: np.random.Generator, *, most: int) -> float:
        """How many deviations to augment by: a Gaussian, cut at `most`; or even between -1 and 1, as of faces."""
        if self.drawn == "uniform":
            return float(rng.uniform(-1, 1))
        return float(np.clip(rng.standard_normal(), -most, most))

    def _half_body(
        self, joints: np.ndarray, upper_body: tuple[int, ...] | None, rng: np.random.Generator
    ) -> Region | None:
        """The region of the upper or the lower body's labelled joints, sometimes; None: keep the whole."""
        labelled = joints[:, 2] > 0
        if upper_body is None:
            return None
        if labelled.sum() <= self.half_body_min_joints or rng.random() >= self.half_body:
            return None
        upper = np.isin(np.arange(len(joints)), upper_body)
        above, below = joints[labelled & upper, :2], joints[labelled & ~upper, :2]
        # A normal draw below 0.5 (p = 0.69), where a uniform one was probably meant.
        prefer_above = rng.standard_normal() < 0.5 and len(above) > 2
        chosen = above if prefer_above or len(below) <= 2 else below
        if len(chosen) < 2 or not np.ptp(chosen, axis=0).any():
            return None
        extent = grown_to_shape(np.ptp(chosen, axis=0), self.size)
        return chosen.mean(axis=0), HALF_BODY_PADDING * extent
