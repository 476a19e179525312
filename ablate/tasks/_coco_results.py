"""COCO's results files, as any system writes them for the evaluation server.

The file is a list of {image_id, category_id, keypoints or bbox or segmentation, score}; what else an entry holds is not
read.
"""

import json
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as runs

from ablate.datasets import InstanceSamples, Samples, WritesPeople, as_runs, is_whole, refuse, visible
from ablate.errors import DataError
from ablate.tasks._detected_people import categories_of_people

PEOPLE = "keypoints_results.json"  # as the tasks write them
INSTANCES = "instances_results.json"
SHOWN = 3  # ids of unknown images
FIELDS = ("image_id", "category_id", "keypoints", "score")
NEAREST = "PCK and distances give each, best first, to the nearest person who has none yet"


def read_people_results(place: Path, samples: Samples) -> tuple[list[dict[str, Any]], list[str]]:
    """The predictions of a results file, or of the one such file in a folder, and remarks on what was passed over.

    Raises:
        DataError: no such file, damaged entries (counted), another number of joints, nobody on the split's images.
    """
    file = _file(place, PEOPLE)
    joints, known = samples.info.need_joints(), set(samples.image_ids())
    categories = categories_of_people(samples)
    own = " or ".join(map(str, categories))
    entries = _entries(file, "keypoints", lambda entry, place: _problem(entry, place, len(joints)))
    of_people = [entry for entry in entries if entry["category_id"] in categories]
    kept = [
        {field: entry[field] for field in FIELDS} | {"image_id": int(entry["image_id"]), "category_id": 1}
        for entry in of_people
        if int(entry["image_id"]) in known
    ]
    if entries and not kept:
        what = f"no entry of category {own}, the set's people" if not of_people else _strange(of_people, known)
        raise DataError(f"{file}: {what}, among {len(entries)} predictions")
    left_out = {
        f"are of other categories than {own}, the set's people": len(entries) - len(of_people),
        f"are on images that the split does not have ({_ids(of_people, known)})": len(of_people) - len(kept),
    }
    notes = [f"{count} predictions {why}: not scored" for why, count in left_out.items() if count]
    if kept:
        notes.append(f"the file does not say which person a prediction is of: {NEAREST}")
    if kept and all(value in (0, 1, 2) for entry in kept for value in entry["keypoints"][2::3]):
        notes.append("its joints have 0, 1 or 2 for their confidence: RMSE_cut and pixel_error_cut say nothing")
    if kept and all(0 <= value <= 1 for entry in kept for at in (0, 1) for value in entry["keypoints"][at::3]):
        notes.append("its keypoints are all between 0 and 1: COCO's are pixels of the image, no shares of its size")
    people: Any = samples.ground_truth()["annotations"]
    annotated = [one for one in people if any(one["keypoints"][2::3])]
    return kept, [*notes, *_missing(kept, annotated, "people"), *_repeated(kept, "keypoints")]


def write_people_results(predictions: list[dict[str, Any]], samples: Samples, folder: Path) -> None:
    """The same file, and the set's own where its server takes another; people have the set's own numbers."""
    default = categories_of_people(samples)[0]
    people = [
        {field: prediction[field] for field in FIELDS}
        | {"category_id": own if (own := prediction.get("category", -1)) >= 0 else default}
        for prediction in predictions
    ]
    (folder / PEOPLE).write_text(json.dumps(people))
    if isinstance(samples, WritesPeople):
        samples.write_people(predictions, folder)


def read_instance_results(place: Path, samples: InstanceSamples) -> tuple[list[dict[str, Any]], list[str]]:
    """The same of instances with boxes, masks or both; a box that is missing is the mask's.

    Raises:
        DataError: no such file, damaged entries (counted), nothing on the split's images.
    """
    file = _file(place, INSTANCES)
    images: Any = samples.instance_truth()["images"]
    sizes = {int(image["id"]): (image["height"], image["width"]) for image in images}
    places = {number: place + 1 for place, number in enumerate(samples.category_numbers)}
    entries = _entries(file, "boxes", _instance_problem)
    masks = sum(bool(entry.get("segmentation")) for entry in entries)
    if 0 < masks < len(entries):
        raise DataError(
            f"{file}: {masks} of {len(entries)} predictions have a segmentation; wanted one of each, or none"
        )
    known = [entry for entry in entries if int(entry["image_id"]) in sizes]
    kept = [entry for entry in known if int(entry["category_id"]) in places]
    if entries and not kept:
        what = "no entry of the set's categories" if known else _strange(entries, sizes)
        raise DataError(f"{file}: {what}, among {len(entries)} predictions")
    found = []
    for entry in kept:
        own: dict[str, Any] = {"image_id": int(entry["image_id"]), "category_id": places[int(entry["category_id"])]}
        own |= {"score": entry["score"], "bbox": entry.get("bbox")}
        if entry.get("segmentation"):
            own["segmentation"] = _runs(entry["segmentation"], sizes[own["image_id"]], file)
        own["bbox"] = own["bbox"] or runs.toBbox(own["segmentation"]).tolist()
        found.append(own)
    left_out = {
        f"are on images that the split does not have ({_ids(entries, sizes)})": len(entries) - len(known),
        "are of other categories than the set's": len(known) - len(kept),
    }
    notes = [f"{count} predictions {why}: not scored" for why, count in left_out.items() if count]
    beyond = sum(_beyond(one["bbox"], sizes[one["image_id"]]) for one in found)
    if 10 * beyond > len(found):
        notes.append(f"{beyond} boxes end far outside their image: COCO's are left, top, width, height")
    missing = _missing(found, samples.instance_truth()["annotations"], "instances")
    return found, [*notes, *missing, *_repeated(found, "bbox", "segmentation")]


def _beyond(box: list[float], size: tuple[int, int]) -> bool:
    """Whether a box ends more than a tenth of its image outside, as corners do that are taken for sizes."""
    return box[0] + box[2] > 1.1 * size[1] or box[1] + box[3] > 1.1 * size[0]


def _missing(found: list[dict[str, Any]], annotated: Any, what: str) -> list[str]:
    """A remark where images with annotations have no prediction, as in a file of a part of the split."""
    wanted = {one["image_id"] for one in annotated if not one.get("iscrowd", 0)}
    without = len(wanted - {one["image_id"] for one in found})
    return [f"nothing is predicted on {without} of the {len(wanted)} images with {what}"] if without else []


def _repeated(found: list[dict[str, Any]], *shape: str) -> list[str]:
    """A remark where predictions are there twice, as in files of several processes that were joined."""
    different = {str([one["image_id"], one["category_id"], *map(one.get, shape)]) for one in found}
    again = len(found) - len(different)
    return [f"{again} predictions repeat another one of the same image: they count as false positives"] if again else []


def _ids(entries: list[dict[str, Any]], known: Container[int]) -> str:
    """The first ids of images that are not known."""
    unknown = dict.fromkeys(number for entry in entries if (number := int(entry["image_id"])) not in known)
    return ", ".join(map(str, [*unknown][:SHOWN])) + (" ..." if len(unknown) > SHOWN else "")


def _strange(entries: list[dict[str, Any]], known: Container[int]) -> str:
    return f"no entry on the split's images, but on {_ids(entries, known)}"


def _entries(file: Path, what: str, problem: Callable[[Any, int], str | None]) -> list[dict[str, Any]]:
    try:
        entries = json.loads(file.read_bytes())
        if not isinstance(entries, list):
            raise TypeError(f"a {type(entries).__name__}, wanted a list of predictions")
        refuse(file, [found for place, entry in enumerate(entries) if (found := problem(entry, place))])
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{file}: not a COCO results file with {what}: {error}") from None
    return entries


def _runs(mask: Any, size: tuple[int, int], file: Path) -> Any:
    """A mask in any of COCO's forms as compressed runs over its image. Raises DataError."""
    try:
        if isinstance(mask, dict) and tuple(mask["size"]) != size:
            raise ValueError(f"a mask of {mask['size']} on an image of {list(size)}")
        if isinstance(mask, list) and min(map(len, mask)) < 6:
            raise ValueError("a polygon of fewer than three points")
        found = as_runs(mask, *size)
        text = found["counts"].decode() if isinstance(found["counts"], bytes) else found["counts"]
        return {"size": list(found["size"]), "counts": text}  # as files have it
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise DataError(f"{file}: a segmentation that is none of its image: {error}") from None


def ignored_pixels(masks: list[Any], size: tuple[int, ...]) -> np.ndarray:
    """(H, W) uint8 of an image, 1 within any of these masks."""
    inside = np.zeros(size, np.uint8)
    for mask in masks:
        inside |= runs.decode(as_runs(mask, *size))
    return inside


def _file(place: Path, ours: str) -> Path:
    if not place.is_dir():
        return place
    if (place / ours).is_file():
        return place / ours
    files = visible(place.glob("*.json"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files[:3])
        there = f"{len(files)} ({names})" if files else "none"
        raise DataError(f"{place}: wanted one COCO results file, *.json, in the folder; there is {there}")
    return files[0]


def _problem(entry: Any, place: int, joints: int) -> str | None:
    """Why an entry cannot be a prediction of a person."""
    if found := _field_problem(entry, place, FIELDS):
        return found
    points = entry["keypoints"]
    if not isinstance(points, list) or len(points) != 3 * joints:
        count = len(points) if isinstance(points, list) else "no list of"
        return f"entry {place} has {count} keypoint numbers; {joints} joints, as the set has, are {3 * joints}"
    sound = _are_finite([*points, entry["score"]])
    return None if sound else f"entry {place} has a keypoint or a score that is no finite number"


def _instance_problem(entry: Any, place: int) -> str | None:
    """Why an entry cannot be a prediction of an instance."""
    if found := _field_problem(entry, place, ("image_id", "category_id", "score")):
        return found
    box = entry.get("bbox")
    if box is None and not entry.get("segmentation"):
        return f"entry {place} has neither a 'bbox' nor a 'segmentation'"
    if box is not None and (not isinstance(box, list) or len(box) != 4):
        return f"entry {place} has the bbox {box!r}, not four numbers"
    if not _are_finite([*(box or []), entry["score"]]):
        return f"entry {place} has a box or a score that is no finite number"
    return f"entry {place} has the bbox {box!r}, of a negative size" if box and min(box[2:]) < 0 else None


def _field_problem(entry: Any, place: int, fields: tuple[str, ...]) -> str | None:
    if not isinstance(entry, dict):
        return f"entry {place} is a {type(entry).__name__}"
    absent = [field for field in fields if field not in entry]
    if absent:
        return f"entry {place} has no {absent[0]!r}"
    wrong = [field for field in fields[:2] if not is_whole(entry[field])]
    return f"entry {place} has the {wrong[0]} {entry[wrong[0]]!r}, no whole number" if wrong else None


def _are_finite(numbers: list[Any]) -> bool:
    try:
        return bool(np.isfinite(numbers).all())
    except (TypeError, ValueError, OverflowError):
        return False
