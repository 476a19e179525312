"""How far an effect depends on the choice of test images, from stored per-image statistics.

One sequence of draws serves all arms, seeds and metrics, so that every trial is scored once per draw, however
many comparisons ask for it. Seeds are another source of chance, and not resampled here.

Images that are alike are drawn together: a set's groups, where there are ten or more; else blocks of images that follow
each other within a group, as long as the set declares, or a tenth of the images.
"""

import math
import zlib
from collections.abc import Callable

import numpy as np

from ablate import registry
from ablate.analysis import stats
from ablate.datasets import Folded, build_dataset
from ablate.errors import StoreError, one_line
from ablate.metrics import build_metric
from ablate.storage import Arrays
from ablate.study import Recipe

FEWEST = 10  # groups that an interval may rest on
RESAMPLES = 400  # the ends of a 95 % interval rest on 10 draws each
NO_INTERVAL = (math.nan, math.nan)


class TestImages:
    """Scores on redrawn test images; every trial is scored once per draw, however many comparisons ask."""

    def __init__(self, recipe: Recipe, statistics: Callable[[str], Arrays], *, draws: str) -> None:
        self.count = 0  # test images, once an interval was asked for
        self.drawn = ""  # how they are drawn, in words; empty where each is drawn by itself
        self._seed = zlib.crc32(draws.encode())
        self._stored = statistics  # of a trial by its id
        self._arrays: dict[str, Arrays] = {}
        self._scores: dict[tuple[str, str, bytes], dict[str, float]] = {}
        data = build_dataset(recipe.dataset)
        self._block, self._folded = data.info.block, isinstance(data, Folded) and data.folds > 1
        self._places: dict[str, np.ndarray] = {}  # of each trial's test images among all of them
        self._member: np.ndarray | None = None  # (images,): which draw takes each image
        names = registry.describe("task", recipe.task.name).facts.get("metrics", ())
        self._metrics = {str(name): registry.describe("metric", name) for name in names}

    def interval(self, arms: list[tuple[float, list[str]]], metric: str) -> tuple[float, float]:
        """The 95 % interval of a weighted sum of arms' mean scores, trials by id; nan where an arm has none.

        Raises:
            StoreError: the trials were scored on different images, and the set is not cross-validated.
        """
        if self._part(metric) is None or not all(trials for _, trials in arms):
            return NO_INTERVAL
        ids = {trial: self._image_ids(trial, metric) for _, trials in arms for trial in trials}
        first = next(iter(ids))
        for trial, own in ids.items():
            if not self._folded and not np.array_equal(ids[first], own):
                raise StoreError(f"trial {trial}: scored on other test images than {first}")
        images = np.unique(np.concatenate(list(ids.values())))
        self._places = {trial: np.searchsorted(images, own) for trial, own in ids.items()}
        self.count = len(images)
        if self._member is None or len(self._member) != self.count:
            self._member, self.drawn = together(self.count, self._groups(), self._block)
        member = self._member
        above, below = (self._side(arms, metric, sign) for sign in (1, -1))
        return stats.paired_image_interval(
            lambda counts: above(counts[member]),
            lambda counts: below(counts[member]),
            int(member.max()) + 1,
            rng=np.random.default_rng(self._seed),
            resamples=RESAMPLES,
        )

    def _part(self, score: str) -> str | None:
        """The metric's part that gives a score, of all classes or of one."""
        return next((name for name, metric in self._metrics.items() if metric.gives(score)), None)

    def _side(self, arms: list[tuple[float, list[str]]], metric: str, sign: int) -> Callable[[np.ndarray], float]:
        """The weighted sum of the arms with weights of one sign."""
        own = [(abs(weight), self._mean(trials, metric)) for weight, trials in arms if weight * sign > 0]
        return lambda counts: sum(weight * mean(counts) for weight, mean in own)

    def _mean(self, trials: list[str], metric: str) -> Callable[[np.ndarray], float]:
        def mean(counts: np.ndarray) -> float:
            return float(np.mean([self._score(trial, metric, counts[self._places[trial]]) for trial in trials]))

        return mean

    def _groups(self) -> np.ndarray | None:
        """The group of each test image, by ascending id; None where the set declares none."""
        found = np.zeros(self.count, dtype=object)
        for trial, places in self._places.items():
            own = self._arrays[trial].get("images/groups")
            if own is None or len(own) != len(places):
                return None
            found[places] = own
        return found.astype(str)

    def _score(self, trial: str, metric: str, counts: np.ndarray) -> float:
        part = str(self._part(metric))
        key = (trial, part, counts.tobytes())
        if key not in self._scores:
            aggregate = build_metric(part).aggregate
            statistics = self._statistics(trial, metric)
            try:
                self._scores[key] = {name: float(value) for name, value in aggregate(statistics, counts).items()}
            except Exception as error:  # whatever arrays that another metric left, or nobody, make of it
                raise unfit(trial, error) from None
        if metric not in self._scores[key]:
            raise unfit(trial, KeyError(metric))
        return self._scores[key][metric]

    def _image_ids(self, trial: str, metric: str) -> np.ndarray:
        ids = self._statistics(trial, metric).get("image_ids")
        if ids is None or ids.ndim != 1 or not len(ids):
            raise unfit(trial, KeyError("image_ids"))
        return ids

    def _statistics(self, trial: str, metric: str) -> dict[str, np.ndarray]:
        """The arrays that the metric's part left for one trial."""
        if trial not in self._arrays:
            self._arrays[trial] = self._stored(trial)
        prefix = f"{self._part(metric)}/"
        return {k.removeprefix(prefix): v for k, v in self._arrays[trial].items() if k.startswith(prefix)}


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
