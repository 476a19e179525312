"""What COCO's files of annotations have in common, whatever is annotated: images, categories, numbers."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ablate.datasets._files import LARGEST, NUMBERS, is_whole, refuse, under, visible
from ablate.errors import DataError, nearest


class Picture(NamedTuple):
    """What the file says of an image."""

    name: str  # of its file
    height: int
    width: int
    group: str | None  # of images that belong together, where the set declares them


Images = dict[int, Picture]


@contextmanager
def blamed(file: Path) -> Iterator[None]:
    """What Python says of a file that is no such document, as one line."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DataError(f"{file}: damaged annotations: {error}") from None
    except KeyError as error:
        raise DataError(f"{file}: damaged annotations: an entry has no {error}") from None


def listed_images(listed: list[dict[str, Any]], file: Path, group_field: str | None) -> Images:
    """What the file says of its images, by their ids. Raises DataError."""
    wrong = [
        f"image {i['file_name']!r} has the id {i['id']!r}, no whole number" for i in listed if not is_whole(i["id"])
    ]
    refuse(file, wrong)
    refuse(file, [f"the image id {number} stands twice" for number in repeated(int(i["id"]) for i in listed)])
    images = {
        int(i["id"]): Picture(str(i["file_name"]), int(i["height"]), int(i["width"]), _group(i, file, group_field))
        for i in listed
    }
    at: dict[PurePosixPath, int] = {}
    for number, picture in images.items():
        under(file.parent, picture.name)
        if (first := at.setdefault(PurePosixPath(picture.name), number)) != number:
            raise DataError(f"{file}: {picture.name} is listed twice, as image {first} and as image {number}")
    return images


def _group(image: Mapping[str, Any], file: Path, field: str | None) -> str | None:
    if field is None:
        return None
    if field not in image:
        raise DataError(f"{file}: image {image['id']} has no {field!r}, its group; {nearest(field, image)}")
    if type(image[field]) not in (str, int):
        raise DataError(f"{file}: image {image['id']}: {field!r} is {image[field]!r}, no text and no whole number")
    return str(image[field])


def category_numbers(categories: list[dict[str, Any]], file: Path) -> set[int]:
    """The numbers of all categories."""
    wrong = [
        f"category {c['name']!r} has the id {c['id']!r}, no whole number" for c in categories if not is_whole(c["id"])
    ]
    refuse(file, wrong)
    numbers = [int(category["id"]) for category in categories]
    refuse(file, [f"the category id {number} stands twice" for number in repeated(numbers)])
    return set(numbers)


def not_finite(values: list[Any]) -> list[Any]:
    """Those that are no finite numbers. All at once first: to look at each would take half of all reading."""
    if set(map(type, values)) <= NUMBERS and all(-LARGEST < value < LARGEST for value in values):
        return []
    return [value for value in values if type(value) not in NUMBERS or not -LARGEST < value < LARGEST]


def entry_name(entry: Mapping[str, Any]) -> str:
    return f"annotation {entry.get('id')}"


def repeated(numbers: Iterable[int]) -> list[int]:
    return [number for number, count in Counter(numbers).items() if count > 1]


def annotation_file(folder: Path, patterns: list[str]) -> Path:
    """The one file that fits the first of these patterns under a set's folder that any fits. Raises DataError."""
    for pattern in patterns:
        under(folder, pattern)
    found = next((files for pattern in patterns if (files := visible(folder.glob(pattern)))), [])
    if len(found) != 1:
        there = [str(path.relative_to(folder)) for path in visible(folder.glob("annotations/*.json"))]
        hint = f"several fit: {', '.join(path.name for path in found)}" if found else nearest(patterns[0], there)
        raise DataError(f"{folder}: wanted one file {patterns[0]}; {hint}")
    return found[0]
