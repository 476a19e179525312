"""Files of data sets: folders by name, pictures, and what is wrong with them."""

import os
import re
import struct
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ExifTags, Image

from ablate.datasets._tiff_gif import TIFF_AND_GIF, decoded, is_tiff_or_gif, problem_of
from ablate.errors import DataError, PartError, nearest

# OpenCV takes a picture of up to 3 GiB for what a few bytes of its header say; it reads this when it is imported.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**27))

Split = Literal["train", "val"]  # what is trained on, and what is evaluated on
SPLITS: tuple[Split, Split] = ("train", "val")

FORMATS = ("PNG", "JPEG", *TIFF_AND_GIF)  # of Pillow's readers, these alone
DAMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what Pillow answers to it
NUMBERS = {int, float}  # of JSON; bool is none
LARGEST = 2**53  # whole numbers up to here are kept apart by a float, too
SHOWN = 3  # problems that an error message names before it only counts

# How a picture's file begins -> how it ends, unless something was appended.
PICTURES = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG\r\n\x1a\n": b"IEND\xaeB`\x82"}
MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)  # of JPEG: not a pixel's byte, no filling, no restart


@dataclass(frozen=True)
class Header:
    """What the first bytes of a picture tell; the whole of it is there."""

    height: int
    width: int
    orientation: int  # EXIF: 1 as stored, 2 to 8 mirrored or turned by viewers, and not by `read_picture`

    @property
    def turned(self) -> str:
        """In words, an orientation other than 1."""
        return f"has EXIF orientation {self.orientation}: viewers turn or mirror it, here it is read as it is stored"


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
    """The file or folder `name` of a folder. Links inside the data folder are trusted; names come
    from annotations and are not: a name may not lead out of the folder.

    Raises:
        DataError: the name is absolute, or leads out by `..`.
    """
    if ".." in Path(name).parts or Path(name).is_absolute() or "\0" in name:
        raise DataError(f"{folder}: {name!r} would lead out of it")
    return folder / name


def visible(files: Iterable[Path]) -> list[Path]:
    """Those whose names begin without a dot, sorted: macOS lays a `._x.png` beside x.png on foreign disks."""
    return sorted(file for file in files if not file.name.startswith("."))


def refuse(where: Path | str, problems: list[str]) -> None:
    """Raise one DataError that counts the problems and names the first few; nothing when there are none."""
    if problems:
        rest = "" if len(problems) <= SHOWN else f"; and {len(problems) - SHOWN} more"
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise DataError(f"{where}: {count}: {'; '.join(problems[:SHOWN])}{rest}")


def is_whole(value: object) -> bool:
    """Whether a value in a file may name something: 3 and 3.0 may, '3', true and 3.5 may not."""
    return type(value) in NUMBERS and -LARGEST < value < LARGEST and value == int(value)  # type: ignore[operator, call-overload]  # a number


def read_picture(file: Path) -> np.ndarray:
    """A picture as (H, W, 3) uint8 RGB, in the orientation it is stored in, which annotations speak of.

    Of 16 bits the upper 8 are taken, so that 65535 is white.

    Raises:
        DataError: the file is missing, empty, cut short, or no JPEG, PNG, TIFF or GIF of one picture.
    """
    import cv2

    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
    problem = _content_problem(content)  # some decoders fill what is cut off with grey
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        if is_tiff_or_gif(content):
            pixels = None if problem else decoded(content)
        else:
            pixels = None if problem else cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:  # more pixels than a picture may have
        pixels = None
    if pixels is None:
        raise DataError(f"{file}: {problem or 'cannot be decoded'}")
    return np.asarray(pixels)


def read_header(file: Path) -> Header:
    """Size and orientation of a picture, of which nothing is decoded.

    Raises:
        DataError: the file is missing, empty, cut short, or no picture.
    """
    if problem := picture_problem(file):
        raise DataError(problem)
    try:
        # Pillow warns of damaged EXIF, which harms nothing.
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as picture:
            if picture.format in TIFF_AND_GIF:
                return Header(picture.height, picture.width, 1)
            return Header(picture.height, picture.width, _orientation(picture))
    except DAMAGE as error:
        raise DataError(f"{file}: cannot be decoded: {error}") from None


def _orientation(picture: Image.Image) -> int:
    """EXIF's, where it is one; decoders and viewers pass over damaged EXIF, too."""
    try:
        exif = Image.Image.getexif(picture)  # a PNG's own would decode the whole picture
    except (*DAMAGE, struct.error, LookupError, TypeError, AttributeError):
        return 1
    found = exif.get(ExifTags.Base.Orientation)
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def picture_problem(file: Path) -> str | None:
    """What is wrong with a picture's file as a whole, or None; nothing is decoded.

    A file is read to its end only where something stands behind the picture, such as a phone's film.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(16)
            stream.seek(max(0, file.stat().st_size - 16))
            problem = None if _ends_well(head, stream.read()) else _content_problem(file.read_bytes())
    except OSError as error:
        problem = error.strerror
    return problem and f"{file}: {problem}"


def _ends_well(head: bytes, tail: bytes) -> bool:
    return any(head.startswith(start) and tail.endswith(end) for start, end in PICTURES.items())


def _content_problem(content: bytes) -> str | None:
    if not content:
        return "is empty"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return _chunk_problem(content)
    if is_tiff_or_gif(content):
        return problem_of(content)
    if not content.startswith(b"\xff\xd8\xff"):
        return "is no JPEG, PNG, TIFF or GIF"
    return None if content.endswith(b"\xff\xd9") or _has_end(content) else "is cut short"


def _chunk_problem(content: bytes) -> str | None:
    """A PNG without an end, or whose chunk is longer than the file: OpenCV makes room for it before it reads."""
    at = 8
    while at + 12 <= len(content):
        if content[at + 4 : at + 8] == b"IEND":  # data may be appended
            return None
        at += 12 + int.from_bytes(content[at : at + 4])
    return "has a chunk that is longer than the file" if b"IEND" in content else "is cut short"


def _has_end(content: bytes) -> bool:
    """Whether a JPEG has its own end marker, not only one of a thumbnail within it or of a picture behind it."""
    at = 2
    while found := MARKER.search(content, at):
        if found[0] == b"\xff\xd9":
            return True
        length = int.from_bytes(content[found.end() : found.end() + 2])
        at = found.end() + (0 if found[0] in (b"\xff\x01", b"\xff\xd8") else length)
    return False
