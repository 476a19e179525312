"""The labelled frames of a DeepLabCut project: labeled-data/VIDEO/CollectedData_*.csv beside the frames.

The head of each file names scorer, (individuals,) bodyparts and coordinates (DeepLabCut 2 and 3). A frame of one animal
is a sample as a whole; of several animals each is one, in the box of its labelled parts and 20 pixels around it.
Which frames DeepLabCut trained on stands in a pickle, which is not read: the recipe names folders to be evaluated
on, or takes one frame of so many.
"""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from ablate.datasets import FROM_FILE, Info, Joints, Split, check_version, read_header, set_folder, under
from ablate.datasets._as_coco import Seen, as_coco
from ablate.datasets._coco_people import Annotated, annotated
from ablate.datasets._people import People
from ablate.datasets._skeleton import assumed, own_joints
from ablate.errors import DataError, PartError, nearest
from ablate.registry import dataset

AROUND = 20.0  # pixels around the parts of one of several animals
HEAD = ("scorer", "individuals", "bodyparts", "coords")


@dataset(
    "deeplabcut", meaning=1, tasks=("pose",), training=("version",),
    later=("flip_pairs", "sigmas", "upper_body", "norm"),
)  # fmt: skip
@dataclass(frozen=True)
class DeepLabCut:
    """Labelled frames of a DeepLabCut project.

    Raises:
        PartError: facts of joints that do not fit them; a version that is none.
    """

    set: str = "project"  # the name of the project's folder
    joints: str | tuple[str, ...] = "file"  # the bodyparts, or file: as the project names them
    test: tuple[str, ...] = ()  # folders of labeled-data that are evaluated on; none: one frame of so many
    test_every: int = 20  # where no folders are named, one frame of so many: of 20, as DeepLabCut keeps 95 %
    version: str | None = None  # digests "train-val" that the content must have
    flip_pairs: tuple[tuple[str, str], ...] | None = None  # parts that mirroring swaps; none: left and right ones
    sigmas: tuple[float, ...] | None = None  # of the parts, for AP; none: 0.067, the mean of COCO's, for all
    upper_body: tuple[str, ...] | None = None  # parts that half-body crops keep together; none: no such crops
    norm: tuple[str, str] | None = None  # parts in whose distance NME and PCKh measure errors; none: no such scores

    def __post_init__(self) -> None:
        if isinstance(self.joints, str) and self.joints != FROM_FILE:
            raise PartError(f"joints: the bodyparts, or file, not {self.joints!r}")
        if not isinstance(self.joints, str):
            _ = self._joints  # refuses what does not fit
        if self.test_every < 2:
            raise PartError(f"test_every: 2 or more, not {self.test_every}")
        check_version(self.version)

    @cached_property
    def _joints(self) -> Joints:
        if isinstance(self.joints, str):
            raise PartError(
                "joints: file: the names are read when a study is opened with its data (--data, ABLATE_DATA)"
            )
        return own_joints(self.joints, self.flip_pairs, self.sigmas, self.upper_body, self.norm)

    @cached_property
    def info(self) -> Info:
        return Info(self.set, self.version, "not known", "a DeepLabCut project", joints=self._joints)

    @property
    def assumed(self) -> str:
        """See `Assumes`."""
        if isinstance(self.joints, str):
            return ""
        return assumed(self._joints, flip_pairs=self.flip_pairs, sigmas=self.sigmas, upper_body=self.upper_body)

    def joints_of_file(self, root: Path | None) -> tuple[str, ...]:
        """The bodyparts that the project names. Raises DataError."""
        folder = set_folder(self.set, root, holds="labeled-data")
        return next(iter(_table(file)[0] for file in _files(folder)))

    def open(self, split: Split, root: Path | None) -> People:
        """Read a split's frames.

        Raises:
            DataError: no such folder, files or frames that are missing, damaged or of other bodyparts.
        """
        folder = set_folder(self.set, root, holds="labeled-data")
        files = _files(folder)
        for name in self.test:
            if name not in [file.parent.name for file in files]:
                raise DataError(f"{folder}: dataset.test: no {name!r}; {nearest(name, (f.parent.name for f in files))}")
        chosen = tuple(file for file in files if not self.test or (file.parent.name in self.test) == (split == "val"))
        every = 0 if self.test else self.test_every
        read = partial(_read, chosen, folder, self.info, split, every)
        return People.of(self.info, split, folder, chosen, read, image_folder=folder, clip=False)


Row = tuple[str, dict[str, np.ndarray]]  # a frame under the project's folder, and (K, 3) of each animal in it


def _files(folder: Path) -> list[Path]:
    found = sorted((folder / "labeled-data").glob("*/CollectedData_*.csv"))
    if not found:
        raise DataError(f"{folder}: no labeled-data/*/CollectedData_*.csv")
    if twice := [file for file in found if sum(other.parent == file.parent for other in found) > 1]:
        raise DataError(f"{twice[0].parent}: several CollectedData_*.csv; which is meant?")
    return found


def _table(file: Path) -> tuple[tuple[str, ...], list[Row]]:
    """The bodyparts of a file, in its order, and its rows."""
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.reader(stream) if row]
        head = {row[0]: row for row in rows[:4] if row[0] in HEAD}
        parts, kinds = head["bodyparts"], head["coords"]
        first = kinds.index("x")
        animals = head.get("individuals", [""] * len(parts))
        names = tuple(dict.fromkeys(parts[first:]))
        return names, [_row(row, first, animals, parts, kinds, names) for row in rows[len(head) :]]
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
    except (ValueError, KeyError, IndexError, csv.Error) as error:
        raise DataError(f"{file}: damaged annotations: {error!r}") from None


def _row(
    row: list[str], first: int, animals: list[str], parts: list[str], kinds: list[str], names: tuple[str, ...]
) -> Row:
    frame = "/".join(cell.replace("\\", "/") for cell in row[:first] if cell)
    found: dict[str, np.ndarray] = {}
    for place in range(first, len(parts)):
        value = float(row[place]) if row[place] else math.nan
        points = found.setdefault(animals[place], np.full((len(names), 3), math.nan))
        points[names.index(parts[place]), "xy".index(kinds[place])] = value
    for points in found.values():
        points[:, 2] = 2 * np.isfinite(points[:, :2]).all(axis=1)
    return frame, found


def _read(files: tuple[Path, ...], folder: Path, info: Info, split: Split, every: int) -> Annotated:
    joints = info.need_joints()
    seen = [one for file in files for one in _seen(file, folder, joints, split, every)]
    return annotated(as_coco(seen, folder, joints), folder / "labeled-data", joints, group_field="group")


def _seen(file: Path, folder: Path, joints: Joints, split: Split, every: int) -> Iterator[Seen]:
    names, rows = _table(file)
    if absent := [name for name in joints if name not in names]:
        raise DataError(f"{file}: it has no bodypart {absent[0]!r}; {nearest(absent[0], names)}")
    order = [names.index(name) for name in joints]
    for place, (frame, animals) in enumerate(sorted(rows, key=lambda row: row[0])):
        if every and (place % every == every - 1) != (split == "val"):
            continue
        for points in animals.values():
            own = points[order]
            if own[:, 2].any():
                box = _box(own) if len(animals) > 1 else _whole(under(folder, frame))
                yield Seen(frame, own, box, group=f"{frame}" if every else file.parent.name)


def _box(points: np.ndarray) -> list[float]:
    labelled = points[points[:, 2] > 0, :2]
    low, high = labelled.min(axis=0) - AROUND, labelled.max(axis=0) + AROUND
    return [float(value) for value in (*low, *(high - low))]


def _whole(frame: Path) -> list[float]:
    header = read_header(frame)
    return [0.0, 0.0, float(header.width), float(header.height)]
