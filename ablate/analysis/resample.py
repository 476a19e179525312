"""How far an effect depends on the choice of test images, from stored per-image statistics.

One sequence of draws serves all arms, seeds and metrics, so that every trial is scored once per draw, however
many comparisons ask for it. Seeds are another source of chance, and not resampled here.

Images that are alike are drawn together: a set's groups, where there are ten or more; else blocks of images that follow
each other within a group, as long as the set declares, or a tenth of the images.
"""

import math
import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from ablate import registry
from ablate.analysis import stats
from ablate.datasets import Folded, build_dataset
from ablate.errors import StoreError, one_line
from ablate.metrics import build_metric, redrawn
from ablate.storage import Arrays
from ablate.study import Recipe

FEWEST = 10  # groups that an interval may rest on
RESAMPLES = 400  # the ends of a 95 % interval rest on 10 draws each
MOST_THREADS = 8  # each takes a hundred megabytes
NO_INTERVAL = (math.nan, math.nan)


class TestImages:
    """Scores on redrawn test images; every trial is scored once per draw, however many comparisons ask."""

    def __init__(
        self,
        recipe: Recipe,
        statistics: Callable[[str], Arrays],
        *,
        draws: str,
        wanted: Sequence[str],
        files: str = "",
    ) -> None:
        self.files = files  # their digest; sets with one digest have the same test images
        self.count = 0  # test images, once an interval was asked for
        self.drawn = ""  # how they are drawn, in words; empty where each is drawn by itself
        self._seed = zlib.crc32(draws.encode())
        self._stored = cache(statistics)  # of a trial by its id
        self._wanted = tuple(wanted)  # scores that will be asked for
        self._scores: dict[tuple[str, str, bytes], dict[str, np.ndarray]] = {}  # (draws,) by trial, part and draws
        data = build_dataset(recipe.dataset)
        self._block, self._folded = data.info.block, isinstance(data, Folded) and data.folds > 1
        self._draws: dict[bytes, np.ndarray] = {}  # (draws, images) by the ids of the images and what goes together
        names = registry.describe("task", recipe.task.name).facts.get("metrics", ())
        self._metrics = {str(name): registry.describe("metric", name) for name in names}

    def interval(self, arms: list[tuple[float, list[str]]], metric: str) -> tuple[float, float]:
        """The 95 % interval of a weighted sum of arms' mean scores, trials by id; nan where an arm has none, and where
        a single image or block is drawn, which tells nothing of others.

        Raises:
            StoreError: the trials were scored on different images, and the set is not cross-validated.
        """
        part = self._part(metric)
        if part is None or not all(trials for _, trials in arms):
            return NO_INTERVAL
        ids = {trial: self._image_ids(trial, part) for _, trials in arms for trial in trials}
        first = next(iter(ids))
        for trial, own in ids.items():
            if not self._folded and not np.array_equal(ids[first], own):
                raise StoreError(f"trial {trial}: scored on other test images than {first}")
        images = np.unique(np.concatenate(list(ids.values())))
        places = {trial: np.searchsorted(images, own) for trial, own in ids.items()}
        self.count = len(images)
        key, drawn = self._redrawn(images, places)
        if (drawn == drawn[0]).all():
            return NO_INTERVAL
        with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:  # numpy lets others work meanwhile
            found = pool.map(lambda trial: self._score(trial, part, metric, key, _of(drawn, places[trial])), ids)
            scores = dict(zip(ids, found, strict=True))
        above, below = (_side(arms, scores, sign) for sign in (1, -1))
        return stats.percentile_interval(above - below)

    def _part(self, score: str) -> str | None:
        """The metric's part that gives a score, of all classes or of one."""
        return next((name for name, metric in self._metrics.items() if metric.gives(score)), None)

    def _redrawn(self, images: np.ndarray, places: dict[str, np.ndarray]) -> tuple[bytes, np.ndarray]:
        """How often each image counts in each draw (draws, images), the same for all trials on these images, and what
        names these draws."""
        member, self.drawn = together(len(images), self._groups(len(images), places), self._block)
        key = images.tobytes() + member.tobytes()
        if key not in self._draws:
            rng = np.random.default_rng(self._seed)
            drawn = stats.draws_of_images(int(member.max()) + 1, rng=rng, resamples=RESAMPLES)
            self._draws[key] = drawn[:, member]
        return key, self._draws[key]

    def _groups(self, count: int, places: dict[str, np.ndarray]) -> np.ndarray | None:
        """The group of each test image, by ascending id, from the trials that tell it; None where none does."""
        found, told = np.zeros(count, dtype=object), np.zeros(count, bool)
        for trial, own_places in places.items():
            own = self._stored(trial).get("images/groups")
            if own is not None and len(own) == len(own_places):
                found[own_places], told[own_places] = own, True
        return found.astype(str) if told.all() else None

    def _score(self, trial: str, part: str, metric: str, draws: bytes, counts: np.ndarray) -> np.ndarray:
        """A trial's score on each draw (draws,), of which each test image of its own counts so often."""
        key = (trial, part, draws)
        if metric not in self._scores.get(key, {}):
            wanted = {metric, *(name for name in self._wanted if self._part(name) == part)}
            try:
                self._scores[key] = redrawn(build_metric(part), self._statistics(trial, part), counts, wanted)
            except Exception as error:  # whatever arrays that another metric left, or nobody, make of it
                raise unfit(trial, error) from None
        if metric not in self._scores[key]:
            raise unfit(trial, KeyError(metric))
        return self._scores[key][metric]

    def _image_ids(self, trial: str, part: str) -> np.ndarray:
        ids = self._statistics(trial, part).get("image_ids")
        if ids is None or ids.ndim != 1 or not len(ids):
            raise unfit(trial, KeyError("image_ids"))
        return ids

    def _statistics(self, trial: str, part: str) -> dict[str, np.ndarray]:
        """The arrays that a metric's part left for one trial."""
        return {k.removeprefix(f"{part}/"): v for k, v in self._stored(trial).items() if k.startswith(f"{part}/")}


def _of(drawn: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The columns of a trial's own images, in order; nothing is copied where it has them all."""
    return drawn if len(places) == drawn.shape[1] else drawn[:, places]


def _side(arms: list[tuple[float, list[str]]], scores: dict[str, np.ndarray], sign: int) -> np.ndarray:
    """The weighted sum (draws,) of the mean scores of the arms with weights of one sign."""
    sides = [abs(weight) * np.stack([scores[trial] for trial in own], axis=1).mean(axis=1)
             for weight, own in arms if weight * sign > 0]  # fmt: skip
    return np.asarray(sum(sides, np.zeros(RESAMPLES)))


def together(count: int, groups: np.ndarray | None, block: int | None) -> tuple[np.ndarray, str]:
    """Which draw takes each of the images (images,), by ascending id, and that in words where several go together."""
    if groups is not None and len(groups) == count:
        of_group = np.unique(groups, return_inverse=True)[1]
        if (found := int(of_group.max()) + 1) >= FEWEST:
            return of_group, f"{found} groups" if found < count else ""
    elif block is None:
        return np.arange(count), ""
    else:
        of_group = np.zeros(count, np.int64)
    length = block or max(1, count // FEWEST)
    within = np.zeros(count, np.int64)  # the place of an image in its group
    for group in np.unique(of_group):
        within[of_group == group] = np.arange(np.sum(of_group == group))
    member = np.unique(np.stack([of_group, within // length]), axis=1, return_inverse=True)[1].ravel()
    return member, f"{int(member.max()) + 1} blocks of {length} images that follow each other"


def unfit(trial: str, error: Exception) -> StoreError:
    """What is raised where a trial's stored arrays are not those that the metric writes."""
    what = f"{type(error).__name__}: {one_line(error)}"
    return StoreError(f"trial {trial}: per_image.npz: not what the metric reads ({what})")
