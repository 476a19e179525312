"""Plain folders in the layouts that people have, and what is said of classes and files that do not fit."""

import numpy as np
import pytest
from PIL import Image

from ablate import registry
from ablate.datasets import IGNORED
from ablate.errors import AblateError, DataError, PartError

CLASSES = ["sky", "ground", "thing"]


def build(**knobs):
    chosen = registry.check_knobs("dataset", "label_folder", {"set": "plain", "classes": CLASSES} | knobs)
    return registry.build("dataset", "label_folder", chosen)


def message(call) -> str:
    """The one line that a user sees."""
    with pytest.raises(AblateError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_numbers_become_places_of_classes(plain):
    numbers = np.resize(np.uint8([0, 1, 2, 255]), (60, 80))
    plain.write(plain.map(0), numbers)
    assert (build().open("val", plain.root).labels(1) == numbers).all()
    other = build(classes=["thing", "sky"], label_ids=[2, 0], ignored=[1, 255], categories=["object", "nature"])
    assert other.info.label_ids == (2, 0)
    assert other.info.categories == ("object", "nature")
    assert other.open("val", plain.root).labels(1).ravel()[:4].tolist() == [1, IGNORED, 0, IGNORED]
    masks = build(classes=["back", "front"], label_ids=[0, 255], ignored=[])  # 0 and 255, as binary masks often are
    plain.write(plain.map(0), np.resize(np.uint8([0, 255]), (60, 80)))
    assert masks.open("val", plain.root).labels(1).ravel()[:2].tolist() == [0, 1]


def test_a_palette_counts_by_number_not_by_colour(plain):
    picture = Image.fromarray(np.resize(np.uint8([2, 1]), (60, 80)))
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    picture.save(plain.map(0), bits=2)
    assert build().open("val", plain.root).labels(1).ravel()[:2].tolist() == [2, 1]


def test_the_layouts_of_others(plain, tmp_path):
    expected = [build().open("val", plain.root).labels(image_id) for image_id in (1, 2)]

    def same(place, **knobs):
        samples = build(set=place, **knobs).open("val", tmp_path)
        assert [samples.name(image_id) for image_id in samples.image_ids()] == ["val0", "val1"]
        assert all((samples.labelled_image(n)[1] == expected[n - 1]).all() for n in (1, 2))

    def copy(pattern, source):
        for place in range(2):
            target = tmp_path / pattern.format(place)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source(place).read_bytes())

    copy("segnet/val/val{}.jpg", plain.image)
    copy("segnet/valannot/val{}.png", plain.map)
    same("segnet", images="{split}", labels="{split}annot/{name}.png")
    copy("tiny/images/val/val{}.jpg", plain.image)
    copy("tiny/masks/val{}_P.png", plain.map)
    (tmp_path / "tiny/masks/train7_P.png").write_bytes(b"")  # of the other split
    same("tiny", labels="masks/{name}_P.png")
    copy("voc/JPEGImages/val{}.jpg", plain.image)
    copy("voc/SegmentationClass/val{}.png", plain.map)
    (tmp_path / "voc/JPEGImages/unlabelled.jpg").write_bytes(b"")
    lists = tmp_path / "voc/ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("val0\nval1\n")
    voc = {
        "images": "JPEGImages", "labels": "SegmentationClass/{name}.png", "names": "ImageSets/Segmentation/{split}.txt",
    }  # fmt: skip
    same("voc", **voc)
    (lists / "val.txt").write_text("val0\nval2\nunlabelled\n")
    assert "a problem: val2 has no image" in message(lambda: build(set="voc", **voc).open("val", tmp_path))
    (lists / "val.txt").write_text("val0\nunlabelled\n")
    text = message(lambda: build(set="voc", **voc).open("val", tmp_path))
    assert "unlabelled.jpg has no map of classes" in text
    (lists / "trainval.txt").write_text("train0\nval1\nval0\n")  # the evaluated images are among them
    (lists / "val.txt").write_text("val0\nval1\n")
    text = message(lambda: build(set="voc", train="trainval", **voc).open("val", tmp_path))
    assert "val.txt: 2 problems: val0 is trained on and evaluated on; val1 is" in text
    (lists / "val.txt").unlink()
    assert "val.txt: No such file" in message(lambda: build(set="voc", **voc).open("val", tmp_path))


def test_the_folders_own_list_of_classes_must_agree(plain):
    listing = plain.root / "plain" / "classes.txt"
    listing.write_text("sky\nground\nthing\n")
    assert len(build().open("val", plain.root)) == 2
    listing.write_text("ground\nsky\nthing\n")
    text = message(lambda: build().open("val", plain.root))
    assert "classes.txt: class 0 is 'ground', in dataset.classes it is 'sky'" in text
    listing.write_text("sky\nground\n")
    assert "class 2 is 'nothing', in dataset.classes it is 'thing'" in message(lambda: build().open("val", plain.root))
    listing.write_bytes(b"\xff\xfe\x00")
    assert "is no text" in message(lambda: build().open("val", plain.root))


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"classes": []}, "classes: name two or more"),
        ({"classes": ["a", "b", "a"]}, "classes: 'a' is named twice"),
        ({"label_ids": [0, 1]}, "label_ids: one for each of the 3 classes, not 2"),
        ({"label_ids": [0, 1, 256]}, "label_ids: numbers of classes and ignored ones differ and are 0 to 255; see 256"),
        ({"label_ids": [0, 1, 255]}, "label_ids: numbers of classes and ignored ones differ"),
        ({"categories": ["a"]}, "categories: one for each of the 3 classes"),
        ({"classes": [str(n) for n in range(255)], "ignored": []}, "classes: at most 254, not 255"),
        ({"images": "images"}, "images: training and evaluation would use the same files"),
        ({"names": "list.txt"}, "names: training and evaluation would use the same files"),
        ({"train": "val"}, "test: training and evaluation would use the same files"),
        ({"labels": "labels/{split}"}, "labels: wanted a pattern that ends in a file's name with {name} in it"),
        ({"version": "1"}, "version: two digests"),
        ({"flip_pairs": [["sky", "thinf"]]}, "flip_pairs: no class 'thinf'; did you mean 'thing'?"),
        ({"flip_pairs": [["sky", "thing"], ["ground", "sky"]]}, "flip_pairs: 'sky' is named twice"),
    ],
)
def test_knobs_that_cannot_be(knobs, said):
    with pytest.raises(PartError) as caught:
        build(**knobs)
    assert said in str(caught.value)


def test_odd_folders_and_files_are_named(plain):
    assert "did you mean 'plain'?" in message(lambda: build(set="plan").open("val", plain.root))
    assert "images/vla: no such folder; did you mean 'val'?" in message(
        lambda: build(test="vla").open("val", plain.root)
    )
    plain.write(plain.map(0), np.full((60, 80), 3, np.uint8))
    assert "4800 pixels have numbers that no class has: 3" in message(build().open("val", plain.root).verify)
    plain.map(0).unlink()
    assert "val0.jpg has no map of classes" in message(lambda: build().open("val", plain.root))
    plain.image(0).unlink()
    plain.image(1).unlink()
    with pytest.raises(DataError, match="no images of 'val'"):
        build().open("val", plain.root)


def test_files_that_macos_lays_beside_others_are_none(plain):
    before = build().open("val", plain.root)
    for file in (plain.image(0), plain.map(0)):
        file.with_name(f"._{file.name}").write_bytes(b"its attributes")
    after = build().open("val", plain.root)
    assert (after.image_ids(), after.digest()) == (before.image_ids(), before.digest())
