"""Files of data sets: folders by name, pictures, and what is wrong with them."""

import os
import re
from pathlib import Path
from typing import Literal

import numpy as np

from ablate.errors import DataError, PartError, nearest

# OpenCV takes a picture of up to 3 GiB for what a few bytes of its header say; it reads this when it is imported.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**27))

Split = Literal["train", "val"]  # what is trained on, and what is evaluated on
SPLITS: tuple[Split, Split] = ("train", "val")


SHOWN = 3  # problems that an error message names before it only counts


# A picture cut short still has its beginning, so both ends are looked at: marker at the start -> at the end.
PICTURES = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG\r\n\x1a\n": b"IEND"}


TAIL = 4096  # bytes searched for the end marker: some cameras append data of their own


def check_version(version: str | None) -> None:
    """Whether a knob `version` can be one: two digests, "train-val".

    Raises:
        PartError: it cannot.
    """
    if version is not None and not re.fullmatch("[0-9a-f]{16}-[0-9a-f]{16}", version):
        raise PartError(f"version: two digests of 16 hexadecimal digits, TRAIN-VAL, not {version!r}")


def set_folder(name: str, root: Path | None, *, holds: str) -> Path:
    """The folder `name` of the data folder, or the data folder itself if that `holds` what such a set has.

    Raises:
        DataError: no data folder was given, or neither is there.
    """
    if root is None:
        raise DataError(f"the set {name} needs a data folder: give --data or set ABLATE_DATA")
    if not name or name == ".":
        raise DataError(f"{root}: a set has a name")
    if under(root, name).is_dir():
        return root / name
    if (root / holds).is_dir():
        return root
    there = [path.name for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    raise DataError(f"{root}: holds no folder {name!r} and no {holds}/; {nearest(name, there)}")


def under(folder: Path, name: str) -> Path:
    """The file or folder `name` of a folder. Links in a data folder are its owner's, names are whose knows.

    Raises:
        DataError: the name is absolute, or leads out by `..`.
    """
    if ".." in Path(name).parts or Path(name).is_absolute() or "\0" in name:
        raise DataError(f"{folder}: {name!r} would lead out of it")
    return folder / name


def refuse(where: Path | str, problems: list[str]) -> None:
    """Raise one DataError that counts the problems and names the first few; nothing when there are none."""
    if problems:
        rest = "" if len(problems) <= SHOWN else f"; and {len(problems) - SHOWN} more"
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise DataError(f"{where}: {count}: {'; '.join(problems[:SHOWN])}{rest}")


def read_picture(file: Path) -> np.ndarray:
    """A JPEG or PNG as (H, W, 3) uint8 RGB, in the orientation it is stored in, which annotations speak of.

    Raises:
        DataError: the file is missing, empty, cut short, or no picture.
    """
    import cv2

    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
    problem = _content_problem(content[:16], content[-TAIL:])  # some decoders fill what is cut off with grey
    problem = problem or _chunk_problem(content)
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = None if problem else cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:  # more pixels than a picture may have
        pixels = None
    if pixels is None:
        raise DataError(f"{file}: {problem or 'cannot be decoded'}")
    return np.asarray(pixels)


def _chunk_problem(content: bytes) -> str | None:
    """A PNG's chunk that is longer than the file: OpenCV makes room for it three times before it reads."""
    at = 8 if content.startswith(b"\x89PNG") else len(content)
    while at + 12 <= len(content) and content[at + 4 : at + 8] != b"IEND":  # data may be appended
        at += 12 + int.from_bytes(content[at : at + 4])
    return "has a chunk that is longer than the file" if at > len(content) else None


def picture_problem(file: Path) -> str | None:
    """What the two ends of a picture's file show to be wrong with it, or None; nothing is decoded."""
    try:
        with file.open("rb") as stream:
            head = stream.read(16)
            stream.seek(max(0, file.stat().st_size - TAIL))
            problem = _content_problem(head, stream.read())
    except OSError as error:
        problem = error.strerror
    return problem and f"{file}: {problem}"


def _content_problem(head: bytes, tail: bytes) -> str | None:
    if not head:
        return "is empty"
    end = next((end for start, end in PICTURES.items() if head.startswith(start)), None)
    if end is None:
        return "is neither JPEG nor PNG"
    return None if end in tail else "is cut short"
