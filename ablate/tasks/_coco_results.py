"""People in a COCO results file, as any system writes them for the evaluation server.

The file is a list of {image_id, category_id, keypoints, score}; what else an entry holds is nobody's business here.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ablate.datasets import Samples, is_whole, refuse
from ablate.errors import DataError
from ablate.tasks._detected_people import categories_of_people

OURS = "keypoints_results.json"  # as the task writes it
FIELDS = ("image_id", "category_id", "keypoints", "score")


def read_people_results(place: Path, samples: Samples) -> tuple[list[dict[str, Any]], list[str]]:
    """The predictions of a results file, or of the one such file in a folder, and remarks on what was passed over.

    Raises:
        DataError: no such file, damaged entries (counted), another number of joints, nobody on the split's images.
    """
    file = _file(place)
    joints, known = samples.info.need_joints(), set(samples.image_ids())
    categories = categories_of_people(samples)
    own = " or ".join(map(str, categories))
    try:
        entries = json.loads(file.read_bytes())
        if not isinstance(entries, list):
            raise TypeError(f"a {type(entries).__name__}, wanted a list of predictions")
        refuse(file, [p for place, entry in enumerate(entries) if (p := _problem(entry, place, len(joints)))])
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{file}: not a COCO results file with keypoints: {error}") from None
    people = [entry for entry in entries if entry["category_id"] in categories]
    kept = [
        {field: entry[field] for field in FIELDS} | {"image_id": int(entry["image_id"]), "category_id": 1}
        for entry in people
        if int(entry["image_id"]) in known
    ]
    if entries and not kept:
        what = f"no entry of category {own}, the set's people" if not people else "no entry on the split's images"
        raise DataError(f"{file}: {what}, among {len(entries)} predictions")
    left_out = {
        f"are of other categories than {own}, the set's people": len(entries) - len(people),
        "are on images that the split does not have": len(people) - len(kept),
    }
    return kept, [f"{count} predictions {why}: not scored" for why, count in left_out.items() if count]


def _file(place: Path) -> Path:
    if not place.is_dir():
        return place
    if (place / OURS).is_file():
        return place / OURS
    files = sorted(place.glob("*.json"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files[:3])
        there = f"{len(files)} ({names})" if files else "none"
        raise DataError(f"{place}: wanted one COCO results file, *.json, in the folder; there is {there}")
    return files[0]


def _problem(entry: Any, place: int, joints: int) -> str | None:
    """Why an entry cannot be a prediction of a person."""
    if not isinstance(entry, dict):
        return f"entry {place} is a {type(entry).__name__}"
    absent = [field for field in FIELDS if field not in entry]
    if absent:
        return f"entry {place} has no {absent[0]!r}"
    wrong = [field for field in FIELDS[:2] if not is_whole(entry[field])]
    if wrong:
        return f"entry {place} has the {wrong[0]} {entry[wrong[0]]!r}, no whole number"
    points = entry["keypoints"]
    if not isinstance(points, list) or len(points) != 3 * joints:
        count = len(points) if isinstance(points, list) else "no list of"
        return f"entry {place} has {count} keypoint numbers; {joints} joints, as the set has, are {3 * joints}"
    try:
        sound = bool(np.isfinite([*points, entry["score"]]).all())
    except (TypeError, ValueError, OverflowError):
        sound = False
    return None if sound else f"entry {place} has a keypoint or a score that is no finite number"
