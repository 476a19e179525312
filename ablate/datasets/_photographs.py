"""The photographs of a COCO file: where they lie, what they are called, and what is wrong with them."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ablate.datasets._coco_file import Images
from ablate.datasets._files import Header, read_header, read_picture, refuse
from ablate.datasets._kept import picture
from ablate.errors import DataError


@dataclass(frozen=True)
class Headers:
    """What a look at the headers of all images found."""

    problems: dict[int, str]  # by image id
    remarks: list[str]


@dataclass(frozen=True)
class Photographs:
    """The images that a file of annotations lists, and the folder that they are in."""

    folder: Path
    images: Images

    @classmethod
    def of(cls, folder: Path, annotations: Path, images: Images) -> "Photographs":
        """Those of a set's folder, in COCO's own places or in simpler ones. Raises DataError."""
        return cls(_image_folder(folder, annotations, images), images)

    def image(self, image_id: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB. Raises DataError."""
        return self._sized(image_id, picture(self.file(image_id)))

    def name(self, image_id: int) -> str:
        """Its name without the ending, and with its folders', which may share names."""
        return "_".join(Path(self.images[image_id].name).with_suffix("").parts)

    def file(self, image_id: int) -> Path:
        """Where it lies."""
        return self.folder / self.images[image_id].name

    def digest(self, files: tuple[Path, ...]) -> str:
        """Of the annotations' bytes and the images' names and sizes: quick, as not every image is read.

        Raises:
            DataError: images are missing.
        """
        content, missing = hashlib.blake2b(digest_size=8), []
        for file in files:
            content.update(file.read_bytes())
        for name in sorted(image.name for image in self.images.values()):
            try:
                content.update(f"{name}:{(self.folder / name).stat().st_size}\n".encode())
            except OSError:
                missing.append(f"{name} is missing")
        refuse(self.folder, missing)
        return content.hexdigest()

    def check(self, *, thorough: bool = False) -> list[str]:
        """One line for each image that is missing, damaged or of another size; thorough decodes them all."""
        found = dict(self.headers.problems)
        for image_id in self.images if thorough else ():
            try:
                self._sized(image_id, read_picture(self.file(image_id)))
            except DataError as error:
                found.setdefault(image_id, str(error))
        return [found[image_id] for image_id in self.images if image_id in found]

    @cached_property
    def headers(self) -> Headers:
        """What the images' headers tell, looked at once."""
        looked = Headers({}, [])
        for image_id in self.images:
            try:
                header = read_header(self.file(image_id))
            except DataError as error:
                looked.problems[image_id] = str(error)
                continue
            if problem := self._size_problem(image_id, header.height, header.width, header):
                looked.problems[image_id] = problem
            elif header.orientation != 1:
                looked.remarks.append(f"{self.file(image_id)}: {header.turned}")
        return looked

    def _sized(self, image_id: int, pixels: np.ndarray) -> np.ndarray:
        if problem := self._size_problem(image_id, *pixels.shape[:2]):
            raise DataError(problem)
        return pixels

    def _size_problem(self, image_id: int, height: int, width: int, header: Header | None = None) -> str | None:
        image = self.images[image_id]
        if (height, width) == (image.height, image.width):
            return None
        sizes = f"{height} x {width} pixels (height x width), annotated as {image.height} x {image.width}"
        turned = f"; {header.turned}" if header and header.orientation != 1 else ""
        return f"{self.file(image_id)}: {sizes}{turned}"


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
