"""Where results lie: a folder here or on a shared disk, or a prefix of an object store, behind one small contract.

Names are relative, with slashes: `trials/<id>/result.json`. A reader finds a document whole or not at all. Who trains a
trial holds its folder: by a lock in a folder, which the system frees when the process dies, by a lease on an object
store (lease.py). Credentials come from the environment, never from a URL.
"""

import errno
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from ablate.errors import StoreError
from ablate.machine import files, process
from ablate.machine.files import in_words, make, write_atomically
from ablate.storage.arrays import MOST as MOST_ARRAYS
from ablate.storage.bucket import Bucket
from ablate.storage.lease import Hold

MOST_STATE = 2**35  # a thousand million parameters with their moments take half
# Bytes that a document of a folder may have; the longest curves take a tenth of what is said of the others.
MOST = dict.fromkeys(("per_image.npz", "predictions.npz"), MOST_ARRAYS)
MOST |= dict.fromkeys(("state", "state.previous", "weights.safetensors"), MOST_STATE)
MOST_OTHERWISE = 16 * 2**20
PATIENCE = 1.0  # seconds that a lock is waited for: whoever only looks at it, or cleans, holds it for an instant
TRIES = 100  # to make a folder that a cleaner removes while it is empty


class Place(Protocol):
    """The contract. Every method raises StoreError, one line, when the place cannot be reached, read or written."""

    name: str  # as the user gave it, for messages

    @property
    def address(self) -> str:
        """What a process elsewhere opens: an absolute path or a URL."""

    def read(self, name: str, *, first: int | None = None) -> bytes | None:
        """A document, or its first bytes; None when there is none."""

    def read_many(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | StoreError | None]]:
        """Documents in the order of their names, many asked for at once; None for what is not there, the error for what
        is there and cannot be read."""

    def write(self, name: str, content: bytes) -> None:
        """Write a document whole or not at all, over what was there."""

    def move(self, name: str, to: str) -> None:
        """Rename a document, if it is there, over what was there."""

    def remove(self, name: str) -> None:
        """Remove a document, if it is there; a folder goes with its last one."""

    def children(self, under: str) -> list[str]:
        """The names directly below a folder, sorted, without its own."""

    def sizes(self, under: str) -> dict[str, int]:
        """Every document below a folder, with its bytes."""

    def age(self, name: str) -> float:
        """Seconds since a document was written, by the place's own clock; 0 when there is none."""

    def hold(self, folder: str, *, owner: str = "", wait: bool = True) -> AbstractContextManager[Hold | None]:
        """Hold a folder; None when another process does. `owner` and `wait`: see `Lease`."""

    def is_held(self, folder: str) -> bool:
        """Whether some process holds the folder."""

    def holder(self, folder: str) -> str:
        """Which process holds a folder, in words; meaningless where none does."""

    def free(self) -> int | None:
        """Bytes of room left, where that can be known."""


def opened(where: Path | str) -> Place:
    """The place of that path or URL; nothing is made or asked yet.

    Raises:
        StoreError: no such kind of place, its package is missing, or credentials in the URL.
    """
    scheme, mark, rest = str(where).partition("://")
    if mark and scheme not in ("file", "local"):
        return Bucket(str(where))
    return Folder(Path(rest if mark else where))


class Folder:
    """A folder on a disk: temporary file, fsync, rename; a lock file per held folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.name = root, str(root)
        if os.path.isfile(root):  # noqa: PTH113  which raises nothing
            raise StoreError(f"{root}: is a file, not a folder of results")
        files.share(root)

    @property
    def address(self) -> str:
        return str(self.root.resolve())

    def read(self, name: str, *, first: int | None = None) -> bytes | None:
        path = self._within(name)
        most = MOST.get(path.name, MOST_OTHERWISE)
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            pass  # what cannot be looked at is not absent: reading it says what is wrong
        return files.read(path, most=most, first=first)

    def read_many(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | StoreError | None]]:
        for name in names:
            try:
                yield name, self.read(name)
            except StoreError as error:
                yield name, error

    def write(self, name: str, content: bytes) -> None:
        write_atomically(self._within(name), content)

    def move(self, name: str, to: str) -> None:
        path = self._within(name)
        with in_words(path), suppress(FileNotFoundError):
            path.replace(self._within(to))

    def remove(self, name: str) -> None:
        path = self._within(name)
        with in_words(path):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty yet
            path.parent.rmdir()

    def children(self, under: str) -> list[str]:
        folder = self._within(f"{under}/")
        with in_words(folder), suppress(FileNotFoundError):
            return sorted(os.listdir(folder))  # noqa: PTH208  a path for each of 10,000 takes its time
        return []

    def sizes(self, under: str) -> dict[str, int]:
        found: dict[str, int] = {}
        folders = [under]
        while folders:
            name = folders.pop()
            folder = self._within(f"{name}/")
            with in_words(folder), suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(f"{name}/{entry.name}")
                        continue
                    with suppress(FileNotFoundError):  # it went while we looked
                        found[f"{name}/{entry.name}"] = entry.stat(follow_symlinks=False).st_size
        return found

    def age(self, name: str) -> float:
        with suppress(OSError):
            return time.time() - (self.root / name).stat().st_mtime
        return 0.0

    @contextmanager
    def hold(self, folder: str, *, owner: str = "", wait: bool = True) -> Iterator[Hold | None]:
        path = self._within(f"{folder}/lock")
        with _locked(path, seconds=PATIENCE if wait else 0) as locked:
            if locked:
                _sign(path)
            yield _Locked(self) if locked else None

    def is_held(self, folder: str) -> bool:
        path = self._within(f"{folder}/lock")
        if not os.path.exists(path):  # noqa: PTH110  which raises nothing
            return False
        with _locked(path) as locked:
            return not locked

    def holder(self, folder: str) -> str:
        return process.in_words((self.read(f"{folder}/lock", first=300) or b"").decode(errors="replace"))

    def free(self) -> int | None:
        with in_words(self.root):
            return shutil.disk_usage(self.root).free

    def _within(self, name: str) -> Path:
        """Where a document lies, or a folder whose name ends in a slash."""
        path = self.root / name.rstrip("/")
        folder = path if name.endswith("/") else path.parent
        if folder != self.root:
            files.refuse_outside(folder, self.root)
        return path


def _sign(path: Path) -> None:
    """Leave in a lock's file who holds it, for others that wait; a lock holds without."""
    with suppress(OSError):
        number = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(number, "w") as file:
            file.write(process.signed())


@contextmanager
def _locked(path: Path, *, seconds: float = 0) -> Iterator[bool]:
    """Hold the lock of that file; False where another process does, for so many seconds."""
    lock = FileLock(path, fallback_to_soft=False)  # one that is a file's existence would outlive its holder
    if not _acquired(lock, path, seconds=seconds):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _acquired(lock: FileLock, path: Path, *, seconds: float) -> bool:
    """Take the lock, within so many seconds. A lock file that was removed meanwhile counts as none (filelock sees)."""
    with in_words(path), suppress(Timeout):
        for _ in range(TRIES):
            make(path.parent)
            try:
                lock.acquire(timeout=seconds, poll_interval=0.02)
            except (FileNotFoundError, FileExistsError):  # the folder went, with what a cleaner removed from it
                continue
            except OSError as error:
                if error.errno in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
                    raise StoreError(
                        f"{path}: no locks on this file system; mount it with them (NFS 4; Lustre: flock)"
                    ) from None
                raise
            return True
        raise StoreError(f"{path}: its folder goes whenever it is made")
    return False


class _Locked:
    """A folder that is held by a lock: it cannot be lost."""

    def __init__(self, folder: Folder) -> None:
        self.write = folder.write

    def check(self) -> None:
        pass
