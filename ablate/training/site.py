"""Site: where a trial runs, which is never part of what it is: folders, and the study's budget."""

from pathlib import Path

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from ablate.study import Budget


@dataclass(frozen=True)
class Site:
    """Travels to every worker with the trial; all paths are absolute."""

    results: str | Path  # a folder's absolute path, or a URL; a text stays one on its way
    data: Path | None = None  # holds the data sets' folders
    beside: Path | None = None  # the study file's folder: starting weights may lie there
    budget: Budget = Budget()
    gpu_share: float = 1.0  # of the device's memory that this trial may take; less than 1: others are on it
    predictions: Path | None = None  # where the last evaluation's predictions are written, too
    owner: str = ""  # of leases: the driver, which may take its own dead worker's at once

    @property
    def gpu(self) -> bool:
        """Whether trials run on GPUs."""
        return self.budget.gpus > 0

    @property
    def kind(self) -> str:
        """The kind of device that trials run on: cpu or cuda."""
        return "cuda" if self.gpu else "cpu"


def packed(site: Site) -> str:
    """A site as text, for the way to other processes."""
    return TypeAdapter(Site).dump_json(site).decode()


def unpacked(text: str) -> Site:
    """The site again."""
    return TypeAdapter(Site).validate_json(text)
