"""People where a detector saw them: the boxes of a COCO results file, for the official test on detections."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from ablate.datasets import PeopleSamples, Person, refuse, under
from ablate.errors import DataError


@dataclass(frozen=True)
class DetectedPeople:
    """Samples whose boxes come from a detector: no joints, no annotation (id -1), the detector's score."""

    samples: PeopleSamples
    results: list[dict[str, Any]]  # image_id, bbox, score
    left_out: int  # boxes on images that the split does not have

    @classmethod
    def read(cls, samples: PeopleSamples, name: str) -> "DetectedPeople":
        """Boxes of category 1 from a COCO results file under the set's folder; all scores are kept.

        Raises:
            DataError: no such file, damaged entries (counted), or no box on the split's images.
        """
        if samples.folder is None:
            raise DataError(f"evaluation.detections: the set has no folder that could hold {name}")
        file = under(samples.folder, name)
        try:
            people = [entry for entry in json.loads(file.read_bytes()) if entry["category_id"] == 1]
            problems = [_box_problem(entry, position) for position, entry in enumerate(people)]
        except OSError as error:
            raise DataError(f"{file}: {error.strerror}") from None
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataError(f"{file}: not a COCO results file with boxes: {error}") from None
        refuse(file, [problem for problem in problems if problem])
        known = set(samples.image_ids())
        kept = [person for person in people if person["image_id"] in known]
        if not kept:
            raise DataError(f"{file}: no person box on any image of the split")
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
        }


def _box_problem(entry: dict[str, Any], position: int) -> str | None:
    try:
        *_, width, height = entry["bbox"]
        sound = np.isfinite([*entry["bbox"], entry["score"]]).all() and min(width, height) > 0
        sound = sound and len(entry["bbox"]) == 4 and isinstance(entry["image_id"], int)
    except (KeyError, TypeError, ValueError, OverflowError):
        sound = False
    return None if sound else f"person {position} has no image, no score or no box with a width and a height"
