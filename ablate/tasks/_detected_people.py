"""People where a detector saw them: the boxes of a COCO results file, for the official test on detections."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from ablate.datasets import NumbersPeople, PeopleSamples, Person, is_whole, refuse, under
from ablate.errors import DataError


@dataclass(frozen=True)
class DetectedPeople:
    """Samples whose boxes come from a detector: no joints, no annotation (id -1), the detector's score."""

    samples: PeopleSamples
    results: list[dict[str, Any]]  # image_id, bbox, score
    left_out: int  # boxes on images that the split does not have

    @classmethod
    def read(cls, samples: PeopleSamples, name: str) -> "DetectedPeople":
        """Boxes of people from a COCO results file under the set's folder; all scores are kept.

        People have the number that the set's own files give them. Boxes of other categories are passed over.

        Raises:
            DataError: no such file, damaged entries (counted), or no box on the split's images.
        """
        if samples.folder is None:
            raise DataError(f"evaluation.detections: the set has no folder that could hold {name}")
        file = under(samples.folder, name)
        categories = categories_of_people(samples)
        try:
            entries = json.loads(file.read_bytes())
            problems = [_category_problem(entry, position) for position, entry in enumerate(entries)]
            refuse(file, [problem for problem in problems if problem])
            people = [entry for entry in entries if entry["category_id"] in categories]
            problems = [_box_problem(entry, position) for position, entry in enumerate(people)]
        except OSError as error:
            raise DataError(f"{file}: {error.strerror}") from None
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataError(f"{file}: not a COCO results file with boxes: {error}") from None
        refuse(file, [problem for problem in problems if problem])
        known = set(samples.image_ids())
        people = [person | {"image_id": int(person["image_id"])} for person in people]
        kept = [person for person in people if person["image_id"] in known]
        if not kept:
            others = sorted({entry["category_id"] for entry in entries} - set(categories))
            own = " or ".join(map(str, categories))
            hint = f"; people are category {own}, there are boxes of {others[:5]}" if others else ""
            raise DataError(f"{file}: no person box on any image of the split{hint}")
        return cls(samples, kept, len(people) - len(kept))

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index: int) -> Person:
        result = self.results[index]
        return {
            "image": self.samples.image(result["image_id"]),
            "box": np.array(result["bbox"], dtype=float),
            "joints": np.zeros((len(self.samples.info.need_joints()), 3)),
            "image_id": result["image_id"],
            "annotation_id": -1,
            "area": float(np.prod(result["bbox"][2:])),
            "score": float(result["score"]),
            "category_id": int(result["category_id"]),
        }


def categories_of_people(samples: object) -> tuple[int, ...]:
    """The numbers that an opened split's own files give the categories of people."""
    return samples.person_categories if isinstance(samples, NumbersPeople) else (1,)


def _category_problem(entry: dict[str, Any], position: int) -> str | None:
    found = entry["category_id"]
    return None if is_whole(found) else f"box {position} has the category_id {found!r}, no whole number"


def _box_problem(entry: dict[str, Any], position: int) -> str | None:
    if not is_whole(entry.get("image_id")):
        return f"person {position} has the image_id {entry.get('image_id')!r}, no whole number"
    try:
        *_, width, height = entry["bbox"]
        sound = np.isfinite([*entry["bbox"], entry["score"]]).all() and min(width, height) > 0
        sound = sound and len(entry["bbox"]) == 4
    except (KeyError, TypeError, ValueError, OverflowError):
        sound = False
    return None if sound else f"person {position} has no score or no box with a width and a height"
