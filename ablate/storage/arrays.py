"""Arrays in an .npz file: written without pickles, and read without them and without more memory than it holds."""

import io
import json
import math
import zipfile
from collections.abc import Mapping
from typing import IO

import numpy as np

from ablate.errors import DamagedError

Arrays = dict[str, np.ndarray]
Row = dict[str, object]
ARRAY = "an array of these rows"  # the key of a dict that stands for one of the arrays
MOST = 2**29  # bytes of all arrays of a file; the largest known, of confusion matrices, take a tenth


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The file's content: equal arrays, equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def packed_rows(rows: list[Row], *, compressed: bool = False) -> bytes:
    """Rows of numbers, texts, lists, dicts and arrays: an .npz of the arrays, and of the rest as JSON.

    Raises:
        TypeError: they hold something else.
    """
    arrays: Arrays = {}

    def beyond_json(value: object) -> object:
        if isinstance(value, np.ndarray):
            arrays[str(len(arrays))] = value
            return {ARRAY: len(arrays) - 1}
        if isinstance(value, np.generic):
            return value.item()
        raise TypeError(f"predictions hold numbers, texts, lists, dicts and arrays, not {type(value).__name__}")

    text, buffer = json.dumps(rows, default=beyond_json), io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(buffer, allow_pickle=False, rows=np.frombuffer(text.encode(), np.uint8), **arrays)
    return buffer.getvalue()


def unpacked_rows(content: bytes, *, at: str, most: int = MOST) -> list[Row]:
    """The rows again, from bytes that lie at `at`.

    Raises:
        DamagedError: they are no rows, or larger than they may be.
    """
    arrays = unpacked(content, at=at, most=most)

    def object_hook(value: Row) -> object:
        return arrays[str(value[ARRAY])] if value.keys() == {ARRAY} else value

    try:
        rows = json.loads(arrays["rows"].tobytes(), object_hook=object_hook)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError("no rows")
    except (ValueError, KeyError, RecursionError) as error:
        raise DamagedError(f"{at}: damaged ({type(error).__name__}: {error})") from None
    return rows


def unpacked(content: bytes, *, at: str, most: int = MOST) -> Arrays:
    """The arrays of a file, which lies at `at`; objects (pickles) are refused.

    Raises:
        DamagedError: missing, damaged, or larger than it may be.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            members = file.infolist()
            if sum(member.file_size for member in members) > most:
                raise ValueError(f"more than {most // 2**20} MiB")
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
