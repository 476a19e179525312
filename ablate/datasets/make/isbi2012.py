"""Makes the set isbi2012 from the training volume of the ISBI 2012 challenge: 30 sections with maps of membranes.

The challenge has two TIFF files of 30 pages (train-volume.tif, train-labels.tif); copies of it keep a PNG a section
(images/0.png with labels/0.png, or image/0.png with label/0.png). A map holds 0 for membrane and 255 for all else. No
split is published, so that the set is cross-validated; neighbouring sections are alike, and stay together in `folds`.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from ablate.datasets.make.archive import Reader, making, opened
from ablate.errors import DataError, one_line

SECTIONS, SIDE = 30, 512
NUMBERS = {0, 255}  # in maps: membrane, and all else
LIMITS = {".tif": 64 * 2**20, ".png": 4 * 2**20}  # bytes of a member; the real ones are smaller
PNG = {"images/0.png": "labels", "image/0.png": "label"}  # layouts of copies: the first image, the folder of maps


def make_isbi2012(archive: Path, target: Path) -> str:
    """Write the set's folder and say what came out.

    Raises:
        DataError: the archive is not the training volume or is damaged; `target` exists already.
    """
    with making(target) as part:
        images, labels = _volumes(archive)
        for kind, pages in (("images", images), ("labels", labels)):
            (part / kind).mkdir()
            for number, page in enumerate(pages):
                Image.fromarray(page).save(part / kind / f"{number:02d}.png")
    return f"{target}: {SECTIONS} sections; a study reads them by label_folder with folds, see docs/medical.md"


def _volumes(archive: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The sections and their maps, (512, 512) uint8 each, in the order of the volume."""
    for first, folder in PNG.items():
        try:
            with opened(archive, beside=first, limits=LIMITS) as read:
                numbers = range(SECTIONS)
                images = [_pages(read, f"{number}.png", archive)[0] for number in numbers]
                labels = [_pages(read, f"../{folder}/{number}.png", archive)[0] for number in numbers]
                break
        except DataError as error:
            if "wanted one" not in str(error):
                raise
    else:
        with opened(archive, beside="train-volume.tif", limits=LIMITS) as read:
            images, labels = (_pages(read, f"train-{name}.tif", archive) for name in ("volume", "labels"))
    if not len(images) == len(labels) == SECTIONS:
        raise DataError(f"{archive}: {len(images)} sections and {len(labels)} maps, the training volume has {SECTIONS}")
    for number, page in enumerate(labels):
        if odd := set(np.unique(page).tolist()) - NUMBERS:
            raise DataError(f"{archive}: map {number} holds {min(odd)}; membranes are 0, all else is 255")
    return images, labels


def _pages(read: Reader, name: str, archive: Path) -> list[np.ndarray]:
    try:
        with Image.open(io.BytesIO(read(name)), formats=("PNG", "TIFF")) as file:
            if file.size != (SIDE, SIDE) or file.mode not in ("L", "1"):
                raise DataError(f"{archive}: {name} is {file.size} {file.mode}, wanted 8-bit grey of {SIDE} x {SIDE}")
            return [np.array(page.convert("L")) for page in ImageSequence.Iterator(file)][: SECTIONS + 1]
    except DataError:
        raise
    except Exception as error:  # whatever damage makes of a decoder
        raise DataError(f"{archive}: {name}: {one_line(error)}") from None
