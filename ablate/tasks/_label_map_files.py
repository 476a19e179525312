"""Predicted maps of classes in a folder of PNG files, as any system writes them.

Two numberings are in use: the data set's label ids, which the Cityscapes server takes, and the places of classes from 0
(train ids). A folder is read as label ids; where its numbers are not all of classes then, and all are places, as these.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ablate.datasets import IGNORED, LabelledSamples, refuse, visible
from ablate.datasets._label_numbers import IDENTITY, read_numbers
from ablate.errors import DataError, nearest

PLAIN = IDENTITY.astype(np.uint8)  # a table by which every number stands for itself
OURS, DRAWN = "labels", "drawn"  # folders that `ablate predict` writes, side by side
NONE = 255  # a pixel without a predicted class


def read_label_maps(folder: Path, samples: LabelledSamples) -> tuple[list[dict[str, Any]], list[str]]:
    """One prediction for each image of the split, `labels` (H, W) uint8 by places of classes; and how it was read.

    A file belongs to the image whose name it has, or begins with before an underscore or a dot.

    Raises:
        DataError: no folder, an image without a map or with two, a map of another size, numbers that fit nothing.
    """
    files, others = _files(folder, samples)
    maps, used = {}, np.zeros(256, bool)
    for image_id, file in files.items():
        numbers = read_numbers(file, PLAIN)
        truth = samples.labels(image_id).shape
        if numbers.shape != truth:
            sizes = (
                f"{numbers.shape[0]} x {numbers.shape[1]} pixels (height x width), its image {truth[0]} x {truth[1]}"
            )
            raise DataError(f"{file}: has {sizes}")
        used[np.unique(numbers)] = True
        maps[image_id] = numbers
    table, said = _table(np.flatnonzero(used), samples, folder)
    if others:
        said.append(f"{len(others)} PNG files are of no image of the split ({_listed(others, 3)}): not scored")
    predictions = [{"image_id": image_id, "labels": table[numbers]} for image_id, numbers in maps.items()]
    return predictions, said


def _files(folder: Path, samples: LabelledSamples) -> tuple[dict[int, Path], list[str]]:
    """The file of each image, and the names of those that are of none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: is no folder; maps of classes are PNG files in a folder")
    if (folder / OURS).is_dir() and (folder / DRAWN).is_dir():
        folder = folder / OURS
    names = {samples.name(image_id): image_id for image_id in samples.image_ids()}
    found: dict[int, Path] = {}
    others = []
    for file in visible(folder.rglob("*.png")):
        name = _name(file.stem, names)
        if name is None:
            others.append(file.stem)
        elif found.setdefault(names[name], file) != file:
            raise DataError(f"{folder}: {found[names[name]].name} and {file.name} are both of the image {name}")
    if not found:
        there = f"; {others[0]}.png is of none: {nearest(others[0], list(names)[:50])}" if others else ""
        raise DataError(f"{folder}: no PNG file has the name of an image of the split{there}")
    refuse(folder, [f"{name} has no map of classes" for name, image_id in names.items() if image_id not in found])
    return found, others


def _name(stem: str, names: dict[str, int]) -> str | None:
    """The image that a file's name speaks of, the longest of several."""
    if stem in names:
        return stem
    ends = [place for place, letter in enumerate(stem) if letter in "_."]
    return next((stem[:end] for end in reversed(ends) if stem[:end] in names), None)


def _table(used: np.ndarray, samples: LabelledSamples, folder: Path) -> tuple[np.ndarray, list[str]]:
    """Which class each number stands for, (256,) uint8, and in words which numbering that is."""
    classes = samples.info.need_classes()
    ids = classes.label_ids or tuple(range(len(classes)))
    by_id, by_place = np.full(256, IGNORED, np.uint8), np.full(256, IGNORED, np.uint8)
    by_id[list(ids)] = by_place[: len(classes)] = np.arange(len(classes))
    numbers = used[used != NONE]
    if np.isin(numbers, ids).all():
        return by_id, []
    if (numbers < len(classes)).all():
        return by_place, [f"numbers in the maps were read as places of classes, 0 to {len(classes) - 1} (train ids)"]
    strange = [int(number) for number in numbers if number not in ids]
    if not np.isin(numbers, ids).any():
        known = ", ".join(map(str, sorted(ids)[:20]))
        raise DataError(f"{folder}: the maps hold {strange[:5]}; the numbers of the set's classes are {known}")
    return by_id, [f"pixels with {_listed(strange)}, numbers of no class of the set, count as not found"]


def _listed(numbers: Sequence[object], most: int = 6) -> str:
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return ", ".join(map(str, numbers[:most])) + more
