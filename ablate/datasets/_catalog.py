"""Joint sets, classes and the sets that we know, kept as data in the JSON files of this folder."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from ablate.datasets._files import Split
from ablate.datasets._info import Classes, Joints


class JointSet(BaseModel):
    """A convention for annotating a body: which joints, in which order."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    names: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    upper_body: tuple[int, ...] | None  # None: no half-body crops
    norm: tuple[int, int] | None = None  # two joints in whose distance errors are measured
    unscored: tuple[int, ...] = ()  # joints that no score counts
    source: str  # of names and sigmas

    @property
    def joints(self) -> Joints:
        """The joints as a data set says them."""
        return Joints(self.names, **self.model_dump(exclude={"names", "source"}))


class JointForm(BaseModel):
    """A known set's annotations in one joint set."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    annotations: str  # file under the set's folder; {split} stands for train or val
    digests: dict[Split, str | None]  # of the content, as `Samples.digest` gives it; None where not yet seen
    sizes: dict[Split, int]  # numbers of people with labelled joints
    images: dict[Split, int] = {}  # numbers of images; those to train on have an annotated person, maybe a crowd

    @property
    def version(self) -> str | None:
        """The declared version of the whole set: both splits' digests, or None when one is not declared."""
        train, val = self.digests["train"], self.digests["val"]
        return f"{train}-{val}" if train and val else None


class LabelMaps(BaseModel):
    """A known set's maps of classes in the Cityscapes layout; counts and digests by folder: train, val, test."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    size: tuple[int, int]  # height and width of every image
    sizes: dict[str, int]  # numbers of images
    digests: dict[str, str | None]  # of the content; None where not yet seen
    classes: dict[str, str] = {}  # name -> the label of Cityscapes' table that stands for it; none: its 19 classes
    class_weights: tuple[float, ...] = ()  # in the loss, as published
    block: int | None = None  # so many images that follow each other are alike


class KnownSet(BaseModel):
    """One entry of the catalog: where a set comes from, under which licence, and how to get it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    title: str
    part: str  # the data set of this shelf that reads it
    source: str
    licence: str
    get: str  # how to obtain it
    folder: str = ""  # in the data folder, where it is not the set's name
    forms: dict[str, JointForm] = {}  # people with joints, by the name of the joint set
    labels: LabelMaps | None = None
    annotated: dict[Split, int] = {}  # numbers of images, where not said elsewhere
    knobs: dict[str, Any] = {}  # of the part, for the set as it is published
    note: str = ""


@cache
def joint_sets() -> dict[str, JointSet]:
    """The joint sets by name."""
    return {name: JointSet(**entry) for name, entry in _load("joints.json").items()}


@cache
def things() -> dict[str, Classes]:
    """Classes of instances by the name of their set, as `things.json` has them."""
    found = _load("things.json")
    return {
        name: Classes(entry["names"], categories=tuple(entry["categories"]), label_ids=tuple(entry["ids"]))
        for name, entry in found.items()
    }


@cache
def image_classes() -> dict[str, Classes]:
    """Classes of images by the name of their set, as `image_classes.json` has them."""
    return {name: Classes(entry["names"]) for name, entry in _load("image_classes.json").items()}


@cache
def catalog() -> dict[str, KnownSet]:
    """The known sets by name: what `ablate data` lists."""
    return {name: KnownSet(**entry) for name, entry in _load("catalog.json").items()}


def as_published(part: str, knobs: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs of a part, `set` among them, before those that the catalog has of the set."""
    known = catalog().get(str(knobs.get("set")))
    return {**(known.knobs if known and known.part == part else {}), **knobs}


def _load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((Path(__file__).parent / name).read_text(encoding="utf-8"))
    return document
