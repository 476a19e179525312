"""Some images of an opened split as a split of their own, so that a recipe is scored on what it does not train on."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ablate.datasets._arrays import Pixels
from ablate.datasets._info import Info
from ablate.errors import DataError

Whole = Any  # an opened split with whatever else its set gives
Image = int  # its id


class Images:
    """The images of a split that are named. What is known of one image is what the whole split says of it."""

    def __init__(self, whole: Whole, chosen: Collection[Image]) -> None:
        self.whole, self.chosen = whole, frozenset(chosen)

    def __getattr__(self, name: str) -> Any:
        """Whatever else is of single images or of the set: labels, classes, instances."""
        if name.startswith("__") or name == "whole":  # asked for before it is there, when a process unpacks it
            raise AttributeError(name)
        return getattr(self.whole, name)

    @property
    def info(self) -> Info:
        """The set's."""
        found: Info = self.whole.info
        return found

    @property
    def folder(self) -> Path | None:
        """The set's."""
        found: Path | None = self.whole.folder
        return found

    @property
    def skipped(self) -> Mapping[str, int]:
        """Of the whole."""
        return dict(self.whole.skipped)

    def image(self, image_id: Image) -> Pixels:
        """As the whole has it. Raises DataError."""
        found: Pixels = self.whole.image(image_id)
        return found

    def name(self, image_id: Image) -> str:
        """As the whole calls it."""
        return _name(self.whole, image_id)

    def check(self, *, thorough: bool = False) -> list[str]:
        """The problems of the whole."""
        return list(self.whole.check(thorough=thorough))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Any:
        return self.whole[self._places[index]]

    @cached_property
    def _places(self) -> list[int]:
        """Of the samples, among those of the whole."""
        return [place for place, image in enumerate(_images_of(self.whole)) if image in self.chosen]

    @property
    def image_of(self) -> list[Image]:
        """The image of each sample."""
        of = _images_of(self.whole)
        return [int(of[place]) for place in self._places]

    def image_ids(self) -> list[Image]:
        """In the order of the whole."""
        return self._kept(self.whole.image_ids())

    def classified_ids(self) -> list[Image]:
        """Those with a class, of a set whose images have classes."""
        return self._kept(self.whole.classified_ids())

    def by_image(self) -> Mapping[Image, Any]:
        """The people of each image, of a set of people."""
        return {image: people for image, people in self.whole.by_image().items() if image in self.chosen}

    def group(self, image_id: Image) -> str | None:
        """The group of an image, where the set has groups."""
        found: str | None = self.whole.group(image_id) if hasattr(self.whole, "group") else None
        return found

    @property
    def person_categories(self) -> tuple[int, ...]:
        """The numbers of the samples' categories; 1 where the set has none of its own."""
        return tuple(getattr(self.whole, "person_categories", (1,)))

    def remarks(self) -> list[str]:
        """Those of the whole."""
        return list(self.whole.remarks()) if hasattr(self.whole, "remarks") else []

    def ground_truth(self) -> dict[str, object]:
        """The annotations of these images alone."""
        return self._of_these(self.whole.ground_truth())

    def instance_truth(self) -> dict[str, object]:
        """The same with boxes and masks."""
        return self._of_these(self.whole.instance_truth())

    def digest(self) -> str:
        """Of the whole's content and of which images are chosen. Raises DataError."""
        return self._sealed(self.whole.digest())

    def verify(self) -> str:
        """The digest, if the whole split is what it should be. Raises DataError."""
        return self._sealed(self.whole.verify())

    def _kept(self, images: Sequence[Image]) -> list[Image]:
        return [image for image in images if image in self.chosen]

    def _of_these(self, document: Mapping[str, Any]) -> dict[str, object]:
        own = {"images": "id", "annotations": "image_id"}  # what tells of which image an entry is
        return {
            key: [entry for entry in value if entry[own[key]] in self.chosen] if key in own else value
            for key, value in document.items()
        }

    def _sealed(self, digest: str) -> str:
        text = f"{digest} {sorted(self.chosen)}"
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def held_out(whole: Whole, share: float, *, among: Collection[Image] | None = None) -> tuple[Images, Images]:
    """The images of a split to train on, and about such a share of them that is held out, as two splits.

    `among` are the images that both are of, where that is not all.

    Images that are alike stay together: those of a group, or of a block of images that follow each other, as long as
    the set declares. Groups, blocks or images are taken in the order of a hash of their names, whatever the seed; those
    that would be too many wait for smaller ones. Of groups of one size a smaller share is part of a larger one.

    Raises:
        DataError: nothing would be left to train on, or less than half or more than twice the share would be held out.
    """
    images = [image for image in whole.image_ids() if among is None or image in among]
    units: dict[str, list[Image]] = {}
    for place, image in enumerate(sorted(whole.image_ids())):
        if among is None or image in among:
            units.setdefault(_unit(whole, image, place), []).append(image)
    wanted = max(1, round(share * len(images)))
    order = sorted(units, key=lambda unit: hashlib.blake2b(unit.encode()).digest())
    chosen = _about([units[unit] for unit in order], wanted)
    rest = [image for image in images if image not in chosen]
    if not rest or not wanted <= 2 * len(chosen) <= 4 * wanted:
        where = whole.folder or whole.info.name
        raise DataError(f"{where}: train.held_out: {share:g}; its {len(units)} groups of images cannot be parted so")
    return Images(whole, rest), Images(whole, chosen)


def _about(units: list[list[Image]], wanted: int) -> set[Image]:
    """Units in their order, without those that are too many, and then one of these if so many are not reached."""
    chosen, large = set[Image](), list[list[Image]]()
    for unit in units:
        if len(chosen) + len(unit) <= wanted:
            chosen.update(unit)
        else:
            large.append(unit)
    if len(chosen) < wanted:
        chosen.update(next((unit for unit in large if len(chosen) + len(unit) <= 2 * wanted), ()))
    return chosen


def _unit(whole: Whole, image: Image, place: int) -> str:
    group = whole.group(image) if hasattr(whole, "group") else None
    if group is not None:
        return f"group {group}"
    block = getattr(whole.info, "block", None)
    return f"block {place // block}" if block else f"image {_name(whole, image)}"


def _name(whole: Whole, image: Image) -> str:
    return str(whole.name(image)) if hasattr(whole, "name") else str(image)


def _images_of(whole: Whole) -> Sequence[Image]:
    """The image of each sample of a split; read from the samples where the split does not say."""
    of = getattr(whole, "image_of", None)
    return of if of is not None else [whole[index]["image_id"] for index in range(len(whole))]
