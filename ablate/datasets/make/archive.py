"""Reads the files of a public archive, a zip or a folder, that lie beside one known file of it.

Nothing is unpacked: members are read by name and bounded in size, so neither paths that lead out of an archive nor
members that grow without end do harm.
"""

import posixpath
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ablate.errors import DataError, one_line

Reader = Callable[[str], bytes]  # content of a file by its path beside the known file; raises DataError
NAME = re.compile(r"[\w][\w.\-]*")  # of an image in a list of VOC's


@contextmanager
def opened(archive: Path, *, beside: str, limits: dict[str, int]) -> Iterator[Reader]:
    """How to read files by their path from where `beside` lies, a path whose last folders may be given too.

    `limits` are the most bytes that a file may have, by its ending; no other endings are read.

    Raises:
        DataError: neither a folder nor a zip archive, or not exactly one file `beside` in it.
    """
    if archive.is_dir():
        found = sorted(archive.glob(beside)) or sorted(archive.glob(f"*/{beside}"))
        if len(found) != 1:
            raise DataError(f"{archive}: wanted one {beside}, found {len(found)}")
        yield lambda name: _file(found[0].parent / name, archive, limits)
        return
    try:
        members = zipfile.ZipFile(archive)
    except Exception:  # whatever damage makes of zipfile
        raise DataError(f"{archive}: neither a folder nor a zip archive") from None
    with members:
        names = [name for name in members.namelist() if f"/{name}".endswith(f"/{beside}") and "__MACOSX" not in name]
        if len(names) != 1:
            raise DataError(f"{archive}: wanted one {beside} in the archive, found {len(names)}")
        folder = names[0].removesuffix(Path(beside).name)
        yield lambda name: _member(members, posixpath.normpath(folder + name), archive, limits)


@contextmanager
def making(target: Path) -> Iterator[Path]:
    """A folder to write a set into, which becomes `target` when all went well and is gone when not.

    Raises:
        DataError: `target` exists already, or cannot be written.
    """
    if target.exists():
        raise DataError(f"{target}: exists already; name a data folder without it")
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        yield part
        part.rename(target)
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def listed(content: bytes, split: str, archive: Path) -> list[str]:
    """The names of images in ImageSets/Main/SPLIT.txt of Pascal VOC, the first word of each line.

    Raises:
        DataError: a name that is none, no name, or one twice.
    """
    names = [line.split()[0] for line in content.decode("utf-8", "replace").splitlines() if line.strip()]
    odd = [name for name in names if not NAME.fullmatch(name)]
    if odd or not names or len(set(names)) < len(names):
        what = f"{odd[0]!r} is no image's name" if odd else "it is empty or repeats itself"
        raise DataError(f"{archive}: ImageSets/Main/{split}.txt: {what}")
    return names


def _file(file: Path, archive: Path, limits: dict[str, int]) -> bytes:
    try:
        if file.stat().st_size > limits[file.suffix]:
            raise DataError(f"{archive}: {file.name} is larger than any of the archive can be")
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{archive}: {file.name}: {error.strerror}") from None


def _member(members: zipfile.ZipFile, name: str, archive: Path, limits: dict[str, int]) -> bytes:
    try:
        limit = limits[Path(name).suffix]
        with members.open(name) as stream:
            content = stream.read(limit + 1)
    except Exception as error:  # whatever damage makes of zipfile and its decoders
        raise DataError(f"{archive}: {name}: {one_line(error)}") from None
    if len(content) > limit:
        raise DataError(f"{archive}: {name} is larger than any of the archive can be")
    return content
