"""What the papers report for the questions that our studies ask again, with its source (published_scores.json)."""

from functools import cache
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from ablate.errors import StudyError, nearest
from ablate.study.recipe import FROZEN


class Published(BaseModel):
    """One published table: a number for each level of one factor."""

    model_config = FROZEN
    title: str
    source: str  # paper, and table, figure or section
    protocol: str  # data, network, input size, starting weights: what makes it another experiment than ours
    metric: str
    levels: dict[str, str]  # level label -> the number as printed, in per cent


def published(table: str) -> Published:
    """The table of that name.

    Raises:
        StudyError: no such table.
    """
    tables = _tables()
    if table not in tables:
        raise StudyError(f"paper: no published table {table!r}; {nearest(table, tables)}")
    return tables[table]


def tables() -> list[str]:
    """The names of all published tables."""
    return sorted(_tables())


@cache
def _tables() -> dict[str, Published]:
    text = Path(__file__).with_name("published_scores.json").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, Published]).validate_json(text)
