"""Street scenes in any folder with the Cityscapes layout: Cityscapes itself, CamVid, or the user's own.

leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png (or .jpg) and gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png. Label ids become
the 19 classes by cityscapesscripts' own table, all other ids of the table are ignored, as the official code has it
(HRNet/HRNet-Semantic-Segmentation@06142dc1c702, lib/datasets/cityscapes.py); an id beyond the table is an error.
A known set may name classes of its own, each with the label that stands for it.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from cityscapesscripts.helpers.labels import labels as table
from cityscapesscripts.helpers.labels import name2label

from ablate.datasets import (
    SPLITS,
    Classes,
    Info,
    KnownSet,
    LabelMaps,
    Split,
    catalog,
    check_version,
    set_folder,
    visible,
)
from ablate.datasets._label_maps import LabelledFiles, Pair, by_name, check_group, combined, paired, table_of
from ablate.errors import DataError, PartError, nearest
from ablate.registry import dataset

IMAGE, LABELS = "_leftImg8bit", "_gtFine_labelIds"
SUFFIXES = (".png", ".jpg", ".jpeg")


@dataset("cityscapes", meaning=1, tasks=("segmentation",), training=("train", "version", "group"), later=("group",))
@dataclass(frozen=True)
class Cityscapes:
    """Street scenes with maps of classes from a folder in the Cityscapes layout.

    Raises:
        PartError: a folder that is asked for twice or that a known set lacks; a known set without maps of classes.
    """

    set: str = "cityscapes"  # the name of the set; `ablate data` lists those we know
    train: str = "train"  # the folders that are trained on, joined by +: train, train+val
    test: str = "val"  # the folders that are evaluated on: val, test
    version: str | None = None  # digests "train-val" that the content must have; none: those of the catalog
    group: str | None = None  # a regular expression: what it matches in an image's name is its group, such as a drive

    def __post_init__(self) -> None:
        known = self._known
        if known and not known.labels:
            fitting = [name for name, entry in catalog().items() if entry.labels]
            raise PartError(f"set: {self.set} has no maps of classes; {nearest(self.set, fitting)}")
        check_version(self.version)
        check_group(self.group)
        _check_folders(self.folders, known.labels if known else None)

    @property
    def _known(self) -> KnownSet | None:
        return catalog().get(self.set)

    @property
    def folders(self) -> dict[Split, tuple[str, ...]]:
        """The folders under leftImg8bit and gtFine, by split."""
        return {"train": tuple(self.train.split("+")), "val": tuple(self.test.split("+"))}

    @cached_property
    def info(self) -> Info:
        return _info(self.set, self._known, self.folders, self.version)

    @cached_property
    def table(self) -> np.ndarray:
        """What class each label id stands for, (256,) uint8."""
        ids = self.info.need_classes().label_ids
        return table_of(ids, ignored=[label.id for label in table if label.id >= 0 and label.id not in ids])

    def open(self, split: Split, root: Path | None) -> LabelledFiles:
        """Look for a split's files.

        Raises:
            DataError: no such folder, or images and maps of classes without each other (named and counted).
        """
        folder = (self._known and self._known.folder) or self.set  # in the data folder
        home = set_folder(folder, root, holds="gtFine")
        pairs = [pair for name in self.folders[split] for pair in _pairs(home, name, self.group)]
        by_name([(pair.name, pair.image) for pair in pairs])
        return LabelledFiles(self.info, split, home, tuple(pairs), self.table)


def _check_folders(folders: dict[Split, tuple[str, ...]], known: LabelMaps | None) -> None:
    for knob, split in zip(("train", "test"), SPLITS, strict=True):
        for name in folders[split]:
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise PartError(f"{knob}: names of folders joined by +, not {'+'.join(folders[split])!r}")
            if known and name not in known.sizes:
                raise PartError(f"{knob}: the set has no folder {name!r}; {nearest(name, known.sizes)}")
    named = [*folders["train"], *folders["val"]]
    if twice := [name for name in named if named.count(name) > 1]:
        raise PartError(f"test: {twice[0]!r} is named twice, and what is trained on is not evaluated on")


def _info(set: str, known: KnownSet | None, folders: dict[Split, tuple[str, ...]], version: str | None) -> Info:
    maps = known.labels if known else None
    evaluated = {label.name: label.name for label in table if not label.ignoreInEval}
    chosen = (maps and maps.classes) or evaluated
    labels = [name2label[name] for name in chosen.values()]
    sizes = {split: sum(maps.sizes[name] for name in names) for split, names in folders.items()} if maps else None
    return Info(
        name=set,
        version=version or (_declared(maps, folders) if maps else None),
        licence=known.licence if known else "not known",
        source=known.source if known else "not known",
        sizes=sizes,
        images=sizes,
        size=maps.size if maps else None,
        block=maps.block if maps else None,
        classes=Classes(
            chosen,
            categories=tuple(label.category for label in labels),
            label_ids=tuple(label.id for label in labels),
            class_weights=maps.class_weights if maps else (),
        ),
    )


def _declared(maps: LabelMaps, folders: dict[Split, tuple[str, ...]]) -> str | None:
    """Both splits' digests, or None when one is not declared."""
    digests = [[maps.digests[name] or "" for name in folders[split]] for split in SPLITS]
    return "-".join(map(combined, digests)) if all(map(all, digests)) else None


def _pairs(home: Path, folder: str, group: str | None) -> list[Pair]:
    places = home / "leftImg8bit" / folder, home / "gtFine" / folder
    for place in places:
        if not place.is_dir():
            there = [path.name for path in place.parent.iterdir()] if place.parent.is_dir() else []
            raise DataError(f"{place}: no such folder; {nearest(folder, there)}")
    images = [file for file in visible(places[0].glob(f"*/*{IMAGE}.*")) if file.suffix.lower() in SUFFIXES]
    labels = visible(places[1].glob(f"*/*{LABELS}.png"))
    return paired(
        folder,
        by_name([(file.stem.removesuffix(IMAGE), file) for file in images]),
        by_name([(file.stem.removesuffix(LABELS), file) for file in labels]),
        root=home,
        group=group,
    )
