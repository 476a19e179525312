"""Joints or classes that a data set's own files name: read when a study is opened, so that what follows finds them in
the recipe.

They are kept with the results (joints.json), so that status and report need no data. What a report must say of them is
added to the study's note.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

from ablate.datasets import Assumes, build_dataset, parts_named, unnamed
from ablate.errors import DataError, PartError, StoreError, StudyError
from ablate.machine import fingerprint
from ablate.planning import kept
from ablate.study import Part, Study, blaming

FILE = "joints.json"


def name_joints(study: Study, results: Path | str | None, data: Path | None, *, keep: bool = True) -> Study:
    """The study with `joints: file` or `classes: file` of its data sets replaced by the names found there.

    Raises:
        StudyError: they were never read, and there is no data folder to read them from.
        DataError: the file is missing, damaged or names none.
    """
    with blaming(study.file):
        part, note = study.recipe.dataset, study.note
        with suppress(PartError):  # the design says what is wrong with the arms' data sets
            if knob := unnamed(part.filled("dataset").knobs):
                part = _named(part, knob, results, data, keep=keep)
            made = build_dataset(part.filled("dataset"))
            if isinstance(made, Assumes) and made.assumed:
                note = f"{note} {made.assumed}".strip()
    recipe = study.recipe.model_copy(update={"dataset": part})
    named = study.model_copy(update={"recipe": recipe, "note": note})
    return named.model_copy(update={"datasets": _each_named(named, results, data, keep=keep)})


def _each_named(study: Study, results: Path | str | None, data: Path | None, *, keep: bool) -> Any:
    """What a study of several data sets changes for each."""
    found: dict[str, dict[str, Any]] = {}
    for name, setting in (study.datasets or {}).items():
        found[name] = dict(setting)
        own = setting.get("dataset")
        with blaming(study.file), suppress(PartError):
            if isinstance(own, dict) and unnamed(own):
                part = _named(Part.model_validate(own), str(unnamed(own)), results, data, keep=keep)
                found[name]["dataset"] = part.model_dump()
    return found or None


def _named(part: Part, knob: str, results: Path | str | None, data: Path | None, *, keep: bool) -> Part:
    key = fingerprint({"part": part.filled("dataset").model_dump(mode="json")})
    known = kept.read(results, FILE)
    try:
        knobs = parts_named(part, data)
    except DataError as error:
        if key in known:
            return part.model_copy(update={"knobs": part.knobs | {knob: known[key]}})
        if data is None:
            raise StudyError(f"recipe.dataset.{knob}: file: {error}, or name the {knob}") from None
        raise
    if results and known.get(key) != knobs[knob] and (keep or kept.is_there(results)):
        with suppress(StoreError):  # of a folder that others own
            kept.write(results, FILE, known | {key: knobs[knob]})
    return part.model_copy(update={"knobs": knobs})
