"""The numbers in a map of classes, a PNG, GIF or TIFF, as whoever wrote the map meant them.

8-bit grey is plain: the grey is the number. A palette's places are the numbers, unless all its colours are greys of the
set's own numbers, as optimisers of files write it. Grey of 1, 2 or 4 bits is the number itself or, as viewers show it,
that number spread over 0 to 255. Where only one reading has numbers that the set knows, it is taken; where both have,
and they differ, nobody can tell, and the file is refused.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from ablate.datasets._files import DAMAGE, FORMATS, picture_problem
from ablate.errors import DataError

UNKNOWN = 254  # in a table and its results: no class has this number and it is not to be ignored
IDENTITY = np.arange(256)


def read_numbers(file: Path, table: np.ndarray) -> np.ndarray:
    """The numbers (H, W) uint8. `table` (256,) says what each stands for; UNKNOWN: for nothing.

    Raises:
        DataError: the file is missing or damaged, no such map, or can be read in two ways.
    """
    if problem := picture_problem(file):
        raise DataError(problem)
    try:
        with Image.open(file, formats=FORMATS) as picture:
            if picture.format == "JPEG" or picture.mode not in ("1", "L", "P"):
                kind = f"is {picture.format} with pixels {picture.mode}"
                raise DataError(f"{file}: {kind}; numbers of classes are kept in PNG, 8-bit grey or with a palette")
            if picture.mode == "P":
                return _of_palette(file, np.array(picture), picture, table)
            bits = 1 if picture.mode == "1" else 8
            return _of_grey(file, np.array(picture, np.uint8), table, _bits(file) if picture.format == "PNG" else bits)
    except DAMAGE as error:
        raise DataError(f"{file}: cannot be decoded: {error}") from None


def _of_palette(file: Path, places: np.ndarray, picture: Image.Image, table: np.ndarray) -> np.ndarray:
    colours = np.array(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    filled = max(np.flatnonzero(colours.any(axis=1)).max(initial=0), places.max(initial=0))  # black fills the rest
    colours = colours[: filled + 1]
    greys = colours[:, 0]
    if (colours != greys[:, None]).any() or (table[greys] == UNKNOWN).any():
        return places
    shown = IDENTITY.copy()
    shown[: len(greys)] = greys
    return _chosen(file, places, shown, table, "its palette shows")


def _bits(file: Path) -> int:
    """Of a pixel of a PNG."""
    with file.open("rb") as stream:
        return stream.read(25)[24]


def _of_grey(file: Path, greys: np.ndarray, table: np.ndarray, bits: int) -> np.ndarray:
    """Pillow gives 2 and 4 bits as viewers show them, and 1 bit as it is stored."""
    if bits == 8:
        return greys
    step = 255 // (2**bits - 1)
    stored = greys if bits == 1 else greys // step
    return _chosen(file, np.asarray(stored), IDENTITY * step, table, f"as {bits}-bit grey it shows")


def _chosen(file: Path, stored: np.ndarray, shown: np.ndarray, table: np.ndarray, said: str) -> np.ndarray:
    """The stored numbers, or those that they are shown as, (256,) by stored number."""
    used = np.unique(stored)
    known = table != UNKNOWN
    as_stored, as_shown = known[used].all(), known[shown[used] % 256].all()
    differing = used[shown[used] != used]
    if as_stored and as_shown and len(differing):
        number = differing[0]
        two = f"{said} the number {number} as grey {shown[number]}, and the set has both"
        raise DataError(f"{file}: {two}; which is meant? An 8-bit grey PNG is plain")
    return stored if as_stored or not as_shown else np.asarray(shown[stored], np.uint8)
