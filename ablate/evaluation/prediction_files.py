"""Files of predictions that any system wrote, read by the task in its field's format."""

import hashlib
from pathlib import Path

from ablate.beside import Subject
from ablate.errors import AblateError, DataError
from ablate.evaluation.asked import Asked
from ablate.evaluation.scoring import Predicted
from ablate.tasks import ReadsPredictions


def read(place: Path, asked: Asked) -> Predicted:
    """The predictions of a file or a folder.

    Raises:
        DataError: there is no such file, or it does not hold what the task reads (one line that names it).
    """
    task = asked.task
    if not isinstance(task, ReadsPredictions):
        raise AblateError(f"--predictions: the task {asked.task_part.name} has no format of predictions that it reads")
    if not place.exists():
        raise DataError(f"{place}: no such file or folder")
    predictions, notes = task.read_predictions(place, asked.samples)
    subject = Subject(kind="predictions", file=place.name, sha256=digest(place))
    return Predicted(subject, predictions, len(predictions), notes=notes)


def digest(place: Path) -> str:
    """sha256 of a file; of a folder, of its files' names and contents.

    Raises:
        DataError: they cannot be read.
    """
    try:
        if place.is_file():
            with place.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        content = hashlib.sha256()
        for file in sorted(path for path in place.rglob("*") if path.is_file()):
            content.update(f"{file.relative_to(place)}:{digest(file)}\n".encode())
        return content.hexdigest()
    except OSError as error:
        raise DataError(f"{error.filename or place}: {error.strerror}") from None
