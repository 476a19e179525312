"""Makes the set pose_lspet from the public Leeds Sports Pose Extended archive: images/ and joints.mat, zip or folder.

Upright people with enough joints, a picture cut out around each, 500 of them for evaluation. Nothing is unpacked:
members are read by name, bounded in size, and only numbers are taken from joints.mat. What the set's description
leaves open was found on the set itself: its split, boxes, areas and crops come out as they are there, but for the
rounding of stored coordinates. Two things cannot be seen in a set that holds only who was chosen: whether a long
head kept somebody out (here it does not), and whether joints.mat counts pixels from 0 (here it is taken as it is).
The summary says whether the result is the published set; if it is not, it is a set of its own, with its own version.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ablate import registry
from ablate.datasets import SPLITS, joint_sets
from ablate.datasets.make.archive import Reader, making, opened
from ablate.errors import DataError, one_line

LIMITS = {".mat": 64 * 2**20, ".jpg": 16 * 2**20}  # bytes of a member; the real ones are far smaller
VAL = 500  # people for evaluation
ALIKE = 40  # of 256 bits: two crops that differ in no more show the same moment
SHOULDERS, HIPS = (8, 9), (2, 3)
LIMBS = ((0, 1), (1, 2), (3, 4), (4, 5), (6, 7), (7, 8), (9, 10), (10, 11))
INFO = {
    "description": "LSPET upright subset",
    "url": "http://sam.johnson.io/research/lspet.html",
    "source": "github axelcarlier/lsp @ 8fabf3183516b1be5f9d44bd1c516609637e983e",
}
SKELETONS = {
    "coco17": "16-14 14-12 17-15 15-13 12-13 6-12 7-13 6-7 6-8 7-9 8-10 9-11 2-3 1-2 1-3 2-4 3-5 4-6 5-7",
    "lsp14": "1-2 2-3 4-5 5-6 7-8 8-9 10-11 11-12 13-14 9-13 10-13 3-4",
}


def make_lspet(archive: Path, target: Path, *, val: int = VAL) -> str:
    """Write the set's folder and say what came out.

    Raises:
        DataError: the archive is not the Leeds Sports Pose Extended one or is damaged; `target` exists already.
    """
    with making(target) as part:
        (part / "images").mkdir()
        with opened(archive, beside="joints.mat", limits=LIMITS) as read:
            joints = _joints(read("joints.mat"), archive)
            people = [_cut(index, joints[:, :, index - 1], read, part / "images", archive) for index in select(joints)]
        for split, chosen in zip(SPLITS, split_by_hash(people, val=val), strict=True):
            for form, name in (("coco17", "person_keypoints"), ("lsp14", "lsp14")):
                file = part / "annotations" / f"{name}_{split}.json"
                file.parent.mkdir(exist_ok=True)
                file.write_text(json.dumps(document(chosen, form)))
    return _summary(target)


@dataclass(frozen=True)
class Person:
    """A selected person and the picture cut out around them."""

    index: int  # in the archive, from 1
    joints: np.ndarray  # (14, 3) x y labelled, pixels of the original image
    size: tuple[int, int]  # width and height of the original image
    look: np.ndarray  # (256,) bool, the difference hash of the crop

    @property
    def file(self) -> str:
        return f"im{self.index:05d}.jpg"

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x1 y1 x2 y2: the labelled joints and a tenth of the longer side, at least 8 pixels, within the image."""
        seen = self.joints[self.joints[:, 2] > 0, :2]
        (left, top), (right, bottom) = seen.min(axis=0), seen.max(axis=0)
        margin = max(0.1 * max(right - left, bottom - top), 8)
        x2, y2 = min(self.size[0] - 1, right + margin), min(self.size[1] - 1, bottom + margin)
        return max(0, left - margin), max(0, top - margin), x2, y2

    @property
    def crop(self) -> tuple[int, int, int, int]:
        """x1 y1 x2 y2: twice the box grown to 3:4; the whole image where that is at least nine tenths of it."""
        width, height = self.size
        x1, y1, x2, y2 = grown(self.box, by=2)
        left, top, right, bottom = max(0, floor(x1)), max(0, floor(y1)), min(width, ceil(x2)), min(height, ceil(y2))
        whole = (right - left) * (bottom - top) >= 0.9 * width * height
        return (0, 0, width, height) if whole else (left, top, right, bottom)


def select(joints: np.ndarray) -> list[int]:
    """The numbers, from 1, of the upright people among joints (14, 3, N).

    Shoulders and hips labelled, at least 12 joints labelled, torso at least 16 pixels long and less than 60 degrees
    from upright, no limb longer than 3 torsos.
    """
    chosen = []
    for index, person in enumerate(joints.transpose(2, 0, 1), start=1):
        labelled, xy = person[:, 2] > 0, person[:, :2]
        if labelled.sum() < 12 or not labelled[[*SHOULDERS, *HIPS]].all():
            continue
        length = np.linalg.norm(_torso(xy))
        limbs = [np.linalg.norm(xy[a] - xy[b]) for a, b in LIMBS if labelled[a] and labelled[b]]
        if length >= 16 and _tilt(xy) < 60 and max(limbs) <= 3 * length:
            chosen.append(index)
    return chosen


def grown(box: tuple[float, float, float, float], *, by: float) -> tuple[float, float, float, float]:
    """A box x1 y1 x2 y2 grown to the shape 3:4 about its centre, and then `by` times as large."""
    x1, y1, x2, y2 = box
    width, height = max(x2 - x1, 0.75 * (y2 - y1)), max(y2 - y1, (x2 - x1) / 0.75)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return x - by * width / 2, y - by * height / 2, x + by * width / 2, y + by * height / 2


def split_by_hash(people: list[Person], *, val: int) -> tuple[list[Person], list[Person]]:
    """Training and evaluation people, in the archive's order.

    In the order of their file names' SHA-1 people go to evaluation until it has `val`, each with all who look alike.
    """
    alike = _alike(people)
    chosen: set[int] = set()
    for place in sorted(range(len(people)), key=lambda p: hashlib.sha1(people[p].file.encode()).hexdigest()):
        if len(chosen) >= val:
            break
        chosen |= {place, *np.flatnonzero(alike[place]).tolist()}
    rest = [person for place, person in enumerate(people) if place not in chosen]
    return rest, [people[place] for place in sorted(chosen)]


def document(people: list[Person], form: str) -> dict[str, Any]:
    """The annotations of one split in COCO's layout, in one of the two joint sets."""
    names = joint_sets()[form].names
    category = {"id": 1, "name": "person", "supercategory": "person", "keypoints": list(names)}
    return {
        "info": INFO,
        "images": [_image(person) for person in people],
        "annotations": [_annotation(person, names) for person in people],
        "categories": [category | {"skeleton": [[*map(int, pair.split("-"))] for pair in SKELETONS[form].split()]}],
    }


def _image(person: Person) -> dict[str, Any]:
    left, top, right, bottom = person.crop
    sizes = {"width": right - left, "height": bottom - top, "lspet_index": person.index}
    frame = {"orig_size": list(person.size), "crop_xyxy": list(person.crop)}
    return {"id": person.index, "file_name": person.file} | sizes | frame


def _annotation(person: Person, names: tuple[str, ...]) -> dict[str, Any]:
    left, top, *_ = person.crop
    x1, y1, x2, y2 = person.box
    box = [round(float(value), 2) for value in (x1 - left, y1 - top, x2 - x1, y2 - y1)]
    keypoints: list[float] = []
    for name in names:
        place = joint_sets()["lsp14"].names.index(name) if name in joint_sets()["lsp14"].names else None
        x, y, labelled = person.joints[place] if place is not None else (0, 0, 0)
        keypoints += [round(float(x - left), 2), round(float(y - top), 2), 2] if labelled > 0 else [0, 0, 0]
    return {
        "id": person.index,
        "image_id": person.index,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": box,
        "area": round(0.53 * box[2] * box[3], 2),  # as is usual where there are no masks
        "tilt_deg": round(_tilt(person.joints[:, :2]), 1),
        "keypoints": keypoints,
        "num_keypoints": sum(value > 0 for value in keypoints[2::3]),
    }


def _torso(xy: np.ndarray) -> np.ndarray:
    """From the middle of the hips to the middle of the shoulders (2,)."""
    torso: np.ndarray = xy[list(SHOULDERS)].mean(axis=0) - xy[list(HIPS)].mean(axis=0)
    return torso


def _tilt(xy: np.ndarray) -> float:
    """Degrees between the torso and upright."""
    across, down = _torso(xy)
    return float(np.degrees(np.arctan2(abs(across), -down)))


def _cut(index: int, joints: np.ndarray, read: Reader, images: Path, archive: Path) -> Person:
    """Write one person's picture: the original bytes where it stays whole, a JPEG of quality 90 where it is cropped."""
    name = f"images/im{index:05d}.jpg"
    content = read(name)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    if pixels is None:
        raise DataError(f"{archive}: {name} is no picture")
    height, width = pixels.shape[:2]
    bare = Person(index, joints, (width, height), np.zeros(256, bool))
    left, top, right, bottom = bare.crop
    if (right - left, bottom - top) != (width, height):
        options = [cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
        content = cv2.imencode(".jpg", pixels[top:bottom, left:right], options)[1].tobytes()
    (images / bare.file).write_bytes(content)
    return Person(index, joints, (width, height), difference_hash(pixels, bare.box))


def difference_hash(pixels: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """256 bits: where brightness rises from left to right, on 16 x 17 points of the surroundings of a box."""
    height, width = pixels.shape[:2]
    x1, y1, x2, y2 = (round(value) for value in grown(box, by=1.5))
    around = pixels[max(0, y1) : min(height, y2), max(0, x1) : min(width, x2)]
    small = cv2.resize(cv2.cvtColor(around, cv2.COLOR_BGR2GRAY), (17, 16), interpolation=cv2.INTER_AREA)
    bits: np.ndarray = (small[:, 1:] > small[:, :-1]).ravel()
    return bits


def _alike(people: list[Person]) -> np.ndarray:
    """(N, N) bool: whose pictures look alike."""
    looks = np.array([person.look for person in people], dtype=np.float32).reshape(-1, 256)
    different = looks @ (1 - looks).T
    alike: np.ndarray = different + different.T <= ALIKE
    return alike


def _joints(content: bytes, archive: Path) -> np.ndarray:
    """joints (14, 3, N) float64 from a MATLAB file, whose other variables are not read."""
    from scipy.io import loadmat

    try:
        joints = np.asarray(loadmat(io.BytesIO(content), variable_names=["joints"])["joints"])
        if joints.shape[:2] != (14, 3) or joints.ndim != 3 or joints.dtype.kind not in "fiu":
            raise ValueError(f"its joints are {joints.dtype} {joints.shape}, not numbers (14, 3, N)")
        return joints.astype(float)
    except Exception as error:  # loadmat answers damage with whatever its parser trips over
        raise DataError(f"{archive}: joints.mat: {one_line(error) or type(error).__name__}") from None


def _summary(target: Path) -> str:
    """How many people each split has, and whether the set is the published one."""
    data = registry.build("dataset", "coco_pose", {"set": "pose_lspet"})
    splits = [data.open(split, target) for split in SPLITS]
    version = "-".join(samples.digest() for samples in splits)
    same = "the published set" if version == data.info.version else f"not the published set: dataset.version {version}"
    return f"{target}: {len(splits[0])} people to train on, {len(splits[1])} for evaluation; {same}"
