"""Decoded pictures kept in a folder of the machine's memory, which processes share.

A photograph takes milliseconds to decode, in every epoch of every trial, and a tenth of that to copy. Whoever trains
says where the folder is and whether it has room; pictures that are not there are decoded each time.
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import PIL

from ablate.datasets._files import read_picture

READER = 1  # the meaning of `read_picture`: raise it where that decodes otherwise, and none decoded before are read
SIZES = 16  # bytes before the pixels: height and width

_folder: Path | None = None  # where this process keeps pictures, if it does
_room: Callable[[Path], bool] = Path.exists  # whether there is room for one more
_last: tuple[str, np.ndarray] | None = None  # what was decoded last: samples on one image follow each other


def keep_pictures(folder: Path | None, room: Callable[[Path], bool]) -> None:
    """Keep what `picture` decodes in a private folder, as long as it has room; None: keep nothing."""
    global _folder, _room
    _folder, _room = folder, room


def pictures_kept() -> Path | None:
    """Where this process keeps pictures, for those that it starts."""
    return _folder


def picture(file: Path) -> np.ndarray:
    """As `read_picture`, from memory where the same file was decoded before; an array of the caller's own."""
    global _last  # noqa: PLW0603
    import cv2

    try:
        found = file.stat()
    except OSError:
        return read_picture(file)  # which says what is wrong
    # Files changed in place may have their old time of change put back, but not the one of their entry. Environments
    # of one user share a folder, and libraries of other versions may decode otherwise.
    numbers = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    told = f"{file.absolute()}\n{numbers}\n{READER} {cv2.__version__} {PIL.__version__}"
    key = hashlib.blake2b(os.fsencode(told), digest_size=16).hexdigest()
    if _last and _last[0] == key:
        return _last[1].copy()
    kept = _read(_folder / key) if _folder else None
    if kept is None:
        kept = read_picture(file)
        _last = key, kept.copy()
        if _folder and _room(_folder):
            _keep(kept, _folder / key)
    return kept


def _read(place: Path) -> np.ndarray | None:
    with suppress(OSError, ValueError), place.open("rb") as file:
        content = np.empty(os.fstat(file.fileno()).st_size, np.uint8)
        file.readinto(content.data)
        height, width = content[:SIZES].view(np.int64).tolist()
        return content[SIZES:].reshape(height, width, 3)
    return None


def _keep(pixels: np.ndarray, place: Path) -> None:
    unfinished = place.with_suffix(f".{os.getpid()}")
    with suppress(OSError):  # it is full, or gone: then they are decoded again
        with unfinished.open("wb") as file:
            file.write(np.array(pixels.shape[:2], np.int64).tobytes())
            file.write(np.ascontiguousarray(pixels).data)
        unfinished.rename(place)
        return
    with suppress(OSError):
        unfinished.unlink()
