"""What a score is made of: that of every class or joint, by arm, and which of them are at chance; and single images.

Read from the stored per-image statistics, of parts by the task's metrics that know any. Images are shown where the data
set's licence lets them be, and a trial's predictions were kept.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ablate.analysis.resample import unfit
from ablate.datasets import Dataset, Folded, Info, Samples, build_dataset
from ablate.errors import DataError
from ablate.metrics import ByPart, Parts, build_metric
from ablate.registry import describe
from ablate.storage import Arrays
from ablate.study import Recipe

FORMS = ("labels", "keypoints", "bbox")  # that predictions may have, the first one that they have counts
SURE = 0.5  # a detection with a lower score is not drawn
LEAST = 0.02  # what no network needs to have learned anything for
NOTHING = Parts("part", "", (), np.zeros(0), np.zeros(0), np.zeros(0))


@dataclass(frozen=True)
class Breakdown:
    """The scores of the classes or joints that the test images have, in one metric."""

    kind: str  # class or joint
    measure: str  # what the scores are
    names: tuple[str, ...]  # of P; none where no result holds what it takes
    absent: tuple[str, ...]  # others, that no test image has labelled
    share: tuple[float, ...]  # (P,), of all that is labelled
    trivial: tuple[float, ...]  # (P,), the score of whoever predicts the commonest everywhere
    scores: dict[str, tuple[float, ...]]  # arm's label -> (P,), the mean over seeds; nan where undefined
    seeds: dict[str, int]  # arm's label -> how many seeds that is over
    lacking: int  # finished trials whose results do not hold what it takes

    @property
    def kinds(self) -> str:
        """Several of its kind: classes, joints."""
        return self.kind + ("es" if self.kind.endswith("s") else "s")

    @property
    def known(self) -> bool:
        """Whether any arm has a score: a detector without masks has none in the metric of masks."""
        return any(math.isfinite(score) for scores in self.scores.values() for score in scores)

    @property
    def low(self) -> str:
        """What such scores are called: predicting the commonest everywhere may give nothing."""
        return "at chance" if any(self.trivial) else "hardly learned"

    def at_chance(self, arm: str) -> list[str]:
        """Those whose score is below .02, or not above what predicting the commonest everywhere gives."""
        scored = zip(self.names, self.scores.get(arm, ()), self.trivial, strict=False)
        return [name for name, score, trivial in scored if score < LEAST or score <= trivial]


def breakdowns(
    recipe: Recipe, finished: Mapping[str, list[str]], statistics: Callable[[str], Arrays]
) -> list[Breakdown]:
    """One for each metric of the task that knows parts. `finished`: an arm's label -> its trials with a score.

    Raises:
        StoreError: a trial's statistics are damaged, or not what the metric reads.
    """
    names = describe("task", recipe.task.name).facts.get("metrics", ())
    made = [(str(name), metric) for name in names if isinstance(metric := build_metric(str(name)), ByPart)]
    if not made or not any(finished.values()):
        return []
    info = build_dataset(recipe.dataset).info
    found = [(name, _breakdown(name, metric, info, finished, statistics)) for name, metric in made]
    unknown = {name for name, one in found if one.lacking and not describe("metric", name).facts.get("only_asked")}
    return [one for name, one in found if one.known or name in unknown]


def _breakdown(
    name: str, metric: ByPart, info: Info, finished: Mapping[str, list[str]], statistics: Callable[[str], Arrays]
) -> Breakdown:
    found = {arm: list(_parts(name, metric, info, trials, statistics)) for arm, trials in finished.items()}
    first = next((parts for of_arm in found.values() for parts in of_arm), NOTHING)
    there = np.asarray(first.truth, dtype=float) > 0
    return Breakdown(
        kind=first.kind,
        measure=first.measure or name,
        names=_chosen(first.names, there),
        absent=_chosen(first.names, ~there),
        share=tuple((first.truth / max(first.truth.sum(), 1))[there].tolist()),
        trivial=tuple(first.trivial[there].tolist()),
        scores={arm: tuple(_mean(of_arm)[there].tolist()) for arm, of_arm in found.items() if of_arm},
        seeds={arm: len(of_arm) for arm, of_arm in found.items()},
        lacking=sum(map(len, finished.values())) - sum(map(len, found.values())),
    )


def _parts(
    name: str, metric: ByPart, info: Info, trials: list[str], statistics: Callable[[str], Arrays]
) -> Iterator[Parts]:
    for trial in trials:
        stored = statistics(trial).items()
        own = {key.partition("/")[2]: array for key, array in stored if key.startswith(f"{name}/")}
        if own:
            try:
                yield metric.parts(own, info)
            except Exception as error:  # whatever arrays that another metric left, or nobody, make of it
                raise unfit(trial, error) from None


def _mean(seeds: list[Parts]) -> np.ndarray:
    """(P,) over the seeds that have a score; nan where none has."""
    return np.array([_of_defined(column) for column in np.stack([parts.scores for parts in seeds]).T])


def _of_defined(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _chosen(names: tuple[str, ...], where: np.ndarray) -> tuple[str, ...]:
    return tuple(name for name, chosen in zip(names, where, strict=True) if chosen)


class Marks(NamedTuple):
    """What is said of an image, one of the three."""

    people: tuple[np.ndarray, ...] = ()  # of each the joints (K, 3): x, y, and above 0 if it is there
    labels: np.ndarray | None = None  # (H, W) uint8, places of classes, IGNORED where none
    boxes: tuple[np.ndarray, ...] = ()  # of each x, y, width and height


@dataclass(frozen=True)
class Pictured:
    """A test image with the truth and with what one trial predicted."""

    arm: str  # its label
    seed: int
    why: str  # best, worst, or most changed: against the control's trial of that seed
    image: int  # its id
    score: float  # the primary metric of this image alone
    control: float  # the same of the control's trial; nan where its statistics are not there
    pixels: np.ndarray  # (H, W, 3) uint8 RGB
    truth: Marks
    found: Marks
    joints: tuple[str, ...]  # names of the K joints


class Read(NamedTuple):
    """Where what a trial left is read, by its id."""

    statistics: Callable[[str], Arrays]
    predictions: Callable[[str], list[dict[str, Any]] | None]


def pictured(
    recipe: Recipe,
    finished: Mapping[str, Mapping[int, str]],
    read: Read,
    score: str,
    data: Path | None,
    allowed: bool = False,
) -> list[Pictured]:
    """Of each arm's first seed with predictions the best, the worst and the most changed image. `finished`: an arm's
    label, the control's first -> seed -> trial. None where the data set is not here, or where neither it nor the caller
    (`allowed`) lets its images be shown.

    Raises:
        StoreError: what a trial left is damaged, or not what the metric reads.
    """
    dataset = build_dataset(recipe.dataset)
    if not (dataset.info.pictures or allowed) or not finished:
        return []
    kept = {arm: _first_kept(trials, read) for arm, trials in finished.items()}
    if not any(kept.values()):
        return []
    try:
        samples_of = {seed: _opened(dataset, seed, data) for seed in {one[0] for one in kept.values() if one}}
    except DataError:
        return []
    control = next(iter(finished.values()))
    names, joints = describe("task", recipe.task.name).facts.get("metrics", ()), tuple(dataset.info.joints or ())
    part = next((str(name) for name in names if describe("metric", str(name)).gives(score)), None)
    found = []
    for arm, (seed, predictions) in ((arm, one) for arm, one in kept.items() if one and part):
        own = _by_image(str(part), read.statistics, finished[arm][seed], score)
        others = _by_image(str(part), read.statistics, control[seed], score) if seed in control else {}
        form = next((form for form in FORMS if any(form in row for row in predictions)), "")
        samples = samples_of[seed]
        truth, marks = _truth(samples, form), _marked(predictions, form)
        for why, image in _notable(own, {} if finished[arm] is control else others) if form else []:
            shown = Pictured(arm, seed, why, image, own[image], others.get(image, math.nan), samples.image(image),
                             truth(image), marks(image), joints)  # fmt: skip
            found.append(shown)
    return found


def _opened(dataset: Dataset[Samples], seed: int, data: Path | None) -> Any:
    return (dataset.of_seed(seed) if isinstance(dataset, Folded) else dataset).open("val", data)


def _first_kept(trials: Mapping[int, str], read: Read) -> tuple[int, list[dict[str, Any]]] | None:
    return next(((seed, rows) for seed, trial in trials.items() if (rows := read.predictions(trial))), None)


def _by_image(part: str, statistics: Callable[[str], Arrays], trial: str, score: str) -> dict[int, float]:
    """The metric of every image by itself, where it has one."""
    own = {key.partition("/")[2]: array for key, array in statistics(trial).items() if key.startswith(f"{part}/")}
    metric = build_metric(part)
    try:
        ids = own["image_ids"].tolist()
        scores = [float(metric.aggregate(own, alone)[score]) for alone in np.eye(len(ids), dtype=np.int64)]
    except Exception as error:  # whatever arrays that another metric left, or nobody, make of it
        raise unfit(trial, error) from None
    return {image: value for image, value in zip(ids, scores, strict=True) if math.isfinite(value)}


def _notable(own: Mapping[int, float], others: Mapping[int, float]) -> list[tuple[str, int]]:
    if not own:
        return []
    changes = {image: abs(score - others[image]) for image, score in own.items() if image in others}
    found = [("best", max(own, key=lambda image: own[image])), ("worst", min(own, key=lambda image: own[image]))]
    return [*found, ("most changed", max(changes, key=lambda image: changes[image]))] if changes else found


def _truth(samples: Any, form: str) -> Callable[[int], Marks]:
    """The truth of an image of an opened split, in the form of the predictions."""
    if form == "labels":
        return lambda image: Marks(labels=samples.labels(image))
    document = samples.instance_truth() if form == "bbox" else samples.ground_truth()
    return _marked(document["annotations"], form)


def _marked(rows: list[dict[str, Any]], form: str) -> Callable[[int], Marks]:
    """What rows of annotations or predictions, in COCO's form or with maps of classes, say of an image."""

    def marks(image: int) -> Marks:
        own = [row for row in rows if row.get("image_id") == image and form in row]
        if form == "labels":
            return Marks(labels=own[0][form] if own else None)
        if form == "keypoints":
            return Marks(people=tuple(np.reshape(row[form], (-1, 3)) for row in own))
        return Marks(boxes=tuple(np.asarray(row[form], dtype=float) for row in own if row.get("score", 1) >= SURE))

    return marks
