"""A data set of your own for segmentation, as a plug-in. It draws its pictures, so that it runs as it is; read yours
where a comment says so.

Images and label maps in plain folders need no plug-in: `ablate list knobs label_folder`. Neither do COCO's layout
(coco_pose) and Cityscapes' (cityscapes).
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ablate.datasets import Info, Split
from ablate.registry import dataset

CLASSES = ("ground", "box", "disc")
SIZE = 64  # height and width of a picture, pixels


# The function's keyword arguments are the set's knobs: a study sets them as `dataset: {name: my_dataset, train: 200}`.
# Defaults are literals, and the comment on a knob's line is its documentation. `tasks` are those that it has labels
# for. Raise `meaning` whenever the same files would give other samples: older results then count as another set's.
@dataset("my_dataset", meaning=1, tasks=("segmentation",))
def my_dataset(
    *,
    train: int = 64,  # pictures in the training split
    val: int = 32,  # pictures in the evaluation split
) -> "MyDataset":
    """Boxes and discs on the ground."""
    info = Info(
        name="my_dataset",
        version=None,  # the content that you declare, as `digest` prints it, "train-val"; it is checked then
        licence="mine",
        source="drawn",
        sizes={"train": train, "val": val},  # samples
        images={"train": train, "val": val},
        size=(SIZE, SIZE),  # None where pictures differ in size
        classes=CLASSES,
        categories=("ground", "thing", "thing"),  # what each class is a kind of
        label_ids=(0, 1, 2),  # the numbers that stand for the classes in files
    )
    return MyDataset(info)


@dataclass(frozen=True)
class MyDataset:
    """What is known of the set before a file is seen, and its splits."""

    info: Info

    def open(self, split: Split, root: Path | None = None) -> "Pictures":
        """One split; `root` is the folder given by --data, where yours would look for files."""
        return Pictures(self.info, split)


@dataclass(frozen=True)
class Pictures:
    """One split, with `len` and indexing."""

    info: Info
    split: Split
    folder: Path | None = None  # where the set lies; none, for it has no files
    skipped: dict[str, int] = field(default_factory=dict)  # what is left out: reason -> count

    def __len__(self) -> int:
        return (self.info.sizes or {})[self.split]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample: the image (H, W, 3) uint8 RGB and the class of each pixel (H, W) uint8, 255 where not labelled."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        image, labels = self.labelled_image(index + 1)
        return {"image": image, "labels": labels, "image_id": index + 1}

    def labelled_image(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Read your image and its label map here, for instance by `ablate.datasets.read_picture`."""
        rng = np.random.default_rng([self.split == "val", image_id])
        rows, columns = np.mgrid[:SIZE, :SIZE]
        labels = np.zeros((SIZE, SIZE), np.uint8)
        for thing in (1, 2):
            (y, x), radius = rng.integers(8, SIZE - 8, 2), rng.integers(6, 16)
            across, down = np.abs(columns - x), np.abs(rows - y)
            inside = np.maximum(across, down) < radius if thing == 1 else across**2 + down**2 < radius**2
            labels[inside] = thing
        colours = rng.integers(40, 216, (len(CLASSES), 3))
        noise = rng.normal(0, 20, (SIZE, SIZE, 3))
        return np.clip(colours[labels] + noise, 0, 255).astype(np.uint8), labels

    def image(self, image_id: int) -> np.ndarray:
        return self.labelled_image(image_id)[0]

    def labels(self, image_id: int) -> np.ndarray:
        return self.labelled_image(image_id)[1]

    def name(self, image_id: int) -> str:
        """What a file of predictions for this image is called, without its ending."""
        return f"{self.split}_{image_id:06d}"

    def image_ids(self) -> list[int]:
        return list(range(1, len(self) + 1))

    def ground_truth(self) -> dict[str, Any]:
        """The images of the split; metrics of segmentation read the labels themselves."""
        return {"images": [{"id": image_id, "file_name": self.name(image_id)} for image_id in self.image_ids()]}

    def digest(self) -> str:
        """16 hexadecimal digits of the split's content: results of different files are not compared."""
        content = hashlib.blake2b(digest_size=8)
        for image_id in self.image_ids():
            for array in self.labelled_image(image_id):
                content.update(array.tobytes())
        return content.hexdigest()

    def check(self, *, thorough: bool = False) -> list[str]:
        """One line for each thing that is wrong with the files; `thorough` reads every one."""
        return []

    def verify(self) -> str:
        """The digest, of files that are as they should be; `ablate.errors.DataError` otherwise."""
        return self.digest()
