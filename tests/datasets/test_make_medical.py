"""ISBI 2012 and DRIVE from archives that look like the published ones."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from ablate import registry
from ablate.datasets import IGNORED
from ablate.datasets.make.drive import make_drive
from ablate.datasets.make.isbi2012 import make_isbi2012
from ablate.errors import DataError

MEMBRANES = {
    "set": "isbi2012", "images": "images", "labels": "labels/{name}.png", "classes": ["membrane", "background"],
    "label_ids": [0, 255], "ignored": [], "folds": 5,
}  # fmt: skip


def sections():
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (30, 2, 64, 64)).astype(np.uint8).repeat(8, axis=2).repeat(8, axis=3)
    return [(image, np.where(labels > 127, 255, 0).astype(np.uint8)) for image, labels in coarse]


def volumes(folder, pairs):
    folder.mkdir()
    for name, pages in zip(("volume", "labels"), zip(*pairs, strict=True), strict=True):
        first, *rest = [Image.fromarray(page) for page in pages]
        first.save(folder / f"train-{name}.tif", save_all=True, append_images=rest)


def copies(folder, pairs, image="images", label="labels"):
    for number, pair in enumerate(pairs):
        for kind, pixels in zip((image, label), pair, strict=True):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"{number}.png")


@pytest.mark.parametrize("how", ["volumes", "copies", "copies in a zip"])
def test_membranes_become_a_set_that_label_folder_reads(tmp_path, how):
    pairs, source = sections(), tmp_path / "source"
    if how == "volumes":
        volumes(source, pairs)
    else:
        copies(source / "data", pairs, *(("image", "label") if "zip" in how else ()))
    if "zip" in how:
        with zipfile.ZipFile(tmp_path / "source.zip", "w") as archive:
            for file in sorted(source.rglob("*.png")):
                archive.write(file, file.relative_to(tmp_path))
        source = tmp_path / "source.zip"
    said = make_isbi2012(source, tmp_path / "data" / "isbi2012")
    assert "30 sections" in said
    data = registry.build("dataset", "label_folder", registry.check_knobs("dataset", "label_folder", MEMBRANES))
    opened = data.of_seed(4).open("val", tmp_path / "data")
    assert [opened.name(image) for image in opened.image_ids()] == [f"{number:02d}" for number in range(24, 30)]
    assert (opened.image(25)[..., 0] == pairs[24][0]).all()
    assert (opened.labels(25) == (pairs[24][1] == 255)).all()


@pytest.mark.parametrize("wrong", ["fewer", "grey", "size", "cut", "nothing"])
def test_what_is_not_the_volume_is_refused_in_one_line(tmp_path, wrong):
    pairs, source = sections(), tmp_path / "source"
    if wrong == "grey":
        pairs[3][1][0, 0] = 7
    if wrong == "size":
        pairs = [(image[:100], labels[:100]) for image, labels in pairs]
    volumes(source, pairs[:29] if wrong == "fewer" else pairs)
    if wrong == "cut":
        (source / "train-labels.tif").write_bytes((source / "train-labels.tif").read_bytes()[:5000])
    if wrong == "nothing":
        (source / "train-volume.tif").unlink()
    told = {
        "fewer": "29 sections",
        "grey": "map 3 holds 7",
        "size": "512",
        "cut": "train-labels",
        "nothing": "wanted one",
    }
    with pytest.raises(DataError, match=told[wrong]) as caught:
        make_isbi2012(source, tmp_path / "data" / "isbi2012")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data" / "isbi2012").exists()


def retinas(folder, *, tests=True):
    """The archive's layout; vessels in columns 0 to 99, the field of view in rows 100 to 499."""
    vessels, view = np.zeros((584, 565), np.uint8), np.zeros((584, 565), np.uint8)
    vessels[:, :100], view[100:500] = 255, 255
    for part, numbers in (("training", range(21, 41)), ("test", range(1, 21))):
        for kind in ("images", "1st_manual", "mask"):
            (folder / part / kind).mkdir(parents=True)
        for number in numbers:
            rng = np.random.default_rng(number)
            photograph = Image.fromarray(rng.integers(0, 256, (584, 565, 3)).astype(np.uint8))
            photograph.save(folder / part / "images" / f"{number:02d}_{part}.tif")
            Image.fromarray(view).save(folder / part / "mask" / f"{number:02d}_{part}_mask.gif")
            if part == "training" or tests:
                Image.fromarray(vessels).save(folder / part / "1st_manual" / f"{number:02d}_manual1.gif")


@pytest.mark.parametrize("how", ["folder", "zip", "without the test's maps"])
def test_vessels_count_within_the_field_of_view(tmp_path, how):
    source = tmp_path / "DRIVE"
    retinas(source, tests="without" not in how)
    if how == "zip":
        with zipfile.ZipFile(tmp_path / "DRIVE.zip", "w") as archive:
            for file in sorted(source.rglob("*.*")):
                archive.write(file, file.relative_to(tmp_path))
        source = tmp_path / "DRIVE.zip"
    said = make_drive(source, tmp_path / "data" / "drive")
    knobs = {"set": "drive", "classes": ["background", "vessel"]}
    if "without" in how:
        assert "cross-validate" in said
        knobs |= {"images": "images/train", "labels": "labels/train/{name}.png", "folds": 4}
    data = registry.build("dataset", "label_folder", registry.check_knobs("dataset", "label_folder", knobs))
    opened = data.open("val", tmp_path / "data")
    assert len(opened) == (5 if "without" in how else 20)
    labels = opened.labels(1)
    assert labels.shape == (584, 565)
    assert (labels[:100] == IGNORED).all()
    assert (labels[500:] == IGNORED).all()
    assert (labels[100:500, :100] == 1).all()
    assert not labels[100:500, 100:].any()
    assert opened.check(thorough=True) == []


def test_an_archive_of_something_else_is_refused(tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match=r"wanted one training/images/21_training\.tif"):
        make_drive(tmp_path / "other", tmp_path / "data" / "drive")
    retinas(tmp_path / "DRIVE")
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(tmp_path / "DRIVE/training/mask/22_training_mask.gif")
    with pytest.raises(DataError, match=r"22_training_mask\.gif has another size"):
        make_drive(tmp_path / "DRIVE", tmp_path / "data" / "drive")
    assert not (tmp_path / "data" / "drive").exists()
