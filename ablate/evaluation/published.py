"""What is published of released checkpoints: their scores, addresses and digests, kept in released.json with sources.

A file is known by its content where the beginning of its digest is published, else by its name alone, which is said.
"""

import re
from functools import cache
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from ablate.beside import Reported, Subject
from ablate.evaluation.reading import MEAN, STD
from ablate.study import FROZEN, official_values

SCALES = [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]  # of the official multi-scale test (TEST.SCALE_LIST)
OFFICIAL = {  # the recipe whose protocol a set's rows of segmentation have; that of OCR ends in _ocr
    "lip": "lip_hrnetv2_w48",
    "pascal_context": "pascal_context_hrnetv2_w48",
    "pascal_context_60": "pascal_context_hrnetv2_w48",
}


class Released(BaseModel):
    """One row of a table or a zoo, with the file that it is of."""

    model_config = FROZEN
    row: str  # as printed there
    task: str
    set: str  # that it was scored on, by the name that it has here, if it has one
    file: str  # its name; empty where the address does not tell
    url: str  # of the file, or of the folder that holds it
    sha256: str  # its first digits; empty where none are published
    size: tuple[int, int] | None = None  # height and width of the crop
    scores: dict[str, float]  # between 0 and 1
    protocol: str
    source: str


@cache
def released() -> tuple[Released, ...]:
    """All rows."""
    text = Path(__file__).with_name("released.json").read_text(encoding="utf-8")
    return TypeAdapter(tuple[Released, ...]).validate_json(text)


def of_hrnet() -> list[Released]:
    """The rows of HRNets."""
    return [row for row in released() if re.search(r"hrnet|_hr(18|32|40|48)", f"{row.row}{row.file}{row.url}".lower())]


def settings_of(row: Released) -> dict[str, dict[str, object]]:
    """The settings of the row's protocol, as far as it says them: sizes, scales, windows, the mirrored image."""
    chosen: dict[str, dict[str, object]] = {"task": {}, "dataset": {}, "evaluation": {}, "network": {}}
    if row.task in ("pose", "classification") and row.size:
        chosen["task"]["size"] = list(row.size)
    if row.set == "mpii":
        chosen["evaluation"] = {"oks_nms": 1.0}  # every person is given, and nobody is suppressed
    if row.task == "segmentation":
        _of_segmentation(row, chosen)
    return chosen


def _of_segmentation(row: Released, chosen: dict[str, dict[str, object]]) -> None:
    name = OFFICIAL.get(row.set, "")
    official = official_values(f"{name}_ocr" if "OCR" in row.row else name) if name else {}
    chosen["evaluation"] = {"flip": "no flip" not in row.protocol and "flip" in row.protocol}
    if "several scales" in row.protocol:
        chosen["evaluation"]["scales"] = official.get("evaluation.scales", SCALES)
    if "task.resize" in official:
        chosen["task"]["resize"] = official["task.resize"]
    if "the whole image" not in row.protocol:
        windows = {knob: official.get(f"evaluation.{knob}") for knob in ("window", "stride", "pad")}
        chosen["evaluation"] |= {knob: value for knob, value in windows.items() if value is not None}
    if row.row.startswith("mmseg"):  # whose windows move back at the image's ends
        chosen["evaluation"].pop("pad", None)
    if row.row.startswith("openseg"):  # input_mode BGR of its configurations, with RGB's mean and deviation
        chosen["network"] = {"colours": "bgr", "mean": MEAN[::-1], "std": STD[::-1]}


def rows_of(name: str, sha256: str) -> list[Released]:
    """The rows that are of a file: by its digest where one is published, else by its name."""
    by_content = [row for row in released() if row.sha256 and sha256.startswith(row.sha256)]
    return by_content or [row for row in released() if row.file == name and not row.sha256]


def reported(subject: Subject, dataset: str) -> tuple[list[Reported], list[str]]:
    """What is published of a subject's weights, those on the same set first; and remarks on how it is known."""
    found = sorted(rows_of(subject.file, subject.sha256), key=lambda row: row.set != dataset)
    notes = []
    if found and not found[0].sha256:
        notes.append(f"no digest of {subject.file} is published: it is taken for the published file by its name")
    wrong = [row for row in released() if row.file == subject.file and row.sha256 and row not in found]
    if wrong and not found:
        digits = f"begins with {wrong[0].sha256}, this one's with {subject.sha256[:8]}"
        notes.append(f"is not the published {subject.file}, whose sha256 {digits}")
    return [
        Reported(row=row.row, set=row.set, source=row.source, protocol=row.protocol, scores=row.scores)
        for row in found
        if row.scores
    ], notes


def lines(found: list[Reported], scores: dict[str, float], dataset: str) -> list[str]:
    """Published scores beside ours, in words; a difference only where the set is the same."""
    said = []
    for row in found:
        same = row.set == dataset
        shown = [
            f"{name} {value:.3f}" + (f" (ours {scores[name] - value:+.4f})" if same and name in scores else "")
            for name, value in row.scores.items()
        ]
        where = row.set if same else f"{row.set}, another set than {dataset}: no comparison"
        name = re.sub(r"\.pth(\.tar)?$", "", row.row)
        said.append(f"published, {name} on {where}: {', '.join(shown)}; {row.protocol} [{row.source}]")
    return said
