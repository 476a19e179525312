"""Maps of classes that are not what they seem: palettes of grey, few bits, nothing labelled, turned pictures."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ablate import registry
from ablate.datasets import IGNORED
from ablate.errors import DataError

CLASSES = ["sky", "ground", "thing"]


def opened(plain, split="val", **knobs):
    chosen = registry.check_knobs("dataset", "label_folder", {"set": "plain", "classes": CLASSES} | knobs)
    return registry.build("dataset", "label_folder", chosen).open(split, plain.root)


def png(numbers: np.ndarray, *, bits: int, interlaced: bool = False) -> bytes:
    """A grey PNG of so many bits, after the specification: numbers are stored as they are."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def rows(part: np.ndarray) -> bytes:
        digits = np.unpackbits(part[..., None].astype(np.uint8), axis=2)[..., 8 - bits :]
        packed = np.packbits(digits.reshape(len(part), -1), axis=1)
        return b"".join(b"\0" + row.tobytes() for row in packed)

    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [numbers[y::dy, x::dx] for y, x, dy, dx in passes] if interlaced else [numbers]
    data = zlib.compress(b"".join(rows(part) for part in parts if part.size))
    header = struct.pack(">IIBBBBB", numbers.shape[1], numbers.shape[0], bits, 0, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def paletted(places: np.ndarray, colours: list[tuple[int, int, int]]) -> bytes:
    picture, buffer = Image.fromarray(places, "P"), io.BytesIO()
    picture.putpalette([value for colour in colours for value in colour])
    picture.save(buffer, "png")
    return buffer.getvalue()


def some(*numbers: int) -> np.ndarray:
    return np.resize(np.uint8(numbers), (60, 80))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_few_bits_and_interlacing_change_no_number(plain, bits, interlaced):
    numbers = some(0, 1, 2, 1)
    plain.map(0).write_bytes(png(numbers, bits=bits, interlaced=interlaced))
    written = opened(plain)
    plain.write(plain.map(0), numbers)
    assert (written.labels(1) == numbers).all()
    assert written.digest() == opened(plain).digest()


def test_one_bit_is_the_number_or_what_viewers_show(plain):
    for place in range(2):
        plain.map(place).write_bytes(png(some(0, 1, 1), bits=1))
    as_number = opened(plain, ignored=[])
    assert (as_number.labels(1) == some(0, 1, 1)).all()
    as_shown = opened(plain, classes=["membrane", "cell"], label_ids=[0, 255], ignored=[])
    assert (as_shown.labels(1) == some(0, 1, 1)).all()
    assert as_shown.check() == as_number.check() == []
    problems = opened(plain).check()  # 255 is to be ignored, 1 is a class
    assert len(problems) == 2
    assert "val0.png: as 1-bit grey it shows the number 1 as grey 255, and the set has both" in problems[0]


def test_grey_of_few_bits_that_an_optimiser_wrote_is_the_grey(plain):
    plain.map(0).write_bytes(png(some(0, 1, 3), bits=2))  # 0, 85, 255
    samples = opened(plain, classes=["a", "b"], label_ids=[0, 85])
    assert (samples.labels(1) == some(0, 1, IGNORED)).all()


def test_a_palette_of_colours_has_numbers_whatever_the_colours(plain):
    plain.map(0).write_bytes(paletted(some(0, 1, 2), [(0, 0, 0), (2, 2, 2), (128, 0, 0)]))
    assert (opened(plain).labels(1) == some(0, 1, 2)).all()


@pytest.mark.parametrize("greys", [(0, 127, 255), (10, 20, 30), (0, 1, 2)])
def test_a_palette_of_greys_that_are_not_the_sets_is_to_look_at(plain, greys):
    plain.map(0).write_bytes(paletted(some(0, 1, 2), [(grey,) * 3 for grey in greys]))
    assert (opened(plain).labels(1) == some(0, 1, 2)).all()


def test_a_palette_of_the_sets_own_numbers_in_another_order_is_refused(plain):
    plain.map(0).write_bytes(paletted(some(0, 1, 2), [(1, 1, 1), (2, 2, 2), (0, 0, 0)]))
    samples = opened(plain)
    (problem,) = samples.check()
    assert "val0.png: its palette shows the number 0 as grey 1, and the set has both; which is meant?" in problem
    for read in (samples.verify, samples.digest, lambda: samples.labels(1)):
        with pytest.raises(DataError, match="which is meant"):
            read()


def test_a_palette_of_greys_is_read_where_only_the_greys_are_numbers(plain):
    numbers = some(40, 80, 255)
    plain.map(0).write_bytes(paletted(some(1, 0, 2), [(80,) * 3, (40,) * 3, (255,) * 3]))
    samples = opened(plain, classes=["a", "b"], label_ids=[40, 80])
    assert (samples.labels(1) == some(0, 1, IGNORED)).all()
    assert (samples._classes(samples.pairs[0])[0] == numbers).all()


def test_maps_that_are_no_numbers_are_named_before_training(plain):
    for pixels, said in ((np.zeros((60, 80, 3), np.uint8), "pixels RGB"), (np.zeros((60, 80), np.uint16), "I;16")):
        plain.write(plain.map(0), pixels)
        (problem,) = opened(plain).check()
        assert "val0.png: is PNG with pixels" in problem
        assert said in problem


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_a_labelled_pixel_is_a_problem(plain, split):
    for place in range(3 if split == "train" else 2):
        plain.write(plain.map(place, split=split), some(255))
    samples = opened(plain, split)
    (problem,) = samples.check()
    assert problem.endswith(f"no pixel of {split} is of a class, all are to be ignored")
    with pytest.raises(DataError, match="all are to be ignored"):
        samples.verify()


def test_single_maps_and_classes_without_a_pixel_are_remarks(plain):
    assert opened(plain).remarks() == []
    plain.write(plain.map(0), some(255))
    plain.write(plain.map(1), some(0, 1))
    samples = opened(plain)
    one, other = samples.remarks()
    assert "val0.png: no pixel is of a class" in one
    assert other.endswith("val has no pixel of thing")
    assert samples.check() == []
    assert samples.verify() == samples.digest()


def test_turned_photographs_are_told(plain):
    with Image.open(plain.image(0)) as picture:
        exif = Image.Exif()
        exif[0x0112] = 3
        picture.save(plain.image(0), exif=exif)
    samples = opened(plain)
    assert samples.check() == []
    assert "val0.jpg: has EXIF orientation 3" in samples.remarks()[0]
