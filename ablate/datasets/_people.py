"""The samples of one split of a set with keypoints, whatever files they were read from.

Who becomes a sample follows the official loader (leoxiaobin/deep-high-resolution-net.pytorch@6f69e4676ad8,
lib/dataset/coco.py): crowds, people without labelled joints and boxes outside the image are skipped, and counted; the
ground truth keeps them all. Of the annotations only arrays stay, which loader processes share.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ablate.datasets import Info, PeopleOfImage, Person, Split, refuse
from ablate.datasets._coco_file import Images, entry_name
from ablate.datasets._coco_people import Annotated, clipped, why_skipped
from ablate.datasets._masks import mask_problem
from ablate.datasets._photographs import Photographs
from ablate.errors import DataError

ServerFile = Callable[[list[dict[str, Any]], list[dict[str, Any]], Path], None]  # predictions, annotations, folder
COPIED = ("id", "image_id", "bbox", "area", "keypoints", "iscrowd")


@dataclass(frozen=True)
class People:
    """The people of one split who are trained on or evaluated, one sample each; see `Samples`."""

    info: Info
    split: Split
    folder: Path
    files: tuple[Path, ...]  # of annotations
    photographs: Photographs
    image_of: np.ndarray  # (N,) image ids
    ids: np.ndarray  # (N,) annotation ids
    category_of: np.ndarray  # (N,) the numbers that the files give their categories
    boxes: np.ndarray  # (N, 4) x y w h, clipped to the image
    areas: np.ndarray  # (N,)
    joints: np.ndarray  # (N, K, 3)
    skipped: dict[str, int]
    person_categories: tuple[int, ...]  # in the annotation file, and in other files of the set
    odd_annotations: tuple[str, ...]  # remarks
    read: Callable[[], Annotated]  # the annotations again: nothing of them is kept during training
    server_file: "ServerFile | None" = None  # what writes predictions in the form of the set's own server
    vouched: bool = False  # a declared digest is the catalog's, of files that were looked at

    @classmethod
    def of(
        cls,
        info: Info,
        split: Split,
        folder: Path,
        files: tuple[Path, ...],
        read: Callable[[], Annotated],
        *,
        image_folder: Path | None = None,
        vouched: bool = False,
        clip: bool = True,
        labelled: bool = True,
        server_file: "ServerFile | None" = None,
    ) -> "People":
        """The samples among what `read` gives of the `files`; images are looked for unless their folder is given.

        With `clip` boxes are cut to the image, as COCO's officially are. Of a split that is not `labelled` everybody in
        a box is a sample, to predict for and not to score.

        Raises:
            DataError: annotations that are missing or damaged (named and counted), or no image is there.
        """
        found = read()
        verdicts = [why_skipped(person, found.images, labelled=labelled) for person in found.people]
        kept = [person for person, why in zip(found.people, verdicts, strict=True) if why is None]
        place = {image_id: position for position, image_id in enumerate(found.images)}
        kept.sort(key=lambda person: place[person["image_id"]])  # the official order: image by image
        return cls(
            info=info,
            split=split,
            folder=folder,
            files=files,
            photographs=(
                Photographs(image_folder, found.images)
                if image_folder
                else Photographs.of(folder, files[0], found.images)
            ),
            image_of=np.array([person["image_id"] for person in kept], dtype=np.int64),
            ids=np.array([person["id"] for person in kept], dtype=np.int64),
            category_of=np.array([person["category_id"] for person in kept], dtype=np.int64),
            boxes=np.array(
                [clipped(person, found.images) if clip else person["bbox"] for person in kept], dtype=float
            ).reshape(-1, 4),
            areas=np.array([person["area"] for person in kept], dtype=float),
            joints=np.array([p["keypoints"] for p in kept], float).reshape(-1, len(info.need_joints()), 3),
            skipped=dict(Counter(why for why in verdicts if why)),
            person_categories=found.categories,
            odd_annotations=tuple(found.remarks),
            read=read,
            vouched=vouched,
            server_file=server_file,
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Person:
        return {
            "image": self.image(int(self.image_of[index])),
            "box": self.boxes[index],
            "joints": self.joints[index],
            "image_id": int(self.image_of[index]),
            "annotation_id": int(self.ids[index]),
            "area": float(self.areas[index]),
            "score": 1.0,
            "category_id": int(self.category_of[index]),
        }

    def by_image(self) -> dict[int, PeopleOfImage]:
        """See `PeopleByImage`; who has no mask is ignored within their box."""
        people, images = self.read().people, self.images
        refuse(
            self.annotations,
            [
                problem
                for person in people
                if (problem := mask_problem(person.get("segmentation"), entry_name(person), images[person["image_id"]]))
            ],
        )
        of_image: dict[int, list[dict[str, Any]]] = {}
        for person in people:
            of_image.setdefault(person["image_id"], []).append(person)
        count = len(self.info.need_joints())
        return {key: _of_image(of_image[key], count) for key in images if key in of_image}

    def image(self, image_id: int) -> np.ndarray:
        return self.photographs.image(image_id)

    def name(self, image_id: int) -> str:
        return self.photographs.name(image_id)

    @property
    def images(self) -> Images:
        """What the files say of each image."""
        return self.photographs.images

    def image_ids(self) -> list[int]:
        return list(self.images)

    def group(self, image_id: int) -> str | None:
        return self.images[image_id].group

    def ground_truth(self) -> dict[str, Any]:
        """See `Samples`; all categories are 1, whatever they are in the files."""
        kept = (*COPIED, "norm")  # the length in pixels that the set measures errors in, where it gives one
        annotations = [{key: person[key] for key in kept if key in person} for person in self.read().people]
        unscored = self.info.need_joints().unscored
        for annotation in annotations:
            if unscored:
                points = np.array(annotation["keypoints"], dtype=float).reshape(-1, 3)
                points[list(unscored), 2] = 0
                annotation["keypoints"] = points.ravel().tolist()
            labelled = sum(value > 0 for value in annotation["keypoints"][2::3])
            annotation |= {"category_id": 1, "num_keypoints": labelled}
        images = [{"id": key, "height": image.height, "width": image.width} for key, image in self.images.items()]
        category = {"id": 1, "name": "person", "keypoints": list(self.info.need_joints())}
        return {"images": images, "annotations": annotations, "categories": [category]}

    def write_people(self, predictions: list[dict[str, Any]], folder: Path) -> None:
        """See `WritesPeople`."""
        if self.server_file:
            self.server_file(predictions, self.read().people, folder)

    def digest(self) -> str:
        return self.photographs.digest(self.files)

    def check(self, *, thorough: bool = False) -> list[str]:
        return [*self._empty(), *self.photographs.check(thorough=thorough)]

    def remarks(self) -> list[str]:
        """See `Remarks`: odd annotations, pictures that viewers turn, joints that nobody has."""
        labelled = np.asarray((self.joints[..., 2] > 0).any(axis=0))  # (K,)
        unseen = [joint for joint, seen in zip(self.info.need_joints(), labelled, strict=True) if not seen]
        nowhere = [f"{self.annotations}: no person has a labelled {', '.join(unseen)}"] if unseen and len(self) else []
        return [*self.odd_annotations, *self.photographs.headers.remarks, *nowhere]

    def verify(self) -> str:
        """Files are looked at one by one only where the catalog's digest does not vouch for them."""
        found = self.digest()
        declared = self.info.declared(self.split)
        if found == declared and self.vouched:
            return found
        refuse(self.folder, self.check())
        if declared and found != declared:
            raise DataError(
                f"{self.folder}: the {self.split} split's content is {found}, declared is {declared}; "
                f"a set of your own needs its own dataset.version or folder name"
            )
        return found

    def _empty(self) -> list[str]:
        if (self.joints[..., 2] > 0).any():
            return []
        kinds = [f"{count} {why}" for why, count in self.skipped.items()]
        kinds += [f"{len(self)} without a labelled joint"] if len(self) else []
        of = f"its annotations of people are: {', '.join(kinds)}" if kinds else "it has no annotation of people"
        return [f"{self.annotations}: no person to train on or to score; {of}"]

    @property
    def annotations(self) -> Path:
        """The file of annotations, or the folder where several lie."""
        return self.files[0] if len(self.files) == 1 else self.folder


def _of_image(people: list[dict[str, Any]], count: int) -> PeopleOfImage:
    """Officially a crowd that has labelled joints is both (HigherHRNet, lib/dataset/COCOKeypoints.py)."""
    labelled = [person for person in people if any(person["keypoints"][2::3])]
    ignored = [person for person in people if person["iscrowd"] or not any(person["keypoints"][2::3])]
    return {
        "joints": np.array([person["keypoints"] for person in labelled], float).reshape(-1, count, 3),
        "ignored": [person.get("segmentation") or _outline(person["bbox"]) for person in ignored],
    }


def _outline(box: list[float]) -> list[list[float]]:
    """A box, x y w h, as a mask of one polygon."""
    x, y, width, height = box
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]
