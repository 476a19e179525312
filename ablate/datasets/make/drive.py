"""Makes the set drive from the archive of DRIVE: 40 photographs of the retina with maps of its vessels.

Of the archive are taken training/ and test/ with images/NN_training.tif, 1st_manual/NN_manual1.gif and
mask/NN_training_mask.gif, the field of view. Pixels outside the field of view count nowhere (255 in the maps that are
written), as in the evaluation of DRIVE. Test images without a manual map, as in the archive of the challenge, are left
out, and the summary says so: such a set is cross-validated.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from ablate.datasets import IGNORED
from ablate.datasets.make.archive import Reader, making, opened
from ablate.errors import DataError, one_line

HEIGHT, WIDTH = 584, 565
LIMITS = {".tif": 8 * 2**20, ".gif": 2**20}  # bytes of a member; the real ones are smaller
FOLDERS = {"training": ("train", range(21, 41)), "test": ("val", range(1, 21))}  # of the archive: split and numbers


def make_drive(archive: Path, target: Path) -> str:
    """Write the set's folder and say what came out.

    Raises:
        DataError: the archive is not DRIVE's or is damaged; `target` exists already.
    """
    made = {}
    with making(target) as part, opened(archive, beside="training/images/21_training.tif", limits=LIMITS) as read:
        for folder, (split, numbers) in FOLDERS.items():
            if split == "train" or _there(read, folder, numbers[0]):
                made[split] = sum(_write(read, folder, number, part, split, archive) for number in numbers)
    rest = "" if "val" in made else "; its test images have no maps here: cross-validate with folds"
    return f"{target}: {', '.join(f'{count} {split}' for split, count in made.items())}{rest}"


def _there(read: Reader, folder: str, number: int) -> bool:
    try:
        return bool(read(_member(folder, "1st_manual", number)))
    except DataError:
        return False


def _member(folder: str, kind: str, number: int) -> str:
    ends = {"images": f"{folder}.tif", "1st_manual": "manual1.gif", "mask": f"{folder}_mask.gif"}
    return f"../../{folder}/{kind}/{number:02d}_{ends[kind]}"


def _write(read: Reader, folder: str, number: int, part: Path, split: str, archive: Path) -> int:
    """Write one image as it is, and its map: 0 background, 1 vessel, 255 outside the field of view."""
    vessels, view = (_mask(read, _member(folder, kind, number), archive) for kind in ("1st_manual", "mask"))
    content = read(_member(folder, "images", number))
    for kind in ("images", "labels"):
        (part / kind / split).mkdir(parents=True, exist_ok=True)
    (part / "images" / split / f"{number:02d}.tif").write_bytes(content)
    labels = np.where(view, vessels, IGNORED).astype(np.uint8)
    Image.fromarray(labels).save(part / "labels" / split / f"{number:02d}.png")
    return 1


def _mask(read: Reader, name: str, archive: Path) -> np.ndarray:
    """(584, 565) bool."""
    try:
        with Image.open(io.BytesIO(read(name)), formats=("GIF",)) as file:
            if file.size != (WIDTH, HEIGHT):
                raise DataError(f"{archive}: {Path(name).name} has another size than DRIVE's {HEIGHT} x {WIDTH} pixels")
            return np.array(file.convert("L")) > 127
    except DataError:
        raise
    except Exception as error:  # whatever damage makes of a decoder
        raise DataError(f"{archive}: {Path(name).name}: {one_line(error)}") from None
