"""Files of classifications: a list in JSON of images with their most probable classes, best first."""

import json
from pathlib import Path
from typing import Any

from ablate.datasets import Samples, is_whole, refuse
from ablate.errors import DataError

SHOWN = 3  # names of unknown images
FILE = "classifications.json"  # as the task writes it


def read_classifications(place: Path, samples: Samples) -> tuple[list[dict[str, Any]], list[str]]:
    """The predictions of such a file, or of the one in a folder, and remarks on what was passed over.

    Raises:
        DataError: no such file, damaged entries (counted), classes of another set, nothing on the split's images.
    """
    file = place / FILE if place.is_dir() else place
    entries = _entries(file)
    by_name = {samples.name(image_id): image_id for image_id in samples.image_ids()}
    known, place_of = set(by_name.values()), {name: n for n, name in enumerate(samples.info.need_image_classes())}
    refuse(file, [f"entry {n}: {said}" for n, entry in enumerate(entries) if (said := _problem(entry, place_of))])
    found, strange = [], list[str]()
    for entry in entries:
        image_id = int(entry["image_id"]) if "image_id" in entry else by_name.get(entry["name"], -1)
        if image_id in known:
            found.append({"image_id": image_id, "classes": [place_of[name] for name in entry["classes"]]})
        else:
            strange.append(str(entry.get("image_id", entry.get("name"))))
    first = ", ".join(strange[:SHOWN]) + " ..." * (len(strange) > SHOWN)
    if entries and not found:
        raise DataError(f"{file}: no entry on the split's images, but on {first}, among {len(entries)} predictions")
    twice = len(found) - len({entry["image_id"] for entry in found})
    if twice:
        raise DataError(f"{file}: {twice} images are there more than once")
    left_out = f"{len(strange)} predictions are on images that the split does not have ({first}): not scored"
    return found, [left_out] if strange else []


def _entries(file: Path) -> list[Any]:
    try:
        entries = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: is no JSON: {error}") from None
    if not isinstance(entries, list):
        raise DataError(f"{file}: wanted a list of {{image_id or name, classes}}")
    return entries


def _problem(entry: Any, place_of: dict[str, int]) -> str | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("classes"), list) or not entry["classes"]:
        return "has no list of classes"
    if not (is_whole(entry["image_id"]) if "image_id" in entry else isinstance(entry.get("name"), str)):
        return "names no image: neither image_id nor name"
    strange = [name for name in entry["classes"] if not isinstance(name, str) or name not in place_of]
    return f"the set has no class {strange[0]!r}" if strange else None
