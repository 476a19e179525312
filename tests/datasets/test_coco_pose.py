"""Who becomes a sample as in the official loader, and what is said of folders that are missing, odd or damaged."""

import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from ablate import registry
from ablate.datasets import SPLITS, catalog, joint_sets
from ablate.errors import AblateError


def opened(made, split="val", **knobs):
    return registry.build("dataset", "coco_pose", {"set": "made", **knobs}).open(split, made.root)


def message(call) -> str:
    """The one line that a user sees."""
    with pytest.raises(AblateError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_samples_are_those_of_the_official_loader(made):
    samples = opened(made)
    assert samples.ids.tolist() == [
        2,
        3,
        1,
    ]  # image by image in the file's order, crowds and unlabelled people left out
    assert samples.skipped == {"crowd": 1, "no labelled joint": 1, "empty box": 1}
    # x2 = min(width - 1, x1 + max(0, w - 1)), worked by hand for [20, 15, 20, 30] and [-5, 50, 30, 40] in 80 x 60
    assert samples.boxes.tolist() == [[20, 15, 19, 29], [0, 50, 29, 9], [20, 15, 19, 29]]


def test_ground_truth_keeps_crowds_and_unlabelled_people(made):
    truth = opened(made).ground_truth()
    assert [a["id"] for a in truth["annotations"]] == [1, 2, 3, 4, 5, 6]
    assert [a["iscrowd"] for a in truth["annotations"]] == [0, 0, 0, 1, 0, 0]
    assert [a["num_keypoints"] for a in truth["annotations"]] == [17, 17, 17, 17, 0, 17]
    assert truth["annotations"][2]["bbox"] == [-5, 50, 30, 40]  # as annotated


def test_a_person_category_may_have_any_id_and_company(made):
    content = made.document()
    content["categories"] = [{"id": 9, "name": "person"}, {"id": 2, "name": "dog"}]
    content["annotations"] = [made.person(1, 3, category_id=9), {"id": 2, "image_id": 3, "category_id": 2}]
    made.rewrite(content)
    samples = opened(made)
    assert len(samples) == 1
    assert samples.ground_truth()["annotations"][0]["category_id"] == 1


@pytest.mark.parametrize("place", ["val2031", "images/val2031", "images"])
def test_images_are_found_where_coco_puts_them(made, place):
    made.annotations("val").rename(made.annotations("val").with_name("person_keypoints_val2031.json"))
    kept = (made.folder / "images" / "val").rename(made.root / "kept")
    target = made.folder / place
    if target.is_dir():
        for file in kept.iterdir():
            file.rename(target / file.name)
    else:
        kept.rename(target)
    assert opened(made)[0]["image"].shape == (60, 80, 3)


def test_the_data_folder_may_be_the_set_itself(made):
    samples = registry.build("dataset", "coco_pose", {"set": "other_name"}).open("val", made.folder)
    assert len(samples) == 3


def test_pictures_are_rgb_as_stored(made):
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[..., 0] = 255  # blue for OpenCV
    cv2.imwrite(str(made.image(7)), pixels)
    assert np.abs(opened(made).image(7) - np.array([0, 0, 255])).max() <= 2
    grey = np.full((60, 80), 90, np.uint8)  # some COCO photographs are grey, one is a PNG under a JPEG's name
    made.image(7).write_bytes(cv2.imencode(".png", grey)[1].tobytes())
    assert (opened(made).image(7) == 90).all()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda d: d.pop("images"), "no 'images'"),
        (lambda d: d["images"][0].pop("height"), "no 'height'"),
        (lambda d: d["annotations"][0].pop("keypoints"), "annotation 1 has no 'keypoints'"),
        (lambda d: d["annotations"][0].pop("area"), "annotation 1 has no 'area'"),
        (lambda d: d["annotations"][0].update(keypoints=[1] * 48), "48 keypoint and 4 box numbers, not 51 and 4"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 3]), "51 keypoint and 3 box numbers"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, float("nan"), 4]), "not a finite number"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, "x", 4]), "not a finite number"),
        (lambda d: d["annotations"][0].update(keypoints=None), "not a finite number"),
        (lambda d: d["annotations"][0].update(area=float("inf")), "not a finite number"),
        (lambda d: d["annotations"][0].update(image_id=99), "on image 99, which is not listed"),
        (lambda d: d["annotations"][0].update(id=2), "a problem: the annotation id 2 stands twice"),
        (lambda d: d["images"].append(d["images"][0]), "a problem: the image id 7 stands twice"),
        (lambda d: d["categories"].clear(), "one category named 'person', found 0"),
        (lambda d: d["categories"][0].update(keypoints=["a", "b"]), "joint 0 is 'a', in dataset.joints it is 'nose'"),
    ],
)
def test_damaged_annotations_are_named(made, damage, said):
    content = made.document()
    damage(content)
    made.rewrite(content)
    text = message(lambda: opened(made))
    assert "person_keypoints_val.json" in text
    assert said in text


def test_damaged_annotations_are_counted(made):
    content = made.document()
    for annotation in content["annotations"][:5]:
        annotation["bbox"] = []
    made.rewrite(content)
    text = message(lambda: opened(made))
    assert "5 problems: annotation 1 has" in text
    assert text.endswith("; and 2 more")


@pytest.mark.parametrize("content", [b"", b'{"images": [', b"[]", b"\xff\xfe", b'"text"', b"null"])
def test_annotations_that_are_no_document(made, content):
    made.annotations("val").write_bytes(content)
    assert "person_keypoints_val.json: damaged annotations" in message(lambda: opened(made))


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: b"", "is empty"),
        (cut, "is cut short"),
        (lambda content: cut(cv2.imencode(".png", np.zeros((60, 80, 3), np.uint8))[1].tobytes()), "is cut short"),
        (lambda content: b"<html>not found</html>", "is no JPEG, PNG, TIFF or GIF"),
    ],
)
def test_damaged_images_are_named_before_training_and_when_read(made, damage, said):
    made.image(7).write_bytes(damage(made.image(7).read_bytes()))
    samples = opened(made)
    for text in (message(samples.verify), message(lambda: samples[0]), *samples.check(), *samples.check(thorough=True)):
        assert "000000000007.jpg" in text
        assert said in text


def test_what_only_decoding_shows_is_found_by_the_thorough_look(made):
    content = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))[1].tobytes()
    at = content.index(b"IDAT") + 4  # the chunk's length stays, its data go
    end = at + int.from_bytes(content[at - 8 : at - 4])
    made.image(7).write_bytes(content[:at] + b"\0" * (end - at) + content[end:])
    samples = opened(made)
    assert samples.check() == []
    (first,) = samples.check(thorough=True)
    assert "000000000007.jpg: cannot be decoded" in first
    assert message(lambda: samples[0]) == first


def test_sizes_that_are_not_the_annotated_ones_are_found_by_a_look_at_headers(made):
    made.image(3).write_bytes(cv2.imencode(".jpg", np.zeros((80, 60, 3), np.uint8))[1].tobytes())
    samples = opened(made)
    said = "000000000003.jpg: 80 x 60 pixels (height x width), annotated as 60 x 80"
    texts = [
        *samples.check(),
        *samples.check(thorough=True),
        message(samples.verify),
        message(lambda: samples.image(3)),
    ]
    assert len(texts) == 4
    assert all(said in text for text in texts)


def test_missing_images_are_counted(made):
    made.image(7).unlink()
    made.image(5).unlink()
    samples = opened(made)
    text = message(samples.verify)
    assert "2 problems: 000000000005.jpg is missing; 000000000007.jpg is missing" in text
    assert message(samples.digest) == text
    assert "No such file" in message(lambda: samples[0])
    assert len(samples.check()) == 2
    made.image(3).unlink()
    assert "no image of person_keypoints_val.json in images/" in message(lambda: opened(made))


def test_missing_folders_and_files_name_the_nearest(made, tmp_path):
    def build(name):
        return registry.build("dataset", "coco_pose", {"set": name})

    assert "--data or set ABLATE_DATA" in message(lambda: build("made").open("val", None))
    assert "did you mean 'made'?" in message(lambda: build("mode").open("val", made.root))
    assert "holds no folder" in message(lambda: build("made").open("val", tmp_path / "nowhere"))
    made.annotations("val").unlink()
    assert "wanted one file annotations/person_keypoints_val*.json; did you mean" in message(lambda: opened(made))
    for year in (2014, 2017):
        made.annotations(f"val{year}").write_text("{}")
    assert "several fit" in message(lambda: opened(made))


def test_the_digest_follows_annotations_and_images(made):
    before = opened(made).digest()
    assert len(before) == 16
    assert opened(made).digest() == before
    made.image(7).write_bytes(made.image(7).read_bytes() + b"\xff\xd9")
    changed = opened(made).digest()
    made.annotations("val").write_text(json.dumps(made.document(), indent=1))
    assert len({before, changed, opened(made).digest()}) == 3


def test_a_declared_version_is_held_against_the_content(made):
    train, val = (opened(made, split).digest() for split in SPLITS)
    version = f"{train}-{val}"
    data = registry.build("dataset", "coco_pose", {"set": "made", "version": version})
    assert data.info.version == version
    assert [data.open(split, made.root).verify() for split in SPLITS] == [train, val]
    swapped = opened(made, version=f"{val}-{train}")
    text = message(swapped.verify)
    assert val in text
    assert train in text
    assert opened(made).info.version is None  # nobody declared one for a set that the catalog does not know
    assert "version: two digests" in message(lambda: opened(made, version="latest"))


def test_a_mismatch_names_the_damaged_file_rather_than_two_hashes(made):
    version = "-".join(opened(made, split).digest() for split in SPLITS)
    made.image(7).write_bytes(cut(made.image(7).read_bytes()))
    assert "000000000007.jpg: is cut short" in message(opened(made, version=version).verify)


def test_the_catalog_is_whole():
    for name, known in catalog().items():
        assert set(known.forms) <= set(joint_sets())
        for form_name, form in known.forms.items():
            assert "{split}" in form.annotations
            info = registry.build("dataset", "coco_pose", {"set": name, "joints": form_name}).info
            assert info.version == form.version
            assert info.sizes == form.sizes
            assert info.licence == known.licence
    assert "has no lsp14 annotations" in message(
        lambda: registry.build("dataset", "coco_pose", {"set": "coco2017", "joints": "lsp14"})
    )


def test_joint_sets_have_pycocotools_sigmas():
    from pycocotools.cocoeval import Params

    coco, lsp = joint_sets()["coco17"], joint_sets()["lsp14"]
    assert coco.sigmas == pytest.approx(Params("keypoints").kpt_oks_sigmas, abs=1e-12)
    for joint, sigma in zip(lsp.names, lsp.sigmas, strict=True):
        expected = 0.079 if joint in ("neck", "head_top") else coco.sigmas[coco.names.index(joint)]
        assert sigma == expected


@pytest.mark.parametrize(
    ("name", "joints"), [("pose_lspet", "coco17"), ("pose_lspet", "lsp14"), ("coco_mini", "coco17")]
)
def test_known_sets_are_what_the_catalog_declares(ablate_data, name, joints):
    data = registry.build("dataset", "coco_pose", {"set": name, "joints": joints})
    for split in SPLITS:
        samples = data.open(split, ablate_data)
        assert samples.verify() == data.info.declared(split)
        assert len(samples) == (data.info.sizes or {})[split]
        assert samples.check() == []
        for index in range(0, len(samples), 100):
            samples[index]


def test_coco_mini_ground_truth_is_pycocotools_reading(ablate_data, capsys):
    samples = registry.build("dataset", "coco_pose", {"set": "coco_mini"}).open("val", ablate_data)
    official = COCO(samples.annotations)
    ours = {annotation["id"]: annotation for annotation in samples.ground_truth()["annotations"]}
    assert set(ours) == set(official.getAnnIds(iscrowd=None))
    for key, annotation in official.anns.items():
        for field in ("keypoints", "bbox", "area", "iscrowd", "num_keypoints", "image_id"):
            assert ours[key][field] == annotation[field]
    labelled = [a for a in official.loadAnns(official.getAnnIds(iscrowd=False)) if max(a["keypoints"]) > 0]
    assert sorted(samples.ids) == sorted(annotation["id"] for annotation in labelled)
