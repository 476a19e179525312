"""Scores of single networks on redrawn test images: their intervals, and those of the differences of two.

Images are drawn with replacement, whole groups where the set declares groups. The draws depend on the images alone, so
that all networks on one set see the same ones and differences are paired. Nothing here speaks of training: another seed
of the same method is another network.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ablate.analysis.resample import NO_INTERVAL, unfit
from ablate.errors import StoreError
from ablate.metrics import build_metric
from ablate.storage import Arrays

RESAMPLES = 1000
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
        """Every score on each redrawn set, (resamples,); nan where a draw has none."""
        rows = [self.scores(counts, joints=joints) for counts in self.draws(resamples)]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    def alone(self, name: str, chosen: Sequence[int]) -> np.ndarray:
        """A score on each of the chosen images, by their places, alone: (n,)."""
        eye = np.zeros(len(self.ids), np.int64)
        found = []
        for place in chosen:
            eye[place] = 1
            found.append(self.scores(eye.copy()).get(name, np.nan))
            eye[place] = 0
        return np.array(found, dtype=float)

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
