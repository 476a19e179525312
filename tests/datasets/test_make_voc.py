"""Pascal VOC's XML as COCO's boxes."""

import zipfile

import cv2
import numpy as np
import pytest

from ablate import registry
from ablate.datasets.make.voc import make_voc
from ablate.errors import DataError


def annotation(*objects, size=(60, 80)):
    found = "".join(
        f"<object><name>{name}</name><difficult>{int(difficult)}</difficult><bndbox>"
        + "".join(f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        + "</bndbox></object>"
        for name, box, difficult in objects
    )
    height, width = size
    return f"<annotation><size><width>{width}</width><height>{height}</height></size>{found}</annotation>"


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    (folder / "ImageSets/Main/train.txt").write_text("2008_000001\n2008_000002\n")
    (folder / "ImageSets/Main/val.txt").write_text("2008_000003\n")
    objects = {
        "2008_000001": [("dog", (1, 1, 20, 30), False), ("cat", (11, 21, 40, 60), True)],
        "2008_000002": [],
        "2008_000003": [("cat", (5, 6, 5, 6), False)],
    }
    for number, (name, found) in enumerate(objects.items()):
        (folder / f"Annotations/{name}.xml").write_text(annotation(*found))
        pixels = np.random.default_rng(number).integers(0, 256, (60, 80, 3), np.uint8)
        assert cv2.imwrite(str(folder / f"JPEGImages/{name}.jpg"), pixels)
    return folder


def opened(root, split):
    knobs = registry.check_knobs("dataset", "coco_instances", {"set": "voc", "classes": ["cat", "dog"]})
    return registry.build("dataset", "coco_instances", knobs).open(split, root)


@pytest.mark.parametrize("how", ["folder", "zip"])
def test_boxes_begin_at_nought_and_hold_both_corners(archive, tmp_path, how):
    source = archive
    if how == "zip":
        source = tmp_path / "voc.zip"
        with zipfile.ZipFile(source, "w") as made:
            for file in sorted(archive.rglob("*.*")):
                made.write(file, file.relative_to(tmp_path))
    said = make_voc(source, tmp_path / "data" / "voc")
    assert "2 train, 1 val" in said
    assert "classes: [cat, dog]" in said
    train, val = (opened(tmp_path / "data", split) for split in ("train", "val"))
    assert (len(train), len(val)) == (2, 1)
    found = train.instances(1)
    assert found["boxes"].tolist() == [[0, 0, 20, 30], [10, 20, 30, 40]]
    assert found["places"].tolist() == [1, 0]
    assert found["crowd"].tolist() == [False, True]
    assert val.instances(1)["boxes"].tolist() == [[4, 5, 1, 1]]
    assert (train.image(1) == cv2.imread(str(archive / "JPEGImages/2008_000001.jpg"))[..., ::-1]).all()
    assert train.check(thorough=True) == []


LAUGHS = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><annotation>&c;</annotation>'


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("<annotation>", "Annotations/2008_000001.xml: "),
        (LAUGHS, "declares entities"),
        (LAUGHS.encode("utf-16"), "declares entities"),
        (annotation(("dog", (9, 1, 5, 30), False)), "a box from 9, 1 to 5, 30"),
        (annotation(("dog", (1, 1, "x", 30), False)), "could not convert"),
        (annotation(("", (1, 1, 2, 2), False)), "no name in <object>"),
        ("<annotation><object/></annotation>", "no size/height in <annotation>"),
    ],
)
def test_annotations_that_are_none_are_one_line(archive, tmp_path, content, told):
    file = archive / "Annotations/2008_000001.xml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=told) as caught:
        make_voc(archive, tmp_path / "data" / "voc")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data" / "voc").exists()


@pytest.mark.parametrize("names", ["../../etc/passwd\n", "", "2008_000001\n2008_000001\n"])
def test_lists_that_are_none_are_refused(archive, tmp_path, names):
    (archive / "ImageSets/Main/val.txt").write_text(names)
    with pytest.raises(DataError, match=r"ImageSets/Main/val\.txt: "):
        make_voc(archive, tmp_path / "data" / "voc")
