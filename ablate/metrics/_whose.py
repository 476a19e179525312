"""Whose prediction is whose: what metrics of distances share."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np


class Whose(NamedTuple):
    """An annotated person with the prediction that is theirs."""

    annotation: dict[str, Any]
    size: float  # pixels, in which errors are measured
    errors: np.ndarray  # (K,) distances in pixels; infinite where nobody was found or the joint is not labelled
    confidence: np.ndarray  # (K,) of the predicted joints; 0 where nobody was found


def matched(
    predictions: list[dict[str, Any]],
    ground_truth: dict[str, Any],
    ids: Sequence[int],
    *,
    size: Callable[[dict[str, Any]], float],
) -> Iterator[Whose]:
    """The people who have a size and are no crowds, image by image in the order of `ids`.

    A prediction that names its annotation is that person's; others, best first, go to whoever is nearest, in units of
    their size and on average over the labelled joints, and has none yet.
    """
    people, found = defaultdict(list), defaultdict(list)
    for annotation in ground_truth["annotations"]:
        measure = size(annotation)
        if measure and not annotation.get("iscrowd", 0):
            people[annotation["image_id"]].append((annotation, measure))
    for prediction in sorted(predictions, key=lambda p: -p["score"]):
        found[prediction["image_id"]].append(prediction)
    for image_id in ids:
        yield from _of_image(people[image_id], found[image_id])


def _of_image(people: list[tuple[dict[str, Any], float]], found: list[dict[str, Any]]) -> list[Whose]:
    table = {}
    for annotation, size in people:
        nobody = np.full(len(annotation["keypoints"]) // 3, np.inf)
        table[annotation["id"]] = Whose(annotation, size, nobody, np.zeros(len(nobody)))
    free = dict(table)
    for prediction in found:
        own = prediction.get("annotation_id", -1)
        errors = {key: _errors(prediction, person.annotation) for key, person in free.items() if own < 0 or key == own}
        if errors:
            nearest = min(errors, key=lambda key: float(np.nanmean(errors[key] / free[key].size)))
            free.pop(nearest)
            confidence = np.array(prediction["keypoints"][2::3], dtype=float)
            table[nearest] = table[nearest]._replace(
                errors=np.nan_to_num(errors[nearest], nan=np.inf), confidence=confidence
            )
    return list(table.values())


def _errors(prediction: dict[str, Any], annotation: dict[str, Any]) -> np.ndarray:
    """Distances (K,) in pixels; nan where the joint is not labelled."""
    points, truth = (np.array(p["keypoints"], dtype=float).reshape(-1, 3) for p in (prediction, annotation))
    errors = np.linalg.norm(points[:, :2] - truth[:, :2], axis=1)
    return np.where(truth[:, 2] > 0, errors, np.nan)
