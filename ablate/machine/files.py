"""Files: written whole or not at all, and read with care from folders that others may have filled: regular ones of
bounded size only, and no link that leads out."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ablate.errors import DamagedError, LinkError, StoreError, UnreadableError

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


def write_atomically(path: Path, content: bytes) -> None:
    """Temporary file, fsync, rename: readers see the old file or the new one.

    Raises:
        StoreError: no room, or no right to write.
    """
    with in_words(path):
        try:
            _write(path, content)
        except FileNotFoundError:  # a cleaner took the empty folder, or the file before it had its name
            _write(path, content)


def _write(path: Path, content: bytes) -> None:
    make(path.parent)
    temporary = path.with_name(f".{path.name}.{int.from_bytes(os.urandom(8))}")  # process numbers repeat in containers
    try:
        with temporary.open("xb") as file:  # never through a link that lies there
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _settle(path.parent)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _settle(folder: Path) -> None:
    """Have the folder's entries on the disk, where its system can be asked to: a rename outlives a loss of power."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def make(folder: Path) -> None:
    """Make a folder with its parents, so that it outlives a loss of power. Raises StoreError."""
    with in_words(folder):
        for new in reversed([path for path in (folder, *folder.parents) if not path.is_dir()]):
            with _there_or_gone(new):
                new.mkdir()
            _settle(new.parent)


@contextmanager
def _there_or_gone(folder: Path) -> Iterator[None]:
    """Another process may have made it just before, and may have removed it again."""
    try:
        yield
    except FileExistsError:
        with suppress(FileNotFoundError):
            if not stat.S_ISDIR(folder.lstat().st_mode):
                raise


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Turns an OSError into a StoreError of one line."""
    try:
        yield
    except OSError as error:
        why = "no room left on the disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error.strerror)
        why += _whose(path) if error.errno in (errno.EACCES, errno.EPERM) else ""
        raise StoreError(f"{path}: {why}") from None


def _whose(path: Path) -> str:
    """What may help where another user keeps this one out."""
    with suppress(OSError, StopIteration):
        nearest = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
        owner = nearest.lstat().st_uid
        if owner != os.geteuid():
            return (
                f"; {nearest} is of user {owner}, who lets a group in by: chgrp -R GROUP FOLDER; "
                "chmod -R g+rwX FOLDER; find FOLDER -type d -exec chmod g+s {} +"
            )
    return ""


def share(folder: Path) -> None:
    """In a folder that a group shares (writable for it, setgid), let what this process makes be writable for it, too.

    A usual mask of 022 would shut the others out of every new folder. It is the process's mask that changes: MLflow
    and SQLite write there as well.
    """
    with suppress(OSError, StopIteration):
        mode = next(place for place in (folder, *folder.absolute().parents) if place.is_dir()).stat().st_mode
        if mode & stat.S_ISGID and mode & stat.S_IWGRP:
            os.umask(os.umask(0o077) & ~0o070)
