"""Class scores of whole images, as the official segmentation code tests: windows, mirror image, several scales.

HRNet/HRNet-Semantic-Segmentation, lib/datasets/cityscapes.py (multi_scale_inference) and base_dataset.py (inference).
"""

from collections.abc import Callable, Sequence
from math import ceil
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

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


def class_scores(network: Network, images: Tensor, protocol: Rules, *, align_corners: bool) -> Tensor:
    """Scores (B, C, H, W) of normalised images (B, 3, H, W): the higher, the likelier, but no probabilities.

    Officially exp(logits) is averaged over windows and scales, not the softmax: pixels that the network is sure of
    at one scale count more.
    """
    size = images.shape[2:]
    if protocol.scales == (1.0,) and protocol.window is None:  # nothing to average, and the largest stays the largest
        return _logits(network, images, protocol, align_corners=align_corners)
    total = images.new_zeros(())
    for scale in protocol.scales:
        scaled = images
        if scale != 1:
            scaled = F.interpolate(images, size=scaled_size(size, scale), mode="bilinear", align_corners=False)
        window = protocol.window or (size[0], size[1])  # officially as large as the image: no windows up to scale 1
        scores = _by_windows(network, scaled, window, protocol, align_corners=align_corners)
        total = total + upsampled(scores, size, align_corners=align_corners)
    return total


def scaled_size(size: Sequence[int], factor: float) -> tuple[int, int]:
    """Height and width of an image whose long side is scaled and rounded, with the short side in proportion."""
    longest = max(size)
    scaled = int(longest * factor + 0.5)
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


def _by_windows(
    network: Network, images: Tensor, window: tuple[int, int], protocol: Rules, *, align_corners: bool
) -> Tensor:
    """exp(logits) (B, C, H, W) at the images' size, averaged where windows overlap."""
    (height, width), (down, across) = images.shape[2:], protocol.stride or window
    tops, lefts = starts(height, window[0], down), starts(width, window[1], across)
    if len(tops) == len(lefts) == 1:
        return _exponentials(network, images, protocol, align_corners=align_corners)
    total, count = images.new_zeros(()), images.new_zeros(1, 1, height, width)
    for top in tops:
        for left in lefts:
            part = (..., slice(top, top + window[0]), slice(left, left + window[1]))
            scores = _exponentials(network, images[part], protocol, align_corners=align_corners)
            if total.dim() == 0:
                total = images.new_zeros(*scores.shape[:2], height, width)
            total[part] += scores
            count[part] += 1
    return total / count


def _exponentials(network: Network, images: Tensor, protocol: Rules, *, align_corners: bool) -> Tensor:
    """exp(logits) (B, C, H, W) at the images' size; in float64, for float32 ends at logits of 88."""
    return torch.exp(_logits(network, images, protocol, align_corners=align_corners).double())


def _logits(network: Network, images: Tensor, protocol: Rules, *, align_corners: bool) -> Tensor:
    """Logits at the images' size, averaged with the mirrored image's, officially after upsampling."""
    logits = network(images).float()
    if protocol.flip:
        logits = (logits + network(images.flip(3)).float().flip(3)) * 0.5
    return upsampled(logits, images.shape[2:], align_corners=align_corners)
