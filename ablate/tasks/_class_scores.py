"""Class scores of whole images, as the official segmentation code tests: windows, mirror image, several scales.

HRNet/HRNet-Semantic-Segmentation, lib/datasets/cityscapes.py (multi_scale_inference) and base_dataset.py (inference,
and multi_scale_inference of the sets whose images have no common size).
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ablate.tasks import normalised

Network = Callable[[Tensor], Tensor]  # images (B, 3, H, W) -> logits (B, C, h, w)


class Rules(Protocol):
    """What scores depend on of the knobs of the task's protocol."""

    @property
    def scales(self) -> tuple[float, ...]: ...
    @property
    def flip(self) -> bool: ...
    @property
    def window(self) -> tuple[int, int] | None: ...
    @property
    def stride(self) -> tuple[int, int] | None: ...
    @property
    def pad(self) -> bool: ...


def class_scores(
    network: Network,
    images: Tensor,
    protocol: Rules,
    *,
    align_corners: bool,
    size: Sequence[int] | None = None,
    longer: int | None = None,
    mirror: Tensor | None = None,
) -> Tensor:
    """Scores (B, C, H, W) of normalised images (B, 3, h, w): the higher, the likelier, but no probabilities.

    Officially exp(logits) is averaged over windows and scales, not the softmax: pixels that the network is sure of
    at one scale count more. `size` is that of the scores, the images' own where none is given; `longer` the images'
    longer side at scale 1; `mirror` (C,) the class that each stands for in the mirrored image.
    """
    look = partial(_logits, network, flip=protocol.flip, mirror=mirror, align_corners=align_corners)
    own = images.shape[2:]
    size = size or own
    if protocol.scales == (1.0,) and protocol.window is None and longer is None and tuple(size) == tuple(own):
        return look(images)  # nothing to average, and the largest stays the largest
    total = images.new_zeros(())
    for scale in protocol.scales:
        scaled, at = images, scaled_size(own, scale, longer=longer)
        if at != tuple(own):
            scaled = F.interpolate(images, size=at, mode="bilinear", align_corners=False)
        # officially as large as the image: no windows up to scale 1
        window = protocol.window or scaled_size(own, 1.0, longer=longer)
        total = total + upsampled(_by_windows(look, scaled, window, protocol), own, align_corners=align_corners)
    return upsampled(total, size, align_corners=align_corners)


def scaled_size(size: Sequence[int], factor: float, *, longer: int | None = None) -> tuple[int, int]:
    """Height and width of an image whose long side is scaled and rounded, with the short side in proportion.

    At a factor of 1 the long side is `longer` pixels, or what it is.
    """
    longest = max(size)
    scaled = int((longer or longest) * factor + 0.5)
    height, width = (int(side * scaled / longest + 0.5) for side in size)
    return max(1, height), max(1, width)


def upsampled(maps: Tensor, size: Sequence[int], *, align_corners: bool) -> Tensor:
    """Maps (B, C, h, w) bilinearly at another size (height, width)."""
    if maps.shape[2:] == tuple(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=align_corners)


def starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin so that they cover a length; the last one is moved back to end with it."""
    count = max(0, ceil((length - window) / stride)) + 1
    return [max(0, min(i * stride + window, length) - window) for i in range(count)]


def _by_windows(look: Network, images: Tensor, window: tuple[int, int], protocol: Rules) -> Tensor:
    """exp(logits) (B, C, H, W) at the images' size, averaged where windows overlap."""
    (height, width), stride = images.shape[2:], protocol.stride or window
    if protocol.pad:
        images = _filled(images, window, stride)
    tops, lefts = (starts(*sides) for sides in zip(images.shape[2:], window, stride, strict=True))
    if len(tops) == len(lefts) == 1:
        return _exponentials(look, images)[..., :height, :width]
    total, count = images.new_zeros(()), images.new_zeros(1, 1, *images.shape[2:])
    for top in tops:
        for left in lefts:
            part = (..., slice(top, top + window[0]), slice(left, left + window[1]))
            scores = _exponentials(look, images[part])
            if total.dim() == 0:
                total = images.new_zeros(*scores.shape[:2], *images.shape[2:])
            total[part] += scores
            count[part] += 1
    return (total / count)[..., :height, :width]


def _filled(images: Tensor, window: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """The images with black below and to the right, so that windows end with them and none has to be moved back."""
    sides = images.shape[2:]
    height, width = (
        (len(starts(length, of, step)) - 1) * step + of for length, of, step in zip(sides, window, stride, strict=True)
    )
    black = normalised(torch.zeros(1, 3, 1, 1, device=images.device)).to(images.dtype)
    canvas = black.expand(len(images), 3, height, width).clone()
    canvas[..., : sides[0], : sides[1]] = images
    return canvas


def _exponentials(look: Network, images: Tensor) -> Tensor:
    """exp(logits) (B, C, H, W) at the images' size; in float64, for float32 ends at logits of 88."""
    return torch.exp(look(images).double())


def _logits(network: Network, images: Tensor, *, flip: bool, mirror: Tensor | None, align_corners: bool) -> Tensor:
    """Logits at the images' size, averaged with the mirrored image's, officially after upsampling."""
    logits = network(images).float()
    if flip:
        mirrored = network(images.flip(3)).float().flip(3)
        logits = (logits + (mirrored if mirror is None else mirrored[:, mirror])) * 0.5
    return upsampled(logits, images.shape[2:], align_corners=align_corners)
