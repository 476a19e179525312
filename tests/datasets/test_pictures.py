"""Files of pictures: what is appended harms none, what is cut short is named, headers tell size and orientation."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from ablate.datasets import picture_problem, read_header, read_picture
from ablate.errors import DataError

FILM = np.random.default_rng(5).integers(0, 255, 60_000, dtype=np.uint8).tobytes().replace(b"\xff\xd9", b"\xff\xd8")


def photograph(suffix: str = ".jpg", *, progressive: bool = False, restart: int = 0) -> bytes:
    small = np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)
    pixels = cv2.resize(small, (80, 60), interpolation=cv2.INTER_CUBIC)
    flags = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive), cv2.IMWRITE_JPEG_RST_INTERVAL, restart]
    return cv2.imencode(suffix, pixels, flags if suffix == ".jpg" else [])[1].tobytes()


KINDS = {
    "jpeg": photograph(),
    "progressive": photograph(progressive=True),
    "restarts": photograph(restart=2),
    "png": photograph(".png"),
}


def with_thumbnail(content: bytes) -> bytes:
    """A JPEG that holds another, whole one in its EXIF segment."""
    data = b"Exif\x00\x00" + photograph()
    return content[:2] + b"\xff\xe1" + (len(data) + 2).to_bytes(2) + data + content[2:]


@pytest.mark.parametrize("film", [b"MotionPhoto_Data" + FILM, b"\0" * 5000, KINDS["jpeg"] + FILM, b"\n"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_behind_a_picture_changes_nothing(tmp_path, kind, film):
    file = tmp_path / "p.jpg"
    file.write_bytes(KINDS[kind])
    plain, header = read_picture(file), read_header(file)
    file.write_bytes(KINDS[kind] + film)
    assert picture_problem(file) is None
    assert (read_picture(file) == plain).all()
    assert read_header(file) == header
    assert (header.height, header.width, header.orientation) == (60, 80, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rest", [b"", FILM, b"\0" * 5000], ids=["", "film", "zeros"])
def test_a_picture_cut_short_is_named_also_before_a_film(tmp_path, kind, rest):
    file = tmp_path / "p.jpg"
    content = KINDS[kind] if kind == "png" else with_thumbnail(KINDS[kind])
    file.write_bytes(content[: len(content) - 40] + rest)
    for said in (picture_problem(file) or "", *map(refusal, (read_picture, read_header), (file, file))):
        assert "p.jpg: is cut short" in said


def refusal(read, file) -> str:
    with pytest.raises(DataError) as caught:
        read(file)
    return str(caught.value)


def test_a_thumbnail_is_not_the_picture(tmp_path):
    file = tmp_path / "p.jpg"
    file.write_bytes(with_thumbnail(KINDS["jpeg"]) + FILM)
    assert picture_problem(file) is None
    assert read_picture(file).shape == (60, 80, 3)


@pytest.mark.parametrize("suffix", ["jpeg", "png"])
@pytest.mark.parametrize("value", [1, 2, 3, 4, 5, 6, 7, 8])
def test_headers_tell_the_orientation_and_pixels_are_as_stored(tmp_path, suffix, value):
    picture, exif, buffer = Image.open(io.BytesIO(photograph())), Image.Exif(), io.BytesIO()
    exif[0x0112] = value
    picture.save(buffer, suffix, exif=exif)
    file = tmp_path / "p.jpg"
    file.write_bytes(buffer.getvalue())
    header = read_header(file)
    assert (header.height, header.width, header.orientation) == (60, 80, value)
    assert read_picture(file).shape == (60, 80, 3)


@pytest.mark.parametrize(
    "exif", [b"Exif\x00\x00", b"Exif\x00\x00MM\x00*\xff\xff\xff\xff", b"Exif\x00\x00" + b"\xab" * 40]
)
def test_damaged_exif_says_nothing(tmp_path, exif):
    file = tmp_path / "p.jpg"
    content = KINDS["jpeg"]
    file.write_bytes(content[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2) + exif + content[2:])
    assert read_header(file).orientation == 1
