"""Study files: the shipped ones by their bare names, and what a file offers to choose from before it is a Study."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ablate.errors import StudyError, nearest
from ablate.study import yaml_subset
from ablate.study.factor import MATCHED, Factor

MOST = 2**18  # characters of a file; those of the project have 3,000
PACKAGE = Path(__file__).parent.parent


@cache
def shipped() -> dict[str, Path]:
    """The studies that come with ablate, by name. An installed package holds them; in a checkout they lie beside it."""
    inside = PACKAGE / "studies"
    folder = inside if inside.is_dir() else PACKAGE.parent / "studies"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def find(name: Path | str) -> Path:
    """The file of a study: a path, which always wins, or the bare name of a shipped study.

    Raises:
        StudyError: a bare name that is neither.
    """
    file = Path(name)
    if file.is_file() or not re.fullmatch(r"[A-Za-z0-9_]+", str(name)):
        return file
    if str(name) not in shipped():
        raise StudyError(f"{name}: no such file and no shipped study; {nearest(name, shipped())}")
    return shipped()[str(name)]


def read(file: Path) -> str:
    """The text of a study file.

    Raises:
        StudyError: it cannot be read, is not UTF-8, or is far too long.
    """
    try:
        with file.open(encoding="utf-8") as stream:
            text = stream.read(MOST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise StudyError(f"{file}: {reason}") from None
    if len(text) > MOST:
        raise StudyError(f"{file}: is no study: it has more than {MOST:,} characters")
    return text


@dataclass(frozen=True)
class Outline:
    """What can be chosen in a study: its scales, and the levels of each factor."""

    scales: list[str]
    levels: dict[str, list[str]]


def outline(name: Path | str, scale: str | None = None) -> Outline:
    """The scales and levels that a study file names, whatever else in it is wrong or missing.

    No plug-in is imported and nothing is solved, so it serves while a command is being typed: of a factor with `match`
    it names every level that could be compared.

    Raises:
        StudyError: there is no such file, it is not YAML, or it is no mapping.
        ValueError, TypeError, AttributeError: a factor or a scale is written in a way that no study can have.
    """
    document = yaml_subset.parse(read(find(name)))
    if not isinstance(document, dict):
        raise StudyError(f"{name}: a study is a mapping")
    scales = document.get("scales") or {}
    over = scales.get(scale or document.get("default_scale")) or {}
    factors = {**(document.get("factors") or {}), **(over.get("factors") or {})}
    return Outline(list(scales), {factor: _levels(Factor.model_validate(wish)) for factor, wish in factors.items()})


def _levels(factor: Factor) -> list[str]:
    labels: list[str] = []
    solved = factor.match.knobs(factor.levels) if factor.match else {}
    for label in factor.levels:
        as_written = label not in solved or (factor.match and factor.match.raw and label != factor.control)
        labels += [label] * bool(as_written) + [label + MATCHED] * (label in solved)
    return labels
