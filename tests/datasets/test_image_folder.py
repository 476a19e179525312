"""Images in a folder for each class: torchvision's numbering, ImageNet's flat validation folder, and what is wrong."""

import shutil

import numpy as np
import pytest
import torchvision
from small_studies import write_study

from ablate import registry
from ablate.datasets import build_dataset, image_classes, parts_named
from ablate.errors import AblateError, PartError
from ablate.planning.open_study import opened
from ablate.study import Part

CLASSES = ["bee", "cat", "dog"]


def build(**knobs):
    chosen = registry.check_knobs("dataset", "image_folder", {"set": "animals", "classes": CLASSES} | knobs)
    return registry.build("dataset", "image_folder", chosen)


def message(call) -> str:
    """The one line that a user sees."""
    with pytest.raises(AblateError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def checked(animals, called):
    """The exit status of `ablate data check` of the set, and what it says."""

    def check(*options):
        words = ["data", "check", "animals", "--data", animals.parent, "--part", "image_folder"]
        return called(*words, "--knobs", '{"classes": "file"}', *options)[:2]

    return check


def test_files_and_classes_are_numbered_as_torchvision_does(animals):
    nested = animals / "train" / "cat" / "more" / "a.PNG"
    nested.parent.mkdir()
    shutil.copy(animals / "train" / "bee" / "train_0.jpg", animals / "train" / "cat" / "B.jpg")
    nested.write_bytes((animals / "train" / "bee" / "train_1.jpg").read_bytes())
    (animals / "train" / "cat" / "notes.txt").write_text("of nobody")
    theirs = torchvision.datasets.ImageFolder(animals / "train")
    part = Part(name="image_folder", knobs={"set": "animals", "classes": "file"})
    knobs = parts_named(part, animals.parent)
    samples = build_dataset(Part(name=part.name, knobs=knobs).filled("dataset")).open("train", animals.parent)
    assert knobs["classes"] == theirs.classes == CLASSES
    ours = [(str(samples.images / file), int(place)) for file, place in zip(samples.files, samples.places, strict=True)]
    assert ours == theirs.samples
    assert len(samples) == 11
    assert samples.name(5) == "cat_train_0"


def test_the_order_of_named_classes_is_kept(animals):
    samples = build(classes=["dog", "cat", "bee"]).open("val", animals.parent)
    assert [samples.image_class(image_id) for image_id in samples.image_ids()] == [1, 1, 2, 2]


def test_images_whose_names_differ_in_the_ending_have_names_of_their_own(animals):
    shutil.copy(animals / "val" / "bee" / "val_0.jpg", animals / "val" / "bee" / "val_0.jpeg")
    samples = build().open("val", animals.parent)
    assert [samples.name(number) for number in (1, 2, 3)] == ["bee_val_0_jpeg", "bee_val_0_jpg", "bee_val_1"]


def test_a_flat_folder_with_a_list(animals):
    flat = animals / "flat"
    flat.mkdir()
    for number, file in enumerate(sorted((animals / "val").rglob("*.jpg"))):
        shutil.copy(file, flat / f"val_{number}.jpg")
    listing = animals / "val.txt"
    listing.write_text("val_2.jpg cat\nval_0.jpg 0\n\nval_3.jpg  1\n")
    data = build(test="flat", labels="val.txt")
    samples = data.open("val", animals.parent)
    assert [(samples.name(n), samples.image_class(n)) for n in (1, 2, 3)] == [("val_2", 1), ("val_0", 0), ("val_3", 1)]
    assert samples.check() == []
    listing.write_text("val_2.jpg cut\nval_9.jpg 0\nval_0.jpg\nval_1.jpg 1\nval_1.jpg 1\n")
    said = message(lambda: data.open("val", animals.parent))
    assert "val.txt: 4 problems: line 1: 'cut' is no class; did you mean 'cat'?; line 2: there is no image" in said
    assert "No such file" in message(lambda: build(labels="no.txt").open("val", animals.parent))


def test_imagenet_is_known():
    data = registry.build("dataset", "image_folder", registry.check_knobs("dataset", "image_folder", {}))
    names = data.info.need_image_classes()
    assert (len(names), names[0], names[-1]) == (1000, "n01440764", "n15075141")  # tench, toilet paper
    assert list(names) == sorted(names)
    assert data.info.classified == {"train": 1281167, "val": 50000}
    assert image_classes().keys() == {"imagenet1000"}


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"classes": ["a"]}, "classes: name two or more"),
        ({"classes": ["a", "b", "a"]}, "classes: 'a' is named twice"),
        ({"test": "train"}, "test: training and evaluation would use the same files"),
        ({"version": "1"}, "version: two digests"),
        ({"group": "("}, "group: '(' is no regular expression"),
    ],
)
def test_knobs_that_cannot_be(knobs, said):
    with pytest.raises(PartError) as caught:
        build(**knobs)
    assert said in str(caught.value)


def test_odd_folders_are_named(animals):
    root = animals.parent
    assert "train: 2 problems: 'bee' is none of the 2 classes" in message(
        lambda: build(classes=["cat", "lion"]).open("train", root)
    )
    assert "classes: file takes the folders'" in message(lambda: build(classes=["a", "b"]).open("train", root))
    assert "valid: no such folder; did you mean 'val'?" in message(lambda: build(test="valid").open("val", root))
    assert "classes: file: the folders are read when" in message(lambda: build(classes="file").info)
    (animals / "empty").mkdir()
    assert "empty: no images (.jpg" in message(lambda: build(test="empty").open("val", root))
    assert "holds 0 folders" in message(lambda: build(train="empty").classes_of_folders(root))


def test_a_check_names_what_would_change_a_score(animals, checked):
    assert checked()[0] == 0
    assert f"remark: {animals}/val: no image is a dog" in checked()[1]
    shutil.copy(animals / "train" / "dog" / "train_1.jpg", animals / "val" / "cat" / "again.jpg")
    status, out = checked()
    assert status == 1
    assert "the evaluation image cat_again is the training image dog_train_1, pixel by pixel" in out
    (animals / "val" / "cat" / "again.jpg").unlink()
    (animals / "train" / "bee" / "train_0.jpg").write_bytes(b"\xff\xd8\xff cut")
    (animals / "train" / "bee" / "old.bmp").write_bytes(b"BM")
    status, out = checked("--quick")
    assert status == 1
    assert "bee/train_0.jpg: is cut short" in out
    assert "1 files *.bmp are not read" in out
    for file in (animals / "train" / "cat").iterdir():
        file.unlink()
    status, out = checked("--quick")
    assert f"{animals}/val: 2 images are a cat, of which {animals}/train has none" in out
    assert f"remark: {animals}/train: no image is a cat" in out
    assert "2 images are a cat" in message(build().open("val", animals.parent).verify)


def test_a_declared_digest_must_be_that_of_the_files(animals):
    data = build()
    digests = "-".join(data.open(split, animals.parent).digest() for split in ("train", "val"))
    assert build(version=digests).open("val", animals.parent).verify() == digests[17:]
    (animals / "val" / "cat" / "val_0.jpg").write_bytes(b"other")
    assert "declared is" in message(build(version=digests).open("val", animals.parent).verify)
    (animals / "val" / "cat" / "val_0.jpg").unlink()
    opened = build(version=digests).open("val", animals.parent)
    (animals / "val" / "cat" / "val_1.jpg").unlink()
    assert "cat/val_1.jpg: No such file" in message(opened.digest)


def test_the_group_is_what_a_pattern_finds(animals):
    samples = build(group="_([0-9])$").open("train", animals.parent)
    assert [samples.group(number) for number in (1, 2, 3, 4)] == ["0", "1", "2", "0"]
    assert np.array_equal(samples.places, np.repeat([0, 1, 2], 3))


@pytest.mark.usefixtures("small_shelf")
@pytest.mark.usefixtures("small_shelf")
def test_a_study_takes_its_classes_from_the_folders(animals, tmp_path, monkeypatch):
    monkeypatch.delenv("ABLATE_DATA", raising=False)
    recipe = {
        "task": {"name": "classification", "size": [32, 32]},
        "dataset": {"name": "image_folder", "set": "animals", "classes": "file"},
        "model": {"name": "dots", "width": 4},
    }
    study = write_study(tmp_path, recipe=recipe, metrics=["top1"])
    design = opened(study, scale=None, results=tmp_path / "results", data=animals.parent)
    assert design.control.recipe.dataset.knobs["classes"] == CLASSES
    with pytest.raises(AblateError, match=r"recipe\.dataset\.classes: file: .*, or name the classes"):
        opened(study, scale=None, results=None)
