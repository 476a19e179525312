"""Measured speeds: how long networks take to predict, and how much memory, on a machine that was looked at.

    results/speeds/<id>.json   the document, with a checksum

A speed is a fact of a network on a machine, not of a trial: it is in no trial's identity, and trials are not timed, for
they share processors and wait for images. The id is a hash of the network, the image's size and the machine.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import BaseModel, Field

from ablate.beside import _sealed
from ablate.errors import StoreError
from ablate.machine import fingerprint
from ablate.storage import Place
from ablate.study import FROZEN, Recipe

FOLDER, SUFFIX, KEY = "speeds", ".json", "speed"
Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class Speed(BaseModel):
    """One network's predictions, with random weights and pictures: no reading of images, no decoding of outputs."""

    model_config = FROZEN
    version: int = Field(default=1, ge=1, le=1000)
    network: str  # what decides the network and its arithmetic, see `network_of`
    label: str = ""  # of the arm or model
    image: tuple[Count, Count]  # height and width
    latency: Seconds  # for one image, the median over runs
    low: Seconds  # the first quartile
    high: Seconds  # the third one
    runs: Count  # that were timed, after some to warm up
    memory: Count = 0  # bytes that a GPU holds at most for one image, the weights included; 0: not measured, on a CPU
    images_per_second: Seconds  # the median, of a batch
    batch: Count  # of so many images
    where: str  # device, threads and precision in words
    load: float = 0.0  # processes that ran or waited in the minute before, on average
    processors: Count = 0
    finished: str = ""  # UTC, ISO 8601

    @property
    def id(self) -> str:
        """16 hexadecimal digits: of the network, the size and the machine; a later measurement replaces an earlier."""
        return fingerprint([self.network, self.image, self.where], digits=16)

    @property
    def shared(self) -> bool:
        """Whether so much else ran before that the machine was not this measurement's own."""
        return self.load > BUSY * max(1, self.processors)


BUSY = 0.25  # of the processors


def network_of(recipe: Recipe) -> str:
    """A digest of what decides a settled recipe's network and its arithmetic."""
    parts = [part.model_dump(mode="json") for part in (recipe.task, recipe.dataset, recipe.model)]
    return fingerprint([*parts, recipe.train.precision, recipe.train.memory_format])


def put(place: Place, speed: Speed) -> None:
    """Write a measurement; one of the same id is replaced. Raises StoreError."""
    body = json.loads(speed.model_dump_json())
    place.write(f"{FOLDER}/{speed.id}{SUFFIX}", json.dumps({"checksum": fingerprint(body), KEY: body}).encode())


def every(place: Place) -> Iterator[Speed | StoreError]:
    """All stored measurements; the error of what cannot be trusted."""
    return _sealed.every(place, (f"{FOLDER}/{name}" for name in place.children(FOLDER)), Speed, KEY)


def of_arms(place: Place, recipes: Mapping[str, Recipe]) -> tuple[list[tuple[str, Speed]], list[str]]:
    """The stored measurements of arms by label, one for each machine, and what of all could not be trusted."""
    found, damaged = list[Speed](), list[str]()
    for one in every(place):
        if isinstance(one, StoreError):
            damaged.append(str(one))
        else:
            found.append(one)
    networks = {label: network_of(recipe) for label, recipe in recipes.items()}
    ordered = sorted(found, key=lambda one: (one.where, one.image))
    return [(label, one) for label, own in networks.items() for one in ordered if one.network == own], damaged
