"""Pictures of no data set: predicted for, and drawn on with what was predicted.

A pose network looks at people in boxes; without any it takes each picture for one person.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ablate import registry
from ablate.datasets import (
    IGNORED,
    Info,
    InstancesOfImage,
    LabelledImage,
    Person,
    Samples,
    build_dataset,
    is_whole,
    read_picture,
    refuse,
    visible,
)
from ablate.errors import DataError, PartError
from ablate.evaluation.asked import Asked, Settings
from ablate.study import Part
from ablate.tasks import Prediction, build_protocol, build_task
from ablate.tasks._coco_results import ignored_pixels

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".gif")
LIMBS = (  # of the joints that have these names; a side stands for left and right
    ("SIDE_shoulder", "SIDE_elbow"), ("SIDE_elbow", "SIDE_wrist"), ("SIDE_hip", "SIDE_knee"),
    ("SIDE_knee", "SIDE_ankle"), ("SIDE_shoulder", "SIDE_hip"), ("nose", "SIDE_eye"), ("SIDE_eye", "SIDE_ear"),
    ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"), ("neck", "head_top"), ("neck", "SIDE_shoulder"),
)  # fmt: skip
LEAST = 0.2  # confidence of a joint that is drawn
SURE = 0.3  # score of a box that is drawn; all are written
USUAL = {"image_folder": 1000, "coco_instances": 80}  # classes of sets that need no names of them
COLOURS = {"left": (255, 140, 0), "right": (0, 150, 255), "": (60, 220, 90)}  # RGB
OPAQUE = 0.55  # of a mask over the picture


@dataclass(frozen=True)
class Pictures:
    """Samples without annotations; see `Samples`. Of people those in the boxes, or each whole picture."""

    info: Info
    files: tuple[Path, ...]
    boxes: tuple[tuple[int, tuple[float, ...], float], ...] = ()  # image id, x y w h, score; none: whole pictures
    folder: Path | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def numbered(self) -> dict[int, Path]:
        """The files by image id: the numbers that they are called by, if all are, else 1, 2, 3 ..."""
        stems = [file.stem for file in self.files]
        if all(stem.isdecimal() for stem in stems) and len({int(stem) for stem in stems}) == len(stems):
            return {int(file.stem): file for file in self.files}
        return dict(enumerate(self.files, start=1))

    def __len__(self) -> int:
        return len(self.boxes) or len(self.files)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._person(index) if self.info.joints else self._labelled(self.image_ids()[index])

    def _person(self, index: int) -> Person:
        image_id, box, score = self.boxes[index] if self.boxes else (self.image_ids()[index], (), 1.0)
        image = self.image(image_id)
        found = np.array(box or (0, 0, image.shape[1], image.shape[0]), float)
        joints = np.zeros((len(self.info.need_joints()), 3))
        return {
            "image": image, "box": found, "joints": joints, "image_id": image_id, "annotation_id": -1,
            "area": float(found[2] * found[3]), "score": score,
        }  # fmt: skip

    def _labelled(self, image_id: int) -> LabelledImage:
        image, labels = self.labelled_image(image_id)
        return {"image": image, "labels": labels, "image_id": image_id}

    def labelled_image(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        image = self.image(image_id)
        return image, np.full(image.shape[:2], IGNORED, np.uint8)

    def labels(self, image_id: int) -> np.ndarray:
        return self.labelled_image(image_id)[1]

    def classified_ids(self) -> list[int]:
        return self.image_ids()

    def image_class(self, image_id: int) -> int:
        return -1

    def classified_image(self, image_id: int) -> tuple[np.ndarray, int]:
        return self.image(image_id), -1

    def instances(self, image_id: int) -> InstancesOfImage:
        nothing = np.zeros((0, 4))
        return {"boxes": nothing, "places": nothing[:, 0].astype(int), "crowd": nothing[:, 0] > 0, "masks": []}

    @property
    def category_numbers(self) -> list[int]:
        things = self.info.need_things()
        return list(things.label_ids or range(1, len(things) + 1))

    def instance_truth(self) -> dict[str, object]:
        return self.ground_truth()

    def image(self, image_id: int) -> np.ndarray:
        return read_picture(self.numbered[image_id])

    def name(self, image_id: int) -> str:
        return self.numbered[image_id].stem

    def image_ids(self) -> list[int]:
        return list(self.numbered)

    def ground_truth(self) -> dict[str, object]:
        return {"images": [{"id": i, "file_name": file.name} for i, file in self.numbered.items()], "annotations": []}

    def digest(self) -> str:
        return ""

    def check(self, *, thorough: bool = False) -> list[str]:
        return []

    def verify(self) -> str:
        return ""


def asked_of(places: Sequence[Path], task: str, chosen: Settings, outputs: int | None, boxes: Path | None) -> Asked:
    """The task on pictures of no set. What is predicted has the names that `dataset.` settings give, or usual ones.

    Raises:
        DataError, PartError: no pictures, boxes that are none, or settings that do not fit.
    """
    files = _files(places)
    task_part = Part(name=task, knobs=dict(chosen.get("task", {}))).filled("task")
    info = _info(task, dict(chosen.get("dataset", {})), outputs)
    samples = Pictures(info, files)
    if boxes:
        samples = Pictures(info, files, boxes=_boxes(boxes, samples.numbered))
    evaluation = registry.check_knobs("protocol", task, dict(chosen.get("evaluation", {})))
    rules, dataset = build_protocol(task_part, evaluation), Part(name="pictures", knobs={"set": "pictures"})
    made: Samples = samples
    return Asked(task_part, dataset, evaluation, build_task(task_part), rules, info, made, "", None)


def _files(places: Sequence[Path]) -> tuple[Path, ...]:
    found: list[Path] = []
    for place in places:
        if not place.exists():
            raise DataError(f"{place}: no such file or folder")
        inside = [f for f in visible(place.rglob("*")) if f.suffix.lower() in SUFFIXES] if place.is_dir() else [place]
        if not inside:
            raise DataError(f"{place}: holds no picture ({', '.join(SUFFIXES)})")
        found += inside
    stems = [file.stem for file in found]
    refuse("pictures", [f"two are called {stem}" for stem in sorted({s for s in stems if stems.count(s) > 1})])
    return tuple(found)


def _info(task: str, knobs: dict[str, object], outputs: int | None) -> Info:
    """What a set would say of such predictions."""
    facts = registry.describe("task", task).facts
    part = str(knobs.pop("name", facts.get("dataset", "")))
    if part == "cityscapes" and ("classes" in knobs or (outputs or 19) != 19):
        part = "label_folder"
    own_classes = part == "label_folder" or (part in USUAL and outputs != USUAL[part])
    if own_classes and "classes" not in knobs and outputs:
        knobs["classes"] = [f"class{number}" for number in range(max(2, outputs))]
    if part == "coco_pose" and "joints" not in knobs and outputs == 14:
        knobs["joints"] = "lsp14"
    if any(knob.name == "set" for knob in registry.describe("dataset", part).knobs):
        knobs.setdefault("set", "pictures")
    info = build_dataset(Part(name=part, knobs=knobs).filled("dataset")).info
    parts = info.joints or info.classes or info.image_classes or info.things or ()
    if outputs is not None and len(parts) != outputs and len(parts) > outputs:
        raise PartError(f"the network has {outputs} outputs; name what they are: --set dataset.joints=[...] or classes")
    return info


def _boxes(file: Path, numbered: Mapping[int, Path]) -> tuple[tuple[int, tuple[float, ...], float], ...]:
    """Boxes [{image_id or file_name, bbox, score}] as a detector writes them; those of other pictures are left out."""
    by_name = {path.name: number for number, path in numbered.items()}
    try:
        entries = json.loads(file.read_bytes())
        found = []
        for place, entry in enumerate(entries):
            number = by_name.get(entry["file_name"], -1) if "file_name" in entry else entry["image_id"]
            box = tuple(float(value) for value in entry["bbox"])
            if not is_whole(number) or len(box) != 4 or not np.isfinite(box).all() or min(box[2:]) <= 0:
                raise DataError(f"{file}: box {place} has no picture or no width and height")
            if int(number) in numbered:
                found.append((int(number), box, float(entry.get("score", 1.0))))
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{file}: no list of boxes [{{image_id or file_name, bbox, score}}]: {error}") from None
    if not found:
        raise DataError(f"{file}: no box on any of the {len(numbered)} pictures")
    return tuple(found)


def drawn(image: np.ndarray, predictions: Sequence[Prediction], info: Info) -> np.ndarray:
    """The picture (H, W, 3) uint8 RGB with what was predicted for it: skeletons, masks in the classes' colours, boxes
    with class and score, or the most probable class of the whole."""
    canvas = image.copy()
    for one in sorted(predictions, key=_score):  # the surest last, so that it is seen
        if "bbox" in one and "keypoints" not in one:
            canvas = _framed(canvas, one, info)
        elif "labels" in one:
            canvas = _masked(canvas, np.asarray(one["labels"]), info)
        elif "keypoints" in one:
            _skeleton(canvas, np.reshape(np.asarray(one["keypoints"], float), (-1, 3)), info)
        elif "probabilities" in one:
            _titled(canvas, one, info)
    return canvas


def _score(prediction: Prediction) -> float:
    return float(str(prediction.get("score", 0)))


def _framed(canvas: np.ndarray, found: Prediction, info: Info) -> np.ndarray:
    """A box with its class and score, and its mask where there is one; of scores below SURE nothing."""
    if _score(found) < SURE:
        return canvas
    names = info.need_things()
    place = int(str(found["category_id"])) - 1
    colour = _far_apart(len(names))[place]
    if "segmentation" in found:
        inside = ignored_pixels([found["segmentation"]], canvas.shape[:2]) > 0
        canvas = np.where(inside[..., None], _mixed(canvas, np.array(colour)), canvas)
    scale = max(canvas.shape[:2]) / 500
    left, top, width, height = np.asarray(found["bbox"], float)
    corners = [(round(left), round(top)), (round(left + width), round(top + height))]
    cv2.rectangle(canvas, corners[0], corners[1], colour, max(1, round(2 * scale)))
    _labelled(canvas, f"{names[place]} {_score(found):.2f}", corners[0], colour, 0.5 * scale)
    return canvas


def _labelled(canvas: np.ndarray, text: str, corner: tuple[int, int], colour: tuple[int, ...], scale: float) -> None:
    """A text on a plate in the box's colour, above its corner, or below it at the picture's edge."""
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    left, bottom = corner[0], max(corner[1], height + below)
    cv2.rectangle(canvas, (left, bottom - height - below), (left + width, bottom), colour, -1)
    at = (left, bottom - below // 2 - 1)
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)


def _masked(canvas: np.ndarray, labels: np.ndarray, info: Info) -> np.ndarray:
    colours = np.array([*palette(info), (0, 0, 0)], np.uint8)
    known = labels < len(colours) - 1
    painted = colours[np.where(known, labels, len(colours) - 1)]
    return np.where(known[..., None], _mixed(canvas, painted), canvas)


def _mixed(canvas: np.ndarray, painted: np.ndarray) -> np.ndarray:
    return (OPAQUE * painted + (1 - OPAQUE) * canvas).round().astype(np.uint8)


def palette(info: Info) -> list[tuple[int, ...]]:
    """A colour (RGB) for each class: Cityscapes' own where its label ids are used, else colours far apart."""
    from cityscapesscripts.helpers.labels import id2label, name2label

    classes = info.need_classes()
    if classes.label_ids and all(i in id2label for i in classes.label_ids) and set(classes.categories) <= {
        label.category for label in name2label.values()
    }:  # fmt: skip
        return [tuple(id2label[number].color) for number in classes.label_ids]
    return _far_apart(len(classes))


def _far_apart(count: int) -> list[tuple[int, ...]]:
    hues = [int(180 * (number * 0.618034 % 1)) for number in range(count)]  # the golden ratio keeps them apart
    pixels = np.array([[(hue, 200, 230) for hue in hues]], np.uint8)
    return [tuple(int(v) for v in colour) for colour in cv2.cvtColor(pixels, cv2.COLOR_HSV2RGB)[0]]


def limbs(names: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of joints, by place, between which a line is drawn."""
    pairs = [
        tuple(end.replace("SIDE", side) for end in limb)
        for limb in LIMBS
        for side in (("left", "right") if any("SIDE" in end for end in limb) else ("",))
    ]
    return [(names.index(a), names.index(b)) for a, b in pairs if a in names and b in names]


def _titled(canvas: np.ndarray, found: Prediction, info: Info) -> None:
    places, probabilities = (np.asarray(found[key]) for key in ("classes", "probabilities"))
    title = f"{info.need_image_classes()[int(places[0])]} {probabilities[0]:.2f}"
    scale = max(canvas.shape[:2]) / 500
    at = (round(6 * scale), round(24 * scale))
    for colour, width in (((0, 0, 0), 4), (COLOURS[""], 1)):  # a dark edge keeps it legible on any picture
        thick = max(1, round(width * scale))
        cv2.putText(canvas, title, at, cv2.FONT_HERSHEY_SIMPLEX, 0.8 * scale, colour, thick, cv2.LINE_AA)


def _skeleton(canvas: np.ndarray, points: np.ndarray, info: Info) -> None:
    names, size = list(info.need_joints()), max(1, round(max(canvas.shape[:2]) / 250))
    seen = points[:, 2] > LEAST
    for start, end in limbs(names):
        if seen[start] and seen[end]:
            ends = [tuple(round(float(v)) for v in points[at, :2]) for at in (start, end)]
            cv2.line(canvas, ends[0], ends[1], _colour(names[end]), size, cv2.LINE_AA)
    for name, (x, y, _), there in zip(names, points, seen, strict=True):
        if there:
            cv2.circle(canvas, (round(x), round(y)), size + 1, _colour(name), -1, cv2.LINE_AA)


def _colour(name: str) -> tuple[int, int, int]:
    side = next((side for side in ("left", "right") if name.startswith(side)), "")
    return COLOURS[side]
