"""TIFF and GIF, which microscopes and older sets have, read by Pillow; of 16 bits the upper 8, as of a 16-bit PNG.

A file of several pictures is refused, for nobody says which is meant, and so is one of 32 bits, whose range none says.
"""

import io
import warnings

import numpy as np
from PIL import ExifTags, Image, ImageSequence

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"GIF87a", b"GIF89a")
TIFF_AND_GIF = ("TIFF", "GIF")
DAMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, KeyError, TypeError, EOFError)
STRIPS = ((273, 279), (324, 325))  # tags of places in the file and lengths there: of strips, of tiles


def is_tiff_or_gif(content: bytes) -> bool:
    """Whether a file begins as one."""
    return content.startswith(STARTS)


def problem_of(content: bytes) -> str | None:
    """What is wrong with it as a whole, or None; nothing is decoded."""
    if content.startswith(b"GIF") and not content.rstrip(b"\0").endswith(b";"):
        return "is cut short"
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content), formats=TIFF_AND_GIF) as picture:
            frames = getattr(picture, "n_frames", 1)
            if frames > 1:
                return f"holds {frames} pictures; which is meant? One a file is plain"
            if picture.mode in ("I", "F"):
                return "has 32 bits a pixel; 8 and 16 are read"
            if picture.format == "TIFF":
                return _tiff_problem(picture, len(content))
    except DAMAGE as error:
        return f"cannot be decoded: {error}"
    return None


def _tiff_problem(picture: Image.Image, size: int) -> str | None:
    tags = picture.tag_v2  # type: ignore[attr-defined]  # of a TIFF
    if tags.get(ExifTags.Base.Orientation, 1) != 1:  # Pillow turns these, and cannot be told not to
        return f"is stored with orientation {tags[ExifTags.Base.Orientation]}; store it upright"
    ends = [
        start + length
        for place, count in STRIPS
        for start, length in zip(tags.get(place, ()), tags.get(count, ()), strict=False)
    ]
    return "is cut short" if not ends or max(ends) > size else None


def decoded(content: bytes) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB of a file without a problem; None where it cannot be decoded."""
    try:
        with Image.open(io.BytesIO(content), formats=TIFF_AND_GIF) as picture:
            if picture.mode.startswith("I;16"):
                grey = (np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=2)
            return np.array(next(iter(ImageSequence.Iterator(picture))).convert("RGB"))
    except DAMAGE:
        return None
