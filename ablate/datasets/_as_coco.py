"""People of other annotation formats as a document in COCO's form, which `_coco_people.py` looks at entry by entry."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ablate.datasets import Joints, read_header, refuse, under
from ablate.errors import DataError


class Seen(NamedTuple):
    """A person, an animal or a face, as an annotation file has it."""

    image: str  # under the folder of images
    points: np.ndarray  # (K, 3) x, y and whether they are labelled (0, 1 or 2), pixels of the image from 0
    box: list[float]  # x y w h, pixels
    norm: float | None = None  # the length in pixels that the set measures errors in
    group: str | None = None  # of images that belong together


def as_coco(seen: Iterable[Seen], folder: Path, joints: Joints) -> dict[str, Any]:
    """The document; ids are numbers from 1 in the order of the file, sizes those of the images' headers.

    Raises:
        DataError: images that are missing or damaged (named and counted).
    """
    images: dict[str, dict[str, Any]] = {}
    annotations, problems = [], []
    for number, one in enumerate(seen, start=1):
        if one.image not in images:
            image = {"id": len(images) + 1, "file_name": one.image, "height": 0, "width": 0, "group": one.group}
            images[one.image] = image
            try:
                header = read_header(under(folder, one.image))
                image |= {"height": header.height, "width": header.width}
            except DataError as error:
                problems.append(str(error))
        points = np.where(one.points[:, 2:] > 0, one.points, 0)
        annotation = {
            "id": number,
            "image_id": images[one.image]["id"],
            "category_id": 1,
            "iscrowd": 0,
            "bbox": one.box,
            "area": one.box[2] * one.box[3],
            "keypoints": points.ravel().tolist(),
        }
        annotations.append(annotation if one.norm is None else annotation | {"norm": one.norm})
    refuse(folder, problems)
    categories = [{"id": 1, "name": "person", "keypoints": list(joints)}]
    return {"images": list(images.values()), "annotations": annotations, "categories": categories}
