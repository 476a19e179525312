"""Faces with landmarks in the layout of the official HRNet code: a CSV file for each split, and images/.

A row is an image, a scale, a centre and the landmarks (HRNet/HRNet-Facial-Landmark-Detection@3c9f92a1887e,
lib/datasets): the crop is a square of 200 scales around the centre, a quarter larger by the task's padding. WFLW and
300W come so; rows of AFLW have the size of the face's box after the scale, which errors are measured in. COCO files of
faces, such as mmpose makes of COFW, are read by `coco_pose`.
"""

import csv
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np

from ablate.datasets import Info, Split, catalog, check_version, joint_sets, set_folder, under
from ablate.datasets._as_coco import Seen, as_coco
from ablate.datasets._coco_people import Annotated, annotated
from ablate.datasets._people import People
from ablate.errors import DataError
from ablate.registry import dataset

SIDE = 200.0  # pixels of a scale
SIZES = {  # rows of the official files, to train on and to evaluate on
    ("face_landmarks_wflw_train.csv", "face_landmarks_wflw_test.csv"): (7500, 2500),
    ("face_landmarks_300w_train.csv", "face_landmarks_300w_valid.csv"): (3148, 689),
    ("face_landmarks_aflw_train.csv", "face_landmarks_aflw_test.csv"): (20000, 4386),
}


@dataset("face_landmarks", meaning=1, tasks=("pose",), training=("train", "version"))
@dataclass(frozen=True)
class FaceLandmarks:
    """Faces of WFLW, 300W, COFW or AFLW from CSV files; NME is between the eyes' outer corners, AFLW's in box sizes.

    Raises:
        PartError: a version that is none.
    """

    set: str = "wflw"  # the name of the set's folder
    joints: Literal["wflw98", "w300_68", "cofw29", "aflw19"] = "wflw98"  # the landmarks
    train: str = "face_landmarks_wflw_train.csv"  # the file in the set's folder that is trained on
    test: str = "face_landmarks_wflw_test.csv"  # the file that is evaluated on
    images: str = "images"  # the folder in the set's that names of images speak of
    version: str | None = None  # digests "train-val" that the content must have

    def __post_init__(self) -> None:
        check_version(self.version)

    @cached_property
    def info(self) -> Info:
        joints, known = joint_sets()[self.joints], catalog().get(self.set)
        sizes = SIZES.get((self.train, self.test))
        return Info(
            name=self.set,
            version=self.version,
            licence=known.licence if known else "not known",
            source=known.source if known else joints.source,
            joints=joints.joints,
            sizes={"train": sizes[0], "val": sizes[1]} if sizes else None,
        )

    def open(self, split: Split, root: Path | None) -> People:
        """Read a split's annotations.

        Raises:
            DataError: no such folder, annotations or images that are missing or damaged.
        """
        name = self.train if split == "train" else self.test
        folder = set_folder(self.set, root, holds=name)
        file, images = under(folder, name), under(folder, self.images)
        read = partial(_read, file, images, self.info, boxed=self.joints == "aflw19")
        return People.of(self.info, split, folder, (file,), read, image_folder=images, clip=False)


def _read(file: Path, images: Path, info: Info, *, boxed: bool) -> Annotated:
    joints = info.need_joints()
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.reader(stream) if row][1:]
        seen = [_face(row, len(joints), f"{file}: line {place}", boxed) for place, row in enumerate(rows, start=2)]
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
    except (ValueError, csv.Error) as error:
        raise DataError(f"{file}: damaged annotations: {error}") from None
    return annotated(as_coco(seen, images, joints), file, joints)


def _face(row: list[str], count: int, where: str, boxed: bool) -> Seen:
    """A row's face; with `boxed` the size of its box stands after the scale. Raises DataError, ValueError."""
    first = ["an image", "a scale", *(["the size of a box"] if boxed else []), "a centre"]
    wanted = len(first) + 1 + 2 * count
    if len(row) != wanted:
        raise DataError(f"{where} has {len(row)} values; wanted {', '.join(first)} and {count} landmarks: {wanted}")
    scale, *size = map(float, row[1 : 3 if boxed else 2])
    x, y, *numbers = map(float, row[3 if boxed else 2 :])
    points = np.full((count, 3), 2.0)
    points[:, :2] = np.array(numbers).reshape(-1, 2)
    side = SIDE * scale
    return Seen(row[0], points, [x - side / 2, y - side / 2, side, side], norm=size[0] if boxed else None)
