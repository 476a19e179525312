"""What stands on both sides of a split: the same pictures, nearly the same ones, and images of one group.

Near-duplicates are found by a perceptual hash of 63 bits: which of the lowest 8 x 8 frequencies of the picture's grey,
at 32 x 32 pixels, are above their median. Copies that were saved again, made smaller or brighter, or lost 2 % at each
border differ in 6 bits at most, with few exceptions; of two million pairs of different photographs (people, streets,
fruit and animals) none came below 8. Mirrored copies are found, too; crops and turned copies are not.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ablate.datasets import Grouped, Pixels, Samples
from ablate.errors import DataError

SIDE = 32  # pixels of the picture that is hashed
LOWEST = 8  # frequencies in each direction
NEAR = 6  # bits that near-duplicates differ in, at most
PLAIN = 4.0  # deviation of grey below which a picture has nothing to tell it from others


@dataclass(frozen=True)
class Found:
    """Lines for each image of the evaluation split that is also trained on, or nearly."""

    same: list[str]  # pictures pixel by pixel, and groups
    near: list[str]


def both_sides(train: Samples, val: Samples, *, pictures: bool = True) -> Found:
    """What both splits of a set have. Without `pictures`, which are all decoded, only groups are compared."""
    same, near = _groups(train, val), list[str]()
    if pictures:
        there, here = _Pictures.of(train), _Pictures.of(val)
        places = {content: place for place, content in reversed(list(enumerate(there.contents)))}
        for place, content in enumerate(here.contents):
            pair = f"{val.folder}: the evaluation image {here.names[place]}"
            if content in places:
                same.append(f"{pair} is the training image {there.names[places[content]]}, pixel by pixel")
                continue
            bits, other = _nearest(here.hashes[place], there)
            if bits <= NEAR:
                also = f"of the training image {there.names[other]} ({bits} of 63 bits of a hash differ)"
                near.append(f"{pair} is a near-duplicate {also}")
    return Found(same, near)


def _groups(train: Samples, val: Samples) -> list[str]:
    if not (isinstance(train, Grouped) and isinstance(val, Grouped)):
        return []
    trained = {group: image_id for image_id in train.image_ids() if (group := train.group(image_id)) is not None}
    tested = {group: image_id for image_id in val.image_ids() if (group := val.group(image_id)) is not None}
    return [
        f"{val.folder}: the group {group!r} is trained on and evaluated on: "
        f"{train.name(trained[group])} and {val.name(tested[group])}"
        for group in sorted(trained.keys() & tested.keys())
    ]


@dataclass(frozen=True)
class _Pictures:
    names: list[str]
    contents: list[bytes]
    hashes: np.ndarray  # (N, 2) uint64: of the picture and of its mirror image; 0 where it is plain

    @classmethod
    def of(cls, samples: Samples) -> "_Pictures":
        names, contents, hashes = [], [], []
        for image_id in samples.image_ids():
            try:
                pixels = samples.image(image_id)
            except DataError:  # a problem of its own
                continue
            names.append(samples.name(image_id))
            contents.append(hashlib.blake2b(pixels.tobytes(), digest_size=16, salt=_salt(pixels.shape)).digest())
            hashes.append(_hashes(pixels))
        return cls(names, contents, np.array(hashes, np.uint64).reshape(-1, 2))


def _salt(shape: Sequence[int]) -> bytes:
    """A picture of 2 x 3 pixels may have the bytes of one of 3 x 2."""
    return shape[0].to_bytes(8) + shape[1].to_bytes(8)


def _hashes(pixels: Pixels) -> tuple[int, int]:
    small = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    if small.std() < PLAIN:
        return 0, 0
    return _hash(small), _hash(small[:, ::-1])


def _hash(small: np.ndarray) -> int:
    frequencies = cv2.dct(np.ascontiguousarray(small, np.float32))[:LOWEST, :LOWEST].ravel()[1:]  # without the mean
    bits = np.append(False, frequencies > np.median(frequencies))  # (64,)
    return int.from_bytes(np.packbits(bits).tobytes())


def _nearest(hashes: np.ndarray, others: _Pictures) -> tuple[int, int]:
    """In how many bits the nearest of other pictures differs, mirrored or not, and its place; 64 without any."""
    if not (len(others.names) and hashes.all()):
        return 64, -1
    bits = np.bitwise_count(others.hashes[:, :1] ^ hashes).min(axis=1)  # (N,)
    bits = np.where(others.hashes.all(axis=1), bits, 64)
    return int(bits.min()), int(bits.argmin())
