"""PASCAL-Context's MATLAB files of 459 labels as maps of 59 classes and the background."""

import zipfile

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from ablate.datasets import as_published, build_dataset, catalog
from ablate.datasets.make.pascal_context import make_pascal_context
from ablate.errors import DataError
from ablate.study import Part

# Of the 59 classes in labels.txt, as mmsegmentation lists them (tools/dataset_converters/pascal_context.py).
NUMBERS = [
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158, 159,
    162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368,
    397, 415, 416, 420, 424, 427, 440, 445, 454, 458,
]  # fmt: skip
NAMES = {"train": ["2008_000002", "2008_000003"], "val": ["2010_000001"]}
SHAPE = (30, 40)


def labels_txt() -> str:
    classes = catalog()["pascal_context"].knobs["classes"]
    named = dict(zip(NUMBERS, classes, strict=True)) | {397: "table", 1: "accordion", 3: "air conditioner"}
    return "".join(f"{number}: {named.get(number, f'thing {number}')}\n" for number in range(1, 460))


@pytest.fixture
def archive(tmp_path):
    """Every number from 0 to 459 is in each map."""
    home = tmp_path / "VOCdevkit" / "VOC2010"
    for folder in ("JPEGImages", "ImageSets/Main", "trainval"):
        (home / folder).mkdir(parents=True)
    (home / "labels.txt").write_text(labels_txt())
    for split, names in NAMES.items():
        (home / f"ImageSets/Main/{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            rng = np.random.default_rng(int(name[-6:]))
            numbers = np.resize(np.arange(460), SHAPE).astype(np.uint16)
            rng.shuffle(numbers)
            savemat(home / f"trainval/{name}.mat", {"LabelMap": numbers}, do_compression=True)
            Image.fromarray(rng.integers(0, 256, (*SHAPE, 3), np.uint8)).save(home / f"JPEGImages/{name}.jpg")
    return home


def zipped(home, tmp_path):
    file = tmp_path / "context.zip"
    with zipfile.ZipFile(file, "w") as made:
        for one in sorted(home.rglob("*.*")):
            made.write(one, one.relative_to(tmp_path))
    return file


@pytest.mark.parametrize("how", ["folder", "folder above", "zip"])
def test_numbers_become_places_in_their_order_and_all_others_the_background(archive, tmp_path, how):
    from scipy.io import loadmat

    source = {"folder": archive, "folder above": archive.parent, "zip": zipped(archive, tmp_path)}[how]
    said = make_pascal_context(source, tmp_path / "data" / "pascal_context")
    assert "2 train, 1 val" in said
    for name in [*NAMES["train"], *NAMES["val"]]:
        made = np.array(Image.open(tmp_path / f"data/pascal_context/SegmentationClassContext/{name}.png"))
        numbers = loadmat(archive / f"trainval/{name}.mat")["LabelMap"]
        wanted = [[NUMBERS.index(n) + 1 if n in NUMBERS else 0 for n in row] for row in numbers.tolist()]
        assert made.tolist() == wanted
        assert (tmp_path / f"data/pascal_context/JPEGImages/{name}.jpg").read_bytes() == (
            archive / f"JPEGImages/{name}.jpg"
        ).read_bytes()


@pytest.mark.parametrize(("name", "ignored"), [("pascal_context", True), ("pascal_context_60", False)])
def test_the_set_is_read_with_the_catalog_s_knobs(archive, tmp_path, name, ignored):
    make_pascal_context(archive, tmp_path / "data" / "pascal_context")
    part = Part(name="label_folder", knobs=as_published("label_folder", {"set": name})).filled("dataset")
    opened = build_dataset(part).open("val", tmp_path / "data")
    assert len(opened) == 1
    (image,) = opened.image_ids()
    labels, dataset = opened.labels(image), build_dataset(part)
    numbers = np.array(Image.open(tmp_path / "data/pascal_context/SegmentationClassContext/2010_000001.png"))
    assert (labels == np.where(numbers == 0, 255, numbers - 1.0) if ignored else labels == numbers).all()
    place = list(dataset.info.classes).index("diningtable")
    assert ((labels == place) == (numbers == NUMBERS.index(397) + 1)).all()
    (count,) = opened.check(thorough=True)
    assert f"val has 1 images, {name} has 5,105" in count


def changed(archive, file, content):
    (archive / file).write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda home: changed(home, "trainval/2010_000001.mat", b"MATLAB"), "trainval/2010_000001.mat: "),
        (
            lambda home: savemat(home / "trainval/2008_000002.mat", {"LabelMap": np.full(SHAPE, 460)}),
            "number 460 has no line in labels.txt",
        ),
        (
            lambda home: savemat(home / "trainval/2008_000002.mat", {"LabelMap": np.zeros(SHAPE[::-1], int)}),
            "its map is 40 x 30, the image 30 x 40",
        ),
        (
            lambda home: savemat(home / "trainval/2008_000002.mat", {"Other": np.zeros(SHAPE, int)}),
            "trainval/2008_000002.mat: ",
        ),
        (lambda home: changed(home, "JPEGImages/2008_000003.jpg", b"no picture"), "JPEGImages/2008_000003.jpg: "),
        (
            lambda home: changed(
                home, "labels.txt", labels_txt().replace("397: table", "99999999999999: table").encode()
            ),
            "labels.txt: has no line NUMBER: table",
        ),
        (
            lambda home: changed(home, "labels.txt", labels_txt().replace("397: table", "\u00b2: table").encode()),
            "labels.txt: has no line NUMBER: table",
        ),
        (
            lambda home: changed(home, "labels.txt", labels_txt().replace("397: table\n", "").encode()),
            "labels.txt: has no line NUMBER: table",
        ),
        (
            lambda home: changed(home, "labels.txt", labels_txt().replace("458: wood", "1: wood").encode()),
            "in another order than published",
        ),
        (lambda home: changed(home, "ImageSets/Main/val.txt", b"../a\n"), "'../a' is no image's name"),
        (lambda home: (home / "labels.txt").unlink(), "wanted one labels.txt, found 0"),
    ],
)
def test_what_is_no_archive_is_one_line_and_leaves_nothing(archive, tmp_path, spoil, told):
    spoil(archive)
    with pytest.raises(DataError) as caught:
        make_pascal_context(archive, tmp_path / "data" / "pascal_context")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "data").glob("*"))
