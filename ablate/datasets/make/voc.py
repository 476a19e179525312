"""Makes the set voc from a folder or zip in the layout of Pascal VOC: boxes as COCO's files have them.

Of the archive are taken the lists ImageSets/Main/train.txt and val.txt, and of each image that they name
Annotations/NAME.xml and JPEGImages/NAME.jpg. Corners of VOC count pixels from 1 and are both inside the box. Objects
that are marked as difficult count in VOC's evaluation nowhere: they become crowds (`iscrowd`), which COCO's leaves out.
"""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ablate.datasets.make.archive import Reader, listed, making, opened
from ablate.errors import DataError, one_line

LIMITS = {".txt": 4 * 2**20, ".xml": 2**20, ".jpg": 32 * 2**20}  # bytes of a member; the real ones are smaller
SPLITS = ("train", "val")


def make_voc(archive: Path, target: Path) -> str:
    """Write the set's folder and say what came out, with the classes in the order of their numbers.

    Raises:
        DataError: the archive is not laid out so or is damaged; `target` exists already.
    """
    with making(target) as part, opened(archive, beside="ImageSets/Main/train.txt", limits=LIMITS) as read:
        names = {split: listed(read(f"{split}.txt"), split, archive) for split in SPLITS}
        objects = {split: [_annotated(read, name, archive) for name in names[split]] for split in SPLITS}
        classes = sorted({one["class"] for split in SPLITS for image in objects[split] for one in image["objects"]})
        if not classes:
            raise DataError(f"{archive}: no image has an object")
        (part / "annotations").mkdir()
        for split in SPLITS:
            folder = part / "images" / split
            folder.mkdir(parents=True)
            for name in names[split]:
                (folder / f"{name}.jpg").write_bytes(read(f"../../JPEGImages/{name}.jpg"))
            document = _document(names[split], objects[split], classes)
            (part / "annotations" / f"instances_{split}.json").write_text(json.dumps(document), encoding="utf-8")
    counts = ", ".join(f"{len(names[split])} {split}" for split in SPLITS)
    return f"{target}: {counts}; coco_instances reads it with classes: [{', '.join(classes)}]"


def _annotated(read: Reader, name: str, archive: Path) -> dict[str, Any]:
    """The size of an image and its objects."""
    file = f"Annotations/{name}.xml"
    content = read(f"../../{file}")
    if b"<!" in content.replace(b"<!--", b"") or b"\0" in content:  # entities may grow without end; none has any
        raise DataError(f"{archive}: {file}: declares entities, or is no UTF-8")
    try:
        root = ElementTree.fromstring(content)
        size = {key: int(_text(root, f"size/{key}")) for key in ("height", "width")}
        return size | {"objects": [_object(one) for one in root.iter("object")]}
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{archive}: {file}: {one_line(error)}") from None


def _object(one: ElementTree.Element) -> dict[str, Any]:
    x0, y0, x1, y1 = (float(_text(one, f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax"))
    if not (x0 <= x1 and y0 <= y1):
        raise ValueError(f"a box from {x0:g}, {y0:g} to {x1:g}, {y1:g}")
    difficult = one.findtext("difficult", "0").strip() == "1"
    return {"class": _text(one, "name"), "box": [x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1], "difficult": difficult}


def _text(element: ElementTree.Element, path: str) -> str:
    found = element.findtext(path)
    if found is None or not found.strip():
        raise ValueError(f"no {path} in <{element.tag}>")
    return found.strip()


def _document(names: list[str], images: list[dict[str, Any]], classes: list[str]) -> dict[str, Any]:
    """COCO's annotations of a split; images and objects are numbered from 1."""
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        for one in image["objects"]:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": classes.index(one["class"]) + 1,
                    "bbox": one["box"],
                    "area": one["box"][2] * one["box"][3],
                    "iscrowd": int(one["difficult"]),
                }
            )
    listed = [
        {"id": number, "file_name": f"{name}.jpg", "height": image["height"], "width": image["width"]}
        for number, (name, image) in enumerate(zip(names, images, strict=True), start=1)
    ]
    categories = [{"id": place, "name": name} for place, name in enumerate(classes, start=1)]
    return {"images": listed, "annotations": annotations, "categories": categories}
