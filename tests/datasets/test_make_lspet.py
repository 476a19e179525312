"""A small archive made like the public one, and the published set, from which the rules can be read back."""

import io
import json
import zipfile
from collections import Counter

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from ablate import registry
from ablate.datasets import SPLITS
from ablate.datasets.make.lspet import Person, difference_hash, document, make_lspet, select, split_by_hash
from ablate.errors import DataError

# An upright person of 14 joints, hips at (100, 120), torso 40 pixels, about 120 tall.
RIGHT = [(90, 190), (91, 155), (92, 120)], [(70, 120), (72, 100), (85, 80)]  # ankle to hip, wrist to shoulder
LEFT = [(108, 120), (109, 155), (110, 190)], [(115, 80), (128, 100), (130, 120)]  # hip to ankle, shoulder to wrist
UPRIGHT = np.array([*RIGHT[0], *LEFT[0], *RIGHT[1], *LEFT[1], (100, 74), (100, 50)], float)


def person(*, without=(), **moved):
    """Joints (14, 3) of the upright person, some unlabelled, some moved: `j7=(x, y)`."""
    joints = np.column_stack([UPRIGHT, np.ones(14)])
    for name, place in moved.items():
        joints[int(name[1:]), :2] = place
    joints[list(without), 2] = 0
    return joints


def turned(degrees, length=1.0):
    turn = np.radians(degrees)
    matrix = length * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.column_stack([(UPRIGHT - (100, 120)) @ matrix.T + (100, 120), np.ones(14)])


CASES = [
    (person(), True),
    (person(without=(12, 13)), True),
    (person(without=(0, 12, 13)), False),  # 11 joints
    *((person(without=(joint,)), False) for joint in (2, 3, 8, 9)),  # a hip or a shoulder
    (turned(59.5), True),
    (turned(-59.5), True),
    (turned(60.5), False),
    (turned(180), False),
    (turned(0, 0.41), True),  # a torso of 16.4 pixels
    (turned(0, 0.39), False),
    (person(j6=(70, 219)), True),  # a forearm of 119 pixels, the torso being 40
    (person(j6=(70, 222)), False),
    (person(j6=(70, 222), without=(6,)), True),  # which nobody labelled
]


def test_who_is_selected():
    joints = np.stack([case for case, _ in CASES], axis=2)
    assert select(joints) == [number for number, (_, chosen) in enumerate(CASES, start=1) if chosen]


def picture(seed, width, height):
    rng = np.random.default_rng(seed)
    return cv2.imencode(".jpg", cv2.resize(rng.integers(0, 255, (12, 12, 3), np.uint8), (width, height)))[1].tobytes()


def archive_files(count=12):
    """Twelve people: the sixth and the seventh in the same picture, the last four in wide pictures, the first lying."""
    joints = np.stack([person() for _ in range(count)], axis=2)
    joints[:, :, 0] = turned(90)
    names = [f"images/im{number:05d}.jpg" for number in range(1, count + 1)]
    seeds = [number if number != 7 else 6 for number in range(1, count + 1)]
    files = {name: picture(seed, 640 if seed > 8 else 200, 240) for name, seed in zip(names, seeds, strict=True)}
    content = io.BytesIO()
    savemat(content, {"joints": joints, "other": "text"})
    return {"joints.mat": content.getvalue(), **files}


def zipped(path, files, folder=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(folder + name, content)
    return path


@pytest.mark.parametrize("form", ["zip", "zip with a folder", "folder"])
def test_a_set_is_made(tmp_path, form):
    files = archive_files()
    if form == "folder":
        source = tmp_path / "archive"
        (source / "images").mkdir(parents=True)
        for name, content in files.items():
            (source / name).write_bytes(content)
    else:
        source = zipped(tmp_path / "lspet.zip", files, "lspet_dataset/" if "with" in form else "")
    target = tmp_path / "data" / "pose_lspet"
    said = make_lspet(source, target, val=3)
    assert "8 people to train on, 3 for evaluation" in said
    assert "not the published set: dataset.version" in said
    version = said.rpartition(" ")[2]
    for joints in ("coco17", "lsp14"):
        knobs = {"set": "pose_lspet", "joints": joints} | ({"version": version} if joints == "coco17" else {})
        data = registry.build("dataset", "coco_pose", knobs)
        samples = {split: data.open(split, tmp_path / "data") for split in SPLITS}
        ids = [sorted(samples[split].image_ids()) for split in SPLITS]
        assert sorted(ids[0] + ids[1]) == list(range(2, 13))  # the first lies
        assert ({6, 7} <= set(ids[0])) != ({6, 7} <= set(ids[1]))  # who look alike stay together
        for split in SPLITS:
            assert samples[split].check(thorough=True) == []
            assert samples[split].skipped == {}
        if joints == "coco17":
            assert [samples[split].verify() for split in SPLITS] == version.split("-")
    assert (target / "images/im00002.jpg").read_bytes() == files["images/im00002.jpg"]  # whole: the original bytes
    assert not (tmp_path / "data" / "pose_lspet.part").exists()


def test_a_crop_and_its_annotation_worked_out_by_hand(tmp_path):
    target = tmp_path / "pose_lspet"
    make_lspet(zipped(tmp_path / "lspet.zip", archive_files()), target, val=3)
    documents = [json.loads(file.read_text()) for file in (target / "annotations").glob("lsp14_*.json")]
    images = {image["id"]: image for content in documents for image in content["images"]}
    annotations = {a["id"]: a for content in documents for a in content["annotations"]}
    # Joints span (70, 50) to (130, 190); a tenth of 140 about them: (56, 36) to (144, 204), 88 x 168. Grown to 3:4
    # it is 126 x 168 about (100, 120), twice that (-26, -48) to (226, 288), of which 640 x 240 pixels hold 226 x 240.
    assert images[9]["crop_xyxy"] == [0, 0, 226, 240]
    assert images[9]["orig_size"] == [640, 240]
    assert (images[9]["width"], images[9]["height"]) == (226, 240)
    assert annotations[9]["bbox"] == [56, 36, 88, 168]
    assert annotations[9]["area"] == round(0.53 * 88 * 168, 2)
    assert annotations[9]["keypoints"][:3] == [90, 190, 2]
    assert annotations[9]["tilt_deg"] == 0
    cut = cv2.imread(str(target / "images/im00009.jpg")).astype(int)
    whole = cv2.imdecode(np.frombuffer(archive_files()["images/im00009.jpg"], np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(cut - whole[:240, :226]).mean() < 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda files: files.pop("joints.mat"), "wanted one joints.mat in the archive, found 0"),
        (lambda files: files.update({"copy/joints.mat": b""}), "wanted one joints.mat in the archive, found 2"),
        (lambda files: files.update({"joints.mat": b"no matrix"}), "joints.mat: "),
        (lambda files: files.update({"joints.mat": files["joints.mat"][:300]}), "joints.mat: "),
        (lambda files: files.update({"joints.mat": matrix({"points": np.zeros(3)})}), "joints.mat: 'joints'"),
        (
            lambda files: files.update({"joints.mat": matrix({"joints": np.zeros((3, 14, 2))})}),
            "not numbers (14, 3, N)",
        ),
        (lambda files: files.pop("images/im00004.jpg"), "im00004.jpg"),
        (lambda files: files.update({"images/im00004.jpg": b"<html>"}), "images/im00004.jpg is no picture"),
        (lambda files: files.update({"joints.mat": bytes(65 * 2**20)}), "is larger than any of the archive can be"),
    ],
)
def test_damaged_archives_are_named_and_leave_nothing(tmp_path, change, said):
    files = archive_files()
    change(files)
    source = zipped(tmp_path / "lspet.zip", files)
    with pytest.raises(DataError) as caught:
        make_lspet(source, tmp_path / "pose_lspet", val=3)
    assert str(source) in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["lspet.zip"]


def matrix(variables):
    content = io.BytesIO()
    savemat(content, variables)
    return content.getvalue()


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "file.zip").write_text("no archive")
    (tmp_path / "folder").mkdir()
    for name, said in (("file.zip", "neither a folder nor a zip"), ("none", "neither"), ("folder", "found 0")):
        with pytest.raises(DataError, match=said):
            make_lspet(tmp_path / name, tmp_path / "target")
    source = zipped(tmp_path / "lspet.zip", archive_files())
    content = bytearray(source.read_bytes())
    content[len(content) // 2] ^= 0xFF  # a flipped bit in some picture, which the archive's checksums notice
    source.write_bytes(content)
    with pytest.raises(DataError, match=r"lspet\.zip: "):
        make_lspet(source, tmp_path / "target")


def test_an_existing_set_is_not_overwritten(tmp_path):
    (tmp_path / "target").mkdir()
    with pytest.raises(DataError, match="exists already"):
        make_lspet(zipped(tmp_path / "lspet.zip", archive_files()), tmp_path / "target")


def test_names_in_an_archive_lead_nowhere(tmp_path):
    """Members are looked up, not unpacked, so a path that climbs out of the archive writes nothing there."""
    files = {f"../../{name}": content for name, content in archive_files().items()}
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    make_lspet(zipped(inner / "lspet.zip", files), inner / "set", val=3)
    assert sorted(path.name for path in inner.iterdir()) == ["lspet.zip", "set"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.fixture(scope="module")
def published(ablate_data):
    """The published set's documents, and its people with joints put back into the original images."""
    folder = ablate_data / "pose_lspet"
    names = {"coco17": "person_keypoints", "lsp14": "lsp14"}
    documents = {
        (form, split): json.loads((folder / f"annotations/{name}_{split}.json").read_text())
        for form, name in names.items()
        for split in SPLITS
    }
    people = []
    for split in SPLITS:
        content = documents["lsp14", split]
        for image, annotation in zip(content["images"], content["annotations"], strict=True):
            joints = np.array(annotation["keypoints"], float).reshape(14, 3)
            joints[:, :2] += np.array(image["crop_xyxy"][:2]) * (joints[:, 2:] > 0)
            bare = Person(
                image["id"], np.minimum(joints, [np.inf, np.inf, 1]), tuple(image["orig_size"]), np.zeros(256)
            )
            pixels = cv2.imread(str(folder / "images" / image["file_name"]))
            box = np.array(bare.box) - np.tile(image["crop_xyxy"][:2], 2)
            look = difference_hash(pixels, tuple(box))
            people.append(Person(bare.index, bare.joints, bare.size, look))
    return documents, sorted(people, key=lambda p: p.index)


def test_everybody_in_the_published_set_is_selected(published):
    _, people = published
    assert len(people) == 3291
    assert len(select(np.stack([p.joints for p in people], axis=2))) == len(people)


def test_the_published_split_comes_out(published):
    documents, people = published
    for split, chosen in zip(SPLITS, split_by_hash(people, val=500), strict=True):
        assert [p.index for p in chosen] == [image["id"] for image in documents["lsp14", split]["images"]]


@pytest.mark.parametrize("form", ["coco17", "lsp14"])
def test_the_published_annotations_come_out_but_for_rounding(published, form):
    documents, people = published
    for split, chosen in zip(SPLITS, split_by_hash(people, val=500), strict=True):
        ours, theirs = document(chosen, form), documents[form, split]
        assert list(ours) == list(theirs)
        assert ours["info"] == theirs["info"]
        assert ours["categories"] == theirs["categories"]
        differ = Counter(
            a["crop_xyxy"] == b["crop_xyxy"] for a, b in zip(ours["images"], theirs["images"], strict=True)
        )
        assert differ[False] < 0.01 * len(chosen)  # an edge that falls on a whole pixel before rounding
        for a, b in zip(ours["annotations"], theirs["annotations"], strict=True):
            assert list(a) == list(b)
            assert a["num_keypoints"] == b["num_keypoints"]
            assert a["keypoints"][2::3] == b["keypoints"][2::3]
            assert a["tilt_deg"] == pytest.approx(b["tilt_deg"], abs=0.11)
            assert a["bbox"][2:] == pytest.approx(b["bbox"][2:], abs=0.021)
            assert b["area"] == round(0.53 * b["bbox"][2] * b["bbox"][3], 2)
