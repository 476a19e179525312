"""Label ids become classes as cityscapesscripts and the official code have it; every odd file is named."""

import json
import re

import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label, trainId2label
from PIL import Image

from ablate import registry
from ablate.datasets import IGNORED, SPLITS, catalog
from ablate.errors import AblateError, DataError, PartError


def build(**knobs):
    return registry.build("dataset", "cityscapes", registry.check_knobs("dataset", "cityscapes", knobs))


def opened(made, split="val", **knobs):
    return build(set="streets", **knobs).open(split, made.root)


def message(call) -> str:
    """The one line that a user sees."""
    with pytest.raises(AblateError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_classes_are_those_of_cityscapesscripts():
    info = build().info
    assert len(info.classes) == 19
    for place, (name, number, category) in enumerate(zip(info.classes, info.label_ids, info.categories, strict=True)):
        label = trainId2label[place]
        assert (name, number, category) == (label.name, label.id, label.category)
    assert len(set(info.categories)) == 7
    assert (info.size, info.sizes) == ((1024, 2048), {"train": 2975, "val": 500})
    assert info.version is None
    assert len(info.class_weights) == 19
    assert build(train="train+val", test="test").info.images == {"train": 3475, "val": 1525}


def test_every_label_id_becomes_its_train_id(streets):
    ids = np.arange(34, dtype=np.uint8)
    streets.write(streets.map(0), np.resize(ids, (60, 80)))
    found = opened(streets).labels(1)
    assert found.ravel()[:34].tolist() == [id2label[number].trainId for number in range(34)]
    assert id2label[0].trainId == IGNORED


def test_camvid_takes_classes_numbers_and_categories_from_the_catalog():
    info = build(set="camvid", test="test").info
    assert len(info.classes) == 11
    assert dict(zip(info.classes, info.label_ids, strict=True))["Bicyclist"] == 33
    for number, category in zip(info.label_ids, info.categories, strict=True):
        assert category == id2label[number].category
    assert info.sizes == info.images == {"train": 367, "val": 233}
    assert info.class_weights == ()
    digests = catalog()["camvid"].labels.digests
    assert info.version == f"{digests['train']}-{digests['test']}"


def test_images_are_named_as_the_server_wants_predictions(streets):
    samples = opened(streets, "train")
    assert [samples.name(image_id) for image_id in (1, 2, 3)] == [f"train{n}_000000_00001{n}" for n in range(3)]
    assert samples[2]["image_id"] == 3


def test_splits_are_folders_of_choice(streets):
    swapped = build(set="streets", train="val", test="train")
    assert [len(swapped.open(split, streets.root)) for split in SPLITS] == [2, 3]
    for file in (streets.image(0), streets.map(0)):
        other = file.parents[2] / "extra" / "extra0" / file.name.replace("val0", "extra0")
        other.parent.mkdir(parents=True)
        other.write_bytes(file.read_bytes())
    both = build(set="streets", train="train+extra")
    samples = both.open("train", streets.root)
    assert [samples.name(image_id)[:6] for image_id in samples.image_ids()] == ["train0", "train1", "train2", "extra0"]
    single = opened(streets, "train").digest()
    assert samples.digest() not in (single, build(set="streets", train="extra").open("train", streets.root).digest())
    assert samples.digest() == both.open("train", streets.root).digest()


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"set": "camvid", "test": "tset"}, "test: the set has no folder 'tset'; did you mean 'test'?"),
        ({"train": "train+val"}, "test: 'val' is named twice"),
        ({"train": "train+train"}, "'train' is named twice"),
        ({"set": "own", "train": "../train"}, "train: names of folders joined by +"),
        ({"set": "own", "train": "train+"}, "train: names of folders joined by +"),
        ({"set": "own", "train": ""}, "train: names of folders joined by +"),
        ({"set": "pose_lspet"}, "set: pose_lspet has no maps of classes"),
        ({"version": "latest"}, "version: two digests of 16 hexadecimal digits"),
    ],
)
def test_knobs_that_cannot_be(knobs, said):
    with pytest.raises(PartError) as caught:
        build(**knobs)
    assert said in str(caught.value)


def test_a_known_set_without_maps_is_refused_by_the_other_part_too():
    assert "camvid has no coco17 annotations" in message(
        lambda: registry.build("dataset", "coco_pose", {"set": "camvid"})
    )


def test_missing_folders_name_the_nearest(streets, tmp_path):
    assert "--data or set ABLATE_DATA" in message(lambda: build(set="streets").open("val", None))
    assert "did you mean 'streets'?" in message(lambda: build(set="street").open("val", streets.root))
    assert len(build(set="other").open("val", streets.root / "streets")) == 2  # the data folder is the set itself
    text = message(lambda: opened(streets, test="vla"))
    assert "leftImg8bit/vla: no such folder; did you mean 'val'?" in text
    (streets.root / "streets" / "leftImg8bit" / "none").mkdir()
    (streets.root / "streets" / "gtFine" / "none").mkdir()
    assert "no images of 'none'" in message(lambda: opened(streets, test="none"))


def test_images_without_maps_and_maps_without_images_are_counted(streets):
    streets.map(0).unlink()
    streets.image(1).unlink()
    text = message(lambda: opened(streets))
    assert "2 problems: val0_000000_000010_leftImg8bit.png has no map of classes" in text
    assert "val1_000000_000011_gtFine_labelIds.png has no image" in text


def test_an_image_in_two_forms_is_ambiguous(streets):
    streets.write(streets.image(0).with_suffix(".jpg"), np.zeros((60, 80, 3), np.uint8))
    assert "has the same name 'val0_000000_000010'" in message(lambda: opened(streets))


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"<html>", "is no JPEG, PNG, TIFF or GIF"),
        (cut(png(np.zeros((60, 80), np.uint8))), "is cut short"),
        (png(np.zeros((60, 80), np.uint8))[:50] + b"IEND", "has a chunk that is longer than the file"),
        (cv2.imencode(".jpg", np.zeros((60, 80), np.uint8))[1].tobytes(), "is JPEG with pixels L"),
        (png(np.zeros((60, 80, 3), np.uint8)), "is PNG with pixels RGB"),
        (png(np.zeros((60, 80), np.uint16)), "is PNG with pixels I;16"),
        (png(np.zeros((80, 60), np.uint8)), "has 80 x 60 pixels (height x width), its image 60 x 80"),
        (png(np.full((60, 80), 34, np.uint8)), "4800 pixels have numbers that no class has: 34"),
        (png(np.resize(np.uint8([7, 255]), (60, 80))), "2400 pixels have numbers that no class has: 255"),
    ],
)
def test_damaged_maps_are_named_before_training_and_when_read(streets, content, said):
    streets.map(1).write_bytes(content)
    samples = opened(streets)
    texts = [message(samples.verify), message(lambda: samples[1]), *samples.check(), *samples.check(thorough=True)]
    assert len(texts) == 4
    for text in texts:
        assert "val1_000000_000011_gtFine_labelIds.png" in text
        assert said in text
    assert samples[0]["image_id"] == 1


def test_damaged_images_are_named(streets):
    streets.image(0).write_bytes(cut(streets.image(0).read_bytes()))
    sound = streets.image(1).read_bytes()
    at = sound.index(b"IDAT") + 4  # the chunk's length stays, its data goes
    end = at + int.from_bytes(sound[at - 8 : at - 4])
    streets.image(1).write_bytes(sound[:at] + b"\0" * (end - at) + sound[end:])
    samples = opened(streets)
    assert "val0_000000_000010_leftImg8bit.png: is cut short" in message(samples.verify)
    assert len(samples.check()) == 1
    _, second = samples.check(thorough=True)
    assert "val1_000000_000011_leftImg8bit.png: cannot be decoded" in second
    assert message(lambda: samples[1]) == second
    samples = opened(streets)  # one that has not looked yet
    streets.image(0).unlink()
    assert "No such file" in message(samples.digest)
    assert "No such file" in message(lambda: samples[0])


def test_many_problems_are_counted(streets):
    for place in range(3):
        streets.write(streets.map(place, split="train"), np.full((60, 80), 40, np.uint8))
        streets.write(streets.map(place + 3, split="train"), np.full((60, 80), 41, np.uint8))
        streets.write(streets.image(place + 3, split="train"), np.zeros((60, 80, 3), np.uint8))
    text = message(opened(streets, "train").verify)
    assert "6 problems: " in text
    assert text.endswith("; and 3 more")


def test_the_digest_is_of_numbers_not_of_their_compression(streets):
    before = opened(streets).digest()
    numbers = cv2.imread(str(streets.map(0)), cv2.IMREAD_UNCHANGED)
    Image.fromarray(numbers).save(streets.map(0), compress_level=0)
    assert opened(streets).digest() == before
    coloured = Image.fromarray(numbers)
    coloured.putpalette(list(range(256)) * 3)
    coloured.save(streets.map(0))
    assert opened(streets).digest() == before
    changed = numbers.copy()
    changed[0, 0] = 7 if numbers[0, 0] != 7 else 8
    streets.write(streets.map(0), changed)
    after = opened(streets).digest()
    streets.image(0).write_bytes(streets.image(0).read_bytes() + b"IEND")
    assert len({before, after, opened(streets).digest()}) == 3


def test_a_declared_version_is_held_against_the_content(streets):
    train, val = (opened(streets, split).digest() for split in SPLITS)
    data = build(set="streets", version=f"{train}-{val}")
    assert [data.open(split, streets.root).verify() for split in SPLITS] == [train, val]
    text = message(opened(streets, version=f"{val}-{train}").verify)
    assert val in text
    assert train in text


def test_a_known_set_without_a_digest_has_as_many_images_as_declared(streets):
    streets.root.joinpath("streets").rename(streets.root / "cityscapes")
    text = message(lambda: build(set="cityscapes").open("train", streets.root).verify())
    assert re.search(r"train has \d images, cityscapes has 2,975", text)


@pytest.mark.parametrize(("train", "test"), [("train", "val"), ("train", "test"), ("train+val", "test")])
def test_camvid_is_what_the_catalog_declares(ablate_data, train, test):
    data = build(set="camvid", train=train, test=test)
    meta = json.loads((ablate_data / "seg_camvid" / "meta.json").read_text())
    for split, folders in (("train", train), ("val", test)):
        samples = data.open(split, ablate_data)
        assert samples.verify() == data.info.declared(split)
        assert len(samples) == data.info.sizes[split]
        assert samples.check() == []
        counts = np.zeros(256, int)
        for image_id in samples.image_ids():
            counts += np.bincount(samples.labels(image_id).ravel(), minlength=256)
        expected = sum(np.array(meta["pixel_histogram_camvid11"][folder]) for folder in folders.split("+"))
        assert [*counts[:11], counts[IGNORED]] == expected.tolist()
        assert counts[11:IGNORED].sum() == 0


def test_camvid_maps_are_the_native_ones(ablate_data):
    samples = build(set="camvid", test="test").open("val", ablate_data)
    folder = ablate_data / "seg_camvid" / "camvid11" / "test"
    for image_id in samples.image_ids()[::20]:
        native = cv2.imread(str(folder / f"{samples.name(image_id)}.png"), cv2.IMREAD_UNCHANGED)
        image, labels = samples.labelled_image(image_id)
        assert (np.where(labels == IGNORED, 11, labels) == native).all()
        assert image.shape == (360, 480, 3)


def test_opening_reads_no_files(streets):
    streets.map(0).write_bytes(b"")
    assert len(opened(streets)) == 2
    with pytest.raises(DataError):
        opened(streets).digest()
