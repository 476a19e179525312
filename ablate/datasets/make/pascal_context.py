"""Makes the set pascal_context: the 59 classes of PASCAL-Context and the background on VOC 2010's photographs.

The archive is VOC 2010's folder VOC2010, into which labels.txt and the annotations' folder trainval/ of PASCAL-Context
are put. Of it are taken ImageSets/Main/train.txt and val.txt, and of each image that they name
JPEGImages/NAME.jpg and trainval/NAME.mat. Its `LabelMap` (H, W) has numbers of the 459 lines of labels.txt. The maps
that are written have 1 to 59 for the classes of the benchmark, in the order of these numbers, as the official code
(HRNet/HRNet-Semantic-Segmentation, lib/datasets/pascal_ctx.py) and mmsegmentation have them, and 0 for all others.
"""

import io
import re
from pathlib import Path

import numpy as np
from PIL import Image

from ablate.datasets import catalog
from ablate.datasets.make.archive import Reader, listed, making, opened
from ablate.errors import DataError, one_line

LIMITS = {".txt": 4 * 2**20, ".mat": 16 * 2**20, ".jpg": 32 * 2**20}  # bytes of a member; the real ones are smaller
SPLITS = ("train", "val")
OTHERWISE = {"diningtable": "table"}  # what labels.txt calls a class of the benchmark


def make_pascal_context(archive: Path, target: Path) -> str:
    """Write the set's folder and say what came out.

    Raises:
        DataError: the archive is not laid out so or is damaged; `target` exists already.
    """
    with making(target) as part, opened(archive, beside="labels.txt", limits=LIMITS) as read:
        table = _classes(read("labels.txt"), archive)
        names = {split: listed(read(f"ImageSets/Main/{split}.txt"), split, archive) for split in SPLITS}
        for folder in ("JPEGImages", "SegmentationClassContext", "ImageSets/SegmentationContext"):
            (part / folder).mkdir(parents=True)
        for split in SPLITS:
            for name in names[split]:
                _write(read, name, part, table, archive)
            lines = "".join(f"{name}\n" for name in names[split])
            (part / f"ImageSets/SegmentationContext/{split}.txt").write_text(lines, encoding="utf-8")
    counts = ", ".join(f"{len(names[split])} {split}" for split in SPLITS)
    return f"{target}: {counts}; the study pascal_context trains on it, ablate evaluate --data {target} scores on it"


NUMBER = re.compile("[0-9]{1,5}")  # of a class, which a pixel of 16 bits holds


def _classes(content: bytes, archive: Path) -> np.ndarray:
    """What each number in the annotations becomes, uint8: the place of its class from 1 on, or 0."""
    lines = [line.partition(":") for line in content.decode("utf-8", "replace").splitlines() if line.strip()]
    number_of = {name.replace(" ", ""): int(number) for number, _, name in lines if NUMBER.fullmatch(number.strip())}
    wanted = [OTHERWISE.get(name, name) for name in catalog()["pascal_context"].knobs["classes"]]
    if absent := [name for name in wanted if name not in number_of]:
        raise DataError(f"{archive}: labels.txt: has no line NUMBER: {absent[0]}")
    numbers = [number_of[name] for name in wanted]
    if numbers != sorted(numbers) or not 0 < numbers[0] <= numbers[-1] < 2**16:
        raise DataError(f"{archive}: labels.txt: its numbers of the 59 classes are in another order than published")
    table = np.zeros(max(number_of.values()) + 1, np.uint8)
    table[numbers] = np.arange(1, len(numbers) + 1)
    return table


def _write(read: Reader, name: str, part: Path, table: np.ndarray, archive: Path) -> None:
    """Write an image as it is, and its map."""
    content, file = read(f"JPEGImages/{name}.jpg"), f"trainval/{name}.mat"
    labels = _label_map(read(file), f"{archive}: {file}")
    if labels.max() >= len(table):
        raise DataError(f"{archive}: {file}: number {labels.max()} has no line in labels.txt")
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            size = image.height, image.width
    except Exception as error:  # whatever damage makes of a decoder
        raise DataError(f"{archive}: JPEGImages/{name}.jpg: {one_line(error)}") from None
    if labels.shape != size:
        maps, images = (" x ".join(map(str, shape)) for shape in (labels.shape, size))
        raise DataError(f"{archive}: {file}: its map is {maps}, the image {images}")
    (part / f"JPEGImages/{name}.jpg").write_bytes(content)
    Image.fromarray(table[labels]).save(part / f"SegmentationClassContext/{name}.png")


def _label_map(content: bytes, said: str) -> np.ndarray:
    """(H, W) of numbers from 0 on, from a MATLAB file whose other variables are not read."""
    from scipy.io import loadmat

    try:
        found = np.asarray(loadmat(io.BytesIO(content), variable_names=["LabelMap"])["LabelMap"])
        if found.ndim != 2 or not found.size or found.dtype.kind not in "iu" or found.min() < 0:
            raise ValueError(f"its LabelMap is {found.dtype} {found.shape}, not whole numbers (H, W) from 0 on")
        return found
    except Exception as error:  # loadmat answers damage with whatever its parser trips over
        raise DataError(f"{said}: {one_line(error) or type(error).__name__}") from None
