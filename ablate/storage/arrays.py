"""Arrays in an .npz file: written without pickles, and read without them and without more memory than it holds."""

import io
import math
import zipfile
from collections.abc import Mapping
from typing import IO

import numpy as np

from ablate.errors import DamagedError

Arrays = dict[str, np.ndarray]
MOST = 2**29  # bytes of all arrays of a file; the largest known, of confusion matrices, take a tenth


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The file's content: equal arrays, equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpacked(content: bytes, *, at: str) -> Arrays:
    """The arrays of a file, which lies at `at`; objects (pickles) are refused.

    Raises:
        DamagedError: missing, damaged, or larger than it may be.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            members = file.infolist()
            if sum(member.file_size for member in members) > MOST:
                raise ValueError(f"more than {MOST // 2**20} MiB")
            for member in members:
                with file.open(member) as stream:
                    _refuse_promises(stream, member.file_size)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # whatever damage makes of zipfile, its decoders and numpy's parser
        raise DamagedError(f"{at}: damaged ({type(error).__name__}: {error})") from None


def _refuse_promises(stream: IO[bytes], size: int) -> None:
    """numpy makes room for what a header promises before it reads what is there."""
    version = np.lib.format.read_magic(stream)
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, _, kind = headers[version](stream)
    if kind.hasobject or math.prod(shape) * kind.itemsize > size:
        raise ValueError("objects, or more than is there")
