"""MPII Human Pose in the layout of the official HRNet code: annot/train.json, annot/valid.json, gt_valid.mat, images/.

People have a centre and a scale instead of a box; both become the box that leads to the official crop
(leoxiaobin/deep-high-resolution-net.pytorch@6f69e4676ad8, lib/dataset/mpii.py): the centre is 15 scales lower, the side
200 scales. Coordinates in these files count from 1. Head sizes, which PCKh measures in, are 0.6 of the head box's
diagonal, and stand in gt_valid.mat. The labels of `test` are withheld: `ablate predict` writes the file that the server
takes.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from ablate.datasets import Info, Split, check_version, joint_sets, set_folder
from ablate.datasets._as_coco import Seen, as_coco
from ablate.datasets._coco_people import Annotated, annotated
from ablate.datasets._people import People
from ablate.errors import DataError
from ablate.registry import dataset

LOWER, SIDE, HEAD = 15.0, 200.0, 0.6  # of a scale, pixels of a scale, of the head box's diagonal (SC_BIAS)

WITHHELD = "test"  # the file whose labels are with the server


@dataset("mpii", meaning=1, tasks=("pose",), training=("train", "version"))
@dataclass(frozen=True)
class Mpii:
    """People with 16 joints and head sizes; predictions are also written as pred.mat, which the server takes.

    Raises:
        PartError: a version that is none.
    """

    set: str = "mpii"  # the name of the set's folder
    train: str = "train"  # the file under annot/ that is trained on: train, trainval
    test: str = "valid"  # the file that is evaluated on, gt_TEST.mat beside it has head sizes; test: not labelled
    version: str | None = None  # digests "train-val" that the content must have

    def __post_init__(self) -> None:
        check_version(self.version)

    @cached_property
    def info(self) -> Info:
        return Info(
            name=self.set,
            version=self.version,
            joints=joint_sets()["mpii16"].joints,
            licence="simplified BSD for annotations; photographs from YouTube, for research",
            source="http://human-pose.mpi-inf.mpg.de (Andriluka et al., CVPR 2014)",
            sizes={"train": 22246, "val": 2958}
            if (self.set, self.train, self.test) == ("mpii", "train", "valid")
            else None,
        )

    def open(self, split: Split, root: Path | None) -> People:
        """Read a split's annotations.

        Raises:
            DataError: no such folder, annotations, head sizes or images that are missing or damaged.
        """
        folder = set_folder(self.set, root, holds="annot")
        name = self.train if split == "train" else self.test
        file, heads = folder / "annot" / f"{name}.json", folder / "annot" / f"gt_{name}.mat"
        sized, labelled = split == "val" and name != WITHHELD, name != WITHHELD
        files = (file, heads) if sized else (file,)
        read = partial(_read, file, heads if sized else None, folder / "images", self.info, labelled=labelled)
        return People.of(
            self.info,
            split,
            folder,
            files,
            read,
            image_folder=folder / "images",
            clip=False,
            labelled=labelled,
            server_file=_write,
        )


def _read(file: Path, heads: Path | None, images: Path, info: Info, *, labelled: bool) -> Annotated:
    joints = info.need_joints()
    try:
        entries = json.loads(file.read_bytes())
        sizes = _head_sizes(heads) if heads else [None] * len(entries)
        if len(sizes) != len(entries):
            raise DataError(f"{heads}: {len(sizes)} head boxes, {file.name} has {len(entries)} people")
        seen = list(_people(entries, sizes, len(joints), labelled=labelled))
    except OSError as error:
        raise DataError(f"{error.filename or file}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise DataError(f"{file}: damaged annotations: {error!r}") from None
    return annotated(as_coco(seen, images, joints), file, joints)


def _people(entries: list[dict[str, Any]], sizes: list[Any], count: int, *, labelled: bool) -> Iterator[Seen]:
    for entry, size in zip(entries, sizes, strict=True):
        scale, (x, y) = float(entry["scale"]), map(float, entry["center"])
        side = SIDE * scale
        points = np.zeros((count, 3))
        if labelled:
            points[:, :2] = np.array(entry["joints"], dtype=float) - 1
            points[:, 2] = 2 * (np.array(entry["joints_vis"], dtype=float) > 0)
        corner = [x - 1 - side / 2, y + LOWER * scale - 1 - side / 2]
        yield Seen(str(entry["image"]), points, [*corner, side, side], size)


def _head_sizes(file: Path) -> list[float]:
    from scipy.io import loadmat

    content = io.BytesIO(file.read_bytes())
    try:
        boxes = np.asarray(
            loadmat(content, variable_names=["headboxes_src"])["headboxes_src"], dtype=float
        )  # (2, 2, N)
    except Exception as error:  # loadmat answers damage with whatever its parser trips over
        raise DataError(f"{file}: no headboxes_src can be read: {error}") from None
    return [float(size) for size in HEAD * np.linalg.norm(boxes[1] - boxes[0], axis=0)]


def _write(predictions: list[dict[str, Any]], people: list[dict[str, Any]], folder: Path) -> None:
    """pred.mat with `preds` (N, 16, 2), in the order of the annotations and counted from 1, as the server takes it."""
    from scipy.io import savemat

    found = {prediction["annotation_id"]: prediction["keypoints"] for prediction in predictions}
    nobody = [0.0] * 48
    points = np.array([found.get(person["id"], nobody) for person in people]).reshape(len(people), -1, 3)
    savemat(folder / "pred.mat", {"preds": points[:, :, :2] + 1})
