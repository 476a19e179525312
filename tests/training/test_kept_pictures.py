"""Decoded pictures are kept in a private folder of memory, shared, and gone with their last user."""

import os

import cv2
import numpy as np
import PIL
import pytest
from PIL import Image

from ablate.datasets import _kept, picture, pictures_kept, read_picture
from ablate.errors import DataError
from ablate.machine import scratch
from ablate.training import batches
from ablate.training.batches import keeping_pictures


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Another place than the machine's memory, with as much room as one likes."""
    monkeypatch.setattr(batches, "MEMORY", tmp_path / "memory")
    monkeypatch.setattr(batches, "LEAST_FREE", -1)
    monkeypatch.setattr(batches, "LEAST_BYTES", -1)
    (tmp_path / "memory").mkdir()
    return tmp_path / "memory"


def written(file, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)
    assert cv2.imwrite(str(file), pixels)
    return pixels[..., ::-1]  # OpenCV takes BGR


def kept_files(place):
    return [path for path in place.rglob("*") if path.is_file() and path.name != scratch.OWNER]


def test_what_was_decoded_is_read_from_memory_until_the_file_changes(tmp_path, place):
    file = tmp_path / "picture.png"
    first = written(file, 0)
    with keeping_pictures():
        assert place in pictures_kept().parents
        for _ in range(2):
            found = picture(file)
            assert (found == first).all()
            found[:] = 0  # the caller's own
        (kept,) = kept_files(place)
        second = written(tmp_path / "other.png", 1)
        assert (picture(tmp_path / "other.png") == second).all()
        kept.write_bytes(kept.read_bytes()[:-1] + b"\0")  # so that it is seen whence the picture comes
        assert (picture(file)[-1, -1, :2] == first[-1, -1, :2]).all()
        assert picture(file)[-1, -1, 2] == 0
        (tmp_path / "other.png").rename(file)  # another file of that name
        assert (picture(file) == second).all()
    assert pictures_kept() is None
    assert not list(place.iterdir())
    assert (picture(file) == read_picture(file)).all()


def test_a_file_changed_in_place_is_decoded_anew_though_its_time_is_put_back(tmp_path, place):
    file, other = tmp_path / "picture.tif", tmp_path / "other.tif"  # of one size in bytes, whatever they show
    first, second = (np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8) for seed in (0, 1))
    for name, pixels in ((file, first), (other, second)):
        Image.fromarray(pixels).save(name)
    before = file.stat()
    with keeping_pictures():
        assert (picture(file) == first).all()
        while file.stat().st_ctime_ns == before.st_ctime_ns:  # clocks of file systems tick every few milliseconds
            with file.open("r+b") as opened:
                opened.write(other.read_bytes())
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        after = file.stat()
        assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
        assert (picture(file) == second).all()


def test_what_other_versions_decoded_is_not_read(tmp_path, place, monkeypatch):
    written(tmp_path / "picture.png", 0)
    with keeping_pictures():
        for count, (module, name) in enumerate(((_kept, "READER"), (cv2, "__version__"), (PIL, "__version__"))):
            picture(tmp_path / "picture.png")
            assert len(kept_files(place)) == count + 1
            monkeypatch.setattr(module, name, "another")
        picture(tmp_path / "picture.png")
        assert len(kept_files(place)) == 4


def test_pictures_are_shared_and_the_last_user_removes_them(tmp_path, place):
    written(tmp_path / "picture.png", 0)
    with keeping_pictures():
        with scratch.shared(place, "pictures") as folder:
            picture(tmp_path / "picture.png")
            assert folder == pictures_kept()
            assert folder.stat().st_mode & 0o777 == 0o700
        assert len(kept_files(place)) == 1  # the first is still there
    assert not list(place.iterdir())


def test_a_folder_that_others_may_read_is_not_used(place):
    with scratch.shared(place, "pictures") as folder:
        pass
    folder.mkdir(0o755)
    with keeping_pictures():
        assert pictures_kept() is None
    assert folder.exists()


def test_without_room_or_memory_nothing_is_kept(tmp_path, place, monkeypatch):
    pixels = written(tmp_path / "picture.png", 0)
    monkeypatch.setattr(batches, "LEAST_FREE", 1.1)
    with keeping_pictures():
        assert (picture(tmp_path / "picture.png") == pixels).all()
        assert not kept_files(place)
    monkeypatch.setattr(batches, "LEAST_FREE", -1)
    monkeypatch.setattr(batches, "LEAST_BYTES", 2**62)  # as much is free nowhere
    with keeping_pictures():
        assert (picture(tmp_path / "picture.png") == pixels).all()
        assert not kept_files(place)
    monkeypatch.setattr(batches, "MEMORY", tmp_path / "nowhere")
    with keeping_pictures():
        assert pictures_kept() is None
        assert (picture(tmp_path / "picture.png") == pixels).all()


def test_pictures_that_cannot_be_read_say_so(tmp_path, place):
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with keeping_pictures():
        for name in ("cut.png", "missing.png"):
            with pytest.raises(DataError, match=name):
                picture(tmp_path / name)
        assert not kept_files(place)
