"""Cross entropy over pixels, over all labelled ones or over the hard ones, as the official segmentation code has it.

HRNet/HRNet-Semantic-Segmentation, lib/core/criterion.py. B images, C classes; classes are weighted.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ablate.datasets import IGNORED


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Mean over labelled pixels, weighted by their class; 0 without any. (B, C, H, W), (B, H, W) and (C,)."""
    total = F.cross_entropy(logits, labels, weight=weights, ignore_index=IGNORED, reduction="sum")
    weight = labelled_weight(labels, weights)
    return total / weight.clamp(min=torch.finfo(weight.dtype).tiny)


def labelled_weight(labels: Tensor, weights: Tensor) -> Tensor:
    """The sum of all labelled pixels' class weights: what `cross_entropy` is a mean over."""
    labelled = labels != IGNORED
    return (weights[labels * labelled] * labelled).sum()


def hard_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor, *, threshold: float, min_kept: int) -> Tensor:
    """Mean weighted loss of the pixels whose own class has less than `threshold` of probability (official OHEM).

    The threshold rises to the `min_kept`-th smallest probability of the batch, counted from 0.
    """
    losses = F.cross_entropy(logits, labels, weight=weights, ignore_index=IGNORED, reduction="none")  # (B, H, W)
    with torch.no_grad():
        labelled = labels != IGNORED
        own = logits.softmax(dim=1).gather(1, (labels * labelled)[:, None])[:, 0]
        own = own.masked_fill(~labelled, 2.0)  # never hard
        wanted = own.flatten().kthvalue(min(min_kept, own.numel() - 1) + 1).values
        largest = own.masked_fill(~labelled, 0.0).max()  # where fewer are labelled; to count them would wait for a GPU
        limit = torch.minimum(wanted, largest).clamp(min=threshold)
        hard = (own < limit) & labelled
    return (losses * hard).sum() / hard.sum().clamp(min=1)
