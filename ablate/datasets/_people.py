"""The samples of one split of a set with keypoints, whatever files they were read from.

Who becomes a sample follows the official loader (leoxiaobin/deep-high-resolution-net.pytorch@6f69e4676ad8,
lib/dataset/coco.py): crowds, people without labelled joints and boxes outside the image are skipped, and counted; the
ground truth keeps them all. Of the annotations only arrays stay, which loader processes share.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ablate.datasets import Header, Info, Person, Split, read_header, read_picture, refuse
from ablate.datasets._coco_people import Annotated, Images, clipped, why_skipped
from ablate.errors import DataError

COPIED = ("id", "image_id", "bbox", "area", "keypoints", "iscrowd")


@dataclass(frozen=True)
class People:
    """The people of one split who are trained on or evaluated, one sample each; see `Samples`."""

    info: Info
    split: Split
    folder: Path
    files: tuple[Path, ...]  # of annotations
    image_folder: Path
    images: Images
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
    ) -> "People":
        """The samples among what `read` gives of the `files`; images are looked for unless their folder is given.

        Raises:
            DataError: annotations that are missing or damaged (named and counted), or no image is there.
        """
        found = read()
        verdicts = [why_skipped(person, found.images) for person in found.people]
        kept = [person for person, why in zip(found.people, verdicts, strict=True) if why is None]
        place = {image_id: position for position, image_id in enumerate(found.images)}
        kept.sort(key=lambda person: place[person["image_id"]])  # the official order: image by image
        return cls(
            info=info,
            split=split,
            folder=folder,
            files=files,
            image_folder=image_folder or _image_folder(folder, files[0], found.images),
            images=found.images,
            image_of=np.array([person["image_id"] for person in kept], dtype=np.int64),
            ids=np.array([person["id"] for person in kept], dtype=np.int64),
            category_of=np.array([person["category_id"] for person in kept], dtype=np.int64),
            boxes=np.array([clipped(person, found.images) for person in kept], dtype=float).reshape(-1, 4),
            areas=np.array([person["area"] for person in kept], dtype=float),
            joints=np.array([p["keypoints"] for p in kept], float).reshape(-1, len(info.need_joints()), 3),
            skipped=dict(Counter(why for why in verdicts if why)),
            person_categories=found.categories,
            odd_annotations=tuple(found.remarks),
            read=read,
            vouched=vouched,
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

    def image(self, image_id: int) -> np.ndarray:
        pixels = read_picture(self._file(image_id))
        if problem := self._size_problem(image_id, *pixels.shape[:2]):
            raise DataError(problem)
        return pixels

    def name(self, image_id: int) -> str:
        return "_".join(Path(self.images[image_id].name).with_suffix("").parts)  # folders may share names

    def image_ids(self) -> list[int]:
        return list(self.images)

    def group(self, image_id: int) -> str | None:
        return self.images[image_id].group

    def ground_truth(self) -> dict[str, Any]:
        """See `Samples`; all categories are 1, whatever they are in the files."""
        annotations = [{key: person[key] for key in COPIED} for person in self.read().people]
        for annotation in annotations:
            labelled = sum(value > 0 for value in annotation["keypoints"][2::3])
            annotation |= {"category_id": 1, "num_keypoints": labelled}
        images = [{"id": key, "height": image.height, "width": image.width} for key, image in self.images.items()]
        category = {"id": 1, "name": "person", "keypoints": list(self.info.need_joints())}
        return {"images": images, "annotations": annotations, "categories": [category]}

    def digest(self) -> str:
        """Of the annotations' bytes and the images' names and sizes: quick, as not every image is read."""
        content, missing = hashlib.blake2b(digest_size=8), []
        for file in self.files:
            content.update(file.read_bytes())
        for name in sorted(image.name for image in self.images.values()):
            try:
                content.update(f"{name}:{(self.image_folder / name).stat().st_size}\n".encode())
            except OSError:
                missing.append(f"{name} is missing")
        refuse(self.image_folder, missing)
        return content.hexdigest()

    def check(self, *, thorough: bool = False) -> list[str]:
        empty = self._empty()
        found = dict(self._headers.problems)
        for image_id in self.images if thorough else ():
            try:
                self.image(image_id)
            except DataError as error:
                found.setdefault(image_id, str(error))
        return [*empty, *(found[image_id] for image_id in self.images if image_id in found)]

    def remarks(self) -> list[str]:
        """See `Remarks`: odd annotations, pictures that viewers turn, joints that nobody has."""
        labelled = np.asarray((self.joints[..., 2] > 0).any(axis=0))  # (K,)
        unseen = [joint for joint, seen in zip(self.info.need_joints(), labelled, strict=True) if not seen]
        nowhere = [f"{self.annotations}: nobody has a labelled {', '.join(unseen)}"] if unseen and len(self) else []
        return [*self.odd_annotations, *self._headers.remarks, *nowhere]

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
        return [f"{self.annotations}: nobody to train on or to score; {of}"]

    @property
    def annotations(self) -> Path:
        """The file of annotations, or the folder where several lie."""
        return self.files[0] if len(self.files) == 1 else self.folder

    @cached_property
    def _headers(self) -> "Headers":
        """What the images' headers tell, looked at once."""
        looked = Headers({}, [])
        for image_id in self.images:
            try:
                header = read_header(self._file(image_id))
            except DataError as error:
                looked.problems[image_id] = str(error)
                continue
            if problem := self._size_problem(image_id, header.height, header.width, header):
                looked.problems[image_id] = problem
            elif header.orientation != 1:
                looked.remarks.append(f"{self._file(image_id)}: {header.turned}")
        return looked

    def _file(self, image_id: int) -> Path:
        return self.image_folder / self.images[image_id].name

    def _size_problem(self, image_id: int, height: int, width: int, header: Header | None = None) -> str | None:
        image = self.images[image_id]
        if (height, width) == (image.height, image.width):
            return None
        sizes = f"{height} x {width} pixels (height x width), annotated as {image.height} x {image.width}"
        turned = f"; {header.turned}" if header and header.orientation != 1 else ""
        return f"{self._file(image_id)}: {sizes}{turned}"


@dataclass(frozen=True)
class Headers:
    """What a look at the headers of all images found."""

    problems: dict[int, str]  # by image id
    remarks: list[str]


def _image_folder(folder: Path, annotations: Path, images: Images) -> Path:
    """Where the images lie: COCO's own places first, then simpler ones."""
    split = annotations.stem.rpartition("_")[2]
    places = [folder / place for place in (f"images/{split}", split, "images", ".")]
    places += sorted(path for path in folder.iterdir() if path.is_dir())
    some = [image.name for image in list(images.values())[:50]]
    holding = [place for place in places if any((place / name).is_file() for name in some)]
    if not holding:
        raise DataError(f"{folder}: no image of {annotations.name} in images/, images/{split}/ or {split}/")
    return holding[0]
