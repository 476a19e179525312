"""Scores of single networks on redrawn test images: their intervals, and those of the differences of two.

Images are drawn with replacement, whole groups where the set declares groups. The draws depend on the images alone, so
that all networks on one set see the same ones and differences are paired. Nothing here speaks of training: another seed
of the same method is another network.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from ablate.analysis.resample import NO_INTERVAL, unfit
from ablate.errors import StoreError
from ablate.metrics import build_metric, redrawn
from ablate.registry import describe
from ablate.storage import Arrays

RESAMPLES = 1000
AT_ONCE = 100  # redrawn sets
CONFIDENCE = 0.95
IMAGES = "images"  # of the images themselves: images/ids (I,), images/names (I,), images/groups (I,)
Scores = dict[str, float]
Interval = tuple[float, float]


@dataclass(frozen=True)
class TestImagesOf:
    """The test images of one evaluation, and what its metrics left of each."""

    label: str
    ids: np.ndarray  # (I,)
    names: np.ndarray  # (I,) text
    groups: np.ndarray | None  # (I,) text; None where the set declares none
    statistics: dict[str, Arrays]  # by metric
    parts: Sequence[str] = ()  # names of joints, by number

    @classmethod
    def of(cls, label: str, stored: Arrays, parts: Sequence[str] = ()) -> "TestImagesOf":
        """From stored arrays, of an evaluation or of a trial.

        Raises:
            StoreError: no metric's arrays are among them, or metrics disagree on the images.
        """
        of_metric: dict[str, Arrays] = {}
        for name, array in stored.items():
            metric, _, key = name.partition("/")
            of_metric.setdefault(metric, {})[key] = array
        images = of_metric.pop(IMAGES, {})
        listed = [arrays.get("image_ids", np.zeros(0)) for arrays in of_metric.values()]
        if not listed or not len(listed[0]) or any(not np.array_equal(ids, listed[0]) for ids in listed):
            raise StoreError(f"{label}: its per-image statistics name no images, or not the same for all metrics")
        ids = np.asarray(listed[0])
        return cls(label, ids, images.get("names", ids.astype(str)), images.get("groups"), of_metric, parts)

    @property
    def drawn(self) -> int:
        """How many things are drawn: groups, or images."""
        return len(self.ids) if self.groups is None else len(np.unique(self.groups))

    def scores(self, counts: np.ndarray | None = None, *, joints: bool = False) -> Scores:
        """All scores where each image counts so often (I,), with `joints` those of each joint, too.

        Raises:
            StoreError: arrays that the metrics did not write.
        """
        found: Scores = {}
        for metric, arrays in self.statistics.items():
            try:
                aggregate = build_metric(metric).aggregate
                found |= {name: float(value) for name, value in aggregate(arrays, counts).items()}
                for joint, own in self._joints(arrays) if joints else ():
                    found |= {f"{name}/{joint}": float(value) for name, value in aggregate(own, counts).items()}
            except Exception as error:  # whatever arrays that another metric left make of it
                raise unfit(self.label, error) from None
        return found

    def draws(self, resamples: int = RESAMPLES) -> Iterator[np.ndarray]:
        """How often each image counts (I,) in each redrawn set."""
        rng = np.random.default_rng(zlib.crc32(self.ids.astype(np.int64).tobytes()))
        even = np.full(self.drawn, 1 / self.drawn)
        member = np.unique(self.groups, return_inverse=True)[1] if self.groups is not None else None
        for _ in range(resamples):
            counts = rng.multinomial(self.drawn, even)
            yield counts if member is None else counts[member]

    def redrawn(self, resamples: int = RESAMPLES, *, joints: bool = False) -> dict[str, np.ndarray]:
        """Every score on each redrawn set, (resamples,); nan where a draw has none.

        Draws of one image, or of one group, are all the same and tell nothing of others: they are nan, too."""
        draws = self.draws(resamples)
        some = [self._scored(np.stack(part), joints=joints) for part in iter(lambda: list(islice(draws, AT_ONCE)), [])]
        told = 1.0 if self.drawn > 1 else np.nan
        return {name: told * np.concatenate([of[name] for of in some]) for name in some[0]}

    def _scored(self, drawn: np.ndarray, *, joints: bool) -> dict[str, np.ndarray]:
        """Every score on redrawn sets (R,), in which each image counts so often (R, I)."""
        found: dict[str, np.ndarray] = {}
        for name, arrays in self.statistics.items():
            metric, wanted = build_metric(name), describe("metric", name).facts["scores"]
            try:
                found |= redrawn(metric, arrays, drawn, wanted)
                for joint, own in self._joints(arrays) if joints else ():
                    found |= {f"{score}/{joint}": of for score, of in redrawn(metric, own, drawn, wanted).items()}
            except Exception as error:  # whatever arrays that another metric left make of it
                raise unfit(self.label, error) from None
        return found

    def alone(self, name: str, chosen: Sequence[int]) -> np.ndarray:
        """A score on each of the chosen images, by their places, alone: (n,)."""
        giving = {
            metric: arrays for metric, arrays in self.statistics.items() if describe("metric", metric).gives(name)
        }
        only = replace(self, statistics=giving)
        found = np.full(len(chosen), np.nan)
        for number, place in enumerate(chosen):
            counts = np.zeros(len(self.ids), np.int64)
            counts[place] = 1
            found[number] = only.scores(counts).get(name, np.nan)
        return found

    def _joints(self, arrays: Arrays) -> Iterator[tuple[str, Arrays]]:
        """The rows of each joint alone, of a metric whose rows are joints."""
        joint = arrays.get("joint", np.zeros(0))
        for number, name in enumerate(self.parts if len(joint) else ()):
            rows = np.asarray(joint == number)
            yield name, {k: a[rows] if k != "image_ids" and len(a) == len(rows) else a for k, a in arrays.items()}


def interval(draws: np.ndarray) -> Interval:
    """The percentile interval of draws (R,) that are numbers; nan where none is."""
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return NO_INTERVAL
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def intervals(redrawn: Mapping[str, np.ndarray]) -> dict[str, Interval]:
    """The interval of each score."""
    return {name: interval(draws) for name, draws in redrawn.items()}


@dataclass(frozen=True)
class Difference:
    """One score of two networks on the same images: the second's minus the first's."""

    first: str  # labels
    second: str
    score: str
    scores: tuple[float, float]
    diff: float
    low: float  # 95 % over redrawn test images, paired
    high: float

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Apart:
    """An image on which two networks differ, by a score on it alone."""

    image: str  # its name
    scores: tuple[float, float]

    @property
    def diff(self) -> float:
        return self.scores[1] - self.scores[0]


def differences(first: TestImagesOf, second: TestImagesOf, *, resamples: int = RESAMPLES) -> list[Difference]:
    """All scores that both have, those of joints after the others.

    Raises:
        StoreError: they were scored on different images.
    """
    _refuse_different(first, second)
    exact = [one.scores(joints=True) for one in (first, second)]
    drawn = [one.redrawn(resamples, joints=True) for one in (first, second)]
    found = []
    for name in exact[0]:
        if name in exact[1]:
            low, high = interval(drawn[1][name] - drawn[0][name])
            scores = exact[0][name], exact[1][name]
            found.append(Difference(first.label, second.label, name, scores, scores[1] - scores[0], low, high))
    return sorted(found, key=lambda one: "/" in one.score)


def most_apart(first: TestImagesOf, second: TestImagesOf, name: str, *, most: int = 10) -> list[Apart]:
    """The images on which a score, on the image alone, differs most."""
    _refuse_different(first, second)
    scores = [one.alone(name, range(len(one.ids))) for one in (first, second)]
    gaps = np.nan_to_num(np.abs(scores[1] - scores[0]))
    order = np.argsort(-gaps, kind="stable")[:most]
    return [Apart(str(first.names[i]), (float(scores[0][i]), float(scores[1][i]))) for i in order if gaps[i] > 0]


def _refuse_different(first: TestImagesOf, second: TestImagesOf) -> None:
    if not np.array_equal(first.ids, second.ids):
        counts = f"{len(first.ids)} images and {len(second.ids)}"
        raise StoreError(f"{first.label} and {second.label}: scored on different images ({counts})")
