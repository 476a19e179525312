"""Masks as COCO's files write them: polygons, or runs over the whole image, which may be compressed."""

from typing import Any

from pycocotools import mask as runs

from ablate.datasets._coco_file import not_finite


def mask_problem(mask: Any, name: str, image: Any) -> str | None:
    """A mask is a list of polygons, or runs over the whole image; it may be missing."""
    if not mask:
        return None
    if isinstance(mask, list):
        wrong = [polygon for polygon in mask if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2]
        if wrong or any(not_finite(polygon) for polygon in mask):
            return f"{name}: its segmentation has a polygon that is no list of three points or more"
        return None
    if not isinstance(mask, dict) or mask.get("size") != [image.height, image.width] or "counts" not in mask:
        return f"{name}: its segmentation is neither polygons nor runs over {image.height} x {image.width} pixels"
    counts = mask["counts"]
    if isinstance(counts, list):
        whole = all(type(count) is int and count >= 0 for count in counts)
        if not whole or sum(counts) != image.height * image.width:
            return f"{name}: the runs of its segmentation do not fill {image.height} x {image.width} pixels"
    return None


def as_runs(mask: Any, height: int, width: int) -> Any:
    """A mask as pycocotools' compressed runs."""
    if isinstance(mask, list):
        return runs.merge(runs.frPyObjects(mask, height, width))
    return runs.frPyObjects(mask, height, width) if isinstance(mask["counts"], list) else mask
