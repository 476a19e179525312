"""Joints that a data set's own files name: read when a study is opened, so that what follows finds them in the recipe.

They are kept with the results (joints.json), so that status and report need no data. What a report must say of them is
added to the study's note.
"""

from contextlib import suppress
from pathlib import Path

from ablate import registry
from ablate.datasets import Assumes, NamesJoints, build_dataset
from ablate.errors import DataError, StoreError, StudyError
from ablate.machine import fingerprint
from ablate.planning import kept
from ablate.study import Part, Study, blaming

FILE = "joints.json"
FROM_FILE = "file"  # the value of a data set's knob `joints`


def name_joints(study: Study, results: Path | str | None, data: Path | None, *, keep: bool = True) -> Study:
    """The study with `joints: file` of its control's data set replaced by the names that the file has.

    Raises:
        StudyError: they were never read, and there is no data folder to read them from.
        DataError: the file is missing, damaged or names none.
        PartError: a data set or knob that no shelf has.
    """
    with blaming(study.file):
        part, note = study.recipe.dataset, study.note
        if part.knobs.get("joints") == FROM_FILE:
            part = _named(part, results, data, keep=keep)
        made = build_dataset(part.filled("dataset"))
        if isinstance(made, Assumes) and made.assumed:
            note = f"{note} {made.assumed}".strip()
    recipe = study.recipe.model_copy(update={"dataset": part})
    return study.model_copy(update={"recipe": recipe, "note": note})


def _named(part: Part, results: Path | str | None, data: Path | None, *, keep: bool) -> Part:
    made = registry.build("dataset", part.name, registry.check_knobs("dataset", part.name, part.knobs))
    if not isinstance(made, NamesJoints):
        raise StudyError(f"recipe.dataset.joints: {part.name!r} reads no names from files")
    key = fingerprint({"part": part.filled("dataset").model_dump(mode="json")})
    known = kept.read(results, FILE)
    try:
        names = list(made.joints_of_file(data))
    except DataError as error:
        if key in known:
            return _with(part, known[key])
        if data is None:
            raise StudyError(f"recipe.dataset.joints: file: {error}, or name the joints") from None
        raise
    if results and known.get(key) != names and (keep or kept.is_there(results)):
        with suppress(StoreError):  # of a folder that others own
            kept.write(results, FILE, known | {key: names})
    return _with(part, names)


def _with(part: Part, names: list[str]) -> Part:
    return part.model_copy(update={"knobs": part.knobs | {"joints": names}})
