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


GREY16 = np.random.default_rng(2).integers(0, 2**16, (60, 80), np.uint16)
RGB = np.random.default_rng(3).integers(0, 256, (60, 80, 3), np.uint8)


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_tiff_is_read_as_it_is_stored(tmp_path, compression):
    file = tmp_path / "p.tif"
    file.write_bytes(saved(Image.fromarray(RGB), "TIFF", compression=compression))
    assert (read_picture(file) == RGB).all()
    header = read_header(file)
    assert (header.height, header.width, header.orientation) == (60, 80, 1)
    assert picture_problem(file) is None


@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_of_sixteen_bits_the_upper_eight_are_taken(tmp_path, kind):
    file = tmp_path / "p"
    file.write_bytes(saved(Image.fromarray(GREY16), kind))
    pixels = read_picture(file)
    assert pixels.shape == (60, 80, 3)
    assert (pixels == (GREY16 // 256)[..., None]).all()


def test_gif_is_read_with_its_palette(tmp_path):
    file = tmp_path / "p.gif"
    few = (RGB // 128 * 255).astype(np.uint8)  # eight colours, which a palette holds
    file.write_bytes(saved(Image.fromarray(few), "GIF"))
    assert (read_picture(file) == few).all()
    assert picture_problem(file) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (saved(Image.fromarray(RGB), "TIFF")[:-400], "is cut short"),
        (saved(Image.fromarray(RGB), "TIFF", compression="tiff_lzw")[:40], "cannot be decoded"),
        (saved(Image.fromarray(RGB), "GIF")[:-400], "is cut short"),
        (saved(Image.fromarray(GREY16.astype(np.float32)), "TIFF"), "has 32 bits a pixel"),
        (saved(Image.fromarray(RGB), "TIFF", save_all=True, append_images=[Image.fromarray(RGB)]), "holds 2 pictures"),
        (saved(Image.fromarray(RGB), "GIF", save_all=True, append_images=[Image.fromarray(~RGB)]), "holds 2 pictures"),
        (saved(Image.fromarray(RGB), "TIFF", tiffinfo={274: 6}), "stored with orientation 6"),
        (b"II*\0", "cannot be decoded"),
        (b"GIF89a;", "cannot be decoded"),
    ],
)
def test_what_is_wrong_with_a_tiff_or_gif_is_named_before_and_when_it_is_read(tmp_path, content, said):
    file = tmp_path / "p.tif"
    file.write_bytes(content)
    for look in (read_picture, read_header):
        with pytest.raises(DataError, match=said):
            look(file)
    assert said in picture_problem(file)


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
def test_maps_of_classes_may_be_gif_and_tiff(tmp_path, kind):
    from ablate.datasets._label_maps import table_of
    from ablate.datasets._label_numbers import read_numbers

    numbers = np.random.default_rng(4).integers(0, 3, (60, 80)).astype(np.uint8)
    file = tmp_path / "m"
    file.write_bytes(saved(Image.fromarray(numbers), kind))
    assert (read_numbers(file, table_of((0, 1, 2), ignored=(255,))) == numbers).all()
