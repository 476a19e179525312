"""Files of a folder that others may have filled: regular files of bounded size, and no link that leads out of it."""

import errno
import os
import stat
from pathlib import Path

from ablate.errors import DamagedError, LinkError, UnreadableError

ODD_FILES = (errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG)  # a link, a socket, a folder


def refuse_outside(path: Path, folder: Path) -> Path:
    """`path`, which may not exist yet, if the folders and links on its way stay within `folder`.

    Raises:
        LinkError: they lead out of it.
    """
    real, home = os.path.realpath(path), os.path.realpath(folder)
    if not real.startswith(home.rstrip(os.sep) + os.sep):
        raise LinkError(f"{path}: a link that leads out of {folder}; put a folder or a file in its place")
    return path


def read(path: Path, *, most: int, first: int | None = None) -> bytes:
    """A regular file of at most `most` bytes, or its first ones. A pipe or a device would never end.

    Raises:
        DamagedError: it is missing, larger, a link, or no file.
        UnreadableError: it cannot be read now, which says nothing of what is in it.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise DamagedError(f"{path}: is no file")
            content = file.read(min(about.st_size, most) + 1 if first is None else first)
    except (FileNotFoundError, ValueError) as error:
        raise DamagedError(f"{path}: {_why(path, error)}") from None
    except OSError as error:
        kind = DamagedError if error.errno in ODD_FILES else UnreadableError
        raise kind(f"{path}: {_why(path, error)}") from None
    if len(content) > most:
        raise DamagedError(f"{path}: damaged (larger than {most // 2**20} MiB)")
    return content


def _why(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "missing"
    if os.path.islink(path):  # noqa: PTH114  which raises nothing
        return "is a link, and links are not followed"
    return f"cannot be read ({getattr(error, 'strerror', None) or type(error).__name__})"
