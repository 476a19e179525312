"""Folders for what lasts no longer than a process: private to its user, and gone with it.

Its process holds a lock in each, which the system frees when the process dies in whatever way. Whoever makes a folder
in the same place removes those that nobody holds any more.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ablate.errors import StoreError
from ablate.machine import files

NAME, OWNER = "ablate-", "ablate-owner"  # how folders begin, and the file that tells ours and is locked
LEAST_ROOM = 100 * 2**20  # bytes: what Ray writes of a run, and more
TRIES = 10  # to remove a folder, a tenth of a second apart: processes that end may write there yet


@contextmanager
def folder(parent: Path | None = None) -> Iterator[Path]:
    """A new folder of mode 0700 in `parent`, or where temporary files go; those of dead processes go first.

    Raises:
        StoreError: there is no room, or no right to write.
    """
    parent = parent or default()
    sweep(parent)
    with files.in_words(parent):
        if shutil.disk_usage(parent).free < LEAST_ROOM:
            raise StoreError(
                f"{parent}: no room left for temporary files (less than {LEAST_ROOM // 2**20} MiB free); "
                "make room, or set TMPDIR to another folder"
            )
        own = Path(tempfile.mkdtemp(prefix=f".{NAME}", dir=parent))
        owner = (own / OWNER).open("x")
    with owner:
        with suppress(OSError):  # a file system without locks: it is never seen as left behind
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            own = own.rename(parent / own.name[1:])  # only now do others look at it
        try:
            yield own
        finally:
            _remove(own)


@contextmanager
def shared(parent: Path, name: str) -> Iterator[Path | None]:
    """A folder of mode 0700 in `parent` that all of this user's processes share which ask for the name; None where it
    cannot be made, or is not this user's alone.

    The last of them removes it. What killed ones left goes with the next that asks for a folder there.
    """
    sweep(parent)
    path = parent / f"{NAME}{name}-{os.getuid()}"
    owner = _joined(path)
    try:
        yield path if owner else None
    finally:
        if owner:
            with owner, suppress(OSError):
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where another process shares it
                _remove(_apart(path))


def _joined(path: Path) -> IO[bytes] | None:
    """The locked file of a shared folder, which is made where it is missing."""
    for _ in range(TRIES):
        with suppress(FileNotFoundError):  # its last user has just removed it
            try:
                path.mkdir(0o700, exist_ok=True)
                found = path.lstat()
                private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
                if found.st_uid != os.getuid() or not private:
                    return None
                owner = os.fdopen(os.open(path / OWNER, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b")
            except FileNotFoundError:
                raise
            except OSError:
                return None
            with suppress(OSError):
                fcntl.flock(owner, fcntl.LOCK_SH)
                if os.path.samestat(os.fstat(owner.fileno()), (path / OWNER).stat()):
                    return owner
            owner.close()
    return None


def default() -> Path:
    """Where temporary files go.

    Raises:
        StoreError: none of the usual places can be written, or all are full.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise StoreError(f"{error.strerror}: all are full or closed; set TMPDIR to a folder with room") from None


def for_sockets(most: int) -> Path | None:
    """Where temporary files go, or another usual place whose path has at most so many bytes; None where there is none.

    A socket's path has at most 107 bytes, and batch systems set long ones for TMPDIR.
    """
    for place in (default(), Path("/tmp"), Path("/var/tmp")):
        if len(os.fsencode(place)) <= most and os.access(place, os.W_OK | os.X_OK):
            return place
    return None


def sweep(parent: Path) -> None:
    """Remove the folders of this user's dead processes."""
    with suppress(OSError):
        for entry in list(os.scandir(parent)):
            with suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                if entry.name.startswith(NAME) and stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
                    _remove_if_left(Path(entry.path))


def _remove_if_left(path: Path) -> None:
    number = os.open(path / OWNER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe would wait for a writer
    with os.fdopen(number, "rb") as owner:
        found = os.fstat(number)
        if found.st_uid == os.getuid() and stat.S_ISREG(found.st_mode):
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where its process lives
            _remove(_apart(path))


def _apart(path: Path) -> Path:
    """The folder under a name that nobody else asks for: who joins while it is removed makes a new one."""
    return path.rename(path.with_name(f"{NAME}{uuid.uuid4().hex}"))


def _remove(path: Path) -> None:
    for _ in range(TRIES):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
        time.sleep(0.1)
